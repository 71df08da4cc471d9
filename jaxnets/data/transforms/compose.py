"""Several transforms as one, and the one way to apply any kind of them."""

from dataclasses import dataclass
from typing import Any

import jax

from jaxnets.arrays import InputError, as_array, called
from jaxnets.data.spec import named
from jaxnets.data.transforms.transform import (
    Augmentation,
    PairTransform,
    RandomTransform,
    Transform,
    check_transforms,
)


@dataclass(frozen=True, init=False)
class Compose:
    """Applies several transforms in order: ``torchvision.transforms.Compose``.

    PyTorch's takes one list; this one takes the transforms themselves. Of none, it changes nothing.
    With random ones among them it takes a key; each then draws from a key of its own.

    Args:
        *transforms: the first is applied first.

    Raises:
        InputError: if one of them cannot be called or hashed; on a call, if a random one has no
            key, or one works on labels besides (``augment`` applies such).

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets.data import Normalize, RandomCrop, ToFloat
        >>> prepare = Compose(ToFloat(), Normalize(0.1307, 0.3081))
        >>> prepare(jnp.zeros((64, 28, 28, 1), jnp.uint8)).shape
        (64, 28, 28, 1)
        >>> vary = Compose(RandomCrop(28, padding=2), ToFloat())
        >>> vary(jnp.zeros((64, 28, 28, 1), jnp.uint8), jax.random.key(0)).shape
        (64, 28, 28, 1)
    """

    transforms: tuple[Augmentation, ...]

    def __init__(self, *transforms: Augmentation) -> None:
        check_transforms("transforms", transforms)
        object.__setattr__(self, "transforms", transforms)

    def __call__(self, x: Any, key: jax.Array | None = None) -> Any:
        """Applies all of them to a batch."""
        if needs_labels(self):
            raise InputError("labels", "to be given through augment, as they change too", "none")
        return augment(self, x, None, key)[0]


@dataclass(frozen=True, init=False)
class OnColumn:
    """Applies a transform to one array of inputs that are a tuple or dictionary.

    The other arrays stay as they are. A transform that changes labels too, such as ``Mixup``, gets
    the labels.

    Args:
        column: the array's name in a dictionary, or its place in a tuple, from 0.
        transform: any transform of one array, random or not.

    Raises:
        InputError: if the column is no name or number, or the transform cannot be called or hashed;
            on a call, if the inputs have no such array, or as ``Compose``.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets.data import ToFloat
        >>> inputs = {"image": jnp.full((2, 4, 4, 1), 51, jnp.uint8), "age": jnp.ones((2, 1))}
        >>> OnColumn("image", ToFloat())(inputs)["image"][0, 0, 0]
        Array([0.2], dtype=float32)
    """

    column: str | int
    transform: Augmentation

    def __init__(self, column: str | int, transform: Augmentation) -> None:
        name = isinstance(column, str) and column.isidentifier()
        place = isinstance(column, int) and not isinstance(column, bool) and column >= 0
        if not name and not place:
            raise InputError("column", "a name such as 'image', or a number from 0", column)
        check_transforms("transform", (transform,))
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "transform", transform)

    def __call__(self, x: Any, key: jax.Array | None = None) -> Any:
        """Transforms a batch of inputs."""
        if needs_labels(self):
            raise InputError("labels", "to be given through augment, as they change too", "none")
        return augment(self, x, None, key)[0]

    def varied(self, x: Any, labels: Any, key: jax.Array | None) -> tuple[Any, Any]:
        """Inputs and labels, as ``augment`` returns them."""
        name, arrays = self._named(x)
        try:
            arrays[name], labels = augment(self.transform, arrays[name], labels, key)
        except InputError as error:
            if error.argument != "x":
                raise
            raise InputError(name, error.expected, error.got) from error
        return jax.tree.unflatten(jax.tree.structure(x), arrays.values()), labels

    def _named(self, x: Any) -> tuple[str, dict[str, Any]]:
        """The name of the array, and all arrays by name."""
        name = f"inputs[{self.column}]" if isinstance(self.column, int) else f"inputs.{self.column}"
        arrays = named("inputs", x)
        if name not in arrays:
            got = ", ".join(arrays) if isinstance(x, tuple | dict) else "one array"
            raise InputError("inputs", f"a tuple or dictionary with {name}", got)
        return name, arrays


@dataclass(frozen=True)
class AfterTransform:
    """An augmentation of what ``transform`` makes of a batch, instead of the batch as stored.

    It is for augmentations of features, such as ``SpecAugment`` of spectrograms, which a transform
    makes of waveforms. It is part of ``fit``'s ``augment``, alone or within ``Compose``.

    Args:
        augmentation: any augmentation.

    Raises:
        InputError: if the augmentation cannot be called or hashed; on a call, as only training
            applies it.

    Examples:
        >>> from jaxnets.data import SpecAugment
        >>> augment = AfterTransform(SpecAugment(2, 20, 2, 8))
    """

    augmentation: Augmentation

    def __post_init__(self) -> None:
        """Checks the augmentation."""
        check_transforms("augmentation", (self.augmentation,))

    def __call__(self, x: Any, key: jax.Array | None = None) -> Any:
        """Refuses, as the transform is not known here.

        Raises:
            InputError: always.
        """
        raise InputError("augment", "AfterTransform to be applied by fit alone", "a call")


def stages(
    augmentation: Augmentation | None,
) -> tuple[Augmentation | None, Augmentation | None]:
    """Divides an augmentation into the parts before and after the transform.

    Args:
        augmentation: any augmentation; None for none.

    Returns:
        The augmentation of the batch as stored, and that of what the transform makes of it; None
        for none.
    """
    if isinstance(augmentation, AfterTransform):
        return None, augmentation.augmentation
    if not isinstance(augmentation, Compose):
        return augmentation, None
    after = [stages(part)[1] for part in augmentation.transforms]
    if not any(after):
        return augmentation, None
    before = [stages(part)[0] for part in augmentation.transforms]
    first, second = ([part for part in parts if part is not None] for parts in (before, after))
    return Compose(*first), Compose(*second)


def augment(
    transform: Augmentation, x: Any, labels: Any = None, key: jax.Array | None = None
) -> tuple[Any, Any]:
    """Applies a transform of any kind to a batch of inputs and its labels.

    Args:
        transform: a ``RandomTransform`` is called with (x, key), a ``PairTransform`` with
            (x, labels, key), a ``Compose`` goes through its parts, an ``OnColumn`` applies its own
            to one array of x, and anything else is called with x alone.
        x: inputs [B, ...], or a tuple or dictionary of them.
        labels: [B, ...]; as they are unless a ``PairTransform`` changes them.
        key: the source of all draws.

    Returns:
        Inputs and labels.

    Raises:
        InputError: if x or the transform is none, there is no key and something is random, or a
            transform of one array is given several.
    """
    x = x if isinstance(x, tuple | dict) else as_array("x", x)
    if isinstance(transform, Compose):
        for place, part in enumerate(transform.transforms):
            own = None if key is None else jax.random.fold_in(key, place)
            x, labels = augment(part, x, labels, own)
        return x, labels
    if isinstance(transform, OnColumn):
        return transform.varied(x, labels, key)
    check_transforms("transform", (transform,))
    _check_takes(transform, x)
    if not isinstance(transform, RandomTransform | PairTransform):
        return called("transform", "a function of a batch", transform, x), labels
    if key is None:
        raise InputError("key", "a key, as something is random: jax.random.key(0)", "None")
    if isinstance(transform, PairTransform):
        return transform(x, labels, key)
    return transform(x, key), labels


def applied(transform: Transform | None, x: Any) -> Any:
    """What a transform that is not random makes of a batch of inputs.

    Args:
        transform: any that takes no key and no labels; None changes nothing.
        x: inputs [B, ...], or a tuple or dictionary of them.

    Returns:
        The inputs, transformed.

    Raises:
        InputError: if the transform takes one array and is given several.
    """
    if transform is None:
        return x
    _check_takes(transform, x)
    return transform(x)


def _check_takes(transform: Any, x: Any) -> None:
    """Raises if a transform of one array is given several."""
    if not isinstance(x, tuple | dict) or isinstance(transform, Compose | OnColumn):
        return
    package, _, module = str(getattr(transform, "__module__", "")).rpartition(".")
    own = package == __package__ and module != "record"  # those of records refuse by themselves
    if own or isinstance(transform, RandomTransform):
        name = getattr(transform, "__name__", type(transform).__name__)
        first = sorted(x)[0] if isinstance(x, dict) else 0
        columns = ", ".join(named("inputs", x))
        expected = f"OnColumn({first!r}, {name}(…)), or of another array of {columns}"
        raise InputError("transform", expected, f"{name}, which takes one array")


def is_random(transform: Any) -> bool:
    """Whether a transform takes a key.

    Args:
        transform: any transform; a ``Compose`` takes one if a part of it does, and an ``OnColumn``
            if its own does.
    """
    if isinstance(transform, OnColumn):
        return is_random(transform.transform)
    if isinstance(transform, Compose):
        return any(map(is_random, transform.transforms))
    return isinstance(transform, RandomTransform | PairTransform | AfterTransform)


def needs_labels(transform: Any) -> bool:
    """Whether a transform changes labels besides inputs."""
    if isinstance(transform, OnColumn):
        return needs_labels(transform.transform)
    if isinstance(transform, Compose):
        return any(map(needs_labels, transform.transforms))
    return isinstance(transform, PairTransform)

"""Composition of transforms, and application of any kind of transform."""

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

    The transforms are separate arguments; torchvision takes a list. Without transforms, inputs are
    not changed. If a transform is random, a call takes a key, from which each transform gets its
    own key.

    Args:
        *transforms: the transforms, in the order in which they are applied.

    Raises:
        InputError: if a transform cannot be called or hashed; on a call, if a random one gets no
            key, or one also changes labels (``augment`` applies those).

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
        """Applies the transforms to a batch."""
        if needs_labels(self):
            raise InputError(
                "labels", "labels through augment, as the transform changes them", "none"
            )
        return augment(self, x, None, key)[0]


@dataclass(frozen=True, init=False)
class OnColumn:
    """Applies a transform to one array of inputs that are a tuple or dictionary.

    The other arrays are not changed. A transform that changes labels too, such as ``Mixup``,
    receives the labels.

    Args:
        column: the name of the array in a dictionary, or its position in a tuple, from 0.
        transform: any transform of one array, random or not.

    Raises:
        InputError: if ``column`` is not a name or a number, or the transform cannot be called or
            hashed; on a call, if the inputs have no such array; see also ``Compose``.

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
            raise InputError(
                "labels", "labels through augment, as the transform changes them", "none"
            )
        return augment(self, x, None, key)[0]

    def varied(self, x: Any, labels: Any, key: jax.Array | None) -> tuple[Any, Any]:
        """Transforms inputs and labels; see ``augment``."""
        name, arrays = self._named(x)
        try:
            arrays[name], labels = augment(self.transform, arrays[name], labels, key)
        except InputError as error:
            if error.argument != "x":
                raise
            raise InputError(name, error.expected, error.got) from error
        return jax.tree.unflatten(jax.tree.structure(x), arrays.values()), labels

    def _named(self, x: Any) -> tuple[str, dict[str, Any]]:
        """Returns the name of the array, and all arrays by name."""
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
        transform: the transform. A ``RandomTransform`` is called with (x, key), a ``PairTransform``
            with (x, labels, key), a ``Compose`` applies its parts, an ``OnColumn`` transforms one
            array of x, and any other function is called with x.
        x: inputs [B, ...], or a tuple or dictionary of them.
        labels: labels [B, ...]; only a ``PairTransform`` changes them.
        key: the random key.

    Returns:
        The transformed inputs, and the labels.

    Raises:
        InputError: if ``x`` or ``transform`` is invalid, ``key`` is None and the transform is
            random, or a transform of one array receives several.
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
        raise InputError("key", "a key, such as jax.random.key(0), for a random transform", "None")
    if isinstance(transform, PairTransform):
        return transform(x, labels, key)
    return transform(x, key), labels


def applied(transform: Transform | None, x: Any) -> Any:
    """Applies a transform that is not random to a batch of inputs.

    Args:
        transform: a transform that takes no key and no labels; None changes nothing.
        x: inputs [B, ...], or a tuple or dictionary of them.

    Returns:
        The inputs, transformed.

    Raises:
        InputError: if the transform takes one array and receives several.
    """
    if transform is None:
        return x
    _check_takes(transform, x)
    return transform(x)


def _check_takes(transform: Any, x: Any) -> None:
    """Checks that a transform of one array does not receive several."""
    if not isinstance(x, tuple | dict) or isinstance(transform, Compose | OnColumn):
        return
    package, _, module = str(getattr(transform, "__module__", "")).rpartition(".")
    own = package == __package__ and module != "record"  # ``UnknownTransform`` raises itself
    if own or isinstance(transform, RandomTransform):
        name = getattr(transform, "__name__", type(transform).__name__)
        first = sorted(x)[0] if isinstance(x, dict) else 0
        columns = ", ".join(named("inputs", x))
        expected = f"OnColumn({first!r}, {name}(…)) for one array of {columns}"
        raise InputError("transform", expected, f"{name}, which takes one array")


def is_random(transform: Any) -> bool:
    """Whether a transform takes a key.

    Args:
        transform: any transform. A ``Compose`` or an ``OnColumn`` takes a key if a transform in it
            does.
    """
    if isinstance(transform, OnColumn):
        return is_random(transform.transform)
    if isinstance(transform, Compose):
        return any(map(is_random, transform.transforms))
    return isinstance(transform, RandomTransform | PairTransform | AfterTransform)


def needs_labels(transform: Any) -> bool:
    """Whether a transform changes labels in addition to inputs."""
    if isinstance(transform, OnColumn):
        return needs_labels(transform.transform)
    if isinstance(transform, Compose):
        return any(map(needs_labels, transform.transforms))
    return isinstance(transform, PairTransform)

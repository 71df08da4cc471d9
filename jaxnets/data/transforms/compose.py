"""Several transforms as one, and the one way to apply any kind of them."""

from dataclasses import dataclass
from typing import Any

import jax

from jaxnets.arrays import ArrayLike, InputError, as_array, called
from jaxnets.data.transforms.transform import (
    Augmentation,
    PairTransform,
    RandomTransform,
    check_transforms,
)


@dataclass(frozen=True, init=False)
class Compose:
    """Several transforms, one after the other: ``torchvision.transforms.Compose``.

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

    def __call__(self, x: ArrayLike, key: jax.Array | None = None) -> jax.Array:
        """Applies all of them to a batch."""
        if needs_labels(self):
            raise InputError("labels", "to be given through augment, as they change too", "none")
        return augment(self, x, None, key)[0]


def augment(
    transform: Augmentation, x: ArrayLike, labels: Any = None, key: jax.Array | None = None
) -> tuple[jax.Array, Any]:
    """Applies a transform of any kind to a batch of inputs and its labels.

    Args:
        transform: a ``RandomTransform`` is called with (x, key), a ``PairTransform`` with
            (x, labels, key), a ``Compose`` goes through its parts, and anything else is called
            with x alone.
        x: inputs [B, ...].
        labels: [B, ...]; as they are unless a ``PairTransform`` changes them.
        key: the source of all draws.

    Returns:
        Inputs and labels.

    Raises:
        InputError: if x or the transform is none, or there is no key and something is random.
    """
    x = as_array("x", x)
    if isinstance(transform, Compose):
        for place, part in enumerate(transform.transforms):
            own = None if key is None else jax.random.fold_in(key, place)
            x, labels = augment(part, x, labels, own)
        return x, labels
    check_transforms("transform", (transform,))
    if not isinstance(transform, RandomTransform | PairTransform):
        return called("transform", "a function of a batch", transform, x), labels
    if key is None:
        raise InputError("key", "a key, as something is random: jax.random.key(0)", "None")
    if isinstance(transform, PairTransform):
        return transform(x, labels, key)
    return transform(x, key), labels


def is_random(transform: Any) -> bool:
    """Whether a transform takes a key.

    Args:
        transform: any transform; a ``Compose`` takes one if a part of it does.
    """
    if isinstance(transform, Compose):
        return any(map(is_random, transform.transforms))
    return isinstance(transform, RandomTransform | PairTransform)


def needs_labels(transform: Any) -> bool:
    """Whether a transform changes labels besides inputs."""
    if isinstance(transform, Compose):
        return any(map(needs_labels, transform.transforms))
    return isinstance(transform, PairTransform)

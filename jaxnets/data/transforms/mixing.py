"""Mixup and CutMix, which mix each example and its label with another one of the batch."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_float_dtype,
    check_number,
    check_positive,
    describe,
)
from jaxnets.data.transforms.boxes import inside
from jaxnets.data.transforms.checks import check_images, check_key
from jaxnets.data.transforms.transform import PairTransform, dtype_of_draws


@dataclass(frozen=True, init=False)
class OneHot:
    """Encodes class numbers as one-hot vectors: ``torch.nn.functional.one_hot`` in a float dtype.

    Args:
        num_classes: number of classes.
        dtype: the floating dtype of the result.

    Raises:
        InputError: if ``num_classes`` is not a positive integer or ``dtype`` is not a floating
            dtype; on a call, if the labels are not integers from 0 to num_classes - 1. Under
            ``jax.jit``, where labels cannot be checked, an invalid label gives a row of NaN.

    Examples:
        >>> print(OneHot(3)(np.array([2, 0])))
        [[0. 0. 1.]
         [1. 0. 0.]]
    """

    num_classes: int
    dtype: np.dtype

    def __init__(self, num_classes: int, dtype: DTypeLike = jnp.float32) -> None:
        object.__setattr__(self, "num_classes", check_positive("num_classes", num_classes))
        object.__setattr__(self, "dtype", check_float_dtype("dtype", dtype))

    def __call__(self, labels: ArrayLike) -> jax.Array:
        """Converts labels [...] to [..., num_classes]."""
        if not isinstance(labels, jax.Array | np.ndarray):
            raise InputError("labels", "class numbers, integers", type(labels).__name__)
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise InputError("labels", "class numbers, integers", describe(labels))
        is_class = (labels >= 0) & (labels < self.num_classes)
        if not isinstance(labels, jax.core.Tracer) and not np.all(is_class):
            strange = np.asarray(labels)[~np.asarray(is_class)][0]
            raise InputError("labels", f"classes from 0 to {self.num_classes - 1}", str(strange))
        rows = jax.nn.one_hot(labels, self.num_classes, dtype=self.dtype)
        return jnp.where(is_class[..., None], rows, jnp.nan)


@dataclass(frozen=True, init=False)
class Mixup(PairTransform):
    """Mixes each example with the previous one, λ to 1 - λ: ``torchvision.transforms.v2.MixUp``.

    λ is drawn from Beta(alpha, alpha) for each example; torchvision draws one λ for the batch. As
    in torchvision, the partner is the previous example of the batch, or the last one for the first;
    it is random because training shuffles. Labels become probabilities, which
    ``jaxnets.losses.cross_entropy`` accepts.

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.

    Args:
        alpha: positive number; the smaller it is, the closer λ is to 0 or 1. The paper uses 0.2
            to 1.
        num_classes: number of classes.

    Raises:
        InputError: if an argument is invalid; on a call, if inputs are not floating, or labels are
            neither classes [B] nor probabilities [B, num_classes].
    """

    alpha: float
    num_classes: int

    def __init__(self, alpha: float, num_classes: int) -> None:
        _set(self, alpha, num_classes)

    def __call__(
        self, x: ArrayLike, labels: ArrayLike, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mixes a batch [B, ...]."""
        x = as_array("x", x)
        if not jnp.issubdtype(x.dtype, jnp.floating) or x.ndim == 0:
            raise InputError("x", "floating values (use ToFloat before Mixup)", describe(x))
        dtype = dtype_of_draws(x.dtype)
        share = _shares(self.alpha, check_key(key), len(x), dtype)
        lengthened = share.reshape((-1,) + (1,) * (x.ndim - 1)).astype(x.dtype)
        targets = _mixed_labels(labels, share, self.num_classes, len(x))
        return _mix(x, lengthened), targets


@dataclass(frozen=True, init=False)
class CutMix(PairTransform):
    """Pastes a rectangle of the previous image into each: ``torchvision.transforms.v2.CutMix``.

    The rectangle has a random centre and √(1 - λ) times the height and width of the image, with λ
    from Beta(alpha, alpha); it is clipped to the image. Labels become probabilities in proportion
    to the pixels. A rectangle is drawn for each image; torchvision draws one for the batch.

    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features", 2019.

    Args:
        alpha: positive number; 1 draws λ uniformly.
        num_classes: number of classes.

    Raises:
        InputError: if an argument is invalid; on a call, if the inputs are not a batch of images,
            or labels are neither classes [B] nor probabilities [B, num_classes].
    """

    alpha: float
    num_classes: int

    def __init__(self, alpha: float, num_classes: int) -> None:
        _set(self, alpha, num_classes)

    def __call__(
        self, x: ArrayLike, labels: ArrayLike, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Mixes a batch [B, H, W, C]."""
        x = check_images(x)
        dtype = dtype_of_draws(x.dtype)
        share_key, place_key = jax.random.split(check_key(key))
        sides = jnp.sqrt(1 - _shares(self.alpha, share_key, len(x), dtype))
        keys = jax.random.split(place_key, len(x))
        boxes = jax.vmap(functools.partial(_box, x.shape[1], x.shape[2]))(sides, keys)
        share = 1 - jnp.mean(boxes, axis=(1, 2), dtype=dtype)
        targets = _mixed_labels(labels, share, self.num_classes, len(x))
        return jnp.where(boxes[..., None], jnp.roll(x, 1, axis=0), x), targets


def _set(transform: Mixup | CutMix, alpha: float, num_classes: int) -> None:
    object.__setattr__(transform, "alpha", check_number("alpha", alpha, above=0))
    object.__setattr__(transform, "num_classes", check_positive("num_classes", num_classes))


def _shares(alpha: float, key: jax.Array, count: int, dtype: np.dtype) -> jax.Array:
    parameter = jnp.asarray(alpha, dtype)
    return jax.random.beta(key, parameter, parameter, (count,), dtype)


def _box(height: int, width: int, side: jax.Array, key: jax.Array) -> jax.Array:
    """Draws a rectangle with a fraction of height and width; returns its mask, bool [H, W]."""
    size = jnp.asarray([height, width], jnp.int32)
    centre = jax.random.randint(key, (2,), 0, size, jnp.int32)
    half = jnp.floor(size.astype(side.dtype) * side / 2).astype(jnp.int32)
    (top, left), (bottom, right) = centre - half, centre + half
    return inside(height, width, top, bottom, left, right)


def _mix(x: jax.Array, share: jax.Array) -> jax.Array:
    return share * x + (1 - share) * jnp.roll(x, 1, axis=0)


def _mixed_labels(labels: ArrayLike, share: jax.Array, classes: int, count: int) -> jax.Array:
    """Mixes labels as probabilities [B, classes]."""
    labels = as_array("labels", labels)
    floating = jnp.issubdtype(labels.dtype, jnp.floating)
    if labels.shape != ((count, classes) if floating else (count,)):
        expected = f"classes [{count}], or probabilities [{count}, {classes}]"
        raise InputError("labels", expected, describe(labels))
    rows = jnp.asarray(labels) if floating else OneHot(classes, share.dtype)(labels)
    return _mix(rows.astype(share.dtype), share[:, None])

"""Dropout of single values and of whole channels, and alpha dropout for SELU."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_bool, check_floats, check_number, describe
from jaxnets.kernels.marks import marked
from jaxnets.layers.parameters import check_rngs


@marked
def drop(x: jax.Array, key: jax.Array, *, rate: float, alike: tuple[int, ...]) -> jax.Array:
    """Sets each number to 0 with probability ``rate``, and divides the others by 1 - rate.

    PyTorch multiplies by the mask, so that dropped values that are infinite or NaN become NaN. This
    function does the same.

    Args:
        x: an array of any shape.
        key: the random key.
        rate: the probability, between 0 and 1.
        alike: the axes along which either all numbers are dropped or none.

    Returns:
        An array of the shape and dtype of x.
    """
    shape = [1 if axis in alike else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1.0 - rate, shape, out_sharding=jax.typeof(x).sharding)
    y = lax.select(jnp.broadcast_to(kept, x.shape), x / (1.0 - rate), jnp.zeros_like(x))
    return jnp.where(jnp.isfinite(x) | (y != 0), y, jnp.nan)


#: The negative of the limit of SELU at -∞, which replaces dropped values, with PyTorch's digits.
_SELU = 1.7580993408473766


def alpha_drop(x: jax.Array, key: jax.Array, *, rate: float, alike: tuple[int, ...]) -> jax.Array:
    """Replaces numbers by SELU's limit at -∞ with some probability: alpha dropout.

    y = a x' + b, where x' is -1.758 for dropped values and x for others. The constants a and b are
    such that y has mean 0 and variance 1 if x has.

    Args:
        x: see ``drop``.
        key: see ``drop``.
        rate: see ``drop``.
        alike: see ``drop``.

    Returns:
        An array of the shape and dtype of x.
    """
    a = 1 / math.sqrt((_SELU**2 * rate + 1) * (1 - rate))
    shape = [1 if axis in alike else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1.0 - rate, shape, out_sharding=jax.typeof(x).sharding)
    factor = jnp.where(kept, a, 0).astype(x.dtype)
    return x * factor + (_SELU * a * (rate - jnp.where(kept, 0, 1))).astype(x.dtype)


#: Accepted shapes by their number of axes: a batch, and a single example.
SEQUENCES = {3: "[N, L, C]", 2: "[L, C]"}
VOLUMES = {5: "[N, D, H, W, C]", 4: "[D, H, W, C]"}


def by_places(argument: str, x: ArrayLike, shapes: dict[int, str]) -> ArrayLike:
    """Checks an array with channels, and reshapes it to [N, positions, C].

    Args:
        argument: the name of the argument, for error messages.
        x: the array.
        shapes: the accepted shapes by number of axes; empty for any [N, ..., C].

    Raises:
        InputError: if the array has another shape, or is not floating.
    """
    check_floats(argument, x, ("...",))
    if x.ndim < 2 or (shapes and x.ndim not in shapes):
        expected = " or ".join(shapes.values()) or "[N, ..., C]"
        raise InputError(argument, f"a floating-point array {expected}", describe(x))
    batch = x[None] if x.ndim == min(shapes, default=0) else x
    return batch.reshape(batch.shape[0], math.prod(batch.shape[1:-1]), x.shape[-1])


class Dropout(nnx.Dropout):
    """``torch.nn.Dropout``: in training, each value is zero with probability p, else x / (1 - p).

    ``model.train()`` turns dropout on and ``model.eval()`` turns it off. Each call draws a new mask
    from the layer's own random stream, which has the tag ``dropout`` and is reseeded by
    ``nnx.reseed(model, dropout=key)``. With p = 0 or 1 the layer has no random stream.

    Args:
        p: the probability that a value is dropped, which can be changed later as ``layer.p``.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        p = check_number("p", p, least=0, most=1)
        check_bool("inplace", inplace)
        rngs = check_rngs(rngs)
        # The stream has the same tag in all layers, so that nnx.reseed reseeds them all.
        stream = nnx.RngStream(rngs.dropout(), tag="dropout") if 0 < p < 1 else None
        super().__init__(p, rngs=stream)

    def __call__(self, x: ArrayLike, **options: Any) -> jax.Array:
        """Drops values in training mode.

        Args:
            x: a floating-point array of any shape.
            options: ``deterministic`` and ``rngs``; see ``nnx.Dropout``.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x is not floating.
        """
        check_floats("x", x, ("...",))
        x = jnp.asarray(x)
        key = self.draw_key(**options)
        if key is None:
            y = super().__call__(x, **options)
            return y if y is x else jnp.where(jnp.isfinite(x), y, jnp.nan)
        return self._by_key(x, key)

    def _by_key(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return drop(x, key, rate=self.rate, alike=tuple(self.broadcast_dims))

    @property
    def drops(self) -> bool:
        """Whether a call changes anything; a property, as ``nnx.tabulate`` compiles methods."""
        return self.rate > 0 and not self.deterministic

    def draw_key(self, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array | None:
        """Returns the random key for the mask of one call; None if the call draws no mask."""
        deterministic = self.deterministic if deterministic is None else deterministic
        rngs = self.rngs if rngs is None else rngs
        if deterministic is None or deterministic or not 0 < self.rate < 1 or rngs is None:
            return None
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[self.rng_collection]
        return rngs() if callable(rngs) else rngs

    @property
    def p(self) -> float:
        """The probability that a value is dropped: PyTorch's name for ``rate``.

        Raises:
            InputError: when set, if the value is not a probability, or if it is between 0 and 1 and
                the layer has no random stream because it was made with p = 0 or 1.
        """
        return self.rate

    @p.setter
    def p(self, p: float) -> None:
        p = check_number("p", p, least=0, most=1)
        if 0 < p < 1 and self.rngs is None:
            raise InputError("p", "0 or 1, as the layer was made with p = 0 or 1", p)
        self.rate = p


class ChannelDropout(Dropout):
    """The base class of layers that drop whole channels.

    Args:
        p: the probability that a channel is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    shapes: ClassVar[dict[int, str]] = {}

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        super().__init__(p, inplace, rngs=rngs)
        self.broadcast_dims = (1,)

    def __call__(self, x: ArrayLike, **options: Any) -> jax.Array:
        """Drops channels in training mode.

        Args:
            x: a floating-point array with channels last.
            options: ``deterministic`` and ``rngs``; see ``nnx.Dropout``.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x is not floating, or has another number of axes.
        """
        places = by_places("x", x, self.shapes)
        return super().__call__(places, **options).reshape(x.shape)


class Dropout1d(ChannelDropout):
    """``torch.nn.Dropout1d``: drops whole channels of each sequence, each with probability p.

    The input is a batch of sequences [N, L, C], or one sequence [L, C], with channels last.

    Args:
        p: the probability that a channel is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    shapes: ClassVar[dict[int, str]] = SEQUENCES


class Dropout2d(ChannelDropout):
    """``torch.nn.Dropout2d``: drops whole channels of each example, each with probability p.

    The input is a batch of images [N, H, W, C] or any other array [N, ..., C] with channels last.
    For vectors [N, C] each value is a channel.

    Args:
        p: the probability that a channel is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """


class Dropout3d(ChannelDropout):
    """``torch.nn.Dropout3d``: drops whole channels of each volume, each with probability p.

    The input is a batch of volumes [N, D, H, W, C], or one volume [D, H, W, C], with channels last.

    Args:
        p: the probability that a channel is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    shapes: ClassVar[dict[int, str]] = VOLUMES


class AlphaDropout(Dropout):
    """``torch.nn.AlphaDropout``: dropout for SELU, which keeps mean 0 and variance 1.

    In training, y = a x' + b, where x' is -1.758 (SELU's limit at -∞) with probability p, and x
    otherwise. The constants a and b are such that y has mean 0 and variance 1 if x has.

    Args:
        p: the probability that a value is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    def _by_key(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return alpha_drop(x, key, rate=self.rate, alike=())


class FeatureAlphaDropout(ChannelDropout):
    """``torch.nn.FeatureAlphaDropout``: ``AlphaDropout`` of whole channels of each example.

    The input is an array [N, ..., C] with channels last.

    Args:
        p: the probability that a channel is dropped.
        inplace: accepted for compatibility with PyTorch; has no effect.
        rngs: the random streams from which the layer's own stream is seeded.
    """

    def _by_key(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return alpha_drop(x, key, rate=self.rate, alike=tuple(self.broadcast_dims))

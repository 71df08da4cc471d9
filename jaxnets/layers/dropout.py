"""Dropout of single values and of whole channels, by zeros or as SELU needs it."""

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
    """Drops each number with some probability, and divides the others by that of their staying.

    PyTorch multiplies by the mask, so that what is not finite stays visible where it is dropped.

    Args:
        x: of any shape.
        key: what is dropped follows from it.
        rate: the probability, between 0 and 1.
        alike: axes along which all numbers are dropped or none.

    Returns:
        An array of the shape and dtype of x.
    """
    shape = [1 if axis in alike else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1.0 - rate, shape, out_sharding=jax.typeof(x).sharding)
    y = lax.select(jnp.broadcast_to(kept, x.shape), x / (1.0 - rate), jnp.zeros_like(x))
    return jnp.where(jnp.isfinite(x) | (y != 0), y, jnp.nan)


#: Minus the limit of SELU at -∞, PyTorch's digits: what is dropped becomes it.
_SELU = 1.7580993408473766


def alpha_drop(x: jax.Array, key: jax.Array, *, rate: float, alike: tuple[int, ...]) -> jax.Array:
    """Sets numbers to SELU's limit with some probability, and keeps mean 0 and variance 1.

    y = a x' + b, x' = x where it is kept and -1.758 where it is dropped, with a and b such that y
    has mean 0 and variance 1 if x has.

    Args:
        x: as of ``drop``.
        key: as of ``drop``.
        rate: as of ``drop``.
        alike: as of ``drop``.

    Returns:
        An array of the shape and dtype of x.
    """
    a = 1 / math.sqrt((_SELU**2 * rate + 1) * (1 - rate))
    shape = [1 if axis in alike else size for axis, size in enumerate(x.shape)]
    kept = jax.random.bernoulli(key, 1.0 - rate, shape, out_sharding=jax.typeof(x).sharding)
    factor = jnp.where(kept, a, 0).astype(x.dtype)
    return x * factor + (_SELU * a * (rate - jnp.where(kept, 0, 1))).astype(x.dtype)


#: Shapes by their number of axes: a batch, and one of its examples.
SEQUENCES = {3: "[N, L, C]", 2: "[L, C]"}
VOLUMES = {5: "[N, D, H, W, C]", 4: "[D, H, W, C]"}


def by_places(argument: str, x: ArrayLike, shapes: dict[int, str]) -> ArrayLike:
    """Checks an array of examples with channels, and makes it [N, places, C].

    Args:
        argument: its name.
        x: the array.
        shapes: what is taken; empty for all of [N, ..., C].

    Raises:
        InputError: if it has another shape, or is not floating.
    """
    check_floats(argument, x, ("...",))
    if x.ndim < 2 or (shapes and x.ndim not in shapes):
        expected = " or ".join(shapes.values()) or "[N, ..., C]"
        raise InputError(argument, f"a floating-point array {expected}", describe(x))
    batch = x[None] if x.ndim == min(shapes, default=0) else x
    return batch.reshape(batch.shape[0], math.prod(batch.shape[1:-1]), x.shape[-1])


class Dropout(nnx.Dropout):
    """``torch.nn.Dropout``: in training, each value is zero with probability p, else x / (1 - p).

    ``model.train()`` and ``model.eval()`` switch it. Every call draws a new mask from the layer's
    own stream of keys, tagged ``dropout``: ``nnx.reseed(model, dropout=key)`` starts it anew. With
    p = 0 or 1 nothing is drawn and there is no stream.

    Args:
        p: the probability that a value is dropped; ``layer.p`` reads and changes it.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        p = check_number("p", p, least=0, most=1)
        check_bool("inplace", inplace)
        rngs = check_rngs(rngs)
        # Whatever stream of rngs the key comes from, it is reseeded by one name.
        stream = nnx.RngStream(rngs.dropout(), tag="dropout") if 0 < p < 1 else None
        super().__init__(p, rngs=stream)

    def __call__(self, x: ArrayLike, **options: Any) -> jax.Array:
        """Drops values if in training mode.

        Args:
            x: of any shape.
            options: ``deterministic`` and ``rngs``, as of ``nnx.Dropout``.

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

    def drops(self) -> bool:
        """Whether a call changes anything."""
        return self.rate > 0 and not self.deterministic

    def draw_key(self, *, deterministic: bool | None = None, rngs: Any = None) -> jax.Array | None:
        """The key of a call's mask, as of ``nnx.Dropout``; None if it draws none."""
        deterministic = self.deterministic if deterministic is None else deterministic
        rngs = self.rngs if rngs is None else rngs
        if deterministic is None or deterministic or not 0 < self.rate < 1 or rngs is None:
            return None
        if isinstance(rngs, nnx.Rngs):
            rngs = rngs[self.rng_collection]
        return rngs() if callable(rngs) else rngs

    @property
    def p(self) -> float:
        """PyTorch's name for ``rate``: the probability that a value is dropped.

        Raises:
            InputError: when set: if it is no probability, or random numbers are needed of a layer
                that was made without.
        """
        return self.rate

    @p.setter
    def p(self, p: float) -> None:
        p = check_number("p", p, least=0, most=1)
        if 0 < p < 1 and self.rngs is None:
            raise InputError("p", "0 or 1 in a layer made with p = 0 or 1", p)
        self.rate = p


class ChannelDropout(Dropout):
    """What the layers that drop whole channels share.

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    shapes: ClassVar[dict[int, str]] = {}

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        super().__init__(p, inplace, rngs=rngs)
        self.broadcast_dims = (1,)

    def __call__(self, x: ArrayLike, **options: Any) -> jax.Array:
        """Drops channels if in training mode.

        Args:
            x: channels last.
            options: ``deterministic`` and ``rngs``, as of ``nnx.Dropout``.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x is not floating, or has another number of axes.
        """
        places = by_places("x", x, self.shapes)
        return super().__call__(places, **options).reshape(x.shape)


class Dropout1d(ChannelDropout):
    """``torch.nn.Dropout1d``: drops whole channels of each sequence, each with probability p.

    It takes sequences [N, L, C], where PyTorch has [N, C, L], or one of them.

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    shapes: ClassVar[dict[int, str]] = SEQUENCES


class Dropout2d(ChannelDropout):
    """``torch.nn.Dropout2d``: drops whole channels of each example, each with probability p.

    It takes images [N, H, W, C], and whatever else has channels: of vectors [N, C] a channel is
    one value.

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """


class Dropout3d(ChannelDropout):
    """``torch.nn.Dropout3d``: drops whole channels of each volume, each with probability p.

    It takes volumes [N, D, H, W, C], where PyTorch has [N, C, D, H, W], or one of them.

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    shapes: ClassVar[dict[int, str]] = VOLUMES


class AlphaDropout(Dropout):
    """``torch.nn.AlphaDropout``: sets values to SELU's limit, and keeps mean 0 and variance 1.

    In training, y = a x' + b, where x' is -1.758 with probability p and else x. If x has mean 0
    and variance 1, so has y.

    Args:
        p: the probability that a value is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    def _by_key(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return alpha_drop(x, key, rate=self.rate, alike=())


class FeatureAlphaDropout(ChannelDropout):
    """``torch.nn.FeatureAlphaDropout``: ``AlphaDropout`` of whole channels of each example.

    It takes [N, ..., C], where PyTorch has [N, C, ...].

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    def _by_key(self, x: jax.Array, key: jax.Array) -> jax.Array:
        return alpha_drop(x, key, rate=self.rate, alike=tuple(self.broadcast_dims))

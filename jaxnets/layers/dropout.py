"""Dropout of single values and of whole channels."""

import math
from typing import Any

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


class Dropout2d(Dropout):
    """``torch.nn.Dropout2d``: drops whole channels of each example, each with probability p.

    It takes images, and whatever else has channels: of vectors [N, C] a channel is one value.

    Args:
        p: the probability that a channel is dropped.
        inplace: PyTorch's, which changes nothing here.
        rngs: where the stream's first key is drawn from.
    """

    def __init__(
        self, p: float = 0.5, inplace: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> None:
        super().__init__(p, inplace, rngs=rngs)
        self.broadcast_dims = (1,)

    def __call__(self, x: ArrayLike, **options: Any) -> jax.Array:
        """Drops channels if in training mode.

        Args:
            x: images [N, H, W, C], sequences [N, L, C] or vectors [N, C].
            options: ``deterministic`` and ``rngs``, as of ``nnx.Dropout``.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x is not floating, or has fewer than two axes.
        """
        check_floats("x", x, ("...",))
        if x.ndim < 2:
            raise InputError("x", "a floating-point array [N, ..., C]", describe(x))
        places = x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])
        return super().__call__(places, **options).reshape(x.shape)

"""Scaled dot-product attention by a native kernel, forward and backward."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxnets.kernels import dropout, native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

# The second number limits the buffer in which each thread keeps the keys and values of a head.
_MOST_MASKS, _MOST_NUMBERS = 4, 2**20


@dataclass(frozen=True)
class Settings:
    """The settings of attention.

    Attributes:
        heads: number of heads into which the inputs' last axis is divided.
        causal: whether a query does not attend to later keys.
        safe: whether the output of a query with all keys masked is zero; otherwise NaN.
        rate: the probability of dropping an attention weight.
    """

    heads: int
    causal: bool = False
    safe: bool = True
    rate: float = 0.0


def supports(
    inputs: Sequence[Shaped], masks: Sequence[Shaped], key: Shaped | None, settings: Settings
) -> bool:
    """Whether the kernel of ``attention`` supports these arguments of its function."""
    if len(masks) > _MOST_MASKS or any(mask.ndim != 4 for mask in masks):
        return False
    if len({x.shape[-1] for x in inputs}) > 1:
        return False
    sizes = [size for array in (*inputs, *masks) for size in array.shape]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return False
    _, source, width = inputs[-1].shape
    size = width // _parts(inputs) // settings.heads
    fits = source * max(size, 16) <= _MOST_NUMBERS
    if key is not None:  # dropout draws one number for each score
        scores = len(inputs[0]), settings.heads, inputs[0].shape[1], source
        fits = fits and inputs[0].dtype == np.float32 and dropout.draws(scores, key)
    return fits and native.ready("attention", *inputs, *masks)


def _parts(inputs: Sequence[Any]) -> int:
    """Returns 3 if one array has queries, keys and values side by side, otherwise 1."""
    return 3 if len(inputs) == 1 else 1


def _summed(d: jax.Array, shape: Sequence[int]) -> jax.Array:
    """Sums the gradient of the scores over the axes along which a mask has size 1."""
    axes = [
        axis for axis, (full, size) in enumerate(zip(d.shape, shape, strict=True)) if full > size
    ]
    return d.sum(axes, keepdims=True)


def attention(settings: Settings, plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes softmax(Q Kᵀ / √d + masks) V for each head, computed by a kernel.

    The kernel never stores the whole matrix of scores. The backward pass computes them again from
    the largest score and the sum of each row, which the forward pass keeps.

    Args:
        settings: the settings of attention.
        plain: the same function in XLA's operations.

    Returns:
        A function of a tuple of inputs, a tuple of masks, and the key of dropout or None. The
        inputs are q [N, L, E], k and v [N, S, E]; or one array [N, L, 3E] that has them side by
        side. Masks are added to the scores [N, heads, L, S]; each has four axes, any of which may
        be 1. The function returns the outputs [N, L, E].
    """

    def call(
        way: str, shapes: Sequence[tuple[int, ...]], given: tuple, *between: jax.Array
    ) -> list[jax.Array]:
        inputs, masks, key = given
        size = inputs[0].shape[-1] // _parts(inputs) // settings.heads
        drops = {"factor": np.float64(1), "limit": np.uint32(0)}
        words = []
        if key is not None:
            drops, words = dropout.attributes(settings.rate), [jax.random.key_data(key)]
        results = [jax.ShapeDtypeStruct(shape, inputs[0].dtype) for shape in shapes]
        arguments = (*inputs, *between, *words, *masks)
        return native.call(
            "attention",
            f"attention_{way}",
            results,
            *arguments,
            **drops,
            causal=np.int32(settings.causal),
            heads=np.int32(settings.heads),
            packed=np.int32(len(inputs) == 1),
            safe=np.int32(settings.safe),
            scale=np.float64(1 / math.sqrt(size)),
        )

    def of_outputs(inputs: tuple) -> tuple[int, ...]:
        return (*inputs[0].shape[:2], inputs[0].shape[2] // _parts(inputs))

    def of_scores(inputs: tuple) -> tuple[int, ...]:
        return (len(inputs[0]), settings.heads, inputs[0].shape[1], inputs[-1].shape[1])

    def run(inputs: tuple, masks: tuple, key: jax.Array | None = None) -> jax.Array:
        return call("forward", [of_outputs(inputs)], (inputs, masks, key))[0]

    def keep(
        inputs: tuple, masks: tuple, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Also returns each query's largest score and reciprocal sum, [N, heads, L, 2]."""
        batch, length, _ = inputs[0].shape
        shapes = of_outputs(inputs), (batch, settings.heads, length, 2)
        y, kept = call("forward", shapes, (inputs, masks, key))
        return y, kept

    def pull_back(given: tuple, kept: jax.Array, d: jax.Array, wanted: tuple[bool, ...]) -> tuple:
        inputs, masks, _ = given
        shapes = [x.shape for x in inputs]
        if not wanted[1]:
            return tuple(call("backward", shapes, given, d, kept)), (None,) * len(masks), None
        *d_inputs, d_scores = call("backward", [*shapes, of_scores(inputs)], given, d, kept)
        return tuple(d_inputs), tuple(_summed(d_scores, mask.shape) for mask in masks), None

    return with_gradient(run, keep, pull_back, plain, selective=True)

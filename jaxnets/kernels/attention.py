"""Scaled dot-product attention as one call of a native kernel, forward and backward."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

# A thread keeps memory for the keys and values of a head.
_MOST_MASKS, _MOST_NUMBERS = 4, 2**20


@dataclass(frozen=True)
class Settings:
    """What attention computes.

    Attributes:
        heads: into how many heads the inputs' last axis is cut.
        causal: whether a query is kept from the keys after it.
        safe: whether a query that is kept from all keys gives zeros; otherwise NaN.
    """

    heads: int
    causal: bool = False
    safe: bool = True


def serves(inputs: Sequence[Shaped], masks: Sequence[Shaped], settings: Settings) -> bool:
    """Whether the kernel of ``attention`` can run this; the arrays are those of its function."""
    if len(masks) > _MOST_MASKS or any(mask.ndim != 4 for mask in masks):
        return False
    sizes = [size for array in (*inputs, *masks) for size in array.shape]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return False
    _, source, width = inputs[-1].shape
    size = width // _parts(inputs) // settings.heads
    fits = source * max(size, 16) <= _MOST_NUMBERS
    return fits and native.ready("attention", *inputs, *masks)


def _parts(inputs: Sequence[Any]) -> int:
    """How many of queries, keys and values an array has side by side."""
    return 3 if len(inputs) == 1 else 1


def attention(
    settings: Settings, plain: Callable[..., jax.Array]
) -> Callable[[tuple[jax.Array, ...], tuple[jax.Array, ...]], jax.Array]:
    """Softmax(Q Kᵀ / √d + masks) V for each head, computed by a kernel.

    Args:
        settings: what is computed.
        plain: the same function in XLA's operations.

    Returns:
        A function of the inputs, a tuple, and of a tuple of masks. The inputs are q [N, L, E],
        k and v [N, S, E]; or one array [N, L, 3E] that has them side by side. Masks are added to
        the scores [N, heads, L, S]; each is of rank four, and any of its axes may be 1. It gives
        the outputs [N, L, E].
    """

    def options(inputs: tuple) -> dict[str, Any]:
        size = inputs[0].shape[-1] // _parts(inputs) // settings.heads
        given = {**asdict(settings), "packed": len(inputs) == 1}
        scale = np.float64(1 / math.sqrt(size))
        return {name: np.int32(value) for name, value in given.items()} | {"scale": scale}

    def outputs(inputs: tuple, masks: tuple, *, every: bool) -> list[jax.Array]:
        batch, length, width = inputs[0].shape
        shapes: list[tuple[int, ...]] = [(batch, length, width // _parts(inputs))]
        if every:
            shapes.append((batch, settings.heads, length, 2))
        results = [jax.ShapeDtypeStruct(shape, inputs[0].dtype) for shape in shapes]
        name = "attention_forward"
        return native.call("attention", name, results, *inputs, *masks, **options(inputs))

    def run(inputs: tuple, masks: tuple) -> jax.Array:
        return outputs(inputs, masks, every=False)[0]

    def keep(inputs: tuple, masks: tuple) -> tuple[jax.Array, jax.Array]:
        """Keeps of each query the largest score and one over the sum, [N, heads, L, 2]."""
        y, saved = outputs(inputs, masks, every=True)
        return y, saved

    def pull_back(given: tuple, saved: jax.Array, d: jax.Array) -> tuple:
        inputs, masks = given
        results = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs]
        arguments = (*inputs, d, saved, *masks)
        name = "attention_backward"
        d_inputs = native.call("attention", name, results, *arguments, **options(inputs))
        if not masks:
            return tuple(d_inputs), ()
        # XLA leaves this out where nobody asks for it: masks are rarely learned.
        (d_masks,) = jax.vjp(lambda masks: plain(inputs, masks), masks)[1](d)
        return tuple(d_inputs), d_masks

    return with_gradient(run, keep, pull_back, plain)

"""Chains of linear layers with ReLU between them by one native kernel, forward and backward."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

# With fewer examples, packing the kernels costs more than it saves. With more weights or outputs,
# XLA's products are as fast, and each thread would keep large buffers.
_LEAST_EXAMPLES, _MOST_LAYERS = 16, 8
_MOST_WEIGHTS, _MOST_OUTPUTS = 2**20, 2**22
# For batch sizes in this range, layers with at least this many weights are faster one at a time,
# because ``linear_layer`` divides each between threads by columns.
_ONE_BY_ONE, _LARGE = range(32, 128), 2**16


def supports(x: Shaped, kernels: Sequence[Shaped], biases: Sequence[Shaped]) -> bool:
    """Whether the kernels of ``chain`` can run these layers, and are faster than XLA's products."""
    pays_off = len(x) >= _LEAST_EXAMPLES and len(kernels) <= _MOST_LAYERS
    weights = sum(math.prod(kernel.shape) for kernel in kernels)
    outputs = len(x) * sum(kernel.shape[1] for kernel in kernels)
    fits = weights <= _MOST_WEIGHTS and outputs <= _MOST_OUTPUTS
    if len(x) in _ONE_BY_ONE and weights >= _LARGE:
        return False
    return pays_off and fits and native.ready("linear", x, *kernels, *biases)


def _by_layer(kernels: Sequence[jax.Array], biases: Sequence[jax.Array]) -> list[jax.Array]:
    return [array for pair in zip(kernels, biases, strict=True) for array in pair]


def chain(plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes a chain of linear layers with ReLU between them that kernels compute.

    Each thread computes all layers for its own examples, so hidden activations stay in its cache.

    Args:
        plain: the same function in XLA's operations.

    Returns:
        A function of x [batch, inputs], the kernels [inputs, outputs] and the biases [outputs] that
        returns the outputs of the last layer, [batch, outputs].
    """

    def outputs(x: jax.Array, kernels: Any, biases: Any, *, every: bool) -> list[jax.Array]:
        shapes = [(len(x), kernel.shape[1]) for kernel in kernels]
        results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
        wanted = results if every else results[-1:]
        parameters = _by_layer(kernels, biases)
        return native.call("linear", "linear_forward", wanted, x, *parameters)

    def run(x: jax.Array, kernels: Any, biases: Any) -> jax.Array:
        return outputs(x, kernels, biases, every=False)[0]

    def keep(x: jax.Array, kernels: Any, biases: Any) -> tuple[jax.Array, list[jax.Array]]:
        *hidden, last = outputs(x, kernels, biases, every=True)
        return last, hidden

    def pull_back(inputs: tuple, hidden: list[jax.Array], d: jax.Array) -> tuple:
        x, kernels, biases = inputs
        results = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in _by_layer(kernels, biases)]
        if hidden:
            results.append(jax.ShapeDtypeStruct(hidden[0].shape, x.dtype))
        found = native.call("linear", "linear_backward", results, x, *hidden, d, *kernels)
        # dz is the gradient of the first layer's outputs.
        dz = found.pop() if hidden else d
        # A separate product, which XLA removes if the gradient of x is not used.
        return dz @ kernels[0].T, found[::2], found[1::2]

    return with_gradient(run, keep, pull_back, plain)

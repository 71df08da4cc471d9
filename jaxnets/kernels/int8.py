"""Products of 8-bit integers by a native kernel, for quantized linear layers."""

from collections.abc import Callable

import jax

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient

#: Instructions that the processor must have. With them, XLA's products of integers are slower.
_INSTRUCTIONS = "avx512_vnni", "avx512bw"


def supports(scale: Shaped) -> bool:
    """Whether the kernel of ``linear`` can run, and is faster than XLA's products."""
    return native.processor_has(*_INSTRUCTIONS) and native.ready("int8", scale)


def linear(plain: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """Makes a quantized linear layer that a kernel computes.

    Args:
        plain: the same function in XLA's operations.

    Returns:
        A function of scale, weight_scale, bias, x, zero and weight W that returns
        y = scale · weight_scale · (x - zero) Wᵀ + bias.
    """

    def run(*arrays: jax.Array) -> jax.Array:
        scale, x, weight = arrays[0], arrays[3], arrays[5]
        result = jax.ShapeDtypeStruct((x.shape[0], weight.shape[0]), scale.dtype)
        return native.call("int8", "int8_linear", [result], *arrays)[0]

    def keep(*arrays: jax.Array) -> tuple[jax.Array, tuple[()]]:
        return run(*arrays), ()

    def pull_back(inputs: tuple, kept: tuple[()], d: jax.Array) -> tuple:
        # By XLA's operations: quantized layers are rarely differentiated.
        floats, integers = inputs[:3], inputs[3:]
        _, back = jax.vjp(lambda *floats: plain(*floats, *integers), *floats)
        return *back(d), None, None, None

    return with_gradient(run, keep, pull_back, plain)

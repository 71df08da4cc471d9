"""Products of int8 by a native kernel compute the same integers as XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import layers, quantization
from jaxnets.kernels import int8, native
from jaxnets.kernels.rewrite import explain, with_kernels
from jaxnets.quantization.products import int8_linear
from tests.kernels import assert_close, calls

RNG = np.random.default_rng(0)
# Few rows and many; incomplete tiles of rows, outputs and inputs; one output.
SHAPES = [(1, 130, 33), (3, 64, 5), (5, 7, 3), (14, 26, 17), (97, 150, 64), (13, 1, 1)]

pytestmark = pytest.mark.skipif(
    not native.processor_has("avx512_vnni", "avx512bw"), reason="the kernel is for AVX-512 VNNI"
)


def arrays(rows, inputs, outputs, *, own):
    """The arguments of a product whose outputs are the sums of its integers."""
    scales = rows if own else 1
    return (
        jnp.ones(scales),
        jnp.ones(outputs),
        jnp.zeros(outputs),
        jnp.asarray(RNG.integers(0, 256, (rows, inputs)), jnp.uint8),
        jnp.asarray(RNG.integers(0, 256, scales), jnp.int32),
        jnp.asarray(RNG.integers(-128, 128, (outputs, inputs)), jnp.int8),
    )


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_integers_are_exactly_those_of_xla_and_of_numpy(shape, own):
    given = arrays(*shape, own=own)
    *_, x, zero, weight = (np.asarray(array, np.int64) for array in given)
    exact = (x - zero[:, None]) @ weight.T
    assert np.array_equal(int8.linear(int8_linear)(*given), exact)
    assert np.array_equal(jax.jit(int8_linear)(*given), exact)


def test_scales_and_biases_are_those_of_each_row_and_output():
    given = arrays(9, 20, 18, own=True)
    floats = [jnp.asarray(RNG.normal(size=one.shape), jnp.float32) for one in given[:3]]
    kernel = int8.linear(int8_linear)
    assert_close(kernel(*floats, *given[3:]), int8_linear(*floats, *given[3:]), 1e-6)

    d = jnp.asarray(RNG.normal(size=(9, 18)), jnp.float32)

    def gradients(function):
        return jax.grad(lambda *floats: (d * function(*floats, *given[3:])).sum(), (0, 1, 2))

    assert_close(gradients(kernel)(*floats), gradients(int8_linear)(*floats), 1e-5)


def test_quantized_layers_use_the_kernel():
    layer = quantization.quantize_dynamic(layers.Linear(40, 8, rngs=nnx.Rngs(0)))
    x = jnp.ones((6, 40))
    assert explain(layer, x) == ["product of int8 6 × 40 and 8 × 40"]
    assert calls(with_kernels(layer), x) == 1
    assert calls(layer, x) == 0

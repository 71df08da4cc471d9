"""Pooling and flattening against torch: outputs and input gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import layers
from tests import tier
from tests.parity.oracle import check_layer, images_first, images_last

DTYPES = [np.float32, np.float64]


def check(name, inputs, *arguments, **options):
    check_layer(
        getattr(layers, name)(*arguments, **options),
        getattr(torch.nn, name)(*arguments, **options),
        inputs,
        to_ours=images_last,
        from_ours=images_first,
    )


@st.composite
def pools(draw, axes, dilated):
    """The options of a pool and the shape of an input with room for a window, or a few."""
    kernel = draw(st.tuples(*[st.integers(1, 4)] * axes))
    options = {
        "stride": draw(st.none() | st.tuples(*[st.integers(1, 4)] * axes)),
        "padding": tuple(draw(st.integers(0, k // 2)) for k in kernel),
        "ceil_mode": draw(st.booleans()),
    }
    dilation = draw(st.tuples(*[st.integers(1, 2)] * axes)) if dilated else (1,) * axes
    if dilated:
        options["dilation"] = dilation
    spans = zip(kernel, dilation, strict=True)
    sizes = [d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in spans]
    return kernel, options, (draw(st.integers(1, 2)), draw(st.integers(1, 3)), *sizes)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
@tier.examples(8)
@given(data=st.data())
def test_max_pool_equals_torch(dtype, axes, data):
    kernel, options, shape = data.draw(pools(axes, dilated=True))
    # Few different values, so that windows have ties; now and then an infinity.
    values = np.array([-np.inf, -1.0, 0.0, 0.0, 1.0], dtype)
    inputs = np.random.default_rng(0).choice(values, size=shape)
    check(f"MaxPool{axes}d", inputs, kernel, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
@tier.examples(8)
@given(data=st.data())
def test_avg_pool_equals_torch(dtype, axes, data):
    kernel, options, shape = data.draw(pools(axes, dilated=False))
    options["count_include_pad"] = data.draw(st.booleans())
    if axes == 2:  # torch's AvgPool1d has no divisor_override
        options["divisor_override"] = data.draw(st.none() | st.integers(1, 5))
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    check(f"AvgPool{axes}d", inputs, kernel, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2])
@tier.examples(6)
@given(data=st.data())
def test_adaptive_avg_pool_equals_torch(dtype, axes, data):
    sizes = data.draw(st.tuples(*[st.none() | st.integers(1, 6)] * axes))
    # torch's one-dimensional layer does not take None.
    outputs = sizes if axes == 2 else sizes[0] or 1
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * (axes + 2)))
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    check(f"AdaptiveAvgPool{axes}d", inputs, outputs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d"])
@pytest.mark.parametrize("shape", [(4, 6, 28, 28), (4, 16, 10, 10)])
def test_pools_equal_torch_on_lenets_shapes(dtype, name, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    check(name, np.maximum(inputs, 0), 2)  # after a ReLU most ties are zeros


def test_max_pool_passes_nan_on_and_its_gradient_back():
    inputs = np.random.default_rng(0).normal(size=(2, 2, 7, 7))
    inputs[0, 0, 2, 3] = inputs[0, 0, 3, 3] = inputs[1, 1, 0, 0] = np.nan
    check("MaxPool2d", inputs, 3, 2, 1)


def test_arguments_come_in_torchs_order_in_float64():
    inputs = np.random.default_rng(0).normal(size=(1, 2, 9, 9))
    check("MaxPool2d", inputs, 3, 1, 1, 2)
    check("AvgPool2d", inputs, 4, 3, 2, True, False, 3)
    check("AvgPool1d", inputs[0], 4, 3, 2, True, False)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (2, 3), (0, 3, 4, 5)])
def test_flatten_equals_torch_in_float64(shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    layouts = {"to_ours": images_last, "from_ours": images_first}
    check_layer(layers.Flatten(), torch.nn.Flatten(), inputs, **layouts)


def test_flatten_lets_the_next_linear_keep_torchs_weights_in_float64():
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 5)
    ).double()
    options = {"rngs": nnx.Rngs(0), "param_dtype": jnp.float64}
    ours = nnx.Sequential(
        layers.Conv2d(1, 3, 3, **options),
        layers.MaxPool2d(2),
        layers.Flatten(),
        layers.Linear(12, 5, **options),
    )
    inputs = np.random.default_rng(0).normal(size=(4, 1, 6, 6))
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@pytest.mark.parametrize("pool", [layers.MaxPool2d(3, 2, 1), layers.AvgPool2d(3, 2, 1)])
def test_backward_scatters_nothing(pool):
    """Scatters and reduce_windows are slow on the CPU; slices and selections are not."""
    gradient = jax.grad(lambda x: pool(x).sum())
    program = str(jax.make_jaxpr(gradient)(jnp.ones((2, 8, 8, 3), jnp.float32)))
    assert "scatter" not in program
    assert "reduce_window" not in program

"""Pooling and flattening compared with torch: outputs and input gradients."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import functional, layers
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, check_layer, images_first, images_last


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
    """The options of a pool, and the shape of an input with at least one window."""
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


@DTYPES
@pytest.mark.parametrize("axes", [1, 2])
@tier.examples(8)
@given(data=st.data())
def test_max_pool_equals_torch(dtype, axes, data):
    kernel, options, shape = data.draw(pools(axes, dilated=True))
    # Few different values, so that windows have ties, and some infinities.
    values = np.array([-np.inf, -1.0, 0.0, 0.0, 1.0], dtype)
    inputs = np.random.default_rng(0).choice(values, size=shape)
    check(f"MaxPool{axes}d", inputs, kernel, **options)


@DTYPES
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


@DTYPES
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


@DTYPES
@pytest.mark.parametrize("name", ["MaxPool2d", "AvgPool2d"])
@pytest.mark.parametrize("shape", [(4, 6, 28, 28), (4, 16, 10, 10)])
def test_pools_equal_torch_on_lenets_shapes(dtype, name, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    check(name, np.maximum(inputs, 0), 2)  # after a ReLU most ties are zeros


def test_max_pool_passes_nan_on_and_its_gradient_back():
    inputs = np.random.default_rng(0).normal(size=(2, 2, 7, 7))
    inputs[0, 0, 2, 3] = inputs[0, 0, 3, 3] = inputs[1, 1, 0, 0] = np.nan
    check("MaxPool2d", inputs, 3, 2, 1)


#: The functions, their positional arguments, and the shape of an input.
FUNCTIONS = [
    ("adaptive_avg_pool1d", (3,), (2, 2, 7)),
    ("adaptive_avg_pool2d", ((3, None),), (2, 2, 7, 3)),
    ("adaptive_avg_pool3d", ((1, 2, 3),), (2, 2, 4, 3, 5)),
    ("adaptive_max_pool1d", (3, True), (2, 2, 7)),
    ("adaptive_max_pool2d", ((3, None), True), (2, 2, 7, 3)),
    ("adaptive_max_pool3d", ((1, 2, 3), True), (2, 2, 4, 3, 5)),
    ("avg_pool1d", (3, 2, 1, True, False), (2, 2, 6)),
    ("avg_pool2d", (3, 2, 1, True, False, 5), (2, 2, 6, 7)),
    ("avg_pool3d", (2, 1, 1, True, True), (2, 2, 2, 3, 4)),
    ("lp_pool1d", (2, 3, 2, True), (2, 2, 6)),
    ("lp_pool2d", (2, 3, 2, True), (2, 2, 6, 7)),
    ("lp_pool3d", (2, 2, None, True), (2, 2, 2, 3, 4)),
    ("max_pool1d", (3, 2, 1, 2, True, True), (2, 2, 8)),
    ("max_pool2d", (3, 2, 1, 1, True), (2, 2, 6, 7)),
    ("max_pool3d", (2, 1, 1, 1, False, True), (2, 2, 2, 3, 4)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), FUNCTIONS)
def test_functions_take_the_arguments_of_torch_in_float64(name, arguments, shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    ours, theirs = getattr(functional, name), getattr(torch.nn.functional, name)
    compare(lambda x: ours(x, *arguments), lambda x: theirs(x, *arguments), inputs)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_unpool_takes_the_arguments_of_torch_in_float64(axes):
    places = np.random.default_rng(0).integers(0, 3**axes, (2, 2, *[2] * axes))
    options = 2, 2, 1, [3] * axes
    ours = getattr(functional, f"max_unpool{axes}d")
    theirs = getattr(torch.nn.functional, f"max_unpool{axes}d")
    compare(
        lambda x: ours(x, images_last(places), *options),
        lambda x: theirs(x, torch.tensor(places), *options),
        np.random.default_rng(1).normal(size=places.shape),
    )


@pytest.mark.parametrize("axes", [2, 3])
def test_fractional_max_pool_takes_the_arguments_of_torch_in_float64(axes):
    inputs = np.random.default_rng(0).normal(size=(2, 3, *[7] * axes))
    samples = np.random.default_rng(1).random((2, 3, axes))
    ours = getattr(functional, f"fractional_max_pool{axes}d")
    theirs = getattr(torch.nn.functional, f"fractional_max_pool{axes}d")
    given = 2, [3] * axes, None, True
    compare(
        lambda x: ours(x, *given, samples),
        lambda x: theirs(x, *given, torch.tensor(samples)),
        inputs,
    )


def test_arguments_are_in_the_order_of_torch_in_float64():
    inputs = np.random.default_rng(0).normal(size=(1, 2, 9, 9))
    check("MaxPool2d", inputs, 3, 1, 1, 2)
    check("AvgPool2d", inputs, 4, 3, 2, True, False, 3)
    check("AvgPool1d", inputs[0], 4, 3, 2, True, False)


#: A layer's name and arguments, and the shape of an input: windows that overlap, leave gaps, exceed
#: the edge or cover an axis, and bins that overlap.
WITH_INDICES = [
    ("MaxPool1d", (3, 2, 1, 2, True, True), (2, 3, 10)),
    ("MaxPool2d", ((3, 2), (2, 3), 1, (2, 1), True), (2, 3, 9, 7)),
    ("MaxPool3d", (2, (1, 2, 3), 1, 1, True, True), (1, 2, 3, 5, 4)),
    ("AdaptiveMaxPool1d", (4, True), (2, 3, 6)),
    ("AdaptiveMaxPool2d", ((3, None), True), (2, 3, 7, 5)),
    ("AdaptiveMaxPool3d", ((1, 2, 3), True), (1, 2, 4, 5, 4)),
]


@DTYPES
@pytest.mark.parametrize(("name", "arguments", "shape"), WITH_INDICES)
def test_maxima_and_their_indices_equal_torch(dtype, name, arguments, shape):
    ours, theirs = getattr(layers, name)(*arguments), getattr(torch.nn, name)(*arguments)
    compare(ours, theirs, hostile(shape, dtype))


@DTYPES
@pytest.mark.parametrize(
    ("shape", "sizes"),
    [((2, 3, 9, 7), {"output_size": 3}), ((2, 2, 5, 6, 7), {"output_ratio": (0.4, 0.6, 0.5)})],
)
def test_fractional_max_pool_equals_torch_with_given_numbers(dtype, shape, sizes):
    axes = len(shape) - 2
    samples = np.random.default_rng(1).random((*shape[:2], axes)).astype(dtype)
    name, options = f"FractionalMaxPool{axes}d", {**sizes, "return_indices": True}
    ours = getattr(layers, name)(2, **options, _random_samples=samples)
    theirs = getattr(torch.nn, name)(2, **options, _random_samples=torch.tensor(samples))
    compare(ours, theirs, hostile(shape, dtype))


def hostile(shape, dtype):
    """Few different values, for ties; infinities and NaN."""
    values = [-np.inf, -1, -1, 0, 0, 0, 1, 1, 2, np.nan]
    return np.random.default_rng(0).choice(np.array(values, dtype), shape)


def compare(ours, theirs, inputs):
    """Compares outputs, the input's gradient and indices, if there are any, with torch's."""
    x = torch.tensor(inputs, requires_grad=True)
    expected, *places = jax.tree.leaves(theirs(x))
    weight = np.cos(np.arange(expected.numel())).reshape(expected.shape).astype(inputs.dtype)
    expected.backward(torch.tensor(weight))

    def apart(x):
        y, *found = jax.tree.leaves(ours(x))
        return y, found

    @jax.jit
    def run(x, weight):
        y, pull_back, found = jax.vjp(apart, x, has_aux=True)
        return y, *pull_back(weight), *found

    made = [np.asarray(array) for array in run(images_last(inputs), images_last(weight))]
    y, gradient, *found = map(images_first, made)
    assert_equal(y, expected, "outputs")
    assert_equal(gradient, x.grad, "input gradient")
    for one, other in zip(found, places, strict=True):
        np.testing.assert_array_equal(one, other)


@DTYPES
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_max_unpool_equals_torch(dtype, axes):
    """Overlapping windows share some maxima; each window gets the gradient of its maximum."""
    shape = (2, 2, 5, 6, 4)[: 2 + axes]
    inputs = torch.tensor(np.random.default_rng(0).normal(size=shape).astype(dtype))
    maxima, places = getattr(torch.nn, f"MaxPool{axes}d")(3, 2, 1, return_indices=True)(inputs)
    ours, theirs = (getattr(kind, f"MaxUnpool{axes}d")(3, 2, 1) for kind in (layers, torch.nn))
    given = images_last(places.numpy())
    compare(
        lambda x: ours(x, given, images_last(inputs.numpy()).shape),
        lambda x: theirs(x, places, shape),
        maxima.numpy(),
    )


@pytest.mark.parametrize("norm_type", [1, 2, 3, 2.5, -1, math.inf, -math.inf])
def test_norms_of_windows_equal_torch_in_float64(norm_type):
    """Includes windows whose sum is zero or negative."""
    random = np.random.default_rng(0)
    inputs = random.choice([-1.0, 0.0, 0.0, 1.0], (2, 3, 6, 5))
    if norm_type in (2.5, -1):  # powers of 0 and of negative numbers are not finite
        inputs = 1 + random.random(inputs.shape)
    check("LPPool2d", inputs, norm_type, (2, 3), (2, 1))
    check("LPPool2d", inputs, norm_type, 3, 2, True)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4), (2, 3), (0, 3, 4, 5)])
def test_flatten_equals_torch_in_float64(shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    layouts = {"to_ours": images_last, "from_ours": images_first}
    check_layer(layers.Flatten(), torch.nn.Flatten(), inputs, **layouts)


def test_flatten_keeps_the_weights_of_the_next_linear_in_float64():
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


#: The size of windows, and the shape of an input with an axis that one window covers.
WHOLE = [
    ((30,), (5, 4, 30)),
    ((4, 5), (5, 4, 4, 5)),
    ((5, 2), (2, 3, 5, 6)),
    ((1, 9), (3, 4, 1, 9)),
]


@DTYPES
@pytest.mark.parametrize("name", ["Max", "Avg"])
@pytest.mark.parametrize(("kernel", "shape"), WHOLE)
def test_pools_of_whole_axes_equal_torch(name, kernel, shape, dtype):
    inputs = hostile(shape, dtype) if name == "Max" else np.random.default_rng(0).normal(size=shape)
    inputs[0, 0] = -np.inf if name == "Max" else 1
    pools = (getattr(kind, f"{name}Pool{len(kernel)}d")(kernel) for kind in (layers, torch.nn))
    compare(*pools, inputs.astype(dtype))


@pytest.mark.parametrize("pool", [layers.MaxPool1d(900), layers.AvgPool1d(900)])
def test_a_pool_of_a_whole_axis_has_no_operation_for_each_element(pool):
    gradient = jax.grad(lambda x: pool(x).sum())
    program = str(jax.make_jaxpr(gradient)(jnp.ones((2, 900, 3), jnp.float32)))
    assert len(program.splitlines()) < 100


@pytest.mark.parametrize("pool", [layers.MaxPool2d(3, 2, 1), layers.AvgPool2d(3, 2, 1)])
def test_backward_scatters_nothing(pool):
    """Scatters and reduce_windows are slow on the CPU; slices and selections are not."""
    gradient = jax.grad(lambda x: pool(x).sum())
    program = str(jax.make_jaxpr(gradient)(jnp.ones((2, 8, 8, 3), jnp.float32)))
    assert "scatter" not in program
    assert "reduce_window" not in program

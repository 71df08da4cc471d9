"""Convolutions compared with torch: outputs and all gradients for random shapes and options."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import functional, layers
from jaxnets.interop import rules, table
from tests import tier
from tests.parity.oracle import (
    DTYPES,
    assert_equal,
    check_layer,
    copy_weights,
    images_first,
    images_last,
)

# torch warns that it copies the input in this case, which does not change the outputs.
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def check(kind, torch_kind, shape, dtype, **options):
    """Compares our layer and torch's, both built with these options."""
    # Only shapes, as torch's weights are copied; drawing ours would compile a program per shape.
    ours = nnx.eval_shape(lambda: kind(rngs=nnx.Rngs(0), param_dtype=dtype, **options))
    theirs = torch_kind(**options).to(torch.float64 if dtype == np.float64 else torch.float32)
    inputs = np.random.default_rng(0).normal(size=shape).astype(dtype)
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@st.composite
def convolutions(draw, axes):
    """The options of a convolution, and the shape of an input that is at least large enough."""

    def per_axis(least, most):
        return draw(st.tuples(*[st.integers(least, most)] * axes))

    groups = draw(st.integers(1, 3))
    options = {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": per_axis(1, 4),
        "stride": per_axis(1, 3),
        "dilation": per_axis(1, 2),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
        "padding": draw(st.sampled_from(["valid", "same"]) | st.just(per_axis(0, 3))),
    }
    if options["padding"] == "same":
        options["stride"] = 1
    # Reflecting or circular padding of up to 3 requires an input of at least that size.
    sizes = zip(options["kernel_size"], options["dilation"], per_axis(0, 4), strict=True)
    sizes = [max(d * (k - 1) + 1, 4) + spare for k, d, spare in sizes]
    if options["padding_mode"] == "zeros" and isinstance(options["padding"], tuple):
        pads = zip(sizes, options["padding"], strict=True)
        sizes = [max(size - 2 * padding, 1) for size, padding in pads]
    return options, (draw(st.integers(1, 3)), options["in_channels"], *sizes)


@DTYPES
@tier.examples(10)
@given(drawn=convolutions(axes=2))
def test_conv2d_equals_torch(dtype, drawn):
    options, shape = drawn
    check(layers.Conv2d, torch.nn.Conv2d, shape, dtype, **options)


@DTYPES
@tier.examples(6)
@given(drawn=convolutions(axes=1))
def test_conv1d_equals_torch(dtype, drawn):
    options, shape = drawn
    check(layers.Conv1d, torch.nn.Conv1d, shape, dtype, **options)


@DTYPES
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 1, 28, 28), {"out_channels": 6, "kernel_size": 5, "padding": 2}),
        ((4, 6, 14, 14), {"out_channels": 16, "kernel_size": 5}),
        ((2, 1, 32, 32), {"out_channels": 6, "kernel_size": 5}),
        ((2, 3, 7, 6), {"out_channels": 4, "kernel_size": (2, 4), "padding": "same"}),
        ((2, 3, 5, 5), {"out_channels": 4, "kernel_size": 1, "padding": 2, "stride": 2}),
        ((2, 4, 8, 8), {"out_channels": 8, "kernel_size": 3, "groups": 4, "padding": 1}),
        ((0, 3, 6, 6), {"out_channels": 4, "kernel_size": 3}),
        ((2, 16, 7, 6), {"out_channels": 18, "kernel_size": 3, "padding": 1}),
    ],
    ids=[
        "LeNet 1",
        "LeNet 2",
        "LeNet 32x32",
        "same, even",
        "1x1 padded",
        "depthwise",
        "no images",
        "many channels",
    ],
)
def test_conv2d_equals_torch_on_known_shapes(dtype, shape, options):
    check(layers.Conv2d, torch.nn.Conv2d, shape, dtype, in_channels=shape[1], **options)


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("Conv3d", (2, 4, 5, 6, 7), {"stride": (2, 1, 3), "padding": (1, 0, 2), "groups": 2}),
        ("Conv3d", (2, 2, 4, 5, 6), {"padding": "same", "padding_mode": "circular"}),
        ("ConvTranspose1d", (2, 4, 5), {"stride": 3, "output_padding": 2, "groups": 2}),
        ("ConvTranspose3d", (1, 4, 2, 3, 2), {"stride": (1, 2, 3), "padding": 1, "dilation": 2}),
    ],
)
def test_other_axes_equal_torch(name, shape, options):
    options = {"in_channels": shape[1], "out_channels": 2, "kernel_size": 3, **options}
    check(getattr(layers, name), getattr(torch.nn, name), shape, np.float32, **options)


#: Positional options of the functions, after the bias.
FUNCTIONS = [
    ("conv1d", (2, 1, 1, 2), (7,), (3,)),
    ("conv2d", (2, "valid", (1, 2), 2), (7, 6), (3, 2)),
    ("conv3d", (1, "same", 1, 1), (3, 4, 2), (2, 3, 1)),
    ("conv_transpose1d", (2, 1, 1, 2, 2), (4,), (3,)),
    ("conv_transpose2d", ((2, 1), 1, (1, 0), 2, 1), (3, 4), (3, 2)),
    ("conv_transpose3d", (2, 0, 1, 1, 1), (2, 3, 2), (2, 3, 1)),
]


@pytest.mark.parametrize(("name", "options", "sizes", "kernel"), FUNCTIONS)
def test_functions_equal_torch_in_float64(name, options, sizes, kernel):
    """The weights have the same layout as in the layers."""
    transposed, draw = "transpose" in name, np.random.default_rng(0)
    groups = options[3]
    channels = (4, 6 // groups) if transposed else (6, 4 // groups)
    given = [draw.normal(size=shape) for shape in ((2, 4, *sizes), (*channels, *kernel), (6,))]
    tensors = [torch.tensor(array, requires_grad=True) for array in given]
    expected = getattr(torch.nn.functional, name)(*tensors, *options)
    expected.sum().backward()
    rule = rules.transposed_convolution if transposed else rules.convolution
    leaf = rule(SimpleNamespace(groups=groups))["kernel"]
    x, weight, bias = given

    @jax.jit
    def run(*arrays):
        y, pull_back = jax.vjp(lambda *a: getattr(functional, name)(*a, *options), *arrays)
        return y, *pull_back(jnp.ones_like(y))

    made = map(np.asarray, run(images_last(x), leaf.to_jax(weight), bias))
    y, d_x, d_weight, d_bias = made
    assert_equal(images_first(y), expected, "outputs")
    assert_equal(images_first(d_x), tensors[0].grad, "input gradient")
    assert_equal(leaf.to_torch(d_weight), tensors[1].grad, "weight gradient")
    assert_equal(d_bias, tensors[2].grad, "bias gradient")


@pytest.mark.parametrize("shape", [(6, 5), (2, 6, 5, 9), [5, 6]])
def test_an_output_size_is_taken_instead_of_output_padding(shape):
    theirs = torch.nn.ConvTranspose2d(4, 9, 3, 2, 1, dilation=(1, 2))
    ours = layers.ConvTranspose2d(4, 9, 3, 2, 1, dilation=(1, 2), rngs=nnx.Rngs(0))
    copy_weights(ours, theirs)
    x = np.random.default_rng(0).normal(size=(2, 4, 3, 2)).astype(np.float32)
    size = (2, 9, 6, 5) if len(shape) == 4 else shape
    y = theirs(torch.tensor(x), size)
    assert_equal(images_first(np.asarray(ours(images_last(x), shape))), y, "outputs")


@st.composite
def transposed_convolutions(draw):
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups = draw(st.integers(1, 3))
    options = {
        "in_channels": groups * draw(st.integers(1, 2)),
        "out_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": draw(pair),
        "stride": draw(pair),
        "dilation": draw(pair),
        "groups": groups,
        "bias": draw(st.booleans()),
    }
    limits = map(max, options["stride"], options["dilation"])
    options["output_padding"] = tuple(draw(st.integers(0, limit - 1)) for limit in limits)
    spans = zip(options["dilation"], options["kernel_size"], strict=True)
    # Padding removes at most half of a kernel's extent; more might leave no output of small images.
    options["padding"] = tuple(draw(st.integers(0, d * (k - 1) // 2)) for d, k in spans)
    size = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    return options, (draw(st.integers(1, 3)), options["in_channels"], *size)


@DTYPES
@tier.examples(10)
@given(drawn=transposed_convolutions())
def test_conv_transpose2d_equals_torch(dtype, drawn):
    options, shape = drawn
    check(layers.ConvTranspose2d, torch.nn.ConvTranspose2d, shape, dtype, **options)


def test_arguments_are_in_the_order_of_torch():
    def shapes(layer, torch_layer, *arguments):
        ours = layer(*arguments, rngs=nnx.Rngs(0))
        copy_weights(ours, torch_layer(*arguments))
        x = np.ones((1, 4, 9, 9)[: 2 + ours.axes], np.float32)
        theirs = torch_layer(*arguments)(torch.tensor(x)).shape
        assert images_first(ours(images_last(x))).shape == theirs

    convolution = (4, 6, 3, 2, 1, 2, 2, False, "circular")
    shapes(layers.Conv2d, torch.nn.Conv2d, *convolution)
    shapes(layers.Conv1d, torch.nn.Conv1d, *convolution)
    transposed = (4, 6, 3, 3, 1, 2, 2, False, 2)
    shapes(layers.ConvTranspose2d, torch.nn.ConvTranspose2d, *transposed)
    shapes(layers.ConvTranspose1d, torch.nn.ConvTranspose1d, *transposed)


@pytest.mark.parametrize("transpose_kernel", [False, True])
def test_weights_of_the_stock_layers_follow_the_same_rules_in_float64(transpose_kernel):
    inputs = np.random.default_rng(0).normal(size=(2, 4, 5, 6))
    stock = {"rngs": nnx.Rngs(0), "param_dtype": np.float64, "padding": "VALID"}
    ours = nnx.Conv(4, 6, (3, 2), (2, 1), feature_group_count=2, **stock)
    theirs = torch.nn.Conv2d(4, 6, (3, 2), (2, 1), groups=2).double()
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)
    ours = nnx.ConvTranspose(4, 3, (3, 2), (2, 1), transpose_kernel=transpose_kernel, **stock)
    theirs = torch.nn.ConvTranspose2d(4, 3, (3, 2), (2, 1)).double()
    check_layer(ours, theirs, inputs, to_ours=images_last, from_ours=images_first)


@pytest.mark.parametrize("groups", [1, 2])
def test_rules_give_back_the_same_weights(groups):
    for layer in (
        layers.Conv1d(4, 6, 3, groups=groups, rngs=nnx.Rngs(0)),
        layers.Conv2d(4, 6, (3, 2), groups=groups, rngs=nnx.Rngs(0)),
        layers.ConvTranspose2d(4, 6, (3, 2), groups=groups, rngs=nnx.Rngs(0)),
        layers.ConvTranspose3d(4, 6, (3, 2, 1), groups=groups, rngs=nnx.Rngs(0)),
    ):
        leaf = table.leaves(layer)["kernel"]
        kernel = np.array(layer.kernel.get_value())
        weight = torch.from_numpy(leaf.to_torch(kernel))
        np.testing.assert_array_equal(leaf.to_jax(weight.numpy()), kernel)


@pytest.mark.parametrize("name", ["Conv1d", "Conv2d", "ConvTranspose2d"])
def test_initial_values_have_the_bounds_of_torch(name):
    arguments = (24, 40, 5, 1, 0)
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*arguments, groups=2)
    ours = getattr(layers, name)(*arguments, groups=2, rngs=nnx.Rngs(0))
    largest = theirs.weight.abs().max().item()
    kernel = ours.kernel.get_value()
    np.testing.assert_allclose(jnp.abs(kernel).max(), largest, rtol=0.02)
    np.testing.assert_allclose(kernel.std(), largest / np.sqrt(3), rtol=0.05)
    assert 0.7 * largest < jnp.abs(ours.bias.get_value()).max() <= 1.01 * largest


def test_second_derivatives_equal_torch_in_float64():
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    inputs = np.random.default_rng(0).normal(size=(2, 4, 6, 7))
    theirs = torch.nn.Conv2d(4, 6, 3, **options).double()
    ours = layers.Conv2d(4, 6, 3, **options, rngs=nnx.Rngs(0), param_dtype=np.float64)
    copy_weights(ours, theirs)

    x = torch.tensor(inputs, requires_grad=True)
    (gradient,) = torch.autograd.grad((theirs(x) ** 3).sum(), x, create_graph=True)
    (gradient**2).sum().backward()

    graphdef, parameters = nnx.split(ours)

    @jax.jit
    def penalty_gradients(parameters, x):
        def penalty(parameters, x):
            def total(x):
                return (nnx.merge(graphdef, parameters)(x) ** 3).sum()

            return (jax.grad(total)(x) ** 2).sum()

        return jax.grad(penalty, (0, 1))(parameters, x)

    by_parameter, by_input = penalty_gradients(parameters, jnp.asarray(images_last(inputs)))
    assert_equal(images_first(np.asarray(by_input)), x.grad, "input")
    kernel = table.leaves(ours)["kernel"].to_torch(np.asarray(by_parameter["kernel"].get_value()))
    assert_equal(kernel, theirs.weight.grad, "kernel")

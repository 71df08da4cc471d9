"""Convolutions, pools and flattening: error messages, and how their gradients are compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import functional, layers
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import by_xla_operations

DENSE = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))


def conv2d(*arguments, **options):
    return layers.Conv2d(*arguments, rngs=nnx.Rngs(0), **options)


def transposed(*arguments, **options):
    return layers.ConvTranspose2d(*arguments, rngs=nnx.Rngs(0), **options)


def fractional(*arguments):
    return layers.FractionalMaxPool2d(2, *arguments, **RANDOM)


def unpooled(value=0, size=None, dtype=int, output_size=None):
    """An unpooling whose indices are all the same."""
    return lambda x: layers.MaxUnpool2d(2)(
        x, np.full(x.shape if size is None else size, value, dtype), output_size
    )


RANDOM = {"rngs": nnx.Rngs(0)}
OUTPUT_SIZE = r"output_size: expected sizes from \(9, 9\) to \(10, 10\), got 7"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: conv2d(0, 4, 3), "in_channels: expected a positive integer, got 0"),
        (lambda: conv2d(4, 1.5, 3), r"out_channels: expected a positive integer, got 1\.5"),
        (lambda: conv2d(4, 6, 3, groups=0), "groups: expected a positive integer, got 0"),
        (lambda: conv2d(4, 6, 3, groups=4), r"groups: .* divisor of the channels \(4, 6\), got 4"),
        (lambda: transposed(4, 6, 3, groups=3), "groups: expected a common divisor"),
        (lambda: conv2d(4, 6, 0), "kernel_size: expected a positive integer, or 2 of them"),
        (lambda: conv2d(4, 6, (3,)), r"kernel_size: .* or 2 of them, got \(3,\)"),
        (lambda: conv2d(4, 6, 2.5), r"kernel_size: expected a positive .* got 2\.5"),
        (lambda: conv2d(4, 6, 3, stride=0), "stride: expected a positive integer"),
        (lambda: conv2d(4, 6, 3, dilation=True), "dilation: .* got True"),
        (lambda: conv2d(4, 6, 3, padding=-1), "padding: expected an integer >= 0"),
        (lambda: conv2d(4, 6, 3, padding="full"), 'padding: .* "same" or "valid", got full'),
        (lambda: conv2d(4, 6, 3, 2, "same"), r'stride: expected 1 if .* "same", got \(2, 2'),
        (
            lambda: conv2d(4, 6, 3, padding_mode="mirror"),
            "padding_mode: expected one of zeros, reflect, replicate, circular, got mirror",
        ),
        (lambda: transposed(4, 6, 3, padding="same"), "padding: expected an integer"),
        (
            lambda: transposed(4, 6, 3, stride=2, output_padding=2),
            "output_padding: expected less than stride or dilation, got 2",
        ),
        (lambda: layers.MaxPool2d(0), "kernel_size: expected a positive integer"),
        (lambda: layers.MaxPool2d(2, 0), "stride: expected a positive integer"),
        (lambda: layers.MaxPool2d(3, 1, 2), "padding: expected at most half of kernel_size 3"),
        (lambda: layers.AvgPool1d(3, padding=2), "padding: expected at most half"),
        (lambda: layers.AvgPool2d(2, divisor_override=0), "divisor_override: .* other than zero"),
        (lambda: layers.AdaptiveAvgPool2d(0), "output_size: expected a positive integer"),
        (lambda: layers.AdaptiveAvgPool2d((1, 2, 3)), "output_size: .* or 2 of them"),
        (lambda: layers.AdaptiveMaxPool3d((1, 2)), "output_size: .* or 3 of them"),
        (lambda: layers.MaxPool2d(2, return_indices=1), "return_indices: expected True or False"),
        (lambda: layers.LPPool2d(0, 2), "norm_type: expected a number other than zero, got 0"),
        (lambda: layers.LPPool1d("2", 2), "norm_type: expected a number, got 2"),
        (lambda: layers.MaxUnpool2d(2, padding=-1), "padding: expected an integer >= 0"),
        (lambda: fractional(), "output_size: expected one of output_size and output_ratio"),
        (lambda: fractional(3, 0.5), "output_size: expected one of output_size and output_ratio"),
        (lambda: fractional(None, 1.0), r"output_ratio: .* in \(0, 1\), got 1\.0"),
        (lambda: fractional(None, (0.5,)), "output_ratio: expected a number, or 2 of them"),
        (
            lambda: layers.FractionalMaxPool2d(2, 3, _random_samples=np.ones((1, 2, 3))),
            r"_random_samples: expected .* \[N, C, 2\], got float64\[1, 2, 3\]",
        ),
        (lambda: layers.FractionalMaxPool2d(2, 3), r"rngs: .* rngs=nnx.Rngs\(0\), got None"),
    ],
)
def test_a_bad_option_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (conv2d(3, 4, 3), (8, 8, 3), r"x: .* \[N, H, W, 3\], got float32\[8, 8, 3\]"),
        (conv2d(3, 4, 3), (2, 3, 8, 8), r"x: .* \[N, H, W, 3\], got float32\[2, 3, 8, 8\]"),
        (conv2d(3, 4, 3), (2, 8, 2, 3), r"x: expected at least \(3, 3\) positions including p"),
        (conv2d(3, 4, 3, dilation=4), (2, 8, 8, 3), r"x: expected at least \(9, 9\) positions"),
        (conv2d(3, 4, 1, padding=1), (2, 0, 8, 3), "x: expected at least one position"),
        (
            conv2d(3, 4, 3, padding=4, padding_mode="reflect"),
            (2, 4, 8, 3),
            r"x: expected an input large enough for reflect padding of \(\(4, 4\), \(4, 4\)\)",
        ),
        (
            conv2d(3, 4, 3, padding=4, padding_mode="circular"),
            (2, 8, 3, 3),
            "x: expected an input large enough for circular padding",
        ),
        (transposed(3, 4, 3), (2, 8, 8, 4), r"x: .* \[N, H, W, 3\], got float32\[2, 8, 8, 4\]"),
        (transposed(3, 4, 3, padding=2), (2, 2, 8, 3), r"x: expected .* padding \(2, 2\) rem"),
        (layers.Conv1d(3, 4, 3, rngs=nnx.Rngs(0)), (2, 8, 4), r"x: .* \[N, L, 3\]"),
        (layers.MaxPool2d(3), (8, 8, 3), r"x: .* \[N, H, W, C\], got float32\[8, 8, 3\]"),
        (layers.MaxPool2d(3), (2, 8, 2, 3), r"x: expected at least one window of \(3, 3\)"),
        (layers.AvgPool1d(3), (2, 2, 3), r"x: expected at least one window of \(3,\)"),
        (layers.AdaptiveAvgPool1d(3), (2, 3), r"x: .* \[N, L, C\]"),
        (layers.AdaptiveAvgPool2d(3), (2, 0, 3, 1), "x: expected at least one position"),
        (layers.Conv3d(3, 4, 3, rngs=nnx.Rngs(0)), (2, 8, 8, 3), r"x: .* \[N, D, H, W, 3\]"),
        (layers.LPPool2d(2, 3), (2, 2, 4, 3), r"x: expected at least one window of \(3, 3\)"),
        (
            layers.FractionalMaxPool2d(3, (2, 4), **RANDOM),
            (2, 5, 5, 3),
            r"x: .* large enough for \(2, 4\) windows of \(3, 3\), got float32\[2, 5, 5, 3\]",
        ),
        (layers.FractionalMaxPool2d(1, output_ratio=0.1, **RANDOM), (2, 9, 20, 3), "x: .* for"),
        (
            layers.FractionalMaxPool2d(1, 1, _random_samples=np.ones((1, 2, 2), np.float32)),
            (2, 3, 3, 2),
            r"_random_samples: .* \[2, 2, 2\], got float32\[1, 2, 2\]",
        ),
        (lambda x: transposed(3, 4, 3, 2)(x, 7), (2, 4, 4, 3), OUTPUT_SIZE),
        (lambda x: transposed(3, 4, 3, 2)(x, (1, 2, 3)), (2, 4, 4, 3), "output_size: .* 2 of them"),
        (
            unpooled(output_size=6),
            (1, 2, 2, 3),
            r"output_size: .* from \(4, 4\) by less than the stride \(2, 2\)",
        ),
        (
            unpooled(size=3),
            (1, 2, 2, 3),
            r"indices: expected integers \[1, 2, 2, 3\], got int64\[3\]",
        ),
        (unpooled(dtype=float), (1, 2, 2, 3), "indices: expected integers .*, got float64"),
        (unpooled(16), (1, 2, 2, 3), r"indices: expected indices in \[0, 16\), got 16 to 16"),
        (unpooled(-1), (1, 2, 2, 3), r"indices: expected indices in \[0, 16\), got -1 to -1"),
        (lambda x: layers.MaxUnpool1d(1, 1, 1)(x, x), (2, 2, 3), "x: expected .* what padding"),
        (lambda x: functional.max_pool2d(x, 3), (8, 8, 3), r"input: expected .* \[N, H, W, C\]"),
        (lambda x: functional.lp_pool1d(x, 2, 3), (1, 2, 3), "input: expected at least one windo"),
        (lambda x: functional.adaptive_max_pool1d(x, 3), (1, 3), r"input: expected .* \[N, L, C\]"),
        (
            lambda x: functional.conv2d(x[..., :5], x),
            (2, 3, 8, 8),
            r"input: .* \[N, H, W, 8\], got float32",
        ),
        (lambda x: functional.conv1d(x, x[0]), (2, 3, 8), r"weight: .* \[length, C / groups, O\]"),
        (
            lambda x: functional.conv1d(x, x, x),
            (3, 3, 3),
            r"bias: .* \[3\], got float32\[3, 3, 3\]",
        ),
        (lambda x: functional.conv1d(x, x, groups=2), (3, 3, 3), "groups: .* divisor of the 3 out"),
        (lambda x: functional.conv1d(x, x), (3, 2, 3), "input: .* \\[N, L, 2\\], got float32"),
        (lambda x: functional.conv1d(x, x[:0]), (3, 3, 3), "weight: expected at least one elemen"),
        (
            lambda x: functional.conv1d(x[:, :1], x),
            (3, 3, 3),
            r"input: expected at least \(3,\) pos",
        ),
        (lambda x: functional.conv_transpose1d(x, x, padding=4), (3, 3, 3), "input: .* padding"),
        (layers.flatten, (3,), r"x: expected an array \[N, \.\.\., C\] of rank 2 or more"),
    ],
)
def test_a_bad_input_is_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(jnp.ones(shape, jnp.float32))


def test_a_plane_with_an_index_out_of_range_is_not_a_number_in_a_program():
    x, indices = jnp.ones((1, 1, 1, 3)), jnp.array([[[[0, 4, -1]]]])
    y = jax.jit(layers.MaxUnpool2d(2))(x, indices)
    np.testing.assert_array_equal(y[0, 0, 0], [1, np.nan, np.nan])
    np.testing.assert_array_equal(y[0, 1, 1], [0, np.nan, np.nan])


@pytest.mark.slow
def test_fractional_windows_are_drawn_anew_and_again_from_the_same_key():
    x = jax.random.normal(jax.random.key(0), (2, 20, 20, 3))
    pool = layers.FractionalMaxPool2d(2, 9, rngs=nnx.Rngs(0))
    pool.eval()  # changes nothing, as in PyTorch
    nnx.reseed(pool, dropout=1)
    first, second = pool(x), pool(x)
    nnx.reseed(pool, dropout=1)
    np.testing.assert_array_equal(pool(x), first)
    assert not np.array_equal(first, second)
    assert not np.array_equal(functional.fractional_max_pool2d(x, 2, 9, rngs=nnx.Rngs(2)), first)


@pytest.mark.parametrize("layer", [conv2d(3, 4, 3), transposed(3, 4, 3), layers.MaxPool2d(2)])
def test_an_input_of_integers_is_refused(layer):
    with pytest.raises(ValueError, match=r"x: expected a floating-point array .* got uint8"):
        layer(np.ones((2, 8, 8, 3), np.uint8))


def gradient_in_a_loop(geometry, kernels):
    """A training loop of two convolutions, whose images are not differentiated."""

    def loss(kernels, x):
        for kernel in kernels:
            x = jnp.tanh(by_xla_operations(geometry, False, x, kernel))
        return (x**2).sum()

    def step(kernels, x):
        gradients = jax.grad(loss)(kernels, x)
        return [kernel - 0.1 * g for kernel, g in zip(kernels, gradients, strict=True)], None

    return jax.jit(lambda kernels, images: jax.lax.scan(step, kernels, images)[0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_convolution_of_a_training_loop_is_in_the_fast_layout(stride, groups):
    geometry = Geometry((stride,) * 2, ((1, 1),) * 2, (1, 1), (1, 1), groups)
    kernels = [jnp.ones((3, 3, 16 // groups, 16)), jnp.ones((3, 3, 16 // groups, 18))]
    loop = gradient_in_a_loop(geometry, kernels)
    program = loop.lower(kernels, jnp.ones((5, 4, 12, 12, 16))).compile().as_text()
    layouts = re.findall(r" convolution\(.*dim_labels=([^\s,]+)", program)
    # Two forward, two kernel gradients and one input gradient: that of the images is omitted.
    assert layouts == ["b01f_01io->b01f"] * 5


def test_few_channels_are_a_matrix_product():
    layer = conv2d(6, 16, 5)

    def squares(x, kernel):
        return (by_xla_operations(DENSE, False, x, kernel) ** 2).sum()

    gradient = jax.jit(jax.grad(squares, (0, 1)))
    program = gradient.lower(jnp.ones((2, 14, 14, 6)), layer.kernel[...]).as_text()
    # Each has another product, which checks for NaN and infinity, and a convolution for this case.
    assert program.count("stablehlo.dot_general") == 2 * 3
    assert program.count("stablehlo.convolution(") == 3


def test_gradients_go_through_vmap():
    layer = conv2d(4, 6, 3, padding=1, groups=2)
    images = jax.random.normal(jax.random.key(0), (3, 5, 5, 4))

    def loss(x):
        return (layer(x) ** 2).sum()

    one_by_one = jax.jit(jax.vmap(jax.grad(lambda x: loss(x[None]))))(images)
    np.testing.assert_allclose(one_by_one, jax.jit(jax.grad(loss))(images), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_dtype_follows_the_input_and_the_parameters(dtype):
    x = jnp.ones((2, 8, 8, 4), dtype)
    for layer in (
        conv2d(4, 6, 3, param_dtype=dtype),
        transposed(4, 6, 3, param_dtype=dtype),
        layers.MaxPool2d(2),
        layers.AvgPool2d(2, divisor_override=3),
        layers.AdaptiveAvgPool2d(3),
        layers.Flatten(),
    ):
        assert layer(x).dtype == dtype

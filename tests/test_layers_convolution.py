"""Convolutions, pools and flattening: what they refuse, and how their gradients are compiled."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import layers
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import by_xla_operations

DENSE = Geometry((1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1))


def conv2d(*arguments, **options):
    return layers.Conv2d(*arguments, rngs=nnx.Rngs(0), **options)


def transposed(*arguments, **options):
    return layers.ConvTranspose2d(*arguments, rngs=nnx.Rngs(0), **options)


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
        (lambda: conv2d(4, 6, 3, 2, "same"), r'stride: expected one .* "same", got \(2, 2\)'),
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
        (conv2d(3, 4, 3), (2, 8, 2, 3), r"x: expected at least \(3, 3\) positions with padding"),
        (conv2d(3, 4, 3, dilation=4), (2, 8, 8, 3), r"x: expected at least \(9, 9\) positions"),
        (conv2d(3, 4, 1, padding=1), (2, 0, 8, 3), "x: expected at least one position"),
        (
            conv2d(3, 4, 3, padding=4, padding_mode="reflect"),
            (2, 4, 8, 3),
            r"x: expected room for reflect padding of \(\(4, 4\), \(4, 4\)\)",
        ),
        (
            conv2d(3, 4, 3, padding=4, padding_mode="circular"),
            (2, 8, 3, 3),
            "x: expected room for circular padding",
        ),
        (transposed(3, 4, 3), (2, 8, 8, 4), r"x: .* \[N, H, W, 3\], got float32\[2, 8, 8, 4\]"),
        (transposed(3, 4, 3, padding=2), (2, 2, 8, 3), r"x: expected more than padding \(2, 2\)"),
        (layers.Conv1d(3, 4, 3, rngs=nnx.Rngs(0)), (2, 8, 4), r"x: .* \[N, L, 3\]"),
        (layers.MaxPool2d(3), (8, 8, 3), r"x: .* \[N, H, W, C\], got float32\[8, 8, 3\]"),
        (layers.MaxPool2d(3), (2, 8, 2, 3), r"x: expected room for a window of \(3, 3\)"),
        (layers.AvgPool1d(3), (2, 2, 3), r"x: expected room for a window of \(3,\)"),
        (layers.AdaptiveAvgPool1d(3), (2, 3), r"x: .* \[N, L, C\]"),
        (layers.AdaptiveAvgPool2d(3), (2, 0, 3, 1), "x: expected at least one position"),
        (layers.flatten, (3,), r"x: expected an array \[N, \.\.\., C\] of rank 2 or more"),
    ],
)
def test_a_bad_input_is_refused(layer, shape, message):
    with pytest.raises(ValueError, match=message):
        layer(jnp.ones(shape, jnp.float32))


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
    # Two forward, two kernel gradients and one input gradient: that of the images is left out.
    assert layouts == ["b01f_01io->b01f"] * 5


def test_few_channels_are_a_matrix_product():
    layer = conv2d(6, 16, 5)

    def squares(x, kernel):
        return (by_xla_operations(DENSE, False, x, kernel) ** 2).sum()

    gradient = jax.jit(jax.grad(squares, (0, 1)))
    program = gradient.lower(jnp.ones((2, 14, 14, 6)), layer.kernel[...]).as_text()
    # Each is looked at by a product too; a convolution remains, for numbers that are not finite.
    assert program.count("stablehlo.dot_general") == 2 * 3
    assert program.count("stablehlo.convolution(") == 3


def test_gradients_go_through_vmap():
    layer = conv2d(4, 6, 3, padding=1, groups=2)
    images = jax.random.normal(jax.random.key(0), (3, 5, 5, 4))

    def loss(x):
        return (layer(x) ** 2).sum()

    one_by_one = jax.jit(jax.vmap(jax.grad(lambda x: loss(x[None]))))(images)
    np.testing.assert_allclose(one_by_one, jax.jit(jax.grad(loss))(images), rtol=1e-5, atol=1e-5)


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

"""Convolutions by XLA's operations, for CPUs without a C++ compiler; fast inside loops too."""

from functools import partial

import jax
from jax import lax

from jaxnets.kernels import bands
from jaxnets.kernels.geometry import Geometry, Padding

_LAYOUTS = {3: ("NLC", "LIO", "NLC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}


def by_xla_operations(
    geometry: Geometry, relu: bool, x: jax.Array, kernel: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    """Computes a convolution by a product with a banded matrix, or by XLA's convolution.

    y[n, p, o] = b[o] + Σ_{t, i} x̃[n, p·stride + t·dilation, i] kernel[t, i, o], where x̃ is the
    dilated and padded x; negative values become zero with ``relu``. Differentiable in reverse mode
    only, to any order.

    Args:
        geometry: stride, padding and the like.
        relu: whether ReLU follows.
        x: [N, ..., C], one to three spatial axes.
        kernel: [..., C / groups, O], of the same dtype.
        bias: [O], or None.

    Returns:
        [N, ..., O].
    """
    y = _convolved(x, kernel, geometry)
    if bias is not None:
        y = y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
    return jax.nn.relu(y) if relu else y


def _convolved(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    general = partial(by_xla, geometry=geometry)
    if geometry.dense and x.ndim <= 4 and bands.is_faster(x, kernel):
        return bands.where_finite(partial(_by_bands, padding=geometry.padding), general)(x, kernel)
    return general(x, kernel)


def _by_bands(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    if x.ndim == 3:  # a sequence is an image of one row
        return bands.convolve(x[:, None], kernel[None], ((0, 0), *padding))[:, 0]
    return bands.convolve(x, kernel, padding)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def by_xla(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes a convolution by XLA, with gradients that are fast inside loops."""
    return convolve(x, kernel, geometry)


def convolve(x: jax.Array, kernel: jax.Array, geometry: Geometry) -> jax.Array:
    """Computes a convolution as one operation of JAX, with JAX's own gradient.

    Args:
        x: [N, ..., C], one to three spatial axes.
        kernel: [..., C / groups, O], of the same dtype.
        geometry: stride, padding and the like.

    Returns:
        [N, ..., O].
    """
    return lax.conv_general_dilated(
        x,
        kernel,
        geometry.stride,
        geometry.padding,
        lhs_dilation=geometry.input_dilation,
        rhs_dilation=geometry.dilation,
        dimension_numbers=_LAYOUTS[x.ndim],
        feature_group_count=geometry.groups,
    )


def _forward(
    x: jax.Array, kernel: jax.Array, geometry: Geometry
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return convolve(x, kernel, geometry), (x, kernel)


def _backward(
    geometry: Geometry, residuals: tuple[jax.Array, jax.Array], g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # XLA transposes a convolution to the layout of its fast CPU kernel only outside of loops. So
    # both gradients are written here as convolutions in that layout.
    return _canonical_gradients(geometry, *residuals, g)


def _canonical_gradients(
    geometry: Geometry, x: jax.Array, kernel: jax.Array, g: jax.Array
) -> tuple[jax.Array, jax.Array]:
    for_input, for_kernel = [], []
    for axis, (low, _) in enumerate(geometry.padding):
        reach = (kernel.shape[axis] - 1) * geometry.dilation[axis]
        x_reach = (x.shape[axis + 1] - 1) * geometry.input_dilation[axis]
        g_reach = (g.shape[axis + 1] - 1) * geometry.stride[axis]
        # The padding before follows from the derivative, the padding after from the required size.
        # The latter is negative if the last positions of x contribute to no output.
        for_input.append((reach - low, x_reach - g_reach + low))
        for_kernel.append((low, reach + g_reach - x_reach - low))
    return (
        _input_gradient(geometry, tuple(for_input), kernel, g),
        _kernel_gradient(geometry, tuple(for_kernel), x, g),
    )


def _input_gradient(
    geometry: Geometry, padding: Padding, kernel: jax.Array, g: jax.Array
) -> jax.Array:
    """Computes the gradient of x: convolves g, dilated by the stride, with the flipped kernel."""
    *space, inputs, outputs = kernel.shape
    groups = geometry.groups
    # The strides and dilations change roles: an output stride becomes the dilation of g.
    flipped = lax.rev(kernel, range(len(space)))
    blocks = flipped.reshape(*space, inputs, groups, outputs // groups).swapaxes(-1, -3)
    return by_xla(
        g,
        blocks.reshape(*space, outputs // groups, groups * inputs),
        Geometry(geometry.input_dilation, padding, geometry.dilation, geometry.stride, groups),
    )


def _kernel_gradient(geometry: Geometry, padding: Padding, x: jax.Array, g: jax.Array) -> jax.Array:
    """Computes the kernel's gradient: convolves x with g, dilated by the stride.

    The sum over the batch becomes the sum over channels, so batch and channels are exchanged.
    """
    batch, *space, channels = x.shape
    groups = geometry.groups
    axes = range(1, x.ndim - 1)
    blocks = x.reshape(batch, *space, groups, channels // groups)
    blocks = blocks.transpose(-1, *axes, -2, 0)  # [C / groups, ..., groups, N]
    gradient = by_xla(
        blocks.reshape(channels // groups, *space, groups * batch),
        g.transpose(*axes, 0, -1),  # [..., N, O]
        Geometry(geometry.dilation, padding, geometry.stride, geometry.input_dilation, groups),
    )
    return gradient.transpose(*axes, 0, -1)  # [..., C / groups, O]


by_xla.defvjp(_forward, _backward)

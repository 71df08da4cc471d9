"""Convolutions and their transpose, channels last, as layers and as functions."""

import math
from dataclasses import replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_floats,
    check_positive,
    describe,
)
from jaxnets.kernels.geometry import Geometry, Padding
from jaxnets.kernels.xla_convolution import convolve
from jaxnets.layers.parameters import check_others, check_parameters
from jaxnets.layers.windows import PerAxis, check_input, per_axis, spatial_sizes

#: One integer for each spatial axis.
Sizes = tuple[int, ...]

_PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


class _Layer(nnx.Module):
    """The base class of convolutions and transposed convolutions: channels and parameters."""

    axes: ClassVar[int]

    def __init__(self, channels: tuple[int, int], kernel_size: PerAxis, groups: int) -> None:
        for name, size in zip(("in_channels", "out_channels"), channels, strict=True):
            check_positive(name, size)
        check_positive("groups", groups)
        if any(size % groups for size in channels):
            raise InputError("groups", f"a common divisor of the channels {channels}", groups)
        self.in_channels, self.out_channels = channels
        self.groups = groups
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)

    def _draw_parameters(
        self, fan_in: int, bias: bool, rngs: nnx.Rngs | None, dtype: DTypeLike
    ) -> None:
        check_bool("bias", bias)
        rngs = check_parameters(rngs, dtype)
        draw = initializers.fan_in_uniform(fan_in)
        shape = (*self.kernel_size, self.in_channels // self.groups, self.out_channels)
        self.kernel = nnx.Param(draw(rngs.params(), shape, dtype))
        self.bias = nnx.Param(draw(rngs.params(), shape[-1:], dtype)) if bias else None

    @property
    def _parameters(self) -> tuple[jax.Array, jax.Array | None]:
        return self.kernel[...], None if self.bias is None else self.bias[...]


class _Convolution(_Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis | str = 0,
        dilation: PerAxis = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        super().__init__((in_channels, out_channels), kernel_size, groups)
        options = _options(self.kernel_size, stride, padding, dilation)
        self.stride, self.padding, self.dilation = options
        self.padding_mode = check_choice("padding_mode", padding_mode, tuple(_PADDING_MODES))
        fan_in = in_channels // groups * math.prod(self.kernel_size)
        self._draw_parameters(fan_in, bias, rngs, param_dtype)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes the convolution [N, ..., out_channels] of x, [N, ..., in_channels]."""
        check_input(x, self.axes, self.in_channels)
        ones = (1,) * self.axes
        geometry = Geometry(self.stride, self.padding, self.dilation, ones, self.groups)
        if 0 in geometry.output_sizes(x, self.kernel):
            spans = _spans(self.kernel_size, self.dilation)
            raise InputError("x", f"at least {spans} positions including padding", describe(x))
        x = jnp.asarray(x)
        if self.padding_mode != "zeros":
            x, geometry = self._pad(x), replace(geometry, padding=((0, 0),) * self.axes)
        return _convolved(x, *self._parameters, geometry)

    def _pad(self, x: jax.Array) -> jax.Array:
        # A reflection does not repeat the edge, so one position less is available.
        spare = 1 if self.padding_mode == "reflect" else 0
        if self.padding_mode != "replicate" and any(
            max(pads) > n - spare for n, pads in zip(x.shape[1:-1], self.padding, strict=True)
        ):
            wanted = f"an input large enough for {self.padding_mode} padding of {self.padding}"
            raise InputError("x", wanted, describe(x))
        return jnp.pad(x, ((0, 0), *self.padding, (0, 0)), _PADDING_MODES[self.padding_mode])


class Conv1d(_Convolution):
    """``torch.nn.Conv1d``: the convolution of a sequence [N, L, in_channels].

    Parameters: ``kernel`` [kernel_size, in_channels / groups, out_channels] and ``bias``
    [out_channels]. For the arguments see ``Conv2d``.
    """

    axes = 1


class Conv2d(_Convolution):
    """``torch.nn.Conv2d``: the convolution of an image [N, H, W, in_channels].

    y[h, w, o] = b[o] + Σ_{i, j, c} x[h·stride + i·dilation, w·stride + j·dilation, c] K[i, j, c, o]

    Parameters: ``kernel`` K [height, width, in_channels / groups, out_channels] and ``bias`` b
    [out_channels]; both start as U(±1/√fan_in), fan_in = height · width · in_channels / groups.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: the distance between the input positions of neighbouring outputs.
        padding: the number of positions added at each edge; "valid" for none, "same" for the number
            that keeps the size.
        dilation: the distance between the elements of the kernel.
        groups: the number of groups of channels, each of which is convolved separately.
        bias: whether b is added.
        padding_mode: the values that are added: "zeros", "reflect", "replicate" or "circular".
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if an option is invalid, or the input is too small for the kernel.

    Examples:
        >>> conv = Conv2d(1, 6, 5, padding=2, rngs=nnx.Rngs(0))
        >>> conv(jnp.ones((1, 28, 28, 1))).shape
        (1, 28, 28, 6)
    """

    axes = 2


class Conv3d(_Convolution):
    """``torch.nn.Conv3d``: the convolution of a volume [N, D, H, W, in_channels].

    Parameters: ``kernel`` [depth, height, width, in_channels / groups, out_channels] and ``bias``
    [out_channels]. For the arguments see ``Conv2d``.
    """

    axes = 3


class _ConvTranspose(_Layer):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: PerAxis,
        stride: PerAxis = 1,
        padding: PerAxis = 0,
        output_padding: PerAxis = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: PerAxis = 1,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "padding_mode")
        super().__init__((in_channels, out_channels), kernel_size, groups)
        options = _transposed_options(self.axes, stride, padding, output_padding, dilation)
        self.stride, self.padding, self.output_padding, self.dilation = options
        fan_in = out_channels // groups * math.prod(self.kernel_size)
        self._draw_parameters(fan_in, bias, rngs, param_dtype)

    def __call__(self, x: ArrayLike, output_size: PerAxis | None = None) -> jax.Array:
        """Computes the transposed convolution [N, ..., out_channels] of x.

        Args:
            x: the input, [N, ..., in_channels].
            output_size: the spatial sizes of the output, or its whole shape, instead of
                ``output_padding``.
        """
        check_input(x, self.axes, self.in_channels)
        added = self.output_padding if output_size is None else self._added(x, output_size)
        options = self.stride, self.padding, added, self.dilation
        return _transposed("x", x, *self._parameters, options, self.groups)

    def _added(self, x: ArrayLike, output_size: PerAxis) -> Sizes:
        """Returns the output padding that results in an output of the given size."""
        sizes = spatial_sizes(output_size, self.axes)
        spans = _spans(self.kernel_size, self.dilation)
        axes = zip(x.shape[1:-1], self.stride, self.padding, spans, strict=True)
        least = tuple((n - 1) * stride - 2 * cut + span for n, stride, cut, span in axes)
        added = tuple(size - low for size, low in zip(sizes, least, strict=True))
        if any(not 0 <= a < stride for a, stride in zip(added, self.stride, strict=True)):
            most = tuple(low + stride - 1 for low, stride in zip(least, self.stride, strict=True))
            raise InputError("output_size", f"sizes from {least} to {most}", output_size)
        return added


class ConvTranspose1d(_ConvTranspose):
    """``torch.nn.ConvTranspose1d``: the transposed convolution of a sequence [N, L, in_channels].

    Parameters: ``kernel`` [kernel_size, in_channels / groups, out_channels], PyTorch's weight
    flipped along the kernel's spatial axis, and ``bias`` [out_channels]. For the arguments see
    ``ConvTranspose2d``.
    """

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """``torch.nn.ConvTranspose2d``: the transposed convolution of an image [N, H, W, in_channels].

    A transposed convolution computes the gradient of a convolution with respect to its input. Each
    input pixel adds a multiple of the kernel to the output, at positions ``stride`` apart. An axis
    of n pixels becomes one of
    (n - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1 pixels.

    Parameters: ``kernel`` [height, width, in_channels / groups, out_channels], PyTorch's weight
    flipped along the spatial axes, and ``bias`` [out_channels]. As in PyTorch, both start as
    U(±1/√fan_in) with fan_in = height · width · out_channels / groups.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: the distance between the output positions of neighbouring inputs.
        padding: the number of pixels removed from each edge of the output.
        output_padding: the number of pixels added at the end of each axis, smaller than the larger
            of stride and dilation.
        groups: the number of groups of channels, each of which is convolved separately.
        bias: whether the bias is added.
        dilation: the distance between the elements of the kernel.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if an option is invalid, or ``padding`` removes the whole output.

    Examples:
        >>> up = ConvTranspose2d(16, 8, 2, stride=2, rngs=nnx.Rngs(0))
        >>> up(jnp.ones((1, 7, 7, 16))).shape
        (1, 14, 14, 8)
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """``torch.nn.ConvTranspose3d``: the transposed convolution of a volume.

    Its input is [N, D, H, W, in_channels]. Parameters: ``kernel`` [depth, height, width,
    in_channels / groups, out_channels], PyTorch's weight flipped along the spatial axes, and
    ``bias`` [out_channels]. For the arguments see ``ConvTranspose2d``.
    """

    axes = 3


def _options(
    kernel_size: Sizes, stride: PerAxis, padding: PerAxis | str, dilation: PerAxis
) -> tuple[Sizes, Padding, Sizes]:
    """Checks the stride, padding and dilation of a convolution, and spreads them over the axes."""
    axes = len(kernel_size)
    stride, dilation = per_axis("stride", stride, axes), per_axis("dilation", dilation, axes)
    if isinstance(padding, str) and padding == "same":
        if any(step > 1 for step in stride):
            raise InputError("stride", '1 if padding is "same"', stride)
        # An even kernel needs an odd number of zeros; the extra one is added at the end.
        spans = _spans(kernel_size, dilation)
        return stride, tuple(((span - 1) // 2, span // 2) for span in spans), dilation
    if isinstance(padding, str) and padding != "valid":
        raise InputError("padding", 'integers, "same" or "valid"', padding)
    each = per_axis("padding", 0 if isinstance(padding, str) else padding, axes, least=0)
    return stride, tuple((p, p) for p in each), dilation


def _transposed_options(
    axes: int, stride: PerAxis, padding: PerAxis, output_padding: PerAxis, dilation: PerAxis
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    """Checks the options of a transposed convolution, and spreads them over the axes."""
    stride, dilation = per_axis("stride", stride, axes), per_axis("dilation", dilation, axes)
    padding = per_axis("padding", padding, axes, least=0)
    added = per_axis("output_padding", output_padding, axes, least=0)
    if any(a >= limit for a, limit in zip(added, map(max, stride, dilation), strict=True)):
        raise InputError("output_padding", "less than stride or dilation", output_padding)
    return stride, padding, added, dilation


def _spans(kernel_size: Sizes, dilation: Sizes) -> Sizes:
    """Returns the number of positions that the dilated kernel covers along each axis."""
    return tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True))


def _transposed(
    argument: str,
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    options: tuple[Sizes, Sizes, Sizes, Sizes],
    groups: int,
) -> jax.Array:
    """Computes the transposed convolution of x as a convolution of x with zeros in between."""
    stride, padding, added, dilation = options
    spans = _spans(kernel.shape[:-2], dilation)
    edges = [span - 1 - cut for span, cut in zip(spans, padding, strict=True)]
    pads = tuple((edge, edge + a) for edge, a in zip(edges, added, strict=True))
    geometry = Geometry((1,) * len(spans), pads, dilation, stride, groups)
    if 0 in geometry.output_sizes(x, kernel):
        expected = f"an input larger than what padding {padding} removes"
        raise InputError(argument, expected, describe(x))
    return _convolved(jnp.asarray(x), kernel, bias, geometry)


def _convolved(
    x: jax.Array, kernel: ArrayLike, bias: ArrayLike | None, geometry: Geometry
) -> jax.Array:
    """Computes the convolution of x in the common dtype of x and the kernel."""
    dtype = jnp.result_type(x, kernel)
    y = convolve(x.astype(dtype), jnp.asarray(kernel, dtype), geometry)
    if bias is None:
        return y
    return y + jnp.asarray(bias, dtype).reshape((1,) * (y.ndim - 1) + (-1,))


def conv1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """``torch.nn.functional.conv1d``: convolves a sequence. For the arguments see ``conv2d``."""
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """Computes the convolution of an image, like ``Conv2d``.

    y[h, w, o] = b[o] + Σ_{i, j, c} x[h·stride + i·dilation, w·stride + j·dilation, c] K[i, j, c, o]

    Args:
        input: x, [N, H, W, C].
        weight: K, in the layout of ``Conv2d.kernel``: [height, width, C / groups, O]. In PyTorch
            the layout is [O, C / groups, height, width].
        bias: b, [O].
        stride: the distance between the input positions of neighbouring outputs.
        padding: the number of zeros added at each edge; "valid" for none, "same" for the number
            that keeps the size.
        dilation: the distance between the elements of the kernel.
        groups: the number of groups of channels, each of which is convolved separately.

    Returns:
        [N, H', W', O].

    Raises:
        InputError: if an option is invalid, or the input is too small for the kernel.

    PyTorch: ``torch.nn.functional.conv2d``.

    Examples:
        >>> conv2d(jnp.ones((1, 28, 28, 3)), jnp.ones((5, 5, 3, 8)), padding=2).shape
        (1, 28, 28, 8)
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> jax.Array:
    """``torch.nn.functional.conv3d``: convolves a volume. For the arguments see ``conv2d``."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def conv_transpose1d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
) -> jax.Array:
    """``torch.nn.functional.conv_transpose1d``. For the arguments see ``conv_transpose2d``."""
    options = _transposed_options(1, stride, padding, output_padding, dilation)
    return _conv_transpose(input, weight, bias, options, groups)


def conv_transpose2d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
) -> jax.Array:
    """Computes the transposed convolution of an image, like ``ConvTranspose2d``.

    Args:
        input: [N, H, W, C].
        weight: the kernel in the layout of ``ConvTranspose2d.kernel``:
            [height, width, C / groups, O]. In PyTorch the layout is [C, O / groups, height, width],
            and the kernel is flipped along the spatial axes.
        bias: [O].
        stride: the distance between the output positions of neighbouring inputs.
        padding: the number of pixels removed from each edge of the output.
        output_padding: the number of pixels added at the end of each axis, smaller than the larger
            of stride and dilation.
        groups: the number of groups of channels, each of which is convolved separately.
        dilation: the distance between the elements of the kernel.

    Returns:
        [N, H', W', O], with H' = (H - 1) stride - 2 padding + dilation (height - 1)
        + output_padding + 1.

    Raises:
        InputError: if an option is invalid, or ``padding`` removes the whole output.

    PyTorch: ``torch.nn.functional.conv_transpose2d``.

    Examples:
        >>> conv_transpose2d(jnp.ones((1, 7, 7, 16)), jnp.ones((2, 2, 16, 8)), stride=2).shape
        (1, 14, 14, 8)
    """
    options = _transposed_options(2, stride, padding, output_padding, dilation)
    return _conv_transpose(input, weight, bias, options, groups)


def conv_transpose3d(
    input: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    stride: PerAxis = 1,
    padding: PerAxis = 0,
    output_padding: PerAxis = 0,
    groups: int = 1,
    dilation: PerAxis = 1,
) -> jax.Array:
    """``torch.nn.functional.conv_transpose3d``. For the arguments see ``conv_transpose2d``."""
    options = _transposed_options(3, stride, padding, output_padding, dilation)
    return _conv_transpose(input, weight, bias, options, groups)


def _conv(
    axes: int,
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    stride: PerAxis,
    padding: PerAxis | str,
    dilation: PerAxis,
    groups: int,
) -> jax.Array:
    _check_given(axes, x, weight, bias, groups)
    options = _options(weight.shape[:-2], stride, padding, dilation)
    geometry = Geometry(*options, (1,) * axes, groups)
    if 0 in geometry.output_sizes(x, weight):
        spans = _spans(weight.shape[:-2], geometry.dilation)
        raise InputError("input", f"at least {spans} positions including padding", describe(x))
    return _convolved(jnp.asarray(x), weight, bias, geometry)


def _conv_transpose(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    options: tuple[Sizes, Sizes, Sizes, Sizes],
    groups: int,
) -> jax.Array:
    _check_given(len(options[0]), x, weight, bias, groups)
    return _transposed("input", x, weight, bias, options, groups)


def _check_given(
    axes: int, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, groups: int
) -> None:
    """Checks the arrays that a function takes instead of a layer's parameters."""
    check_positive("groups", groups)
    sizes = ["length"] if axes == 1 else ["depth", "height", "width"][-axes:]
    check_floats("weight", weight, (*sizes, "C / groups", "O"))
    if 0 in weight.shape:
        raise InputError("weight", "at least one element along every axis", describe(weight))
    inputs, outputs = weight.shape[-2:]
    if outputs % groups:
        raise InputError("groups", f"a divisor of the {outputs} outputs", groups)
    check_input(x, axes, inputs * groups, argument="input")
    if bias is not None:
        check_floats("bias", bias, (outputs,))

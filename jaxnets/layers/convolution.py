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
    """What a convolution and a transposed one share: channels and parameters."""

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
        """Convolves x, [N, ..., in_channels], to [N, ..., out_channels]."""
        check_input(x, self.axes, self.in_channels)
        ones = (1,) * self.axes
        geometry = Geometry(self.stride, self.padding, self.dilation, ones, self.groups)
        if 0 in geometry.output_sizes(x, self.kernel):
            spans = _spans(self.kernel_size, self.dilation)
            raise InputError("x", f"at least {spans} positions with padding", describe(x))
        x = jnp.asarray(x)
        if self.padding_mode != "zeros":
            x, geometry = self._pad(x), replace(geometry, padding=((0, 0),) * self.axes)
        return _convolved(x, *self._parameters, geometry)

    def _pad(self, x: jax.Array) -> jax.Array:
        # A reflection leaves the edge out, so it has one position less to give.
        spare = 1 if self.padding_mode == "reflect" else 0
        if self.padding_mode != "replicate" and any(
            max(pads) > n - spare for n, pads in zip(x.shape[1:-1], self.padding, strict=True)
        ):
            wanted = f"room for {self.padding_mode} padding of {self.padding}"
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
        stride: steps between two outputs.
        padding: positions added on each edge; "valid" adds none, "same" as many as keep the size.
        dilation: steps between two taps of the kernel.
        groups: into how many blocks the channels are cut, each convolved by itself.
        bias: whether b is added.
        padding_mode: what is added: "zeros", "reflect", "replicate" or "circular".
        rngs: where the initial values are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if an option does not fit, or the input is too small for the kernel.

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
        """Convolves x, [N, ..., in_channels], to a larger [N, ..., out_channels].

        Args:
            x: the input.
            output_size: the spatial sizes of the output, or its whole shape, in place of
                ``output_padding``.
        """
        check_input(x, self.axes, self.in_channels)
        added = self.output_padding if output_size is None else self._added(x, output_size)
        options = self.stride, self.padding, added, self.dilation
        return _transposed("x", x, *self._parameters, options, self.groups)

    def _added(self, x: ArrayLike, output_size: PerAxis) -> Sizes:
        """The output padding that makes an output of some size."""
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
    """``torch.nn.ConvTranspose1d``: what a convolution does to its input's gradient.

    It takes sequences [N, L, in_channels]. Parameters: ``kernel`` [kernel_size,
    in_channels / groups, out_channels], PyTorch's weight flipped along its first axis, and
    ``bias`` [out_channels]. For the arguments see ``ConvTranspose2d``.
    """

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """``torch.nn.ConvTranspose2d``: what a convolution does to its input's gradient.

    Each input pixel adds its multiple of the kernel to the output, ``stride`` apart; of n pixels
    become (n - 1) stride - 2 padding + dilation (kernel_size - 1) + output_padding + 1.

    Parameters: ``kernel`` [height, width, in_channels / groups, out_channels], PyTorch's weight
    flipped in space, and ``bias`` [out_channels]; both start as U(±1/√fan_in), where PyTorch
    takes fan_in = height · width · out_channels / groups.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: steps on the output between the marks of two neighbouring inputs.
        padding: pixels cut from each edge of the output.
        output_padding: pixels added at the end of each axis, fewer than stride or dilation.
        groups: into how many blocks the channels are cut, each convolved by itself.
        bias: whether the bias is added.
        dilation: steps between two taps of the kernel.
        rngs: where the initial values are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if an option does not fit, or nothing is left of the output.

    Examples:
        >>> up = ConvTranspose2d(16, 8, 2, stride=2, rngs=nnx.Rngs(0))
        >>> up(jnp.ones((1, 7, 7, 16))).shape
        (1, 14, 14, 8)
    """

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """``torch.nn.ConvTranspose3d``: what a convolution does to its input's gradient.

    It takes volumes [N, D, H, W, in_channels]. Parameters: ``kernel`` [depth, height, width,
    in_channels / groups, out_channels], PyTorch's weight flipped in space, and ``bias``
    [out_channels]. For the arguments see ``ConvTranspose2d``.
    """

    axes = 3


def _options(
    kernel_size: Sizes, stride: PerAxis, padding: PerAxis | str, dilation: PerAxis
) -> tuple[Sizes, Padding, Sizes]:
    """Checks the stride, the padding and the dilation of a convolution."""
    axes = len(kernel_size)
    stride, dilation = per_axis("stride", stride, axes), per_axis("dilation", dilation, axes)
    if isinstance(padding, str) and padding == "same":
        if any(step > 1 for step in stride):
            raise InputError("stride", 'one where padding is "same"', stride)
        # An even kernel needs an odd number of zeros; the odd one goes to the end.
        spans = _spans(kernel_size, dilation)
        return stride, tuple(((span - 1) // 2, span // 2) for span in spans), dilation
    if isinstance(padding, str) and padding != "valid":
        raise InputError("padding", 'integers, "same" or "valid"', padding)
    each = per_axis("padding", 0 if isinstance(padding, str) else padding, axes, least=0)
    return stride, tuple((p, p) for p in each), dilation


def _transposed_options(
    axes: int, stride: PerAxis, padding: PerAxis, output_padding: PerAxis, dilation: PerAxis
) -> tuple[Sizes, Sizes, Sizes, Sizes]:
    """Checks the stride, both paddings and the dilation of a transposed convolution."""
    stride, dilation = per_axis("stride", stride, axes), per_axis("dilation", dilation, axes)
    padding = per_axis("padding", padding, axes, least=0)
    added = per_axis("output_padding", output_padding, axes, least=0)
    if any(a >= limit for a, limit in zip(added, map(max, stride, dilation), strict=True)):
        raise InputError("output_padding", "less than stride or dilation", output_padding)
    return stride, padding, added, dilation


def _spans(kernel_size: Sizes, dilation: Sizes) -> Sizes:
    """How many positions the dilated kernel covers along each axis."""
    return tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel_size, strict=True))


def _transposed(
    argument: str,
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None,
    options: tuple[Sizes, Sizes, Sizes, Sizes],
    groups: int,
) -> jax.Array:
    """The transposed convolution of x, by the convolution of a dilated x."""
    stride, padding, added, dilation = options
    spans = _spans(kernel.shape[:-2], dilation)
    edges = [span - 1 - cut for span, cut in zip(spans, padding, strict=True)]
    pads = tuple((edge, edge + a) for edge, a in zip(edges, added, strict=True))
    geometry = Geometry((1,) * len(spans), pads, dilation, stride, groups)
    if 0 in geometry.output_sizes(x, kernel):
        raise InputError(argument, f"more than padding {padding} cuts off", describe(x))
    return _convolved(jnp.asarray(x), kernel, bias, geometry)


def _convolved(
    x: jax.Array, kernel: ArrayLike, bias: ArrayLike | None, geometry: Geometry
) -> jax.Array:
    """Convolves x, in the dtype that holds both its numbers and the kernel's."""
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
    """``torch.nn.functional.conv1d``, of a sequence. For the arguments see ``conv2d``."""
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
    """The convolution of an image, as ``Conv2d`` computes it.

    y[h, w, o] = b[o] + Σ_{i, j, c} x[h·stride + i·dilation, w·stride + j·dilation, c] K[i, j, c, o]

    Args:
        input: x, [N, H, W, C].
        weight: K, in the layout of ``Conv2d.kernel``: [height, width, C / groups, O]. PyTorch's is
            [O, C / groups, height, width].
        bias: b, [O].
        stride: steps between two outputs.
        padding: zeros on each edge; "valid" adds none, "same" as many as keep the size.
        dilation: steps between two taps of the kernel.
        groups: into how many blocks the channels are cut, each convolved by itself.

    Returns:
        [N, H', W', O].

    Raises:
        InputError: if an option does not fit, or the input is too small for the kernel.

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
    """``torch.nn.functional.conv3d``, of a volume. For the arguments see ``conv2d``."""
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
    """What a convolution does to its input's gradient, as ``ConvTranspose2d`` computes it.

    Args:
        input: [N, H, W, C].
        weight: in the layout of ``ConvTranspose2d.kernel``: [height, width, C / groups, O].
            PyTorch's is [C, O / groups, height, width], and flipped in space.
        bias: [O].
        stride: steps on the output between the marks of two neighbouring inputs.
        padding: pixels cut from each edge of the output.
        output_padding: pixels added at the end of each axis, fewer than stride or dilation.
        groups: into how many blocks the channels are cut, each convolved by itself.
        dilation: steps between two taps of the kernel.

    Returns:
        [N, H', W', O], with H' = (H - 1) stride - 2 padding + dilation (height - 1)
        + output_padding + 1.

    Raises:
        InputError: if an option does not fit, or nothing is left of the output.

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
        raise InputError("input", f"at least {spans} positions with padding", describe(x))
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
    """Checks what a function is given in place of a layer's parameters."""
    check_positive("groups", groups)
    sizes = ["length"] if axes == 1 else ["depth", "height", "width"][-axes:]
    check_floats("weight", weight, (*sizes, "C / groups", "O"))
    if 0 in weight.shape:
        raise InputError("weight", "at least one number along every axis", describe(weight))
    inputs, outputs = weight.shape[-2:]
    if outputs % groups:
        raise InputError("groups", f"a divisor of the {outputs} outputs", groups)
    check_input(x, axes, inputs * groups, argument="input")
    if bias is not None:
        check_floats("bias", bias, (outputs,))

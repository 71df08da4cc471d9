"""Convolutions and their transpose, channels last."""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import ArrayLike, InputError, check_bool, check_choice, check_positive, describe
from jaxnets.layers.parameters import check_others, check_parameters
from jaxnets.layers.windows import PerAxis, check_input, per_axis

#: Before and after each spatial axis: zeros added, or where negative, positions cut off.
Padding = tuple[tuple[int, int], ...]

_LAYOUTS = {3: ("NLC", "LIO", "NLC"), 4: ("NHWC", "HWIO", "NHWC")}
_PADDING_MODES = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


class _Layer(nnx.Module):
    """What a convolution and a transposed one share: channels, options and parameters."""

    axes: ClassVar[int]

    def __init__(
        self,
        channels: tuple[int, int],
        kernel_size: PerAxis,
        stride: PerAxis,
        dilation: PerAxis,
        groups: int,
    ) -> None:
        for name, size in zip(("in_channels", "out_channels"), channels, strict=True):
            check_positive(name, size)
        check_positive("groups", groups)
        if any(size % groups for size in channels):
            raise InputError("groups", f"a common divisor of the channels {channels}", groups)
        self.in_channels, self.out_channels = channels
        self.groups = groups
        self.kernel_size = per_axis("kernel_size", kernel_size, self.axes)
        self.stride = per_axis("stride", stride, self.axes)
        self.dilation = per_axis("dilation", dilation, self.axes)

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
    def _spans(self) -> tuple[int, ...]:
        """How many positions the dilated kernel covers along each axis."""
        sizes = zip(self.dilation, self.kernel_size, strict=True)
        return tuple(dilation * (kernel - 1) + 1 for dilation, kernel in sizes)

    def _convolve(
        self,
        x: jax.Array,
        padding: Padding,
        stride: tuple[int, ...] | None = None,
        input_dilation: tuple[int, ...] | None = None,
    ) -> jax.Array:
        kernel = self.kernel[...]
        dtype = jnp.result_type(x, kernel)
        ones = (1,) * self.axes
        y = lax.conv_general_dilated(
            x.astype(dtype),
            kernel.astype(dtype),
            stride or ones,
            padding,
            lhs_dilation=input_dilation or ones,
            rhs_dilation=self.dilation,
            dimension_numbers=_LAYOUTS[x.ndim],
            feature_group_count=self.groups,
        )
        if self.bias is None:
            return y
        return y + self.bias[...].astype(dtype).reshape((1,) * (y.ndim - 1) + (-1,))


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
        super().__init__((in_channels, out_channels), kernel_size, stride, dilation, groups)
        self.padding_mode = check_choice("padding_mode", padding_mode, tuple(_PADDING_MODES))
        self.padding = self._pairs(padding)
        fan_in = in_channels // groups * math.prod(self.kernel_size)
        self._draw_parameters(fan_in, bias, rngs, param_dtype)

    def _pairs(self, padding: PerAxis | str) -> Padding:
        """The padding before and after each spatial axis."""
        if isinstance(padding, str) and padding == "valid":
            padding = 0
        if isinstance(padding, str) and padding == "same":
            if any(stride > 1 for stride in self.stride):
                raise InputError("stride", 'one where padding is "same"', self.stride)
            # An even kernel needs an odd number of zeros; the odd one goes to the end.
            return tuple(((span - 1) // 2, span // 2) for span in self._spans)
        if isinstance(padding, str):
            raise InputError("padding", 'integers, "same" or "valid"', padding)
        return tuple((p, p) for p in per_axis("padding", padding, self.axes, least=0))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Convolves x, [N, ..., in_channels], to [N, ..., out_channels]."""
        check_input(x, self.axes, self.in_channels)
        sizes = [n + sum(pads) for n, pads in zip(x.shape[1:-1], self.padding, strict=True)]
        if any(n < span for n, span in zip(sizes, self._spans, strict=True)):
            raise InputError("x", f"at least {self._spans} positions with padding", describe(x))
        padding, x = self.padding, jnp.asarray(x)
        if self.padding_mode != "zeros":
            padding, x = ((0, 0),) * self.axes, self._pad(x)
        return self._convolve(x, padding, stride=self.stride)

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


class ConvTranspose2d(_Layer):
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
        super().__init__((in_channels, out_channels), kernel_size, stride, dilation, groups)
        self.padding = per_axis("padding", padding, self.axes, least=0)
        self.output_padding = per_axis("output_padding", output_padding, self.axes, least=0)
        limits = map(max, self.stride, self.dilation)
        if any(o >= limit for o, limit in zip(self.output_padding, limits, strict=True)):
            raise InputError("output_padding", "less than stride or dilation", output_padding)
        fan_in = out_channels // groups * math.prod(self.kernel_size)
        self._draw_parameters(fan_in, bias, rngs, param_dtype)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Convolves x, [N, H, W, in_channels], to the larger [N, H', W', out_channels]."""
        check_input(x, self.axes, self.in_channels)
        edges = [span - 1 - cut for span, cut in zip(self._spans, self.padding, strict=True)]
        padding = tuple((e, e + o) for e, o in zip(edges, self.output_padding, strict=True))
        axes = zip(x.shape[1:-1], self.stride, padding, self._spans, strict=True)
        if any((n - 1) * stride + 1 + sum(pads) < span for n, stride, pads, span in axes):
            raise InputError("x", f"more than padding {self.padding} cuts off", describe(x))
        return self._convolve(jnp.asarray(x), padding, input_dilation=self.stride)

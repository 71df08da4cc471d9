"""Batch, layer, RMS and group normalization, over channels-last arrays."""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_number,
    check_positive,
    describe,
    entries,
)
from jaxnets.kernels.marks import marked
from jaxnets.layers.parameters import check_others, check_parameters

#: Scale and bias; None for those that a layer does not have.
Parameters = tuple[jax.Array | None, jax.Array | None]
#: The running mean and variance, which are updated in training.
Running: TypeAlias = tuple[nnx.Variable, nnx.Variable]


def at_least_float32(x: jax.Array) -> jax.Array:
    """Converts 16-bit floats to float32, in which statistics are computed, as in PyTorch."""
    return jnp.asarray(x, jnp.float32 if x.dtype.itemsize < 4 else None)


def moments(x: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Computes mean and biased variance over some axes, which are kept with size 1.

    This takes two passes, because E[x²] - E[x]² is inaccurate if the mean is large.
    """
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def normalized(x: jax.Array, mean: jax.Array, var: jax.Array, eps: float) -> jax.Array:
    """Returns (x - mean) / √(var + eps)."""
    return (x - mean) * lax.rsqrt(var + eps)


def scaled(y: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    """Returns y ⊙ scale + bias over the last axes; scale or bias may be None."""
    if scale is not None:
        y = y * jnp.broadcast_to(scale, y.shape)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


def of_dtype(parameters: Sequence[Any], dtype: DTypeLike) -> Parameters:
    """Converts scale and bias, which may be variables or None, to arrays of a dtype."""
    scale, bias = (None if one is None else one[...].astype(dtype) for one in parameters)
    return scale, bias


def check_channels(x: jax.Array, axes: tuple[int, float], channels: int, expected: str) -> None:
    """Checks the dtype, the number of axes (from least to most) and the channels of x."""
    check_floats("x", x, ("...",))
    if not axes[0] <= x.ndim <= axes[1] or x.shape[-1] != channels:
        raise InputError("x", f"a floating-point array {expected}", describe(x))


def check_several(argument: str, x: ArrayLike, count: int, what: str) -> None:
    """Checks that statistics are computed from more than one value."""
    if count == 1:
        raise InputError(argument, f"more than one {what}", describe(x))


class Normalization(nnx.Module):
    """The base class of the normalization layers: y = x̂ ⊙ scale + bias over the last axes.

    Args:
        shape: the shape of ``scale`` and ``bias``, the last axes of x.
        eps: added to the variance.
        affine: whether the layer has ``scale`` (initially ones) and ``bias`` (initially zeros).
        bias: whether the layer has ``bias``, if ``affine``.
        param_dtype: the dtype of the parameters.
    """

    eps: Any  # a number, or None for the machine epsilon in RMSNorm

    def __init__(
        self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool, param_dtype: DTypeLike
    ) -> None:
        check_bool("bias", bias)
        self.eps = check_number("eps", eps, least=0)
        self.scale = nnx.Param(jnp.ones(shape, param_dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros(shape, param_dtype)) if affine and bias else None

    @property
    def _parameters(self) -> tuple[nnx.Param | None, nnx.Param | None]:
        return self.scale, self.bias


@marked
def batch_norm(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes each channel of x [..., C] by its mean and variance over all other axes.

    Returns:
        The outputs [..., C], the mean [C] and the biased variance [C].
    """
    mean, var = moments(x, range(x.ndim - 1))
    y = scaled(normalized(x, mean, var, eps), scale, bias)
    return y, mean.reshape(-1), var.reshape(-1)


@marked
def layer_norm(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, eps: float, axes: int
) -> jax.Array:
    """Normalizes each example of x by its mean and variance over the last ``axes`` axes."""
    mean, var = moments(x, range(x.ndim - axes, x.ndim))
    return scaled(normalized(x, mean, var, eps), scale, bias)


@marked
def group_norm(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, eps: float, groups: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes each group of consecutive channels of each example of x [N, ..., C].

    Returns:
        The outputs [N, ..., C], the mean [N, groups] and the biased variance [N, groups].
    """
    places, size = math.prod(x.shape[1:-1]), x.shape[-1] // groups
    cut = x.reshape(x.shape[0], places, groups, size)
    mean, var = moments(cut, (1, 3))
    y = scaled(normalized(cut, mean, var, eps).reshape(x.shape), scale, bias)
    return y, mean.reshape(-1, groups), var.reshape(-1, groups)


def by_batch(
    x: ArrayLike,
    parameters: Sequence[Any],
    running: Running | None,
    *,
    momentum: float | jax.Array,
    eps: float,
) -> jax.Array:
    """Normalizes x [..., C] by its own statistics, and updates the running statistics, if any."""
    values = at_least_float32(jnp.asarray(x))
    parameters = of_dtype(parameters, values.dtype)
    if x.size == 0:  # as in PyTorch, an empty batch does not change the running statistics
        return scaled(values, *parameters).astype(x.dtype)
    y, mean, var = batch_norm(values, *parameters, eps=eps)
    if running is not None:
        count = x.size // x.shape[-1]
        move(running, (mean, var * (count / (count - 1))), momentum)
    return y.astype(x.dtype)


def by_running(
    x: ArrayLike, parameters: Sequence[Any], running: Sequence[Any], *, eps: float
) -> jax.Array:
    """Normalizes x [..., C] by given means and variances of the channels."""
    values = at_least_float32(jnp.asarray(x))
    row = (1,) * (x.ndim - 1) + x.shape[-1:]
    mean, var = (stat[...].astype(values.dtype).reshape(row) for stat in running)
    y = scaled(normalized(values, mean, var, eps), *of_dtype(parameters, values.dtype))
    return y.astype(x.dtype)


def move(running: Running, batch: tuple[jax.Array, jax.Array], momentum: float | jax.Array) -> None:
    """Updates the running statistics: new = (1 - momentum) · old + momentum · batch."""
    for variable, new in zip(running, batch, strict=True):
        old = variable[...]
        new = lax.stop_gradient(new).astype(old.dtype)
        # Assignment to variable[...] compares shardings, which takes half of the tracing time.
        variable.set_value((1 - momentum) * old + momentum * new)


def by_rows(x: ArrayLike, parameters: Sequence[Any], *, axes: int, eps: float) -> jax.Array:
    """Computes layer normalization of x over the last ``axes`` axes."""
    values = at_least_float32(jnp.asarray(x))
    parameters = of_dtype(parameters, values.dtype)
    return layer_norm(values, *parameters, eps=eps, axes=axes).astype(x.dtype)


def by_root_mean_square(x: ArrayLike, scale: Any, *, axes: int, eps: float | None) -> jax.Array:
    """Computes RMS normalization of x over the last ``axes`` axes; eps None is machine epsilon."""
    values = at_least_float32(jnp.asarray(x))
    if eps is None:
        eps = float(jnp.finfo(values.dtype).eps)
    mean = jnp.square(values).mean(range(x.ndim - axes, x.ndim), keepdims=True)
    y = values * lax.rsqrt(mean + eps)
    return scaled(y, *of_dtype((scale, None), values.dtype)).astype(x.dtype)


def by_group(x: ArrayLike, parameters: Sequence[Any], *, groups: int, eps: float) -> jax.Array:
    """Computes group normalization of x [N, ..., C]."""
    values = at_least_float32(jnp.asarray(x))
    y, _, _ = group_norm(values, *of_dtype(parameters, values.dtype), eps=eps, groups=groups)
    return y.astype(x.dtype)


class Tracking(Normalization):
    """The base class of batch and instance normalization, with running statistics of channels.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        momentum: the weight of the newest batch; the meaning of None depends on the layer.
        affine: whether the layer has ``scale`` and ``bias``.
        track_running_stats: whether the layer has running statistics.
        bias: whether the layer has ``bias``, if ``affine``.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters and statistics.
    """

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        check_positive("num_features", num_features)
        check_bool("affine", affine)
        check_parameters(rngs, param_dtype, constant=True)
        tracked = check_bool("track_running_stats", track_running_stats)
        super().__init__((num_features,), eps, affine, bias, param_dtype)
        self.num_features = num_features
        if momentum is not None:
            momentum = check_number("momentum", momentum, least=0, most=1)
        self.momentum = momentum
        self.use_running_average = False
        shape = (num_features,)
        self.mean: Any = nnx.BatchStat(jnp.zeros(shape, param_dtype)) if tracked else None
        self.var: Any = nnx.BatchStat(jnp.ones(shape, param_dtype)) if tracked else None
        count = nnx.BatchStat(jnp.zeros((), jnp.int32)) if tracked else None
        self.num_batches_tracked: Any = count

    def _running(self) -> Running | None:
        return None if self.mean is None else (self.mean, self.var)

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the mode of a view; ``nnx.view`` calls this.

        Args:
            use_running_average: True for evaluation mode, False for training mode, None to keep the
                mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


class BatchNorm(Tracking):
    """The base class of ``BatchNorm1d`` to ``BatchNorm3d``.

    In training mode, which ``model.train()`` sets, each channel of x is normalized by its mean and
    biased variance over the batch, and the running statistics are updated with the mean and the
    *unbiased* variance: new = (1 - momentum) · old + momentum · batch. In evaluation mode, which
    ``model.eval()`` sets, x is normalized by the running statistics.

    Parameters: ``scale`` and ``bias`` [C], PyTorch's weight and bias. Statistics, updated in
    place: ``mean`` and ``var`` [C], PyTorch's running_mean and running_var, and
    ``num_batches_tracked``.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        momentum: the weight of the newest batch, as in PyTorch (in Flax momentum is the weight of
            the old statistics); None for the mean over all batches.
        affine: whether the layer has ``scale`` and ``bias``.
        track_running_stats: whether the layer has running statistics; without them x is normalized
            by its own statistics in both modes.
        bias: whether the layer has ``bias``, if ``affine``.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters and statistics.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        super().__init__(
            num_features, eps, momentum, affine, track_running_stats, bias, rngs, param_dtype
        )

    def _check_shape(self, x: jax.Array) -> None:
        raise NotImplementedError

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x; in training mode, also updates the running statistics.

        Args:
            x: the inputs, channels last.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or a channel has only a single value to compute
                statistics from.
        """
        self._check_shape(x)
        running = self._running()
        if self.use_running_average and running is not None:
            return by_running(x, self._parameters, running, eps=self.eps)
        check_several("x", x, x.size // self.num_features, "value per channel in training")
        moved = None if self.use_running_average else running
        momentum = self._count() if moved else 0
        return by_batch(x, self._parameters, moved, momentum=momentum, eps=self.eps)

    def _count(self) -> Any:
        """Counts a training batch, and returns its weight in the running statistics."""
        tracked = self.num_batches_tracked
        tracked.set_value(tracked[...] + 1)
        if self.momentum is not None:
            return self.momentum
        return 1 / tracked[...].astype(self.mean.dtype)


class BatchNorm1d(BatchNorm):
    """``torch.nn.BatchNorm1d`` over [N, C] or [N, L, C], channels last.

    Its arguments, parameters, statistics and modes are those of ``BatchNorm``.

    Examples:
        >>> layer = BatchNorm1d(1)
        >>> print(layer(jnp.array([[1.0], [5.0]])).round(3).ravel())  # by its own mean, 3
        [-1.  1.]
        >>> print(layer.mean[...].round(3), layer.var[...].round(3))
        [0.3] [1.7]
        >>> layer.eval()
        >>> print(layer(jnp.array([[0.3]])))  # by the running statistics
        [[0.]]
    """

    def _check_shape(self, x: jax.Array) -> None:
        size = self.num_features
        check_channels(x, (2, 3), size, f"[N, {size}] or [N, L, {size}]")


class BatchNorm2d(BatchNorm):
    """``torch.nn.BatchNorm2d`` over [N, H, W, C], channels last.

    Its arguments, parameters, statistics and modes are those of ``BatchNorm``.
    """

    def _check_shape(self, x: jax.Array) -> None:
        check_floats("x", x, ("N", "H", "W", self.num_features))


class BatchNorm3d(BatchNorm):
    """``torch.nn.BatchNorm3d`` over [N, D, H, W, C], channels last.

    Its arguments, parameters, statistics and modes are those of ``BatchNorm``.
    """

    def _check_shape(self, x: jax.Array) -> None:
        check_floats("x", x, ("N", "D", "H", "W", self.num_features))


class OverLastAxes(Normalization):
    """The base class of layer and RMS normalization, which normalize over the last axes.

    Args:
        normalized_shape: the sizes of the last axes of x; an integer for only the last axis.
        eps: added to the variance.
        affine: whether the layer has parameters.
        bias: whether the layer has ``bias``, if ``affine``.
        channels_last: whether the last axis is that of channels, which is the first one in PyTorch.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float,
        affine: bool,
        bias: bool,
        channels_last: bool | None,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        given = entries(normalized_shape)
        shape = (normalized_shape,) if given is None else given
        if not shape:
            raise InputError("normalized_shape", "at least one axis", "()")
        self.normalized_shape = tuple(check_positive("normalized_shape", size) for size in shape)
        check_bool("elementwise_affine", affine)
        if channels_last is not None:
            check_bool("channels_last", channels_last)
        elif affine and len(shape) == 2 and shape[0] == shape[1]:
            expected = "True if the shape is (C, L) in PyTorch, or False if it is (T, F)"
            raise InputError("channels_last", expected, channels_last)
        self.channels_last = len(shape) == 3 if channels_last is None else bool(channels_last)
        check_parameters(rngs, param_dtype, constant=True)
        super().__init__(self.normalized_shape, eps, affine, bias, param_dtype)

    def _check_shape(self, x: jax.Array) -> None:
        shape = self.normalized_shape
        moved = (*shape[1:], shape[0])
        if len(shape) > 1 and getattr(x, "shape", ())[-len(shape) :] == moved != shape:
            expected = f"[..., {', '.join(map(str, shape))}], or a layer with normalized_shape"
            raise InputError("x", f"{expected} {moved} and channels_last=True", describe(x))
        check_floats("x", x, ("...", *shape))


class LayerNorm(OverLastAxes):
    """``torch.nn.LayerNorm``: each example normalized over its last axes.

    Parameters: ``scale`` and ``bias`` of the shape ``normalized_shape``, PyTorch's weight and bias.
    A shape of three axes is that of an image, (H, W, C), which is (C, H, W) in PyTorch. A shape of
    two axes is (T, F), as in PyTorch, or with ``channels_last`` (L, C), which is (C, L) in PyTorch,
    as after a convolution.

    Args:
        normalized_shape: the sizes of the last axes of x; an integer for only the last axis.
        eps: added to the variance.
        elementwise_affine: whether the layer has ``scale`` and ``bias``.
        bias: whether the layer has ``bias``, if ``elementwise_affine``.
        channels_last: whether the last axis is that of channels, which is the first one in PyTorch.
            Weights from PyTorch are then transposed when they are loaded. None for True with three
            axes and False otherwise. It is required for two axes of the same size, because their
            order is ambiguous.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        channels_last: bool | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        super().__init__(
            normalized_shape, eps, elementwise_affine, bias, channels_last, rngs, param_dtype
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x.

        Args:
            x: [..., *normalized_shape].

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x does not end in ``normalized_shape``.
        """
        self._check_shape(x)
        return by_rows(x, self._parameters, axes=len(self.normalized_shape), eps=self.eps)


class RMSNorm(OverLastAxes):
    """``torch.nn.RMSNorm``: y = x / √(mean(x²) + eps) ⊙ scale over the last axes.

    Parameter: ``scale`` of the shape ``normalized_shape``, PyTorch's weight.

    Args:
        normalized_shape: the sizes of the last axes of x; an integer for only the last axis.
        eps: added to the mean of squares; None for the machine epsilon of the dtype of the
            computation, which is 2⁻²³ for float32 and 16-bit inputs.
        elementwise_affine: whether the layer has ``scale``.
        channels_last: see ``LayerNorm``.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameter.

    Examples:
        >>> print(RMSNorm(2)(jnp.array([[3.0, 3.0], [0.0, 2.0]])).round(3))
        [[1.    1.   ]
         [0.    1.414]]
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        channels_last: bool | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        super().__init__(
            normalized_shape,
            0 if eps is None else eps,
            elementwise_affine,
            False,
            channels_last,
            rngs,
            param_dtype,
        )
        if eps is None:
            self.eps = None

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x.

        Args:
            x: [..., *normalized_shape].

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x does not end in ``normalized_shape``.
        """
        self._check_shape(x)
        axes = len(self.normalized_shape)
        return by_root_mean_square(x, self.scale, axes=axes, eps=self.eps)


class GroupNorm(Normalization):
    """``torch.nn.GroupNorm``: each example normalized over each group of channels.

    Parameters: ``scale`` and ``bias`` [num_channels], PyTorch's weight and bias.

    Args:
        num_groups: the number of groups of consecutive channels.
        num_channels: the number of channels, the last axis of x.
        eps: added to the variance.
        affine: whether the layer has ``scale`` and ``bias``.
        bias: whether the layer has ``bias``, if ``affine``.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others)
        check_positive("num_groups", num_groups)
        check_positive("num_channels", num_channels)
        if num_channels % num_groups:
            raise InputError("num_channels", f"a multiple of {num_groups} groups", num_channels)
        check_bool("affine", affine)
        check_parameters(rngs, param_dtype, constant=True)
        self.num_groups, self.num_channels = num_groups, num_channels
        super().__init__((num_channels,), eps, affine, bias, param_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x.

        Args:
            x: [N, ..., num_channels].

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or a group has only a single value.
        """
        check_channels(x, (2, math.inf), self.num_channels, f"[N, ..., {self.num_channels}]")
        check_several("x", x, x.size // self.num_groups, "value per group")
        return by_group(x, self._parameters, groups=self.num_groups, eps=self.eps)

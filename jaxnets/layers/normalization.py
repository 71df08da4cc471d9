"""Batch, layer, group and instance normalization, over channels-last arrays."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets.arrays import (
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


def _at_least_float32(x: jax.Array) -> jax.Array:
    """The dtype of the statistics: as in PyTorch, a half is not wide enough for them."""
    return jnp.asarray(x, jnp.float32 if x.dtype.itemsize < 4 else None)


def _moments(x: jax.Array, axes: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance, in two passes: E[x²] - E[x]² cancels where the mean is large."""
    mean = x.mean(axes, keepdims=True)
    return mean, jnp.square(x - mean).mean(axes, keepdims=True)


def _check(x: jax.Array, axes: tuple[int, float], channels: int, expected: str) -> None:
    """Raises unless x is floating, has as many axes, from least to most, and channels last."""
    check_floats("x", x, ("...",))
    if not axes[0] <= x.ndim <= axes[1] or x.shape[-1] != channels:
        raise InputError("x", f"a floating-point array {expected}", describe(x))


class Normalization(nnx.Module):
    """What the normalization layers share: y = x̂ ⊙ scale + bias over the last axes.

    Args:
        shape: the shape of ``scale`` and ``bias``, the last axes of x.
        eps: added to the variance.
        affine: whether there are ``scale`` (ones at first) and ``bias`` (zeros at first).
        bias: whether there is ``bias``, if ``affine``.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self, shape: tuple[int, ...], eps: float, affine: bool, bias: bool, param_dtype: DTypeLike
    ) -> None:
        check_bool("bias", bias)
        self.eps = check_number("eps", eps, least=0)
        self.scale = nnx.Param(jnp.ones(shape, param_dtype)) if affine else None
        self.bias = nnx.Param(jnp.zeros(shape, param_dtype)) if affine and bias else None

    def _parameters(self, dtype: DTypeLike) -> tuple[jax.Array | None, jax.Array | None]:
        """Scale and bias, if there are any, in the dtype of the statistics."""
        scale, bias = (
            None if parameter is None else parameter[...].astype(dtype)
            for parameter in (self.scale, self.bias)
        )
        return scale, bias


def _scaled(y: jax.Array, scale: jax.Array | None, bias: jax.Array | None) -> jax.Array:
    if scale is not None:
        y = y * jnp.broadcast_to(scale, y.shape)
    return y if bias is None else y + jnp.broadcast_to(bias, y.shape)


def _normalized(x: jax.Array, mean: jax.Array, var: jax.Array, eps: float) -> jax.Array:
    return (x - mean) * lax.rsqrt(var + eps)


@marked
def batch_norm(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalizes each channel of x [..., C] by its mean and variance over all other axes.

    Returns:
        The outputs [..., C], the mean [C] and the biased variance [C].
    """
    mean, var = _moments(x, range(x.ndim - 1))
    y = _scaled(_normalized(x, mean, var, eps), scale, bias)
    return y, mean.reshape(-1), var.reshape(-1)


@marked
def layer_norm(
    x: jax.Array, scale: jax.Array | None, bias: jax.Array | None, *, eps: float, axes: int
) -> jax.Array:
    """Normalizes each sample of x by its mean and variance over so many last axes."""
    moments = _moments(x, range(x.ndim - axes, x.ndim))
    return _scaled(_normalized(x, *moments, eps), scale, bias)


class BatchNorm(Normalization):
    """What ``BatchNorm1d`` and ``BatchNorm2d`` share: statistics per channel, over a batch.

    In training mode, which ``model.train()`` sets, x is normalized by its own mean and biased
    variance, and the running statistics move towards its mean and its *unbiased* variance:
    new = (1 - momentum) · old + momentum · batch. In evaluation mode, which ``model.eval()``
    sets, x is normalized by the running statistics.

    Parameters: ``scale`` and ``bias`` [C], PyTorch's weight and bias. Statistics, updated in
    place: ``mean`` and ``var`` [C], PyTorch's running_mean and running_var, and
    ``num_batches_tracked``.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        momentum: the weight of the newest batch (flax's momentum is that of the old ones); None
            averages all batches alike.
        affine: whether there are ``scale`` and ``bias``.
        track_running_stats: whether there are running statistics; without them x is normalized by
            its own in both modes.
        bias: whether there is ``bias``, if ``affine``.
        rngs: not used, as the initial values are constants.
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
        check_positive("num_features", num_features)
        check_bool("affine", affine)
        check_parameters(rngs, param_dtype, constant=True)
        shape = (num_features,)
        tracked = check_bool("track_running_stats", track_running_stats)
        super().__init__(shape, eps, affine, bias, param_dtype)
        self.num_features = num_features
        if momentum is not None:
            momentum = check_number("momentum", momentum, least=0, most=1)
        self.momentum = momentum
        self.use_running_average = False
        self.mean = nnx.BatchStat(jnp.zeros(shape, param_dtype)) if tracked else None
        self.var = nnx.BatchStat(jnp.ones(shape, param_dtype)) if tracked else None
        self.num_batches_tracked = nnx.BatchStat(jnp.zeros((), jnp.int32)) if tracked else None

    def _check_shape(self, x: jax.Array) -> None:
        raise NotImplementedError

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x; in training mode, also moves the running statistics.

        Args:
            x: the inputs, channels last.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or if statistics are to be taken of a single value
                per channel.
        """
        self._check_shape(x)
        x = jnp.asarray(x)
        values = _at_least_float32(x)
        parameters = self._parameters(values.dtype)
        if self.use_running_average and self.mean is not None and self.var is not None:
            row = (1,) * (x.ndim - 1) + (self.num_features,)
            mean, var = (
                stat[...].astype(values.dtype).reshape(row) for stat in (self.mean, self.var)
            )
            y = _scaled(_normalized(values, mean, var, self.eps), *parameters)
            return y.astype(x.dtype)
        if x.size == 0:
            self._count_alone()
            return _scaled(values, *parameters).astype(x.dtype)
        count = x.size // self.num_features
        if count < 2:
            raise InputError("x", "more than one value per channel in training", describe(x))
        y, mean, var = batch_norm(values, *parameters, eps=self.eps)
        if not self.use_running_average:
            self._track(mean, var * (count / (count - 1)))
        return y.astype(x.dtype)

    def _count_alone(self) -> None:
        """An empty batch: as in PyTorch it is counted, and the running statistics stay."""
        if not self.use_running_average and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] = self.num_batches_tracked[...] + 1

    def _track(self, mean: jax.Array, var: jax.Array) -> None:
        """Moves the running statistics, if there are any, towards those of one batch."""
        if self.mean is None or self.var is None or self.num_batches_tracked is None:
            return
        count = self.num_batches_tracked[...] + 1
        self.num_batches_tracked[...] = count
        for running, batch in ((self.mean, mean), (self.var, var)):
            old, new = running[...], lax.stop_gradient(batch).astype(running.dtype)
            momentum = 1 / count.astype(old.dtype) if self.momentum is None else self.momentum
            running[...] = (1 - momentum) * old + momentum * new

    def set_view(self, use_running_average: bool | None = None) -> None:
        """Sets the mode of the view that ``nnx.view`` makes.

        Args:
            use_running_average: True is evaluation mode, False training mode.
        """
        if use_running_average is not None:
            self.use_running_average = use_running_average


class BatchNorm1d(BatchNorm):
    """``torch.nn.BatchNorm1d`` over [N, C], or [N, L, C] where PyTorch has [N, C, L].

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
        _check(x, (2, 3), size, f"[N, {size}] or [N, L, {size}]")


class BatchNorm2d(BatchNorm):
    """``torch.nn.BatchNorm2d`` over [N, H, W, C], where PyTorch has [N, C, H, W].

    Its arguments, parameters, statistics and modes are those of ``BatchNorm``.
    """

    def _check_shape(self, x: jax.Array) -> None:
        check_floats("x", x, ("N", "H", "W", self.num_features))


class LayerNorm(Normalization):
    """``torch.nn.LayerNorm``: each sample normalized over its last axes.

    Parameters: ``scale`` and ``bias`` of the shape ``normalized_shape``, PyTorch's weight and
    bias. Three axes are an image's, (H, W, C) where PyTorch has (C, H, W). Two axes are those of
    PyTorch's (T, F), or with ``channels_last`` (L, C) where PyTorch has (C, L), as after a
    convolution.

    Args:
        normalized_shape: the sizes of the last axes of x; an integer for the last one alone.
        eps: added to the variance.
        elementwise_affine: whether there are ``scale`` and ``bias``.
        bias: whether there is ``bias``, if ``elementwise_affine``.
        channels_last: whether the last axis holds channels, which PyTorch has first, so that its
            weights are moved when they are loaded. None means yes for three axes and no for
            others. Two axes of the same size need True or False, as nothing else tells.
        rngs: not used, as the initial values are constants.
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
        given = entries(normalized_shape)
        shape = (normalized_shape,) if given is None else given
        if not shape:
            raise InputError("normalized_shape", "at least one axis", "()")
        self.normalized_shape = tuple(check_positive("normalized_shape", size) for size in shape)
        check_bool("elementwise_affine", elementwise_affine)
        if channels_last is not None:
            check_bool("channels_last", channels_last)
        elif elementwise_affine and len(shape) == 2 and shape[0] == shape[1]:
            expected = "True for PyTorch's (C, L), or False for (T, F), of two axes of one size"
            raise InputError("channels_last", expected, channels_last)
        self.channels_last = len(shape) == 3 if channels_last is None else bool(channels_last)
        check_parameters(rngs, param_dtype, constant=True)
        super().__init__(self.normalized_shape, eps, elementwise_affine, bias, param_dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x.

        Args:
            x: [..., *normalized_shape].

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x does not end in ``normalized_shape``.
        """
        shape = self.normalized_shape
        moved = (*shape[1:], shape[0])
        if len(shape) > 1 and getattr(x, "shape", ())[-len(shape) :] == moved != shape:
            expected = f"[..., {', '.join(map(str, shape))}], or a normalized_shape {moved} with"
            raise InputError("x", f"{expected} channels_last=True", describe(x))
        check_floats("x", x, ("...", *shape))
        x = jnp.asarray(x)
        values = _at_least_float32(x)
        parameters = self._parameters(values.dtype)
        return layer_norm(values, *parameters, eps=self.eps, axes=len(shape)).astype(x.dtype)


class GroupNorm(Normalization):
    """``torch.nn.GroupNorm``: each sample normalized over each group of channels.

    Parameters: ``scale`` and ``bias`` [num_channels], PyTorch's weight and bias.

    Args:
        num_groups: into how many groups of neighbours the channels are cut.
        num_channels: the number of channels, the last axis of x.
        eps: added to the variance.
        affine: whether there are ``scale`` and ``bias``.
        bias: whether there is ``bias``, if ``affine``.
        rngs: not used, as the initial values are constants.
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
            InputError: if x has another shape, or a single value per group.
        """
        _check(x, (2, math.inf), self.num_channels, f"[N, ..., {self.num_channels}]")
        if x.size == self.num_groups:
            raise InputError("x", "more than one value per group", describe(x))
        places = math.prod(x.shape[1:-1])
        groups = _at_least_float32(x).reshape(
            x.shape[0], places, self.num_groups, x.shape[-1] // self.num_groups
        )
        y = _normalized(groups, *_moments(groups, (1, 3)), self.eps).reshape(x.shape)
        return _scaled(y, *self._parameters(y.dtype)).astype(x.dtype)


class InstanceNorm2d(GroupNorm):
    """``torch.nn.InstanceNorm2d``: each channel of each image normalized by itself.

    There are no running statistics, as is PyTorch's default. Parameters, if ``affine``: ``scale``
    and ``bias`` [num_features], PyTorch's weight and bias.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        affine: whether there are ``scale`` and ``bias``.
        rngs: not used, as the initial values are constants.
        param_dtype: the dtype of the parameters.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        *,
        affine: bool = False,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "momentum", "track_running_stats")
        check_positive("num_features", num_features)
        super().__init__(
            num_features, num_features, eps, affine, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x.

        Args:
            x: images [N, H, W, C], or one of them.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or a single value per channel and image.
        """
        size = self.num_channels
        _check(x, (3, 4), size, f"[N, H, W, {size}] or [H, W, {size}]")
        if math.prod(x.shape[-3:-1]) == 1:
            raise InputError("x", "more than one pixel per image", describe(x))
        return super().__call__(x[None])[0] if x.ndim == 3 else super().__call__(x)

"""Instance normalization of channels-last arrays: each channel of each example separately."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike
from jaxnets.layers.normalization import (
    Running,
    Tracking,
    at_least_float32,
    by_running,
    check_channels,
    check_several,
    group_norm,
    move,
    of_dtype,
)
from jaxnets.layers.parameters import check_others


def by_instance(
    x: ArrayLike,
    parameters: Sequence[Any],
    running: Running | None,
    *,
    momentum: float,
    eps: float,
) -> jax.Array:
    """Normalizes each channel of each example of x [N, ..., C], and updates running statistics.

    As in PyTorch, the running statistics are moved towards the mean and the unbiased variance of
    each example, averaged over the examples.
    """
    values = at_least_float32(jnp.asarray(x))
    parameters = of_dtype(parameters, values.dtype)
    y, mean, var = group_norm(values, *parameters, eps=eps, groups=x.shape[-1])
    if running is not None and x.size:
        count = math.prod(x.shape[1:-1])
        move(running, (mean.mean(0), (var * (count / (count - 1))).mean(0)), momentum)
    return y.astype(x.dtype)


class InstanceNorm(Tracking):
    """The base class of ``InstanceNorm1d`` to ``InstanceNorm3d``.

    With running statistics, training mode updates them and evaluation mode normalizes by them, as
    in ``BatchNorm``. Without running statistics, which is the default, both modes normalize each
    example by its own statistics.

    Parameters, if ``affine``: ``scale`` and ``bias`` [C], PyTorch's weight and bias. Statistics,
    if ``track_running_stats``: ``mean`` and ``var`` [C], PyTorch's running_mean and running_var,
    and ``num_batches_tracked``, which PyTorch leaves at 0.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        momentum: the weight of the newest batch; None for 0, as in PyTorch.
        affine: whether the layer has ``scale`` and ``bias``.
        track_running_stats: whether the layer has running statistics.
        bias: whether the layer has ``bias``, if ``affine``.
        rngs: not used, because the initial values are constants.
        param_dtype: the dtype of the parameters and statistics.
    """

    axes: ClassVar[str]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
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

    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x; in training mode, also updates the running statistics, if there are any.

        Args:
            x: a batch of examples, or a single example, channels last.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or a channel of an example has only a single value
                to compute statistics from.
        """
        one = f"{self.axes}, {self.num_features}]"
        space = self.axes.count(",") + 1
        expected = f"[N, {one} or [{one}"
        check_channels(x, (space + 1, space + 2), self.num_features, expected)
        if x.ndim == space + 1:
            return self._batch(x[None])[0]
        return self._batch(x)

    def _batch(self, x: jax.Array) -> jax.Array:
        running = self._running()
        if self.use_running_average and running is not None:
            return by_running(x, self._parameters, running, eps=self.eps)
        check_several("x", x, math.prod(x.shape[1:-1]), "position per channel")
        moved = None if self.use_running_average else running
        return by_instance(x, self._parameters, moved, momentum=self.momentum or 0, eps=self.eps)


class InstanceNorm1d(InstanceNorm):
    """``torch.nn.InstanceNorm1d`` over [N, L, C] or [L, C]; in PyTorch the input is [N, C, L].

    Its arguments, parameters, statistics and modes are those of ``InstanceNorm``.
    """

    axes = "L"


class InstanceNorm2d(InstanceNorm):
    """``torch.nn.InstanceNorm2d`` over [N, H, W, C] or [H, W, C], channels last.

    Its arguments, parameters, statistics and modes are those of ``InstanceNorm``.
    """

    axes = "H, W"


class InstanceNorm3d(InstanceNorm):
    """``torch.nn.InstanceNorm3d`` over [N, D, H, W, C] or [D, H, W, C], channels last.

    Its arguments, parameters, statistics and modes are those of ``InstanceNorm``.
    """

    axes = "D, H, W"

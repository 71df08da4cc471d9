"""Instance normalization: each channel of each example by itself, over channels-last arrays."""

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
    moments,
    move,
    normalized,
    of_dtype,
    scaled,
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
    """Instance normalization of x [N, ..., C] by its own statistics, which move the running ones.

    As in PyTorch, these move towards the means over the examples of the mean and of the unbiased
    variance.
    """
    values = at_least_float32(jnp.asarray(x))
    mean, var = moments(values, range(1, x.ndim - 1))
    if running is not None and x.size:
        count = math.prod(x.shape[1:-1])
        batch = mean.reshape(-1, x.shape[-1]), var.reshape(-1, x.shape[-1]) * (count / (count - 1))
        move(running, (batch[0].mean(0), batch[1].mean(0)), momentum)
    y = scaled(normalized(values, mean, var, eps), *of_dtype(parameters, values.dtype))
    return y.astype(x.dtype)


class InstanceNorm(Tracking):
    """What the layers ``InstanceNorm1d`` to ``InstanceNorm3d`` share: statistics of one example.

    With running statistics, training mode moves them, and evaluation mode normalizes by them, as
    in ``BatchNorm``. Without them, which is the default, both modes are the same.

    Parameters, if ``affine``: ``scale`` and ``bias`` [C], PyTorch's weight and bias. Statistics,
    if ``track_running_stats``: ``mean`` and ``var`` [C], PyTorch's running_mean and running_var,
    and ``num_batches_tracked``, which PyTorch leaves at 0.

    Args:
        num_features: the number of channels, C.
        eps: added to the variance.
        momentum: the weight of the newest batch; None is 0, as in PyTorch.
        affine: whether there are ``scale`` and ``bias``.
        track_running_stats: whether there are running statistics.
        bias: whether there is ``bias``, if ``affine``.
        rngs: not used, as the initial values are constants.
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
        """Normalizes x; in training mode, also moves the running statistics, if there are any.

        Args:
            x: a batch of examples, or one of them, channels last.

        Returns:
            An array of the shape and dtype of x.

        Raises:
            InputError: if x has another shape, or if statistics are to be taken of a single value
                per channel and example.
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
    """``torch.nn.InstanceNorm1d`` over [N, L, C] or [L, C], where PyTorch has [N, C, L].

    Its arguments, parameters, statistics and modes are those of ``InstanceNorm``.
    """

    axes = "L"


class InstanceNorm2d(InstanceNorm):
    """``torch.nn.InstanceNorm2d`` over [N, H, W, C] or [H, W, C], where PyTorch has [N, C, H, W].

    Its arguments, parameters, statistics and modes are those of ``InstanceNorm``.
    """

    axes = "H, W"


class InstanceNorm3d(InstanceNorm):
    """``torch.nn.InstanceNorm3d`` over [N, D, H, W, C] or [D, H, W, C].

    PyTorch has [N, C, D, H, W]. Its arguments, parameters, statistics and modes are those of
    ``InstanceNorm``.
    """

    axes = "D, H, W"

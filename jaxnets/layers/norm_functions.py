"""Normalization functions of ``torch.nn.functional``, with channels last."""

import math
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx

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
from jaxnets.layers.instance_norm import by_instance
from jaxnets.layers.normalization import (
    by_batch,
    by_group,
    by_root_mean_square,
    by_rows,
    by_running,
    check_several,
)


def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> jax.Array:
    """``torch.nn.functional.batch_norm``: each channel normalized over a batch.

    In training, each channel is normalized by its mean and biased variance over the batch. The
    running statistics are then updated in place with the mean and the unbiased variance:
    new = (1 - momentum) · old + momentum · batch. Otherwise each channel is normalized by the
    running statistics.

    Args:
        input: [N, ..., C].
        running_mean: [C]; in training an ``nnx.Variable``, which is updated, or None.
        running_var: [C]; see ``running_mean``.
        weight: the factor of each channel, [C], or None.
        bias: the offset of each channel, [C], or None.
        training: whether to normalize by the statistics of the batch.
        momentum: the weight of this batch in the running statistics.
        eps: added to the variance.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if a shape does not match, running statistics are missing or are not variables,
            or a channel has only a single value in training.
    """
    parameters = _channels(input, weight, bias)
    eps, momentum = check_number("eps", eps, least=0), check_number("momentum", momentum)
    running = _running(input, running_mean, running_var, moved=check_bool("training", training))
    if not training:
        return by_running(input, parameters, running, eps=eps)
    check_several("input", input, input.size // input.shape[-1], "value per channel in training")
    return by_batch(input, parameters, running, momentum=momentum, eps=eps)


def instance_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> jax.Array:
    """``torch.nn.functional.instance_norm``: each channel of each example normalized separately.

    Args:
        input: [N, ..., C].
        running_mean: [C]; see ``batch_norm``.
        running_var: [C]; see ``batch_norm``.
        weight: the factor of each channel, [C], or None.
        bias: the offset of each channel, [C], or None.
        use_input_stats: whether to normalize by the statistics of each example, and update the
            running statistics.
        momentum: the weight of this batch in the running statistics.
        eps: added to the variance.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if a shape does not match, running statistics are missing or are not variables,
            or a channel of an example has only a single value.
    """
    parameters = _channels(input, weight, bias, least=3)
    eps, momentum = check_number("eps", eps, least=0), check_number("momentum", momentum)
    own = check_bool("use_input_stats", use_input_stats)
    running = _running(input, running_mean, running_var, moved=own)
    if not own:
        return by_running(input, parameters, running, eps=eps)
    check_several("input", input, math.prod(input.shape[1:-1]), "position per channel")
    return by_instance(input, parameters, running, momentum=momentum, eps=eps)


def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> jax.Array:
    """``torch.nn.functional.group_norm``: each example normalized over each group of channels.

    Args:
        input: [N, ..., C].
        num_groups: the number of groups of consecutive channels.
        weight: the factor of each channel, [C], or None.
        bias: the offset of each channel, [C], or None.
        eps: added to the variance.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if a shape does not match, or a group has only a single value.
    """
    parameters = _channels(input, weight, bias)
    if input.shape[-1] % check_positive("num_groups", num_groups):
        raise InputError("input", f"a multiple of {num_groups} channels", describe(input))
    check_several("input", input, input.size // num_groups, "value per group")
    return by_group(input, parameters, groups=num_groups, eps=check_number("eps", eps, least=0))


def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> jax.Array:
    """``torch.nn.functional.layer_norm``: each example normalized over its last axes.

    Args:
        input: [..., *normalized_shape].
        normalized_shape: the sizes of the last axes; an integer for only the last axis.
        weight: the factors, of the shape ``normalized_shape``, or None.
        bias: the offsets, of the shape ``normalized_shape``, or None.
        eps: added to the variance.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if a shape does not match.
    """
    shape = _last_axes(input, normalized_shape, weight=weight, bias=bias)
    eps = check_number("eps", eps, least=0)
    return by_rows(input, (weight, bias), axes=len(shape), eps=eps)


def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
) -> jax.Array:
    """``torch.nn.functional.rms_norm``: x / √(mean(x²) + eps) ⊙ weight over the last axes.

    Args:
        input: [..., *normalized_shape].
        normalized_shape: the sizes of the last axes; an integer for only the last axis.
        weight: the factors, of the shape ``normalized_shape``, or None.
        eps: added to the mean of squares; for None see ``RMSNorm``.

    Returns:
        An array of the shape and dtype of the input.

    Raises:
        InputError: if a shape does not match.
    """
    shape = _last_axes(input, normalized_shape, weight=weight)
    eps = None if eps is None else check_number("eps", eps, least=0)
    return by_root_mean_square(input, weight, axes=len(shape), eps=eps)


def _channels(
    input: ArrayLike, weight: ArrayLike | None, bias: ArrayLike | None, least: int = 2
) -> tuple[ArrayLike | None, ArrayLike | None]:
    """Checks an input [N, ..., C] of at least ``least`` axes, and its weight and bias."""
    check_floats("input", input, ("...", "N", *("L" * (least - 2)), "C"))
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None:
            check_floats(name, parameter, input.shape[-1:])
    return weight, bias


def _running(
    input: ArrayLike, mean: ArrayLike | None, var: ArrayLike | None, *, moved: bool
) -> Any:
    """Checks the running statistics; None if there are none and none are needed."""
    if mean is None and var is None and moved:
        return None
    for name, statistic in (("running_mean", mean), ("running_var", var)):
        check_floats(name, statistic, input.shape[-1:])
        if moved and not isinstance(statistic, nnx.Variable):
            raise InputError(name, "an nnx.Variable to update, or None", describe(statistic))
    return mean, var


def _last_axes(
    input: ArrayLike, normalized_shape: int | Sequence[int], **parameters: ArrayLike | None
) -> tuple[int, ...]:
    given = entries(normalized_shape)
    shape = (normalized_shape,) if given is None else given
    shape = tuple(check_positive("normalized_shape", size) for size in shape)
    if not shape:
        raise InputError("normalized_shape", "at least one axis", "()")
    check_floats("input", input, ("...", *shape))
    for name, parameter in parameters.items():
        if parameter is not None:
            check_floats(name, parameter, shape)
    return shape

"""Windows of a series: the steps up to a moment, and what came after it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_positive, describe, entries, narrowed
from jaxnets.data.dataset import Split
from jaxnets.data.spec import single
from jaxnets.data.standardization import check_finite


def windows(
    series: np.ndarray, length: int, horizon: int = 1, target: int | Sequence[int] | None = None
) -> Split:
    """Splits a series into every window of ``length`` steps and the ``horizon`` steps after it.

    The windows of a part know nothing outside of it. So cut the series in time first, and each
    part into windows then: no step of the one is an input or a label of the other, and what is
    learnt from is older than what is forecast.

    Args:
        series: numbers [T] or [T, features], a step a row, in the order of time.
        length: steps that a forecast is made from.
        horizon: steps to forecast.
        target: the feature to forecast, or several; by default all.

    Returns:
        N = T - length - horizon + 1 examples in the order of time: inputs
        [N, length, features], and labels [N, horizon] of a series [T] or of one target, else
        [N, horizon, targets]; float32.

    Raises:
        InputError: if the series is not of that shape, shorter than a window and its horizon, or
            has a NaN or an infinity; or if a target is no feature.

    Examples:
        >>> series = np.arange(10, dtype=np.float32)
        >>> train, test = windows(series[:6], 3), windows(series[6:], 3)
        >>> train.inputs[:, :, 0]
        array([[0., 1., 2.],
               [1., 2., 3.],
               [2., 3., 4.]], dtype=float32)
        >>> train.labels[:, 0], test.labels[:, 0]
        (array([3., 4., 5.], dtype=float32), array([9.], dtype=float32))
    """
    try:
        series = np.asarray(series)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("series", "numbers [T] or [T, features]", series) from error
    if series.dtype.kind not in "buif" or series.ndim not in (1, 2) or not series.size:
        raise InputError("series", "numbers [T] or [T, features]", describe(series))
    check_finite("series", series)
    values = narrowed("series", series, np.float32).reshape(len(series), -1)
    if target is None:
        labels = values[:, 0] if series.ndim == 1 else values
    else:
        labels = values[:, _features(target, values.shape[1])]
    check_length("length", length, horizon, len(series), "the series")
    return cut(Split(values, labels), length, horizon)


def cut(steps: Split, length: int, horizon: int) -> Split:
    """The windows of a series whose steps are examples.

    Args:
        steps: inputs [T, features] and labels [T, ...], each of one moment; T ≥ length + horizon.
        length: see ``windows``.
        horizon: see ``windows``.

    Returns:
        Inputs [N, length, features] up to a moment, and the labels [N, horizon, ...] after it.
    """
    starts = np.arange(len(steps) - length - horizon + 1)[:, None]
    past, future = starts + np.arange(length), starts + length + np.arange(horizon)
    inputs, labels = (single(f"steps.{n}", getattr(steps, n)) for n in ("inputs", "labels"))
    return Split(inputs[past], labels[future])


def check_length(argument: str, length: int, horizon: int, steps: int, what: str) -> None:
    """Checks that a series has room for a window.

    Args:
        argument: what the message calls the length.
        length: see ``windows``.
        horizon: see ``windows``.
        steps: how many the series has.
        what: what the message calls the series.

    Raises:
        InputError: if length or horizon is no positive integer, or they are longer than the series.
    """
    check_positive(argument, length)
    check_positive("horizon", horizon)
    if horizon >= steps:
        raise InputError("horizon", f"less than the {steps} steps of {what}", horizon)
    if length + horizon > steps:
        expected = f"at most {steps - horizon}, as {what} has {steps} steps and forecasts {horizon}"
        raise InputError(argument, expected, length)


def _features(target: Any, count: int) -> int | list[int]:
    several = entries(target)
    targets = [target] if several is None else list(several)
    for feature in targets:
        integer = isinstance(feature, int | np.integer) and not isinstance(feature, bool)
        if not integer or not -count <= feature < count:
            raise InputError("target", f"a feature from 0 to {count - 1}", target)
    if not targets:
        raise InputError("target", f"a feature from 0 to {count - 1}", target)
    return targets[0] if several is None else targets

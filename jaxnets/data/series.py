"""Windows of a time series: consecutive steps as inputs, and the steps after them as labels."""

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

    To test a forecast, split the series in time first, and each part into windows afterwards. No
    step is then in both parts, and all training steps are earlier than the test steps.

    Args:
        series: numbers [T] or [T, features], one step per row, in the order of time.
        length: number of steps in a window.
        horizon: number of steps to forecast.
        target: the feature to forecast, or several; by default all.

    Returns:
        N = T - length - horizon + 1 examples in the order of time: inputs
        [N, length, features], and labels [N, horizon] for a series [T] or a single target, or else
        [N, horizon, targets]; float32.

    Raises:
        InputError: if the series has another shape, is shorter than a window and its horizon, or
            contains NaN or infinity; or if a target is not a feature.

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
    """Splits a series whose steps are examples into windows.

    Args:
        steps: inputs [T, features] and labels [T, ...] of each step; T ≥ length + horizon.
        length: see ``windows``.
        horizon: see ``windows``.

    Returns:
        Inputs [N, length, features], and the labels [N, horizon, ...] of the steps after them.
    """
    starts = np.arange(len(steps) - length - horizon + 1)[:, None]
    past, future = starts + np.arange(length), starts + length + np.arange(horizon)
    inputs, labels = (single(f"steps.{n}", getattr(steps, n)) for n in ("inputs", "labels"))
    return Split(inputs[past], labels[future])


def check_length(argument: str, length: int, horizon: int, steps: int, what: str) -> None:
    """Checks that a series is long enough for one window and its horizon.

    Args:
        argument: name of the length in error messages.
        length: see ``windows``.
        horizon: see ``windows``.
        steps: number of steps in the series.
        what: name of the series in error messages.

    Raises:
        InputError: if length or horizon is not a positive integer, or together they exceed the
            series.
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

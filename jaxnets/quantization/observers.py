"""Observers of the range of numbers over batches, as in ``torch.ao.quantization``."""

from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_number
from jaxnets.quantization.rounding import affine_scale, largest, symmetric_scale


class MinMaxObserver:
    """Observes the smallest and the largest number of all batches.

    Like ``torch.ao.quantization.MinMaxObserver`` with the scheme ``per_tensor_affine`` and dtype
    ``quint8``: scale = (max - min) / largest integer, zero point = -min / scale, rounded, where min
    is at most 0 and max at least 0.

    Args:
        reduce_range: whether the integers are 0 to 127, PyTorch's default on x86, rather than 0 to
            255.

    Raises:
        InputError: if ``reduce_range`` is not a bool; in a call, if a number is not finite.

    Examples:
        >>> observer = MinMaxObserver(reduce_range=False)
        >>> observer(np.array([-1.0, 0.5, 4.1], np.float32))
        >>> scale, zero_point = observer.calculate_qparams()
        >>> print(round(float(scale), 4), zero_point)
        0.02 50
    """

    def __init__(self, reduce_range: bool = True) -> None:
        self.reduce_range = check_bool("reduce_range", reduce_range)
        self.min_val, self.max_val = np.float32(np.inf), np.float32(-np.inf)

    def __call__(self, x: Any) -> None:
        """Observes a batch of any shape."""
        low, high = _ends(x)
        if low <= high:
            self._move(low, high)

    def _move(self, low: np.float32, high: np.float32) -> None:
        self.min_val, self.max_val = min(self.min_val, low), max(self.max_val, high)

    def calculate_qparams(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scale, float32, and the zero point, int32; 1 and 0 before the first batch."""
        if self.min_val > self.max_val:
            return np.ones((), np.float32), np.zeros((), np.int32)
        return affine_scale(float(self.min_val), float(self.max_val), largest(self.reduce_range))


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Observes moving averages of the smallest and the largest number of each batch.

    Like ``torch.ao.quantization.MovingAverageMinMaxObserver``. The first batch sets min and max;
    then min = min + averaging_constant · (the batch's min - min), and likewise for max.

    Args:
        averaging_constant: the weight of the newest batch.
        reduce_range: see ``MinMaxObserver``.

    Raises:
        InputError: if ``averaging_constant`` is not in [0, 1]; see also ``MinMaxObserver``.
    """

    def __init__(self, averaging_constant: float = 0.01, reduce_range: bool = True) -> None:
        super().__init__(reduce_range)
        self.averaging_constant = check_number(
            "averaging_constant", averaging_constant, least=0, most=1
        )

    def _move(self, low: np.float32, high: np.float32) -> None:
        if self.min_val > self.max_val:
            super()._move(low, high)
            return
        weight = np.float32(self.averaging_constant)
        self.min_val = self.min_val + weight * (low - self.min_val)
        self.max_val = self.max_val + weight * (high - self.max_val)


class PerChannelMinMaxObserver:
    """Observes the largest magnitude of each channel of a weight.

    Like ``torch.ao.quantization.PerChannelMinMaxObserver`` with the scheme
    ``per_channel_symmetric`` and dtype ``qint8``: scale = largest magnitude / 127.5, zero point 0.

    Args:
        ch_axis: the axis of the channels, each of which has a scale.

    Raises:
        InputError: if ``ch_axis`` is not an integer; in a call, if a number is not finite.

    Examples:
        >>> observer = PerChannelMinMaxObserver()
        >>> observer(np.array([[-2.55, 1.0], [0.0, 5.1]], np.float32))
        >>> print(observer.calculate_qparams()[0].round(3))
        [0.02 0.04]
    """

    def __init__(self, ch_axis: int = 0) -> None:
        self.ch_axis = check_integer("ch_axis", ch_axis)
        self.most: np.ndarray | None = None

    def __call__(self, x: Any) -> None:
        """Observes a weight."""
        _ends(x)
        rows = np.moveaxis(np.asarray(x, np.float32), self.ch_axis, 0)
        most = np.abs(rows.reshape(len(rows), -1)).max(axis=1, initial=0)
        self.most = most if self.most is None else np.maximum(self.most, most)

    def calculate_qparams(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scales, float32, and zero points, int32; 1 and 0 before the first weight."""
        if self.most is None:
            return np.ones(1, np.float32), np.zeros(1, np.int32)
        return symmetric_scale(self.most, 8), np.zeros(len(self.most), np.int32)


def _ends(x: Any) -> tuple[np.float32, np.float32]:
    """Returns the smallest and the largest number; inf and -inf for an empty array."""
    numbers = np.asarray(x, np.float32)
    if not np.isfinite(numbers).all():
        raise InputError("x", "finite numbers", "infinities or NaN")
    return numbers.min(initial=np.inf), numbers.max(initial=-np.inf)


#: The observers by their names in commands and records.
OBSERVERS = {"minmax": MinMaxObserver, "moving-average": MovingAverageMinMaxObserver}

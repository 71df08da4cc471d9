"""Standardization of columns to mean 0 and standard deviation 1, and its inverse."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_bool, check_usable, describe
from jaxnets.data.dataset import Dataset, Split, in_memory
from jaxnets.data.spec import single
from jaxnets.data.table_encoding import TableDataset, TableEncoder
from jaxnets.data.transforms.checks import mean_and_std

_SHOWN = 8  # number of columns up to which ``repr`` shows the values


@dataclass(frozen=True, init=False, repr=False)
class Standardizer:
    """(x - mean) / std for each column, and the inverse.

    Args:
        mean: the means, one for each entry of the last axis, or one for all.
        std: the standard deviations, positive; as many as means.

    Raises:
        InputError: if a number is not finite, a standard deviation is not positive, or the numbers
            of means and standard deviations differ.

    Examples:
        >>> scaler = Standardizer.fit(np.array([[1.0, 7.0], [3.0, 7.0]]))
        >>> scaler
        Standardizer(mean=(2.0, 7.0), std=(1.0, 1.0))
        >>> scaler(np.array([[5.0, 7.0]]))
        array([[3., 0.]], dtype=float32)
        >>> scaler.inverse(np.array([[3.0, 0.0]]))
        array([[5., 7.]], dtype=float32)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        for name, values in zip(("mean", "std"), mean_and_std(mean, std), strict=True):
            object.__setattr__(self, name, values)

    def __repr__(self) -> str:
        if len(self.mean) > _SHOWN:
            return f"Standardizer of {len(self.mean)} columns"
        return f"Standardizer(mean={self.mean}, std={self.std})"

    @classmethod
    def fit(cls, array: np.ndarray) -> "Standardizer":
        """Computes the mean and standard deviation (with N, not N - 1) of each column.

        A constant column gets the standard deviation 1, so that it becomes 0 and other values that
        occur later keep their distance from the constant.

        Args:
            array: floats [..., columns].

        Raises:
            InputError: if the array is empty, does not contain floats, or contains NaN or infinity.
        """
        _check_floats("array", array)
        check_finite("array", array)
        rows = array.reshape(-1, array.shape[-1]).astype(np.float64)
        same = rows.min(0) == rows.max(0)
        mean, std = np.where(same, rows[0], rows.mean(0)), np.where(same, 1.0, rows.std(0))
        return cls(mean.tolist(), std.tolist())

    def __call__(self, array: ArrayLike) -> np.ndarray:
        """Standardizes floats [..., columns]; returns float32, computed in float64."""
        return ((self._numbers(array) - self.mean) / self.std).astype(np.float32)

    def inverse(self, array: ArrayLike) -> np.ndarray:
        """Converts standardized values [..., columns] back to their units, float32.

        If there is one column, the last axis may have any length, such as the steps of a forecast.
        """
        return (self._numbers(array) * self.std + self.mean).astype(np.float32)

    def _numbers(self, array: ArrayLike) -> np.ndarray:
        columns = len(self.mean)
        check_usable("array", "numbers [..., columns]", array)
        if array.ndim == 0 or columns not in (1, array.shape[-1]):
            raise InputError("array", f"{columns} columns in the last axis", describe(array))
        return np.asarray(array, np.float64)


@dataclass(frozen=True, eq=False, repr=False)
class StandardizedDataset(Dataset):
    """A ``Dataset`` of standardized numbers, with the scalers that restore their units.

    Args:
        inputs_scaler: the standardizer of the inputs.
        labels_scaler: the standardizer of the labels; its ``inverse`` converts predictions back to
            the labels' units. None if labels are classes or were not standardized.
        encoder: for a table, the encoder of its rows, whose outputs ``inputs_scaler`` takes;
            otherwise None.
    """

    inputs_scaler: Standardizer = field(kw_only=True)
    labels_scaler: Standardizer | None = field(default=None, kw_only=True)
    encoder: TableEncoder | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Checks the data set and the scalers."""
        super().__post_init__()
        if not isinstance(self.inputs_scaler, Standardizer):
            raise InputError("inputs_scaler", "a Standardizer", self.inputs_scaler)
        if self.labels_scaler is not None and not isinstance(self.labels_scaler, Standardizer):
            raise InputError("labels_scaler", "a Standardizer or None", self.labels_scaler)

    def _lines(self) -> list[str]:
        scaled = "inputs" if self.labels_scaler is None else "inputs and labels"
        return [*super()._lines(), f"{scaled} standardized"]


def standardize(dataset: Dataset, *, labels: bool = True) -> StandardizedDataset:
    """Standardizes each column by the mean and standard deviation of the training split.

    Args:
        dataset: a data set whose inputs are floats [N, ..., columns].
        labels: whether to standardize labels too, if they are floats.

    Returns:
        The standardized data with the two fitted scalers.

    Raises:
        InputError: if inputs are not floats, a number is NaN or infinite, or the labels of the
            training split are all equal.
    """
    if not isinstance(dataset, Dataset):
        raise InputError("dataset", "a Dataset", dataset)
    labels = check_bool("labels", labels)
    where = f"{dataset.name} ({dataset.origin})" if dataset.origin else dataset.name
    splits = {name: in_memory(split) for name, split in dataset.splits.items()}
    train = splits["train"]
    _check_floats(f"{where}, inputs", single(f"{where}, inputs", train.inputs))
    scaled = labels and single(f"{where}, labels", train.labels).dtype.kind == "f"
    for name, split in splits.items():
        check_finite(f"{where}, {name} inputs", split.inputs)
        if scaled:
            check_finite(f"{where}, {name} labels", split.labels)
    if scaled and np.ptp(train.labels) == 0:
        expected = "values that differ in the training split"
        raise InputError(f"{where}, labels", expected, f"{train.labels.flat[0]:g} only")
    inputs_scaler = Standardizer.fit(train.inputs)
    labels_scaler = Standardizer.fit(_columns(train.labels)) if scaled else None
    standardized = {
        name: Split(
            inputs_scaler(split.inputs),
            split.labels if labels_scaler is None else _scaled(labels_scaler, split.labels),
        )
        for name, split in splits.items()
    }
    given = {item.name: getattr(dataset, item.name) for item in dataclasses.fields(Dataset)}
    return StandardizedDataset(
        **{**given, **standardized},
        inputs_scaler=inputs_scaler,
        labels_scaler=labels_scaler,
        encoder=dataset.encoder if isinstance(dataset, TableDataset) else None,
    )


def check_finite(argument: str, array: np.ndarray) -> None:
    """Checks that no number is NaN or infinite.

    Args:
        argument: name of the array in the error message.
        array: numbers [rows, ...].

    Raises:
        InputError: if one is; the message names the first such number and its row, from 0.
    """
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place, value = bad[0].tolist(), array[tuple(bad[0])]
        where = f"row {place[0]}" + "".join(f", column {column}" for column in place[1:])
        raise InputError(argument, "finite numbers", f"{value} in {where} (counted from 0)")


def _columns(labels: np.ndarray) -> np.ndarray:
    return labels[:, None] if labels.ndim == 1 else labels


def _scaled(scaler: Standardizer, labels: np.ndarray) -> np.ndarray:
    return scaler(_columns(labels)).reshape(labels.shape)


def _check_floats(argument: str, array: np.ndarray) -> None:
    check_usable(argument, "floats [rows, columns]", array)
    if array.dtype.kind != "f" or array.ndim < 2 or array.size == 0:
        raise InputError(argument, "floats [rows, columns]", describe(array))

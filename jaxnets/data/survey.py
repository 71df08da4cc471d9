"""What is in a split: how many of each class, and how its values lie."""

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.dataset import Split


def class_counts(split: Split, classes: int) -> np.ndarray:
    """How many examples each class has.

    Args:
        split: examples whose labels are class numbers.
        classes: the number of classes.

    Returns:
        Counts, integers [classes].

    Raises:
        InputError: if the labels are not class numbers below ``classes``.
    """
    if split.labels.dtype.kind == "f":
        raise InputError("split", "class numbers for labels", describe(split.labels))
    counts = np.bincount(split.labels.ravel(), minlength=classes)
    if len(counts) > classes:
        raise InputError("split", f"labels below {classes}", int(split.labels.max()))
    return counts


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: what ``Normalize`` takes.

    Pixels, uint8, are scaled to [0, 1] first, as ``ToFloat`` does.

    Args:
        split: examples whose last axis is the channel, or the column of a table.

    Returns:
        The means and the standard deviations, one for each channel.
    """
    values = split.inputs.reshape(-1, split.inputs.shape[-1])
    if values.dtype == np.uint8:  # by how often each value occurs: exact, and needs no copy
        levels = np.arange(256) / 255
        counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T])
        mean = counts @ levels / len(values)
        square = counts @ levels**2 / len(values)
        std = np.sqrt(np.maximum(square - mean**2, 0))
    else:
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return tuple(mean.tolist()), tuple(std.tolist())

"""Statistics of a split: classes, ranges of values, images."""

from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.spec import single

_ALIKE = 0.25  # how far the border of most images may be from the middle of all
_MOST = 0.9
_SAMPLE = 1000  # images that the background of a set is taken from


def border_brightness(images: np.ndarray) -> np.ndarray:
    """How light the border of each image is, a frame of one pixel.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        Means from 0, black, to 1, white, float64 [N].
    """
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return images[:, edge].mean((1, 2)) / 255


def background(images: np.ndarray) -> float | None:
    """How light the background of images is; None if they have no background in common.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        The median of their borders' brightness, if nine of ten are near it.
    """
    borders = border_brightness(images)
    middle = float(np.median(borders))
    alike = np.abs(borders - middle) <= _ALIKE
    return middle if alike.mean() >= _MOST else None


def is_image(spec: Any) -> bool:
    """Whether an example is one image, grey or coloured."""
    return (
        hasattr(spec, "shape")
        and len(spec.shape) == 3
        and spec.shape[2] in (1, 3)
        and spec.dtype == np.uint8
    )


def background_of(data: Dataset) -> float | None:
    """How light the training images are behind what they show, if they are grey and alike."""
    if not is_image(data.spec.inputs) or data.spec.inputs.shape[2] != 1:
        return None
    sample = np.arange(min(_SAMPLE, len(data.train)))
    return background(data.train.gather(sample)[0])


def class_counts(split: Split, classes: int) -> np.ndarray:
    """How many examples each class has.

    Args:
        split: examples whose labels are class numbers.
        classes: the number of classes.

    Returns:
        Counts, integers [classes].

    Raises:
        InputError: if the labels are not one array of class numbers below ``classes``.
    """
    labels = single("split.labels", split.labels)
    if labels.dtype.kind == "f":
        raise InputError("split", "class numbers for labels", describe(labels))
    counts = np.bincount(labels.ravel(), minlength=classes)
    if len(counts) > classes:
        raise InputError("split", f"labels below {classes}", int(labels.max()))
    return counts


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel: what ``Normalize`` takes.

    Pixels, uint8, are scaled to [0, 1] first, as ``ToFloat`` does.

    Args:
        split: examples whose last axis is the channel, or the column of a table.

    Returns:
        The means and the standard deviations, one for each channel.

    Raises:
        InputError: if the inputs are several arrays.
    """
    inputs = single("split.inputs", split.inputs)
    values = inputs.reshape(-1, inputs.shape[-1])
    if values.dtype == np.uint8:  # by how often each value occurs: exact, and needs no copy
        levels = np.arange(256) / 255
        counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T])
        mean = counts @ levels / len(values)
        square = counts @ levels**2 / len(values)
        std = np.sqrt(np.maximum(square - mean**2, 0))
    else:
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return tuple(mean.tolist()), tuple(std.tolist())

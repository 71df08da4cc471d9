"""Statistics of a split: class counts, channel means, the background of images."""

from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.spec import single

_ALIKE = 0.25  # largest distance of a border's brightness from the median
_MOST = 0.9  # fraction of the images that must be within this distance
_SAMPLE = 1000  # number of images from which the background of a data set is computed


def border_brightness(images: np.ndarray) -> np.ndarray:
    """Computes the mean brightness of each image's border, a frame of one pixel.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        Means from 0, black, to 1, white, float64 [N].
    """
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return images[:, edge].mean((1, 2)) / 255


def background(images: np.ndarray) -> float | None:
    """Estimates the common background brightness of images.

    Args:
        images: uint8 [N, H, W, C].

    Returns:
        The median of the borders' brightness, or None unless 90 % of the images are close to it.
    """
    borders = border_brightness(images)
    middle = float(np.median(borders))
    alike = np.abs(borders - middle) <= _ALIKE
    return middle if alike.mean() >= _MOST else None


def is_image(spec: Any) -> bool:
    """Whether an example is one uint8 image, grayscale or RGB."""
    return (
        hasattr(spec, "shape")
        and len(spec.shape) == 3
        and spec.shape[2] in (1, 3)
        and spec.dtype == np.uint8
    )


def background_of(data: Dataset) -> float | None:
    """Estimates the background brightness of grayscale training images, or returns None."""
    if not is_image(data.spec.inputs) or data.spec.inputs.shape[2] != 1:
        return None
    sample = np.arange(min(_SAMPLE, len(data.train)))
    return background(data.train.gather(sample)[0])


def class_counts(split: Split, classes: int) -> np.ndarray:
    """Counts the examples of each class. Negative labels, which are no classes, are not counted.

    Args:
        split: examples whose labels are class numbers, or -1 for none.
        classes: number of classes.

    Returns:
        Counts, integers [classes].

    Raises:
        InputError: if the labels are not one array of class numbers below ``classes``.
    """
    labels = single("split.labels", split.labels)
    if labels.dtype.kind == "f":
        raise InputError("split", "class numbers for labels", describe(labels))
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    if len(counts) > classes:
        raise InputError("split", f"labels below {classes}", int(labels.max()))
    return counts


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Computes mean and standard deviation of each channel, for ``Normalize``.

    Pixels (uint8) are first scaled to [0, 1], as ``ToFloat`` does.

    Args:
        split: examples whose last axis is the channel, or the column of a table.

    Returns:
        The means and the standard deviations, one for each channel.

    Raises:
        InputError: if the inputs are several arrays.
    """
    inputs = single("split.inputs", split.inputs)
    values = inputs.reshape(-1, inputs.shape[-1])
    if values.dtype == np.uint8:  # from counts of the 256 values: exact, without a float copy
        levels = np.arange(256) / 255
        counts = np.stack([np.bincount(channel, minlength=256) for channel in values.T])
        mean = counts @ levels / len(values)
        square = counts @ levels**2 / len(values)
        std = np.sqrt(np.maximum(square - mean**2, 0))
    else:
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return tuple(mean.tolist()), tuple(std.tolist())

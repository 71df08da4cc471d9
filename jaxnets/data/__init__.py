"""Data sets on the host, and the means to feed them to training."""

import difflib
from collections.abc import Callable

from jaxnets.arrays import InputError
from jaxnets.data import idx, mnist, synthetic
from jaxnets.data.batching import Plan, epoch_plan
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.transforms import (
    Affine,
    Augmentation,
    CenterCrop,
    ColorJitter,
    Compose,
    CutMix,
    ImageRows,
    Mixup,
    Normalize,
    OneHot,
    Pad,
    PairTransform,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    RandomTransform,
    Resize,
    Rotate,
    ToFloat,
    Transform,
    augment,
)

__all__ = [
    "DATASETS",
    "Affine",
    "Augmentation",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "Dataset",
    "ImageRows",
    "Mixup",
    "Normalize",
    "OneHot",
    "Pad",
    "PairTransform",
    "Plan",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomHorizontalFlip",
    "RandomRotation",
    "RandomTransform",
    "Resize",
    "Rotate",
    "Split",
    "ToFloat",
    "Transform",
    "augment",
    "epoch_plan",
    "idx",
    "load",
    "mnist",
    "synthetic",
]

#: What loads each data set, by its name.
DATASETS: dict[str, Callable[[], Dataset]] = {
    "linear": synthetic.linear,
    "mnist": mnist.load,
}


def load(name: str) -> Dataset:
    """Loads a data set by its name.

    >>> load("linear").train.inputs.shape
    (1000, 1)

    Args:
        name: one of :data:`DATASETS`.

    Raises:
        InputError: if there is no such data set, or its files are damaged.
    """
    if name not in DATASETS:
        nearest = difflib.get_close_matches(str(name), DATASETS, n=1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise InputError("name", f"one of {', '.join(sorted(DATASETS))}", f"{name!r}{hint}")
    return DATASETS[name]()

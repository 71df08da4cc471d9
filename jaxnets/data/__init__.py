"""Data sets, transforms, and the order of batches."""

from jaxnets.data import cifar, from_tfds, idx, mnist, synthetic, text
from jaxnets.data.batching import Plan, bucketed, epoch_plan
from jaxnets.data.bundled import DATASETS
from jaxnets.data.dataset import Dataset, Draws, ElementSpec, Split
from jaxnets.data.loading import load
from jaxnets.data.series import windows
from jaxnets.data.splitting import hold_out
from jaxnets.data.standardization import StandardizedDataset, Standardizer, standardize
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.table_encoding import TableColumn, TableDataset, TableEncoder
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
    OnColumn,
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
    "Draws",
    "ElementSpec",
    "ImageRows",
    "Mixup",
    "Normalize",
    "OnColumn",
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
    "StandardizedDataset",
    "Standardizer",
    "StreamedSplit",
    "TableColumn",
    "TableDataset",
    "TableEncoder",
    "ToFloat",
    "Transform",
    "augment",
    "bucketed",
    "cifar",
    "epoch_plan",
    "from_tfds",
    "hold_out",
    "idx",
    "load",
    "mnist",
    "standardize",
    "synthetic",
    "text",
    "windows",
]

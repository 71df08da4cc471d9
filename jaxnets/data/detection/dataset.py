"""A data set of images with bounding boxes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_positive, entries, shortened, shown
from jaxnets.data.dataset import AnySplit, Dataset, Split, in_memory
from jaxnets.data.spec import described
from jaxnets.data.transforms.transform import Augmentation, check_transforms


def padded(boxes: Sequence[Any], labels: Sequence[Any], most: int) -> dict[str, np.ndarray]:
    """Pads the objects of each image to the same number, as labels of a ``Split``.

    Args:
        boxes: the boxes of each image, sequences of N, [n, 4] each.
        labels: the class of each box, [n] each.
        most: the number of objects to pad to.

    Returns:
        ``"boxes"``, float32 [images, most, 4], zeros after the last object; ``"labels"``, int32
        [images, most], -1 after the last object.

    Raises:
        InputError: if an image has more than ``most`` objects, or another number of classes than
            boxes.

    Examples:
        >>> padded([[[0, 0, 4, 4]], []], [[7], []], 2)["labels"]
        array([[ 7, -1],
               [-1, -1]], dtype=int32)
    """
    check_positive("most", most)
    if entries(boxes) is None or entries(labels) is None or len(boxes) != len(labels):
        raise InputError("boxes", "the boxes of each image, and equally many labels", shown(boxes))
    made = {
        "boxes": np.zeros((len(boxes), most, 4), np.float32),
        "labels": np.full((len(boxes), most), -1, np.int32),
    }
    for row, (some, numbers) in enumerate(zip(boxes, labels, strict=True)):
        try:
            own = np.asarray(some, np.float32).reshape(len(numbers), 4)
            made["boxes"][row, : len(numbers)] = own
            made["labels"][row, : len(numbers)] = numbers
        except (TypeError, ValueError, OverflowError) as error:
            expected = f"at most {most} boxes [n, 4], and a class for each"
            raise InputError(f"boxes[{row}]", expected, shown(some)) from error
    return made


@dataclass(frozen=True, eq=False, repr=False)
class DetectionDataset(Dataset):
    """A ``Dataset`` of images, uint8 [N, H, W, C], with the boxes of their objects.

    The labels are a dictionary of ``"boxes"``, float32 [N, K, 4], the left, upper, right and lower
    edges in pixels, and ``"labels"``, int32 [N, K]: classes, -1 after an image's last object, and
    -2 - c for a region with objects of class c that are not annotated individually, which is
    ignored in training and evaluation.

    Args:
        scatter: an augmentation that makes training batches from the images; None to train on the
            images themselves.

    Raises:
        InputError: if the labels are not such arrays; see also ``Dataset``.
    """

    scatter: Augmentation | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Checks the labels."""
        if isinstance(self.train, AnySplit):
            self._check_labels(self.spec.labels)
        if self.scatter is not None:
            check_transforms("scatter", (self.scatter,))
        super().__post_init__()

    def _check_labels(self, labels: Any) -> None:
        is_boxes = isinstance(labels, dict) and set(labels) == {"boxes", "labels"}
        if is_boxes:
            boxes, kinds = labels["boxes"], labels["labels"]
            is_boxes = boxes.shape == (*kinds.shape, 4) and len(kinds.shape) == 1
            is_boxes = is_boxes and (boxes.dtype, kinds.dtype) == (np.float32, np.int32)
        if not is_boxes:
            expected = "boxes float32 [N, K, 4] and labels int32 [N, K]"
            raise InputError("labels", expected, described(labels))

    @property
    def num_classes(self) -> int:
        """The number of class names; without names, the largest label + 1."""
        if self.class_names is not None:
            return len(self.class_names)
        return 1 + max(int(kinds(split).max(initial=-1)) for split in self.splits.values())

    def _check_class_names(self, names: tuple[str, ...]) -> None:
        if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
            raise InputError("class_names", "a tuple of strings or None", names)
        largest = max(int(kinds(split).max(initial=-1)) for split in self.splits.values())
        if largest >= len(names):
            expected = f"at least {largest + 1} names, as label {largest} occurs"
            raise InputError("class_names", expected, names)

    def _lines(self) -> list[str]:
        counts = [f"{int((kinds(each) >= 0).sum()):,} in {n}" for n, each in self.splits.items()]
        return [*super()._lines(), f"objects: {', '.join(counts)}"]

    def renumbered(self, names: tuple[str, ...]) -> "DetectionDataset":
        """Returns the data set with the class numbers of other class names.

        Args:
            names: the class names, which include those of this data set.

        Raises:
            InputError: if this data set has a class that is not among them.
        """
        own = self.class_names
        if own is None or not names or own == names:
            return self
        strange = [name for name in own if name not in names]
        if strange:
            expected = f"the classes {shortened(names)}, as in training"
            raise InputError(f"data {self.name}", expected, shortened(tuple(strange)))
        numbers = np.array([names.index(name) for name in own], np.int32)
        splits = {name: _renumbered(split, numbers) for name, split in self.splits.items()}
        return DetectionDataset(
            self.name, splits["train"], splits.get("test"), names, self.origin, scatter=self.scatter
        )


def kinds(split: Any) -> np.ndarray:
    """Returns the labels of the objects in a split, int32 [N, K]."""
    found: np.ndarray = in_memory(split).labels["labels"]
    return found


def _renumbered(split: Any, numbers: np.ndarray) -> Split:
    old = kinds(split)
    found = numbers[np.where(old < -1, -2 - old, np.maximum(old, 0))]
    new = np.where(old == -1, -1, np.where(old < 0, -2 - found, found))
    inputs, labels = in_memory(split).inputs, in_memory(split).labels
    return Split(inputs, {**labels, "labels": new.astype(np.int32)})

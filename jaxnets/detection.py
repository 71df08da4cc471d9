"""Object detection: overlaps of boxes, non-maximum suppression, and mean average precision.

A box is (x1, y1, x2, y2) in pixels, with x to the right and y downwards from the top left corner of
the image: torchvision's format ``"xyxy"``. The boxes of a batch are padded to the same number for
each image; the label -1 marks padding.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    as_host_array,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    check_positive,
    describe,
    entries,
    shown,
)

if TYPE_CHECKING:
    from PIL.Image import Image

#: The thresholds of the intersection over union in the mean average precision.
THRESHOLDS = np.linspace(0.5, 0.95, 10)
#: The areas of objects, in square pixels, of the precision by size.
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
#: The numbers of detections in an image of the recall.
MOST = (1, 10, 100)
_RECALLS = np.linspace(0, 1, 101)


class Detections(NamedTuple):
    """The objects that a detector finds in images, padded to the same number for each image.

    Attributes:
        boxes: floats [images, detections, 4].
        scores: floats [images, detections].
        labels: classes, integers [images, detections]; -1 for padding.
    """

    boxes: Any
    scores: Any
    labels: Any


def box_iou(boxes1: ArrayLike, boxes2: ArrayLike) -> jax.Array:
    """Computes the intersection over union of each pair of boxes.

    Args:
        boxes1: floats [..., N, 4].
        boxes2: floats [..., M, 4].

    Returns:
        Floats [..., N, M]; NaN for two boxes whose area is zero.

    Raises:
        InputError: if an array has another shape or dtype.

    PyTorch: ``torchvision.ops.box_iou``.

    Examples:
        >>> print(box_iou(jnp.array([[0.0, 0, 2, 2]]), jnp.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])))
        [[0.33333334 0.        ]]
    """
    intersection, union, _ = _areas(boxes1, boxes2)
    return intersection / union


def generalized_box_iou(boxes1: ArrayLike, boxes2: ArrayLike) -> jax.Array:
    """Computes the generalized intersection over union of each pair of boxes, from -1 to 1.

    GIoU = IoU - (|C| - |A ∪ B|) / |C|, with C the smallest box around A and B. Unlike IoU,
    it depends on the distance of boxes that do not overlap, so it can be used as a loss
    (Rezatofighi et al., 2019).

    Args:
        boxes1: floats [..., N, 4].
        boxes2: floats [..., M, 4].

    Returns:
        Floats [..., N, M].

    Raises:
        InputError: if an array has another shape or dtype.

    PyTorch: ``torchvision.ops.generalized_box_iou``.
    """
    intersection, union, around = _areas(boxes1, boxes2)
    return intersection / union - (around - union) / around


def _areas(boxes1: ArrayLike, boxes2: ArrayLike) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The areas of intersection, union and the smallest box around each pair, [..., N, M]."""
    first, second = _boxes("boxes1", boxes1), _boxes("boxes2", boxes2)
    a, b = first[..., :, None, :], second[..., None, :, :]
    inner = jnp.minimum(a[..., 2:], b[..., 2:]) - jnp.maximum(a[..., :2], b[..., :2])
    outer = jnp.maximum(a[..., 2:], b[..., 2:]) - jnp.minimum(a[..., :2], b[..., :2])
    intersection = jnp.prod(jnp.maximum(inner, 0), axis=-1)
    area1, area2 = (jnp.prod(each[..., 2:] - each[..., :2], axis=-1) for each in (a, b))
    return intersection, area1 + area2 - intersection, jnp.prod(jnp.maximum(outer, 0), axis=-1)


def _boxes(name: str, boxes: ArrayLike) -> jax.Array:
    array = as_array(name, boxes)
    if array.ndim < 2 or array.shape[-1] != 4 or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(name, "floats [..., N, 4]", describe(array))
    return array


def nms(boxes: Any, scores: Any, iou_threshold: float) -> np.ndarray:
    """Non-maximum suppression: drops each box that overlaps a box with a higher score.

    It runs in NumPy and cannot be compiled, because the number of remaining boxes is not known.

    Args:
        boxes: floats [N, 4].
        scores: floats [N].
        iou_threshold: the intersection over union above which a box is dropped.

    Returns:
        The indices of the boxes that remain, highest score first, int64 [n]. Of equal scores the
        box with the smaller index comes first.

    Raises:
        InputError: if an argument is invalid.

    PyTorch: ``torchvision.ops.nms``.

    Examples:
        >>> nms([[0.0, 0, 4, 4], [0, 0, 4, 5], [6, 6, 9, 9]], [0.8, 0.9, 0.3], 0.5)
        array([1, 2])
    """
    threshold = check_number("iou_threshold", iou_threshold)
    boxes, scores = _scored(boxes, scores)
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1) * (y2 - y1)
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        best, others = left[0], left[1:]
        kept.append(best)
        wide = np.minimum(x2[best], x2[others]) - np.maximum(x1[best], x1[others])
        high = np.minimum(y2[best], y2[others]) - np.maximum(y1[best], y1[others])
        intersection = np.maximum(wide, 0) * np.maximum(high, 0)
        with np.errstate(invalid="ignore"):  # NaN, of two boxes without an area, drops nothing
            overlap = intersection / (areas[best] + areas[others] - intersection)
        left = others[~(overlap.astype(np.float64) > threshold)]
    return np.array(kept, np.int64)


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> np.ndarray:
    """Non-maximum suppression within each class; see ``nms``.

    Args:
        boxes: floats [N, 4].
        scores: floats [N].
        idxs: the class of each box, integers [N].
        iou_threshold: see ``nms``.

    Returns:
        The indices of the boxes that remain, highest score first, int64 [n].

    Raises:
        InputError: if an argument is invalid.

    PyTorch: ``torchvision.ops.batched_nms``.
    """
    boxes, scores = _scored(boxes, scores)
    check_number("iou_threshold", iou_threshold)
    classes = as_host_array("idxs", idxs)
    if classes.shape != scores.shape or classes.dtype.kind not in "ui":
        raise InputError("idxs", f"integers [{len(scores)}]", describe(classes))
    kept = np.zeros(len(scores), bool)
    for each in np.unique(classes):
        own = np.flatnonzero(classes == each)
        kept[own[nms(boxes[own], scores[own], iou_threshold)]] = True
    remaining = np.flatnonzero(kept)
    return remaining[np.argsort(-scores[remaining], kind="stable")]


def _scored(boxes: Any, scores: Any) -> tuple[np.ndarray, np.ndarray]:
    boxes, scores = as_host_array("boxes", boxes), as_host_array("scores", scores)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind != "f":
        raise InputError("boxes", "floats [N, 4]", describe(boxes))
    if scores.shape != boxes.shape[:1] or scores.dtype.kind != "f":
        raise InputError("scores", f"floats [{len(boxes)}]", describe(scores))
    return boxes, scores


@dataclasses.dataclass(frozen=True)
class AveragePrecision:
    """The precision and the recall of a detector, with COCO's definitions.

    Attributes:
        precision: the interpolated precision for each of ``THRESHOLDS``, 101 recalls from 0 to 1,
            each class and each of ``AREAS``, float64 [10, 101, classes, areas], with at most 100
            detections in an image. NaN if no object has that class and area.
        recall: the recall for each of ``THRESHOLDS``, each class, each of ``AREAS`` and each of
            ``MOST`` detections in an image, float64 [10, classes, areas, 3]; NaN likewise.
        support: the number of objects of each class, int64 [classes].
    """

    precision: np.ndarray
    recall: np.ndarray
    support: np.ndarray

    @property
    def scores(self) -> dict[str, float]:
        """COCO's twelve scores, by torchmetrics' names; NaN where COCO has -1.

        ``map`` is the mean average precision over classes and thresholds from 0.50 to 0.95;
        ``map_50`` and ``map_75`` use one threshold; ``map_small``, ``map_medium`` and ``map_large``
        use objects of that size. ``mar_1``, ``mar_10`` and ``mar_100`` are the mean recall with at
        most 1, 10 and 100 detections in an image; ``mar_small``, ``mar_medium`` and ``mar_large``
        use objects of that size.
        """
        found = {"map": _mean(self.precision[..., 0])}
        found |= {"map_50": _mean(self.precision[0, ..., 0])}
        found |= {"map_75": _mean(self.precision[5, ..., 0])}
        sizes = list(enumerate(AREAS))[1 : self.precision.shape[-1]]
        found |= {f"map_{size}": _mean(self.precision[..., k]) for k, size in sizes}
        found |= {f"mar_{most}": _mean(self.recall[..., 0, m]) for m, most in enumerate(MOST)}
        return found | {f"mar_{size}": _mean(self.recall[..., k, -1]) for k, size in sizes}

    def of_classes(self, threshold: float | None = None) -> np.ndarray:
        """Returns the average precision of each class, float64 [classes]; NaN without objects.

        Args:
            threshold: one of ``THRESHOLDS``; None for the mean over all of them.

        Raises:
            InputError: if ``threshold`` is another number.
        """
        values = self.precision[..., 0]
        if threshold is not None:
            near = np.flatnonzero(np.isclose(THRESHOLDS, check_number("threshold", threshold)))
            if not len(near):
                raise InputError("threshold", "0.5, 0.55, … or 0.95", threshold)
            values = values[near]
        return values.mean((0, 1))


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def mean_average_precision(
    detections: Detections,
    boxes: Any,
    labels: Any,
    *,
    areas: Any = None,
    num_classes: int | None = None,
    sizes: bool = True,
) -> AveragePrecision:
    """Measures a detector with COCO's average precision, as pycocotools computes it.

    In the order of their scores, the detections of a class are each matched with the unmatched
    object of the class in their image that they overlap most. Of the 100 detections with the
    highest scores in an image, unmatched ones count as wrong. A crowd (see ``labels``) matches any
    number of detections, which are then not counted.

    Args:
        detections: the detections.
        boxes: the true boxes, floats [images, objects, 4].
        labels: their classes, integers [images, objects]; -1 for padding, and -2 - c for a crowd of
            class c, a region whose objects are not annotated individually.
        areas: the areas that determine the sizes of the objects, floats [images, objects], such as
            those of their masks; None for the areas of the boxes.
        num_classes: the number of classes; None for the largest label + 1.
        sizes: whether to compute scores for small, medium and large objects too.

    Returns:
        Precision and recall; ``AveragePrecision.scores`` has the means.

    Raises:
        InputError: if the shapes of the arrays do not match.

    Examples:
        >>> truth = np.array([[[0.0, 0, 10, 10], [20, 20, 30, 30]]])
        >>> found = Detections(truth + 1.0, np.array([[0.9, 0.8]]), np.array([[0, 1]]))
        >>> measured = mean_average_precision(found, truth, np.array([[0, 1]]))
        >>> round(measured.scores["map"], 3), round(measured.scores["map_50"], 3)
        (0.4, 1.0)
    """
    check_bool("sizes", sizes)
    found, true = _checked(detections, boxes, labels, areas)
    largest = max(int(found.labels.max(initial=-1)), int(true.labels.max(initial=-1)))
    given = max(largest + 1, 1) if num_classes is None else num_classes
    classes = check_positive("num_classes", given)
    ranges = list(AREAS.values())[: None if sizes else 1]
    precision = np.full((len(THRESHOLDS), len(_RECALLS), classes, len(ranges)), np.nan)
    recall = np.full((len(THRESHOLDS), classes, len(ranges), len(MOST)), np.nan)
    for each in range(classes):
        matching = _Matching(_of_class(found, each), _of_class(true, each))
        for number, limits in enumerate(ranges):
            matching.accumulate(limits, precision[:, :, each, number], recall[:, each, number])
    counted = true.labels[~true.crowd & (true.labels < classes)]
    return AveragePrecision(precision, recall, np.bincount(counted, minlength=classes))


class _Flat(NamedTuple):
    """Boxes of all images in one list.

    Attributes:
        image: the number of the image of each box, ascending, integers [N].
        boxes: float64 [N, 4].
        scores: float64 [N]; of true boxes 0.
        labels: classes, integers [N].
        areas: float64 [N].
        crowd: whether a box is a crowd, bool [N].
    """

    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray

    def chosen(self, rows: np.ndarray) -> "_Flat":
        """Returns some of the boxes."""
        return _Flat(*(each[rows] for each in self))


def _checked(detections: Any, boxes: Any, labels: Any, areas: Any) -> tuple[_Flat, _Flat]:
    if not isinstance(detections, tuple) or len(detections) != 3:
        raise InputError("detections", "Detections", detections)
    parts = [as_host_array("detections", part) for part in detections]
    found = _flat("detections", *parts)
    boxes, labels = as_host_array("boxes", boxes), as_host_array("labels", labels)
    scores = np.zeros(labels.shape) if areas is None else as_host_array("areas", areas)
    true = _flat("boxes", boxes, scores, labels)
    if len(parts[0]) != len(boxes):
        raise InputError("boxes", f"{len(parts[0])} images, as detections", len(boxes))
    return found, true if areas is None else true._replace(areas=true.scores)


def _flat(name: str, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> _Flat:
    if boxes.ndim != 3 or boxes.shape[-1] != 4 or boxes.dtype.kind != "f":
        raise InputError(name, "boxes, floats [images, N, 4]", describe(boxes))
    if labels.shape != boxes.shape[:2] or labels.dtype.kind != "i":
        raise InputError(name, f"labels, integers {list(boxes.shape[:2])}", describe(labels))
    if scores.shape != labels.shape or scores.dtype.kind != "f":
        raise InputError(name, f"scores, floats {list(labels.shape)}", describe(scores))
    image, place = np.nonzero(labels != -1)
    wide, given = boxes[image, place].astype(np.float64), labels[image, place].astype(np.int64)
    sides = wide[:, 2:] - wide[:, :2]
    kinds, crowd = np.where(given < 0, -2 - given, given), given < 0
    return _Flat(image, wide, scores[image, place].astype(float), kinds, sides.prod(1), crowd)


def _of_class(boxes: _Flat, label: int) -> _Flat:
    return boxes.chosen(np.flatnonzero(boxes.labels == label))


class _Matching:
    """The detections and the objects of one class, and which of them overlap."""

    def __init__(self, found: _Flat, true: _Flat) -> None:
        found = found.chosen(np.lexsort((-found.scores, found.image)))
        rank = np.arange(len(found.image)) - np.searchsorted(found.image, found.image)
        some = rank < MOST[-1]
        self.found, self.rank, self.true = found.chosen(np.flatnonzero(some)), rank[some], true
        self.images = []  # for each image with objects: its detections, its objects, the overlaps
        for image in np.unique(true.image):
            ours, theirs = (_rows(each.image, image) for each in (self.found, true))
            ious = _crowded_iou(self.found.boxes[ours], true.boxes[theirs], true.crowd[theirs])
            self.images.append((ours, theirs, ious))

    def accumulate(
        self, limits: tuple[float, float], precision: np.ndarray, recall: np.ndarray
    ) -> None:
        """Fills in precision [thresholds, recalls] and recall [thresholds, MOST] of an area."""
        ignored = self.true.crowd | _outside(self.true.areas, limits)
        if ignored.all():
            return
        right = np.zeros((len(THRESHOLDS), len(self.rank)), bool)
        left_out = np.repeat(_outside(self.found.areas, limits)[None], len(THRESHOLDS), 0)
        for ours, theirs, ious in self.images:
            order = np.argsort(ignored[theirs], kind="stable")  # ignored ones last
            crowd, out = self.true.crowd[theirs][order], ignored[theirs][order]
            matched, dropped = _matched(ious[:, order], crowd, out)
            right[:, ours] = matched & ~dropped
            left_out[:, ours] = np.where(matched, dropped, left_out[:, ours])
        positives = np.count_nonzero(~ignored)
        for column, most in enumerate(MOST):
            some = np.flatnonzero(self.rank < most)
            some = some[np.argsort(-self.found.scores[some], kind="stable")]
            hits = np.cumsum(right[:, some], axis=1, dtype=np.float64)
            wrong = np.cumsum(~right[:, some] & ~left_out[:, some], axis=1, dtype=np.float64)
            recall[:, column] = hits[:, -1] / positives if len(some) else 0
        shares = hits / (hits + wrong + np.spacing(1))
        best = np.maximum.accumulate(shares[:, ::-1], axis=1)[:, ::-1]
        best = np.pad(best, ((0, 0), (0, 1)))  # 0 where the recall is not reached
        for row, reached, values in zip(precision, hits / positives, best, strict=True):
            row[:] = values[np.searchsorted(reached, _RECALLS)]


def _rows(images: np.ndarray, image: int) -> slice:
    return slice(*np.searchsorted(images, [image, image + 1]))


def _outside(areas: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (areas < limits[0]) | (areas > limits[1])


def _crowded_iou(found: np.ndarray, true: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """Intersection over union [D, G]; of a crowd the share of the detection that is inside."""
    a, b = found[:, None], true[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.where((sides > 0).all(-1), sides.prod(-1), 0.0)
    area1, area2 = ((each[..., 2:] - each[..., :2]).prod(-1) for each in (a, b))
    whole = np.where(crowd, area1, area1 + area2 - intersection)
    return np.divide(intersection, whole, out=np.zeros_like(whole), where=intersection > 0)


def _matched(
    ious: np.ndarray, crowd: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Matches the detections of an image, best first, with its objects.

    Args:
        ious: overlaps [D, G].
        crowd: which objects match any number of detections, bool [G].
        ignored: which objects do not count, bool [G]; those that count come first.

    Returns:
        For each threshold and detection, whether it matches an object, bool [10, D], and whether
        this object is ignored, bool [10, D].
    """
    matched, dropped = np.zeros((2, len(THRESHOLDS), len(ious)), bool)
    taken = np.zeros((len(THRESHOLDS), len(crowd)), bool)
    for detection in np.flatnonzero(ious.max(axis=1, initial=0) >= THRESHOLDS[0]):
        best = np.minimum(THRESHOLDS, 1 - 1e-10)
        choice = np.full(len(THRESHOLDS), -1)
        for number, overlap in enumerate(ious[detection]):
            # an ignored object is only matched if no other one is
            settled = (choice >= 0) & ~ignored[choice] & ignored[number]
            better = (~taken[:, number] | crowd[number]) & ~settled & (overlap >= best)
            best[better], choice[better] = overlap, number
        some = np.flatnonzero(choice >= 0)
        matched[some, detection] = True
        dropped[some, detection] = ignored[choice[some]]
        taken[some, choice[some]] = True
    return matched, dropped


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Collected:
    """The detections and the objects of a batch, from which a score of all batches is computed.

    A smaller batch is padded to ``rows`` images, so that batches of several sizes can be joined.

    Attributes:
        arrays: boxes [rows, D, 4], scores [rows, D] and labels [rows, D] of the detections, and
            boxes [rows, K, 4] and labels [rows, K] of the objects.
        filled: whether a row is an image, bool [rows].
        score: the name of the score in ``AveragePrecision.scores``.
    """

    arrays: tuple[Any, ...]
    filled: Any
    score: str = dataclasses.field(metadata={"static": True})

    def over(self) -> float:
        """Computes the score over all batches."""
        arrays, filled = jax.tree.map(_joined, (self.arrays, self.filled))
        boxes, scores, labels, *true = (np.asarray(array)[filled] for array in arrays)
        found = Detections(boxes, scores, labels)
        sizes = self.score.endswith(("small", "medium", "large"))
        return mean_average_precision(found, *true, sizes=sizes).scores[self.score]

    def combined(self) -> "_Collected":
        """Joins parts of a batch, arrays [parts, rows, …]."""
        arrays, filled = jax.tree.map(_joined, (self.arrays, self.filled))
        first = jnp.argsort(~filled, stable=True)[: self.filled.shape[1]]
        return _Collected(tuple(array[first] for array in arrays), filled[first], self.score)


def _joined(array: Any) -> Any:
    """Joins the first two axes."""
    return array.reshape(-1, *array.shape[2:])


def collected(score: str, rows: int) -> Callable[[Detections, ArrayLike, ArrayLike], _Collected]:
    """Returns a function whose results are a metric for ``fit``: a score of all test images.

    Args:
        score: a name in ``AveragePrecision.scores``.
        rows: the largest number of images in a batch.

    Returns:
        A function of (detections, boxes, labels), see ``mean_average_precision``.

    Raises:
        InputError: if there is no score of this name.
    """
    sizes = tuple(AREAS)[1:]
    names = ("map", "map_50", "map_75", *(f"map_{size}" for size in sizes))
    names += (*(f"mar_{most}" for most in MOST), *(f"mar_{size}" for size in sizes))
    check_choice("score", score, names)
    check_positive("rows", rows)

    def measure(found: Detections, boxes: ArrayLike, labels: ArrayLike) -> _Collected:
        count = len(found.labels)
        size = max(rows, count)
        filled = jnp.arange(size) < count
        arrays = tuple(
            jnp.pad(array, ((0, size - count), *[(0, 0)] * (array.ndim - 1)))
            for array in map(jnp.asarray, (*found, boxes, labels))
        )
        return _Collected(arrays, filled, score)

    return measure


#: The colors of the boxes, by class.
_COLORS = (
    (230, 60, 50), (40, 160, 80), (60, 120, 240), (240, 160, 20), (150, 80, 220),
    (20, 170, 190), (230, 90, 160), (130, 150, 30), (150, 100, 60), (110, 120, 140),
)  # fmt: skip
_DRAWN = 320  # pixels of the longer side to which small images are enlarged
_FONT = 14  # the smallest size of the text, in pixels


def draw_boxes(
    image: Any, boxes: Any, words: Sequence[str], colors: Sequence[int] | None = None
) -> "Image":
    """Draws boxes with a text at each onto an image, the first box on top.

    Args:
        image: uint8 [H, W, 1 or 3]. A small one is enlarged by a whole number.
        boxes: the boxes in pixels of the image, [N, 4].
        words: the text of each box, N strings.
        colors: a number for each box; boxes with the same number have the same color. None to
            number the different texts.

    Returns:
        A Pillow image.

    Raises:
        InputError: if an argument is invalid.

    PyTorch: ``torchvision.utils.draw_bounding_boxes``.
    """
    from PIL import Image, ImageDraw

    pixels, boxes = as_host_array("image", image), as_host_array("boxes", boxes)
    if boxes.size and (boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "iuf"):
        raise InputError("boxes", "numbers [N, 4]", describe(boxes))
    boxes = boxes.astype(np.float64).reshape(-1, 4)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise InputError("image", "uint8 [H, W, 1 or 3]", describe(pixels))
    texts = entries(words)
    if texts is None or len(texts) != len(boxes) or not all(isinstance(w, str) for w in texts):
        raise InputError("words", f"{len(boxes)} strings, one for each box", shown(words))
    numbers = range(len(texts)) if colors is None else entries(colors)
    if colors is None:
        numbers = np.unique(np.array([*texts, ""]), return_inverse=True)[1].tolist()
    if numbers is None or len(numbers) < len(boxes):
        raise InputError("colors", f"{len(boxes)} integers, one for each box", shown(colors))
    scale = max(1, _DRAWN // max(pixels.shape[:2]))
    rgb = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    size = (scale * pixels.shape[1], scale * pixels.shape[0])
    sheet = Image.fromarray(rgb).resize(size, Image.Resampling.NEAREST)
    pen, font = ImageDraw.Draw(sheet), max(_FONT, max(size) // 50)
    for box, text, number in reversed(list(zip(scale * boxes, texts, numbers, strict=False))):
        color = _COLORS[check_integer("colors", number) % len(_COLORS)]
        corners = np.clip(np.round(box), 0, np.array([*size, *size]) - 1).reshape(2, 2)
        (x1, y1), (x2, y2) = corners.min(0).tolist(), corners.max(0).tolist()
        pen.rectangle((x1, y1, x2, y2), outline=color, width=2)
        left, top, right, bottom = pen.textbbox((0, 0), text, font_size=font)
        wide, high = right - left + 4, bottom - top + 4
        x = max(0, min(x1, size[0] - wide))
        y = y1 - high if y1 >= high else min(y2, size[1] - high)  # above the box, or below it
        pen.rectangle((x, y, x + wide, y + high), fill=color)
        pen.text((x + 2 - left, y + 2 - top), text, fill=(255, 255, 255), font_size=font)
    return sheet

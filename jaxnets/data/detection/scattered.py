"""A data set for object detection: images generated from several digits of MNIST."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import InputError, check_number, check_positive, describe
from jaxnets.data import mnist
from jaxnets.data.dataset import Split, in_memory
from jaxnets.data.source import Source, held
from jaxnets.data.transforms.checks import check_key
from jaxnets.data.transforms.transform import PairTransform

#: The side of a canvas and of a tile, one of the squares of a sheet, in pixels.
CANVAS, TILE = 64, 32
_MOST = 5  # digits of a canvas
_INK = 64  # the smallest value of a pixel that belongs to a digit
_TESTED = 1000  # canvases of the test split
_TRIES = 20  # positions from which that of a digit is chosen
_NUMBERS = 2 + 2 * _TRIES  # random numbers for a digit


@dataclass(frozen=True)
class ScatterDigits(PairTransform):
    """Generates images with several digits (canvases) from images of tiles (sheets).

    This is an augmentation for training. A sheet consists of square tiles of 32 pixels with one
    object each. A canvas contains one to ``most`` objects from any sheets of the batch, in random
    sizes. For each object, 20 random positions are drawn, and the one with the smallest overlap
    with the previous objects is used. Each step generates new canvases from its key.

    Args:
        most: the largest number of objects on a canvas.
        smallest: the smallest factor by which an object is scaled.
        largest: the largest factor.

    Raises:
        InputError: if an argument is invalid; on a call, if the inputs are not square sheets.

    Examples:
        >>> from jaxnets.data import load
        >>> sheets = load("scattered-digits").train.take(8)
        >>> canvases, labels = ScatterDigits()(sheets.inputs, sheets.labels, jax.random.key(0))
        >>> canvases.shape, labels["boxes"].shape, labels["labels"].shape
        ((8, 64, 64, 1), (8, 5, 4), (8, 5))
    """

    most: int = _MOST
    smallest: float = 0.6
    largest: float = 1.4

    def __post_init__(self) -> None:
        """Checks the arguments."""
        check_positive("most", self.most)
        check_number("smallest", self.smallest, above=0)
        check_number("largest", self.largest, least=self.smallest, most=2)

    def __call__(self, x: Any, labels: Any, key: jax.Array) -> tuple[Any, Any]:
        """Makes as many canvases as there are sheets.

        Args:
            x: sheets, uint8 [B, S, S, 1], S a multiple of 32.
            labels: ``"boxes"`` [B, K, 4] and ``"labels"`` [B, K] of the sheets: one object for each
                tile, in the order of the rows, then padding; K at least ``most``.
            key: the random key.

        Returns:
            Canvases, uint8 [B, S, S, 1], and the labels of the same shapes.
        """
        x = jnp.asarray(x)
        if x.ndim != 4 or x.shape[1] != x.shape[2] or x.shape[1] % TILE or x.shape[3] != 1:
            raise InputError("x", f"sheets [B, S, S, 1], S a multiple of {TILE}", describe(x))
        tiles = _tiles(x, jnp)
        count, slots = (x.shape[1] // TILE) ** 2, labels["labels"].shape[1]
        if slots < max(count, self.most):
            raise InputError("labels", f"{max(count, self.most)} objects of each sheet", slots)
        corners = jnp.tile(_corners(x.shape[1]), (len(x), 1))
        boxes = labels["boxes"][:, :count].reshape(-1, 4) - corners
        numbers = jax.random.uniform(check_key(key), (len(x), 1 + self.most * _NUMBERS))
        kinds = labels["labels"][:, :count].reshape(-1)
        made = self.canvases((tiles, boxes, kinds), numbers, x.shape[1], jnp)
        spare = slots - self.most
        boxes = jnp.pad(made[1], ((0, 0), (0, spare), (0, 0)))
        kinds = jnp.pad(made[2], ((0, 0), (0, spare)), constant_values=-1)
        return made[0].astype(x.dtype), {"boxes": boxes, "labels": kinds}

    def canvases(
        self, objects: tuple[Any, Any, Any], numbers: Any, side: int, xp: ModuleType
    ) -> tuple[Any, Any, Any]:
        """Makes canvases from random numbers, in NumPy or JAX.

        Args:
            objects: tiles [M, 32, 32], boxes in them [M, 4], and classes [M].
            numbers: random numbers from [0, 1), [B, 1 + most * 42].
            side: of a canvas, in pixels.
            xp: ``numpy`` or ``jax.numpy``.

        Returns:
            Canvases, integers [B, side, side, 1] from 0 to 255, boxes [B, most, 4], and classes
            [B, most].
        """
        tiles, boxes, kinds = objects
        count = 1 + xp.floor(numbers[:, :1] * self.most).astype(xp.int32)  # [B, 1]
        drawn = numbers[:, 1:].reshape(len(numbers), self.most, _NUMBERS)
        real = xp.arange(self.most)[None] < count
        chosen = xp.floor(drawn[:, :, 0] * len(tiles)).astype(xp.int32)
        scale = self.smallest * (self.largest / self.smallest) ** drawn[:, :, 1]
        inner = boxes[chosen]
        size = (inner[..., 2:] - inner[..., :2]) * scale[..., None]
        spots = drawn[:, :, 2:].reshape(*chosen.shape, _TRIES, 2)
        spots = spots * (side - size[:, :, None])
        placed: list[Any] = []
        for number in range(self.most):
            spot = _freest(spots[:, number], size[:, number], placed, xp)
            placed.append(xp.concatenate([spot, spot + size[:, number]], -1))
        where = xp.stack(placed, 1)  # [B, most, 4]
        down = _weights(where[..., 1], inner[..., 1], scale, side, xp)
        across = _weights(where[..., 0], inner[..., 0], scale, side, xp)
        ink = down @ tiles[chosen].astype(xp.float32) @ xp.swapaxes(across, -1, -2)
        canvas = xp.max(xp.where(real[..., None, None], ink, 0), 1)
        pixels = xp.clip(xp.round(canvas), 0, 255).astype(xp.int32)[..., None]
        where = xp.where(real[..., None], where, 0).astype(xp.float32)
        return pixels, where, xp.where(real, kinds[chosen], -1).astype(xp.int32)


def _freest(spots: Any, size: Any, placed: list[Any], xp: ModuleType) -> Any:
    """Returns the one of several positions [B, tries, 2] with the smallest overlap."""
    ends = spots + size[:, None]
    covered = xp.zeros(spots.shape[:2])
    for box in placed:
        shared = xp.minimum(ends, box[:, None, 2:]) - xp.maximum(spots, box[:, None, :2])
        covered = covered + xp.prod(xp.maximum(shared, 0), -1)
    best = xp.argmin(covered, 1)
    return xp.take_along_axis(spots, best[:, None, None], 1)[:, 0]


def _weights(start: Any, inner: Any, scale: Any, side: int, xp: ModuleType) -> Any:
    """Returns the weight of each pixel of a tile for each pixel of the canvas, [..., side, 32].

    A tile is scaled by linear interpolation, such that the position ``inner`` in it is mapped to
    ``start``. If the tile shrinks, more pixels are averaged.
    """
    pixel = xp.arange(side, dtype=xp.float32)[None, None] + 0.5
    source = (pixel - start[..., None]) / scale[..., None] + inner[..., None] - 0.5
    reach = xp.maximum(1, 1 / scale)[..., None, None]
    distance = (
        xp.abs(source[..., None] - xp.arange(TILE, dtype=xp.float32)[None, None, None]) / reach
    )
    return (xp.maximum(0, 1 - distance) / reach).astype(xp.float32)


def _tiles(sheets: Any, xp: ModuleType) -> Any:
    """Divides sheets [B, S, S, 1] into tiles [B * (S / 32)², 32, 32]."""
    count = sheets.shape[1] // TILE
    tiles = sheets.reshape(len(sheets), count, TILE, count, TILE)
    return xp.swapaxes(tiles, 2, 3).reshape(-1, TILE, TILE)


def _corners(side: int) -> np.ndarray:
    """The upper left corner of each tile of a sheet, twice, float32 [tiles, 4]."""
    steps = np.arange(0, side, TILE, dtype=np.float32)
    rows, columns = np.meshgrid(steps, steps, indexing="ij")
    return np.stack([columns, rows, columns, rows], -1).reshape(-1, 4)


def load() -> Source:
    """Makes the data set of scattered digits: sheets to train on, and canvases for testing.

    Returns:
        15,000 sheets with four digits of MNIST each, from which ``ScatterDigits`` generates
        canvases in each training step, and 1,000 canvases with digits of MNIST's test split, which
        are always the same. Images are uint8 [N, 64, 64, 1]; boxes are the smallest ones that
        contain all pixels of a digit with a value of at least 64.
    """
    digits = mnist.load()
    train = _sheets(*_objects(in_memory(digits.train)))
    test = _objects(in_memory(digits.test))
    scatter = ScatterDigits()
    random = np.random.Generator(np.random.Philox(key=6))
    numbers = random.random((_TESTED, 1 + _MOST * _NUMBERS))
    pixels, boxes, kinds = scatter.canvases(test, numbers, CANVAS, np)
    judge = Split(pixels.astype(np.uint8), {"boxes": boxes, "labels": kinds})
    parts = {"train": held(train), "test": held(judge)}
    return Source("digits of MNIST", parts, digits.class_names, scatter=scatter, boxes=True)


def _objects(digits: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The digits as tiles [N, 32, 32], the boxes of their ink [N, 4], and their classes [N]."""
    edge = (TILE - digits.inputs.shape[1]) // 2
    tiles = np.pad(digits.inputs[..., 0], ((0, 0), (edge, edge), (edge, edge)))
    ends = []
    for axis in (1, 2):  # over the rows, for the columns, first
        inked = tiles.max(axis) >= _INK
        ends += [inked.argmax(1), TILE - inked[:, ::-1].argmax(1)]
    boxes = np.stack([ends[0], ends[2], ends[1], ends[3]], -1).astype(np.float32)
    return tiles, boxes, digits.labels


def _sheets(tiles: np.ndarray, boxes: np.ndarray, kinds: np.ndarray) -> Split:
    count = CANVAS // TILE
    sheets = tiles.reshape(-1, count, count, TILE, TILE).swapaxes(2, 3)
    slots = ((0, 0), (0, _MOST - count**2))
    placed = boxes.reshape(-1, count**2, 4) + _corners(CANVAS)
    labels = {
        "boxes": np.pad(placed, (*slots, (0, 0))),
        "labels": np.pad(kinds.reshape(-1, count**2), slots, constant_values=-1),
    }
    return Split(np.ascontiguousarray(sheets.reshape(-1, CANVAS, CANVAS, 1)), labels)

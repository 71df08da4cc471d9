"""Draws ``docs/images/augmentation.png``: MNIST digits before and after each augmentation.

    python scripts/draw_augmentation.py [FILE]

The digits have two colors, so that changes of the colors are visible.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxnets.data import (
    Augmentation,
    ColorJitter,
    CutMix,
    Mixup,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomRotation,
    augment,
    mnist,
)

GROUND, INK = (32, 60, 100), (250, 190, 70)
ROWS: dict[str, Augmentation | None] = {
    "as they are": None,
    "RandomCrop(28, padding=4)": RandomCrop(28, padding=4),
    "RandomHorizontalFlip()": RandomHorizontalFlip(),
    'RandomRotation(30, "bilinear")': RandomRotation(30, "bilinear"),
    'RandomAffine(15, (.1, .1), (.7, 1.3), 15, "bilinear")': RandomAffine(
        15, (0.1, 0.1), (0.7, 1.3), 15, "bilinear"
    ),
    "ColorJitter(0.5, 0.5, 0.5, 0.2)": ColorJitter(0.5, 0.5, 0.5, 0.2),
    "RandomErasing(1, value=0.5)": RandomErasing(1, value=0.5),
    "Mixup(1.0, 10)": Mixup(1.0, 10),
    "CutMix(1.0, 10)": CutMix(1.0, 10),
}


def painted(digits: np.ndarray) -> np.ndarray:
    """Converts uint8 digits [B, 28, 28, 1] to two colors, floats [B, 28, 28, 3] from 0 to 1."""
    share = digits.astype(np.float32) / 255
    return (share * np.array(INK) + (1 - share) * np.array(GROUND)).astype(np.float32) / 255


def main(path: Path) -> None:
    """Draws the picture."""
    from matplotlib.figure import Figure

    train = mnist.load().train.take(12)
    images = painted(train.inputs)
    figure = Figure(figsize=(9, 5), layout="constrained")
    grid = figure.subplots(len(ROWS), 1)
    for axes, (name, transform) in zip(grid, ROWS.items(), strict=True):
        row = images
        if transform is not None:
            row, _ = jax.jit(lambda x, y, key, t=transform: augment(t, x, y, key))(
                row, train.labels, jax.random.key(5)
            )
        row = np.pad(np.asarray(row), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0)
        axes.imshow(np.concatenate(row, axis=1))
        axes.set_axis_off()
        axes.text(-6, 15, name, ha="right", va="center", fontsize=8, family="monospace")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, bbox_inches="tight")


if __name__ == "__main__":
    here = Path(__file__).parent.parent
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else here / "docs" / "images" / "augmentation.png")

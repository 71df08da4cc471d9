"""Draws ``docs/images/detection.png``: what a trained detector finds on test images.

    jaxnets train digits-detector --out runs/detector
    python scripts/draw_detection.py runs/detector [FILE.png]

The first row has the heat map of the most likely class at each place, the second row the objects.
"""

import sys
from pathlib import Path

import jax
import numpy as np

import jaxnets
from jaxnets.detection import draw_boxes, nms
from jaxnets.models.center_net import detections
from jaxnets.reports import data_of

SHOWN = (0, 7, 11, 17, 22)  # numbers of test images
LEAST = 0.3


def main(folder: Path, path: Path) -> None:
    """Draws the picture."""
    from matplotlib.figure import Figure

    run = jaxnets.load(folder)
    images = data_of(run).test.inputs[list(SHOWN)]
    outputs, classes = run.predict(images), run.class_names or ()
    found = [np.asarray(part) for part in detections(outputs)]
    heat = np.asarray(jax.nn.sigmoid(outputs[..., :-4])).max(-1)
    figure = Figure(figsize=(2.2 * len(SHOWN), 4.6), layout="constrained")
    for column, (image, places, boxes, scores, labels) in enumerate(
        zip(images, heat, *found, strict=True)
    ):
        sure = np.flatnonzero(scores >= LEAST)
        sure = sure[nms(boxes[sure], scores[sure], 0.7)]
        names = [f"{classes[k]} {s:.2f}" for k, s in zip(labels[sure], scores[sure], strict=True)]
        drawn = draw_boxes(image, boxes[sure], names, labels[sure].tolist())
        top, bottom = (
            figure.add_subplot(2, len(SHOWN), row * len(SHOWN) + column + 1) for row in (0, 1)
        )
        top.imshow(places, cmap="magma", vmin=0, vmax=1)
        bottom.imshow(np.asarray(drawn))
        for axes in (top, bottom):
            axes.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    default = Path(__file__).parent.parent / "docs" / "images" / "detection.png"
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else default)

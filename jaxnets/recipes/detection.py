"""Recipes for object detection."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.data import Compose, Dataset, DetectionDataset
from jaxnets.detection import collected
from jaxnets.models.center_net import detection_loss, detections
from jaxnets.recipes.inputs import build_augmentation
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.recipes.tested import tested
from jaxnets.training import minimize
from jaxnets.training.evaluation import EVALUATION_BATCH

#: The augmentations that do not move objects.
_IN_PLACE = ("none", "jitter")
#: The weight of the sizes in the loss: objects here are a few places wide, in the paper dozens.
SIZE_WEIGHT = 0.3


@dataclasses.dataclass(frozen=True)
class OfDetections:
    """A metric of the outputs of a detector and the boxes of the test examples.

    Attributes:
        score: the name of a score in ``AveragePrecision.scores``.
    """

    score: str

    def __call__(self, outputs: Any, labels: Any) -> Any:
        """The detections of a batch, of which the score is computed."""
        measure = collected(self.score, EVALUATION_BATCH)
        return measure(detections(outputs), labels["boxes"], labels["labels"])


def _detection(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    metrics = {score: OfDetections(score) for score in ("map", "map_50")}
    loss = functools.partial(detection_loss, size_weight=SIZE_WEIGHT)
    own = {"loss": loss, "metrics": metrics}
    return minimize(tested({**objective, **own}), **update)


def of_boxes(data: Dataset) -> DetectionDataset:
    """Checks that data are images with boxes.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(data, DetectionDataset):
        expected = "images with boxes, such as scattered-digits or a folder in YOLO's layout"
        raise InputError("data", expected, data.name)
    return data


def _settings(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """The augmentation that makes generated training examples, and the recipe's after it."""
    scatter = of_boxes(data).scatter
    names = (recipe.augment,) if isinstance(recipe.augment, str) else recipe.augment or ()
    moving = [name for name in names if name not in _IN_PLACE]
    if moving:
        expected = f"{' or '.join(_IN_PLACE)}, as others move objects but not their boxes"
        raise InputError("augment", expected, moving[0])
    if scatter is None:
        return {}
    given = build_augmentation(recipe, data)
    return {"augment": scatter if given is None else Compose(scatter, given)}


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {"detection": Objective(_detection, settings=_settings)}

RECIPES = (
    Recipe(
        name="digits-detector",
        document=(
            "Zhou et al. (2019): CenterNet, here small, on canvases of 64×64 pixels with one to "
            "five digits of MNIST, which are drawn anew in each training step"
        ),
        expect=(
            "mAP@[.50:.95] 81.6 to 82.0 %, mAP@.50 98.1 to 98.5 % for 3 seeds (PyTorch 81.7 and "
            "98.4 %), in about 4 minutes of CPU time"
        ),
        data="scattered-digits",
        model="center-net",
        model_options={"width": 24},
        objective="detection",
        score="map",
        optimizer="adam",
        optimizer_options={"lr": 0.003},
        scheduler="onecycle",
        epochs=8,
    ),
)

"""The results of an evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.detection import AveragePrecision
from jaxnets.scores import Calibration, ClassScores, RegressionScores


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        index: the number of the example in the split.
        label: the true class.
        predicted: the predicted class.
        probability: the probability of the predicted class.
        of_label: the probability of the true class.
        text: the example as text; None if it has no text.
        image: the example if it is an image, uint8 [H, W, 1 or 3]; otherwise None.
    """

    index: int
    label: str
    predicted: str
    probability: float
    of_label: float
    text: str | None = None
    image: np.ndarray | None = None


@dataclass(frozen=True)
class Classification:
    """The results of a classifier.

    Attributes:
        class_names: the name of each class, or its number.
        confusion: int64 [C, C]: counts by true class (rows) and predicted class (columns).
        classes: precision, recall and F1 of each class.
        calibration: the calibration of the probabilities.
        mistakes: the wrong predictions with the highest probability, highest first.
        predictions: the number of predictions: one for each example, or for each position.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    classes: ClassScores
    calibration: Calibration
    mistakes: tuple[Mistake, ...]
    predictions: int

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """Returns the most frequent confusions as (true class, predicted class, count).

        Args:
            most: the largest number of confusions.
        """
        counts = self.confusion * ~np.eye(len(self.confusion), dtype=bool)
        often = np.argsort(-counts, axis=None, kind="stable")[:most]
        pairs = zip(*np.unravel_index(often, counts.shape), strict=True)
        names = self.class_names
        return [(names[i], names[j], int(counts[i, j])) for i, j in pairs if counts[i, j]]


@dataclass(frozen=True)
class Regression:
    """The results of a regression.

    Attributes:
        names: the names of the predicted columns.
        predicted: the predicted values in the data's units, float64 [N, columns].
        true: the true values in the data's units, float64 [N, columns].
        scores: the scores of each column.
        texts: the examples with the largest errors, as text or None, by their numbers.
    """

    names: tuple[str, ...]
    predicted: np.ndarray
    true: np.ndarray
    scores: RegressionScores
    texts: Mapping[int, str | None]

    @property
    def residuals(self) -> np.ndarray:
        """The predicted minus the true values, float64 [N, columns]."""
        return self.predicted - self.true


@dataclass(frozen=True)
class Detection:
    """The results of a detector.

    Attributes:
        class_names: the name of each class.
        measured: precision and recall of each class.
    """

    class_names: tuple[str, ...]
    measured: AveragePrecision

    def rows(self) -> list[tuple[str, float, float, float, float, int]]:
        """Returns for each class its name, AP, AP50, AP75, the recall, and the number of objects.

        The recall is the mean over the thresholds, with at most 100 detections in an image.
        """
        found = self.measured
        recall = found.recall[:, :, 0, -1].mean(0)
        columns = (found.of_classes(), found.of_classes(0.5), found.of_classes(0.75), recall)
        values = zip(*(column.tolist() for column in columns), found.support.tolist(), strict=True)
        return [(name, *row) for name, row in zip(self.class_names, values, strict=True)]

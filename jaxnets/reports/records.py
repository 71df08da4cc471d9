"""What an evaluation finds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxnets.scores import Calibration, ClassScores, RegressionScores


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction.

    Attributes:
        index: its number in the split.
        label: its class.
        predicted: the predicted class.
        probability: of that class.
        of_label: the probability of its own.
        text: what the example is, in words; None if there are no words for it.
        image: the example, if it is an image, uint8 [H, W, 1 or 3].
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
    """How well a network tells classes apart.

    Attributes:
        class_names: the name of each class, or its number.
        confusion: int64 [C, C]: counts by true class (rows) and predicted class (columns).
        classes: precision, recall and F1 of each class.
        calibration: whether predictions are right as often as they say.
        mistakes: the wrong predictions with the highest probability, that first.
        predictions: their number: one an example, or one for each position of it.
    """

    class_names: tuple[str, ...]
    confusion: np.ndarray
    classes: ClassScores
    calibration: Calibration
    mistakes: tuple[Mistake, ...]
    predictions: int

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """The most frequent confusions: true class, predicted class, count."""
        counts = self.confusion * ~np.eye(len(self.confusion), dtype=bool)
        often = np.argsort(-counts, axis=None, kind="stable")[:most]
        pairs = zip(*np.unravel_index(often, counts.shape), strict=True)
        names = self.class_names
        return [(names[i], names[j], int(counts[i, j])) for i, j in pairs if counts[i, j]]


@dataclass(frozen=True)
class Regression:
    """How far a network's values are from the true ones.

    Attributes:
        names: of the columns that are predicted.
        predicted: in the data's units, float64 [N, columns].
        true: likewise.
        scores: of each column.
        texts: what the examples with the largest errors are, in words, by their numbers.
    """

    names: tuple[str, ...]
    predicted: np.ndarray
    true: np.ndarray
    scores: RegressionScores
    texts: Mapping[int, str | None]

    @property
    def residuals(self) -> np.ndarray:
        """Predicted less true."""
        return self.predicted - self.true

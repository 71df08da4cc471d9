"""A trained model with the contents of its run directory."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, shortened
from jaxnets.changes import Change
from jaxnets.data import AudioFormat, RatingsEncoder, Standardizer, TableEncoder, Transform
from jaxnets.data.spec import described
from jaxnets.data.text import TextEncoder
from jaxnets.export.program import Program
from jaxnets.losses import LOSSES
from jaxnets.recipes import Recipe
from jaxnets.training import EpochRecord, count_parameters, plot_history, predict, predictor
from jaxnets.training.labels import Loss
from jaxnets.training.probabilities import class_probabilities, kind_of, stated_kind
from jaxnets.training.progress import describe as describe_epoch


@dataclass(frozen=True, repr=False)
class SavedRun:
    """A trained model with the contents of its run directory.

    Attributes:
        recipe: the recipe that was trained; None for a run that ``TrainingRun.save`` wrote.
        model: the trained model, in evaluation mode.
        classifies: whether the model is a classifier.
        class_names: the name of each class, or None.
        inputs: the shape and dtype of one example, or a tuple or dictionary of them; None if the
            record has no such entry.
        encoder: converts texts to the network's input; None if the network takes no text.
        labels_scaler: its ``inverse`` converts outputs to the labels' units; None if the labels
            were not standardized.
        background: the brightness of the borders of grey training images, from 0 (black) to 1
            (white); None if the borders differ, or the record has no such entry.
        table: converts rows of a table to numbers, which ``inputs_scaler`` then standardizes; None
            if the run was not trained on a table.
        inputs_scaler: standardizes inputs; None if the inputs were not standardized.
        transform: the transform that is applied to inputs before the model, or None.
        history: one record for each epoch.
        restored: the best epoch, if ``model`` has the weights of that epoch instead of the last
            ones; otherwise None.
        changes: the changes to the network after training, in order.
        audio: converts a WAV file to the network's input; None if the network takes none.
        ratings: the ids of users and items; None if the run was not trained on ratings.
    """

    recipe: Recipe | None
    model: nnx.Module
    classifies: bool
    class_names: tuple[str, ...] | None
    inputs: Any
    encoder: TextEncoder | None
    labels_scaler: Standardizer | None = None
    background: float | None = None
    table: TableEncoder | None = None
    inputs_scaler: Standardizer | None = None
    transform: Transform | None = None
    history: tuple[EpochRecord, ...] = ()
    restored: int | None = None
    changes: tuple[Change, ...] = ()
    audio: AudioFormat | None = None
    ratings: RatingsEncoder | None = None

    def __repr__(self) -> str:
        size = count_parameters(self.model)
        lines = [f"SavedRun of {type(self.model).__name__}, {size:,} parameters"]
        if self.recipe is not None:
            lines.append(f"recipe {self.recipe.name}")
        if self.inputs is not None:
            lines.append(f"inputs {described(self.inputs)}")
        if self.class_names is not None:
            lines.append(f"{len(self.class_names)} classes: {shortened(self.class_names)}")
        if self.history:
            count = len(self.history)
            lines.append(describe_epoch(self.history[(self.restored or count) - 1], count))
        return "\n  ".join(lines)

    def predict(self, inputs: np.ndarray | jax.Array | Sequence[str]) -> Any:
        """Computes the model's outputs for examples in the format of the data set.

        Args:
            inputs: examples [examples, …], to which ``transform`` is applied; strings, if the
                network takes text; or a list of rows, if the run was trained on a table.

        Returns:
            Outputs [examples, …], NumPy arrays in the structure that the model returns.

        Raises:
            InputError: if there is no example, or an example does not fit the model.
        """
        return predict(self.model, self._numbers(inputs), transform=self.transform)

    @property
    def output_kind(self) -> str:
        """The kind of the outputs: ``"logits"``, ``"probabilities"`` or ``"values"``.

        Classifiers return logits or probabilities, regression models return values.
        """
        if not self.classifies:
            return "values"
        return stated_kind(self.model, self._loss) or "logits"

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Converts the outputs of a classifier to the probability of each class.

        Outputs of a custom network that add up to 1 count as probabilities already.

        Args:
            outputs: [..., classes], or [..., 1] for a single output for two classes.

        Returns:
            Probabilities [..., classes].
        """
        kind = kind_of(outputs, self.model, self._loss, alone="logits")
        return class_probabilities(outputs, kind)

    def program(self, batch: int | None = None) -> Program:
        """Returns the network with its transforms and scalers for export; see ``jaxnets.export``.

        Args:
            batch: the batch size of the exported network; None for any.

        Raises:
            InputError: if the record does not have the shape of an example.
        """
        if self.inputs is None:
            raise InputError("run", "a record with the shape of an example", "a record without it")
        about = {
            "recipe": None if self.recipe is None else self.recipe.name,
            "gives": self.output_kind,
            "classes": None if self.class_names is None else list(self.class_names),
            "background": self.background,
            "text": None if self.encoder is None else dataclasses.asdict(self.encoder),
            "table": None if self.table is None else self.table.to_json(),
        }
        return Program(
            self.model,
            self.inputs,
            transform=self.transform,
            inputs_scaler=self.inputs_scaler,
            labels_scaler=self.labels_scaler,
            about=about,
            batch=batch,
        )

    def predictor(self) -> Callable[[np.ndarray | jax.Array], Any]:
        """Returns the model and its transform as a compiled function; see ``jaxnets.predictor``."""
        return predictor(self.model, transform=self.transform)

    def plot(self, path: Path | str | None = None, title: str = "") -> Any:
        """Draws the learning curves; see ``TrainingRun.plot``.

        Args:
            path: the file to save the figure to, or None.
            title: the title of the figure.
        """
        return plot_history(self.history, path, title)

    @property
    def _loss(self) -> Loss | None:
        return None if self.recipe is None else LOSSES[self.recipe.loss]

    def _numbers(self, inputs: Any) -> Any:
        several = inputs if isinstance(inputs, list | tuple) else [inputs]
        if self.encoder is not None and all(isinstance(each, str) for each in several):
            return self.encoder(inputs)
        if self.table is None or several is not inputs:
            return inputs
        rows = self.table(inputs)
        return rows if self.inputs_scaler is None else self.inputs_scaler(rows)

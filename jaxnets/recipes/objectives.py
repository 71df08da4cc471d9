"""The training steps that a recipe can name: what training minimizes, and in which steps."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from jaxnets.arrays import InputError
from jaxnets.metrics import Ratio, sequence_error_rate
from jaxnets.models.seq2seq import teacher_forcing
from jaxnets.models.speech_recognizer import recognition_loss
from jaxnets.training import minimize, supervised
from jaxnets.training.objective import Supervised

#: Arguments of ``fit`` that belong to an objective, and those that belong to an update.
OF_OBJECTIVE = ("loss", "transform", "augment", "compute_dtype", "metrics")
OF_UPDATE = ("optimizer", "accumulate", "non_finite", "wrt")

#: A function that builds a step from the options of its objective and those of its update.
Builder = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


def _supervised(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(supervised(**objective), **update)


def _teacher_forcing(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    if objective.get("compute_dtype") is not None:
        expected = "None, with the objective teacher-forcing"
        raise InputError("compute_dtype", expected, objective["compute_dtype"])
    return minimize(teacher_forcing, **update)


def _ctc(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    own = {"loss": recognition_loss, "metrics": {"error_rate": sequence_error_rate()}}
    return minimize(supervised(**{**objective, **own, "correct": None}), **update)


@dataclasses.dataclass(frozen=True)
class Implicit(Supervised):
    """Supervised training on pairs and their negatives, which measures the order of candidates.

    Attributes:
        ranking: metrics of the candidates of test examples, pairs of a name and a function of
            (outputs, labels). They are measured in evaluation alone, as a training batch has no
            candidates.
    """

    ranking: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = ()

    @property
    def evaluation(self) -> Supervised:
        """The same without augmentation, with the metrics of candidates."""
        return dataclasses.replace(self, augment=None, metrics=self.ranking)


@dataclasses.dataclass(frozen=True)
class OfCandidates:
    """A metric of the candidates of test examples, which is empty for a batch of other rows.

    ``fit`` traces the evaluation on a training batch too, to check its columns.

    Attributes:
        measure: a metric of whole test examples.
        candidates: the number of rows in a test example.
    """

    measure: Callable[[Any, Any], Any]
    candidates: int

    def __call__(self, outputs: Any, labels: Any) -> Any:
        """The metric of a batch."""
        if outputs.size % self.candidates:
            return Ratio(jnp.float32(0), jnp.int32(0))
        return self.measure(outputs, labels)


def _implicit(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    options = dict(objective)
    ranking = tuple(options.pop("metrics", {}).items())
    checked = supervised(**options, correct=None)
    settings = {field.name: getattr(checked, field.name) for field in dataclasses.fields(checked)}
    return minimize(Implicit(**settings, ranking=ranking), **update)


OBJECTIVES: dict[str, Builder] = {
    "supervised": _supervised,
    "implicit": _implicit,
    "ctc": _ctc,
    "teacher-forcing": _teacher_forcing,
}
"""The training steps by the name that a recipe has as its ``objective``.

Each is a function (options of the objective, options of the update) → step. The options are
arguments of ``supervised`` and of ``minimize``.
"""

"""Recipes for sound: spoken digits, alone and in sequences."""

from collections.abc import Mapping
from typing import Any

from jaxnets.metrics import sequence_error_rate
from jaxnets.models.speech_recognizer import recognition_loss
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.training import minimize, supervised

_DIGITS = {"sample_rate": 8000, "seconds": 1.0}
#: Mean and standard deviation of the decibels of the training recordings.
_DECIBELS = (-48.1, 26.0)


def _ctc(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    own = {"loss": recognition_loss, "metrics": {"error_rate": sequence_error_rate()}}
    return minimize(supervised(**{**objective, **own, "correct": None}), **update)


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {"ctc": Objective(_ctc)}

RECIPES = (
    Recipe(
        name="fsdd-cnn",
        document=(
            "the Free Spoken Digit Dataset: three convolutions with batch normalization on log-mel "
            "spectrograms; recordings 0 to 4 of each digit and speaker are for testing, as its "
            "authors suggest"
        ),
        data="fsdd",
        data_options=_DIGITS,
        model="speech-cnn",
        optimizer="adam",
        optimizer_options={"lr": 0.002},
        epochs=8,
        normalize=_DECIBELS,
        layout="log-mel",
    ),
    Recipe(
        name="fsdd-gru",
        document=(
            "the Free Spoken Digit Dataset: a bidirectional GRU on log-mel spectrograms, and the "
            "mean of its outputs; recordings 0 to 4 are for testing"
        ),
        data="fsdd",
        data_options=_DIGITS,
        model="speech-gru",
        optimizer="adam",
        optimizer_options={"lr": 0.005},
        scheduler="cosine",
        epochs=20,
        normalize=_DECIBELS,
        layout="log-mel",
    ),
    Recipe(
        name="fsdd-ctc",
        document=(
            "the Free Spoken Digit Dataset: sequences of one to five recordings, recognized by two "
            "convolutions and a bidirectional GRU with the CTC loss, as a small Deep Speech 2; "
            "recordings 0 to 4 are for testing"
        ),
        expect="2.8 % of the digits wrong (edit distance) in about 2 minutes on 2 CPU cores",
        data="fsdd",
        data_options={**_DIGITS, "lengths": True, "join": 5},
        model="speech-recognizer",
        objective="ctc",
        score="error_rate",
        optimizer="adam",
        optimizer_options={"lr": 0.003},
        scheduler="cosine",
        epochs=10,
        batch_size=32,
        normalize=_DECIBELS,
        layout="log-mel",
    ),
)

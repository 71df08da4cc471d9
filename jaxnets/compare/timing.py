"""Times one run in each framework, with alternating epochs."""

import time

import numpy as np
from flax import nnx

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.jax_side import train_alone
from jaxnets.compare.machine import Memory
from jaxnets.compare.records import Timing
from jaxnets.compare.sides import Other, Training
from jaxnets.training import EpochRecord

_EPOCHS = 3  # the largest number of epochs
# Seconds after which idle threads of the other framework no longer spin.
_PAUSE = 0.1


def take_turns(
    this: Experiment, other: Other, seed: int, model: nnx.Module
) -> tuple[tuple[Timing, Timing], np.ndarray]:
    """Trains one network in each framework, with alternating epochs.

    Args:
        this: the experiment.
        other: the other framework.
        seed: the seed of both.
        model: the jaxnets network with its initial weights.

    Returns:
        The timings of jaxnets and of the other framework, and the losses of jaxnets' steps.
    """
    turns = _Turns(other, seed, model)
    run = train_alone(this, seed, model, min(this.epochs, _EPOCHS), turns.turn)
    ours = Timing(
        framework="jaxnets",
        epoch_seconds=tuple(record.seconds for record in run.history),
        compile_seconds=run.timings.compile_seconds,
        peak_memory=turns.our_peak,
    )
    return (ours, turns.timing()), run.step_losses


class _Turns:
    """The epochs of the other framework, which is set up after jaxnets' memory was measured."""

    def __init__(self, other: Other, seed: int, model: nnx.Module) -> None:
        self._other, self._seed, self._model = other, seed, model
        self._training: Training | None = None
        self._seconds: list[float] = []
        self._memory = Memory()
        self.our_peak: float | None = None
        self._peak: float | None = None

    def turn(self, record: EpochRecord) -> None:
        """Trains the epoch that jaxnets has just finished."""
        time.sleep(_PAUSE)
        if self._training is None:
            self.our_peak, self._memory = self._memory.peak(), Memory()
            self._training = self._other.begin(self._seed, self._model)
            self._one(record)
            self._peak = self._memory.peak()
        else:
            self._one(record)
        time.sleep(_PAUSE)

    def _one(self, record: EpochRecord) -> None:
        assert self._training is not None
        _, seconds = self._training.epoch(record.epoch - 1, lambda steps, loss: None)
        self._seconds.append(seconds)

    def timing(self) -> Timing:
        """Returns the timing of the other framework."""
        assert self._training is not None
        return Timing(
            framework=self._other.framework,
            epoch_seconds=tuple(self._seconds),
            compile_seconds=self._training.compile_seconds,
            peak_memory=self._peak,
        )

"""Records of a comparison: measurements and findings, as plain values for reports."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnets.compare.equivalence import Equivalence, independent, paired

_SHOWN = 6  # number of seeds in the repr


@dataclass(frozen=True, kw_only=True, repr=False)
class Side:
    """One framework's training from one seed.

    Attributes:
        framework: ``"jaxnets"``, ``"torch"``, ``"flax"`` or ``"keras"``.
        seed: the seed.
        step_losses: the loss of each step, float [steps].
        train_loss: the mean loss of each epoch's steps, float [epochs].
        test_loss: the mean loss over all test examples after each epoch, float [epochs].
        test_accuracy: the test accuracy after each epoch, from 0 to 1, float [epochs]; None for
            regression.
        predictions: the predicted class of each test example after the last epoch, int [examples];
            None for regression.
    """

    framework: str
    seed: int
    step_losses: np.ndarray
    train_loss: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray | None
    predictions: np.ndarray | None

    def __repr__(self) -> str:
        kind = "loss" if self.test_accuracy is None else "accuracy"
        return f"Side: {self.framework}, seed {self.seed}, test {kind} {self.score:.6g}"

    @property
    def score(self) -> float:
        """The test accuracy after the last epoch, or for regression the test loss."""
        return float((self.test_loss if self.test_accuracy is None else self.test_accuracy)[-1])


@dataclass(frozen=True)
class Pair:
    """The trainings of both frameworks from one seed.

    Attributes:
        ours: the training in jaxnets.
        theirs: the training in the other framework.
    """

    ours: Side
    theirs: Side

    @property
    def seed(self) -> int:
        """The seed of both trainings."""
        return self.ours.seed


@dataclass(frozen=True, kw_only=True)
class Control:
    """A second PyTorch run that differs only by rounding: other threads and reversed batches.

    Attributes:
        threads: the number of threads of the compared run, and that of the control run.
        run: the control run, from the seed of the first pair.
    """

    threads: tuple[int, int]
    run: Side


@dataclass(frozen=True, kw_only=True)
class Timing:
    """The time and memory of one separate run in a framework.

    Attributes:
        framework: see ``Side``.
        epoch_seconds: training time of each epoch, without evaluation and compilation.
        compile_seconds: time spent on compilation before the first step; 0 without compilation.
        peak_memory: peak memory of the process in megabytes; None if unknown.
    """

    framework: str
    epoch_seconds: tuple[float, ...]
    compile_seconds: float
    peak_memory: float | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A difference between two frameworks that rounding does not explain.

    Attributes:
        statistic: the statistic that differs, such as ``"loss of step 0"``.
        step: the first step with the difference; None if it is not about steps.
        layer: the layer that ``trace_difference`` found; None if it found none.
        text: an explanation for the reader.
    """

    statistic: str
    step: int | None
    layer: str | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A test example for which the two networks of a pair predict different classes.

    Attributes:
        index: the number of the example in the test split.
        seed: the seed of the pair.
        image: pixels [H, W, C] or [H, W], uint8; None if the example is not an image.
        label: the class of the example.
        ours: the class that jaxnets predicts.
        theirs: the class that the other framework predicts.
    """

    index: int
    seed: int
    image: np.ndarray | None = field(repr=False)
    label: int
    ours: int
    theirs: int


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """The same experiment in two frameworks.

    Attributes:
        name: the name of the experiment, such as that of a recipe.
        description: one line about the network and the data.
        command: the command line of the comparison; None if it was started from Python.
        date: the date and time of the end, ISO 8601.
        paired: whether the networks of a pair start from the same weights and train on the same
            batches; otherwise each framework draws its own.
        weights_from: the framework that drew the initial weights of both; None if not paired.
        settings: the settings that determine the results (data, model, optimizer, epochs, …).
        margin: the largest difference of scores that counts as equivalent, in the score's unit.
        pairs: the trainings of each seed.
        control: the control run; None without one.
        timings: the timings of jaxnets and of the other framework; empty without timing.
        findings: differences that rounding does not explain; empty if there are none.
        disagreements: some of the test examples with different predictions.
        class_names: the names of the classes; None if they have no names.
        reference: the documented or published result, as a sentence, or None.
        versions: the versions of the packages.
        machine: processor, number of cores, device and system.
    """

    name: str
    description: str
    command: str | None
    date: str
    paired: bool
    weights_from: str | None
    settings: dict[str, Any]
    margin: float
    pairs: tuple[Pair, ...]
    control: Control | None = None
    timings: tuple[Timing, ...] = ()
    findings: tuple[Finding, ...] = ()
    disagreements: tuple[Disagreement, ...] = ()
    class_names: tuple[str, ...] | None = None
    reference: str | None = None
    versions: dict[str, str | None] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        ours, theirs = self.frameworks
        lines = [f"Comparison of {ours} and {theirs} by {self.name}, {self.measure}:"]
        for pair in self.pairs[:_SHOWN]:
            scores = f"{pair.ours.score:.6g} and {pair.theirs.score:.6g}"
            lines.append(f"seed {pair.seed}: {scores}")
        if len(self.pairs) > _SHOWN:
            lines.append(f"and {len(self.pairs) - _SHOWN} more seeds")
        return "\n  ".join(lines)

    @property
    def frameworks(self) -> tuple[str, str]:
        """The names of the two frameworks, jaxnets first."""
        return self.pairs[0].ours.framework, self.pairs[0].theirs.framework

    @property
    def measure(self) -> str:
        """The kind of the scores: ``"accuracy"``, from 0 to 1, or ``"test loss"``."""
        return "test loss" if self.pairs[0].ours.test_accuracy is None else "accuracy"

    @property
    def equivalence(self) -> Equivalence:
        """The difference of the scores, jaxnets minus the other framework, and its tests."""
        compare = paired if self.paired else independent
        ours = [pair.ours.score for pair in self.pairs]
        return compare(ours, [pair.theirs.score for pair in self.pairs], self.margin)

    @property
    def agreement(self) -> tuple[float, ...] | None:
        """The share of equal test predictions of each pair, from 0 to 1; None for regression."""
        if self.measure != "accuracy":
            return None
        return tuple(
            float(np.mean(pair.ours.predictions == pair.theirs.predictions)) for pair in self.pairs
        )

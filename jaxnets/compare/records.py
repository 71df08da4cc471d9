"""What a comparison measures, and what is said of it: the plain values of a report."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxnets.compare.equivalence import Equivalence, independent, paired

_SHOWN = 6  # seeds, of which a person reads the results


@dataclass(frozen=True, kw_only=True, repr=False)
class Side:
    """One framework's training from one seed.

    Attributes:
        framework: ``"jaxnets"``, ``"torch"``, ``"flax"`` or ``"keras"``.
        seed: the seed.
        step_losses: the loss of each step, float [steps].
        train_loss: the mean loss of each epoch's steps, float [epochs].
        test_loss: after each epoch, over every test example, float [epochs].
        test_accuracy: after each epoch, from 0 to 1, float [epochs]; None for regression.
        predictions: the class of each test example after the last epoch, int [examples]; None for
            regression.
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
        """The accuracy after the last epoch, or the test loss where there is none."""
        return float((self.test_loss if self.test_accuracy is None else self.test_accuracy)[-1])


@dataclass(frozen=True)
class Pair:
    """The two sides of one seed.

    Attributes:
        ours: jaxnets' side.
        theirs: the other framework's.
    """

    ours: Side
    theirs: Side

    @property
    def seed(self) -> int:
        """Their seed."""
        return self.ours.seed


@dataclass(frozen=True, kw_only=True)
class Control:
    """PyTorch beside itself: what rounding alone does to a run.

    Attributes:
        threads: the numbers of threads of the run in the comparison and of the one beside it.
        run: the one beside it, from the seed of the comparison's first pair.
    """

    threads: tuple[int, int]
    run: Side


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one framework takes for one run alone.

    Attributes:
        framework: see ``Side``.
        epoch_seconds: training time of each epoch, without evaluation and compilation.
        compile_seconds: what was spent once, before the first step; 0 where nothing is compiled.
        peak_memory: the most megabytes that the process held at a time; None where unknown.
    """

    framework: str
    epoch_seconds: tuple[float, ...]
    compile_seconds: float
    peak_memory: float | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is not as it is between two frameworks that do the same.

    Attributes:
        statistic: what showed it, such as ``"loss of the first step"``.
        step: the first step at which it shows; None if it belongs to no step.
        layer: the layer at which ``trace_difference`` points; None if at none.
        text: the sentence for the reader.
    """

    statistic: str
    step: int | None
    layer: str | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A test example that the two sides of a pair take for different classes.

    Attributes:
        index: its number in the test split.
        seed: that of the pair.
        image: pixels [H, W, C] or [H, W], uint8; None if it is not valid.
        label: its class.
        ours: the class that jaxnets takes it for.
        theirs: the class that the other framework takes it for.
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
        name: of the experiment, such as a recipe's.
        description: what is trained, in a line.
        command: what makes it again, as typed; None if it was called from Python.
        date: of its end, ISO 8601.
        paired: whether both sides of a seed begin with the same weights and see the same batches;
            otherwise each framework draws its own.
        weights_from: the framework that drew the initial weights of both; None if not paired.
        settings: what decides the numbers (data, model, optimizer, epochs, batch size …).
        margin: what difference of scores counts as none, in the score's unit.
        pairs: one a seed.
        control: None if none was made.
        timings: ours and theirs; empty if none were taken.
        findings: what is not as it should be; empty if nothing is.
        disagreements: some of the test examples on which a pair disagrees.
        class_names: the names of the classes; None if they have none.
        reference: the documented or published figure, as a sentence; None if there is none.
        versions: of the packages.
        machine: processor, cores, device.
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
        """Ours and theirs."""
        return self.pairs[0].ours.framework, self.pairs[0].theirs.framework

    @property
    def measure(self) -> str:
        """What the scores are: ``"accuracy"``, from 0 to 1, or ``"test loss"``."""
        return "test loss" if self.pairs[0].ours.test_accuracy is None else "accuracy"

    @property
    def equivalence(self) -> Equivalence:
        """Ours less theirs, over the seeds."""
        compare = paired if self.paired else independent
        ours = [pair.ours.score for pair in self.pairs]
        return compare(ours, [pair.theirs.score for pair in self.pairs], self.margin)

    @property
    def agreement(self) -> tuple[float, ...] | None:
        """Of each pair, the part of the test examples of which both say the same class."""
        if self.measure != "accuracy":
            return None
        return tuple(
            float(np.mean(pair.ours.predictions == pair.theirs.predictions)) for pair in self.pairs
        )

"""Runs a comparison: trains both sides and collects the findings."""

import dataclasses
import datetime
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_bool, check_choice, check_number, check_seed
from jaxnets.compare import machine
from jaxnets.compare.disagreements import disagreements
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.findings import findings, of_one_alone
from jaxnets.compare.jax_side import train_together
from jaxnets.compare.peers import PEERS, peer
from jaxnets.compare.probe import Probe
from jaxnets.compare.records import Comparison, Control, Pair, Side, Timing
from jaxnets.compare.sides import Other, train
from jaxnets.compare.store import Store
from jaxnets.compare.timing import take_turns
from jaxnets.compare.torch_side import Torch
from jaxnets.interop import load_torch
from jaxnets.interop.dropout import without_dropout
from jaxnets.training.progress import Progress, reporter

ACCURACY_MARGIN = 0.003
LOSS_MARGIN = 0.01  # relative to the mean test loss of the other framework
# Number of jaxnets networks that train at once; an interrupt loses at most this many.
_TOGETHER = 5
_CONTROL = "control"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The settings of a comparison.

    Attributes:
        seeds: one seed for each pair.
        paired: see ``Comparison``.
        weights_from: the framework that draws the initial weights of both: ``"jaxnets"`` or the
            name of the other framework.
        margin: see ``Comparison``; None for 0.3 percentage points of accuracy, or 1 % of the
            other framework's mean test loss.
        peer: the other framework, such as ``"torch"``.
        device: PyTorch's device; None for a GPU if JAX computes on one, else the CPU.
        control: whether to train PyTorch a second time, with another number of threads and reversed
            batches.
        timing: whether to measure the time of one separate run in each framework.
        command: see ``Comparison``.
    """

    seeds: Sequence[int]
    paired: bool = True
    weights_from: str = "jaxnets"
    margin: float | None = None
    peer: str = "torch"
    device: str | None = None
    control: bool = True
    timing: bool = True
    command: str | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        if not isinstance(self.seeds, Sequence) or isinstance(self.seeds, str):
            raise InputError("seeds", "a number of seeds, or a list of seeds", self.seeds)
        for name in ("paired", "control", "timing"):
            check_bool(name, getattr(self, name))
        for seed in self.seeds:
            check_seed("seeds", seed)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            expected = "a number of seeds, or a list of different seeds"
            raise InputError("seeds", expected, list(self.seeds))
        check_choice("peer", self.peer, PEERS)
        known = ("jaxnets", "torch") if self.peer == "torch" else ("jaxnets",)
        check_choice("weights_from", self.weights_from, known)
        if self.margin is not None:
            check_number("margin", self.margin, above=0)


def compared(
    this: Experiment,
    terms: Terms,
    directory: Path | None = None,
    progress: Progress = "auto",
) -> Comparison:
    """Trains both networks from every seed, and compares the results.

    Args:
        this: the experiment.
        terms: the settings of the comparison.
        directory: a folder that stores each finished training; trainings in it are not repeated.
        progress: see ``fit``.

    Raises:
        ValueError: if the experiment and the settings do not fit together, or the folder contains
            another comparison.
        ImportError: if the other framework is not installed.
        Interrupted: a ``KeyboardInterrupt`` at Ctrl-C; finished trainings are kept.
    """
    under_way = _UnderWay(this, terms, Store(directory), progress)
    try:
        return under_way.run()
    except KeyboardInterrupt as error:
        raise under_way.store.interrupted() from error


class _UnderWay:
    """A comparison in progress."""

    def __init__(self, this: Experiment, terms: Terms, store: Store, progress: Progress) -> None:
        self.this, self.terms, self.store, self.progress = this, terms, store, progress
        self.other: Other = peer(this, terms.peer, paired=terms.paired, device=terms.device)
        self.paired = terms.paired and self.other.takes_weights
        if self.paired:
            self.other.check(this.build(terms.seeds[0]))
        self._alone: np.ndarray | None = None  # the losses of the timed run of jaxnets
        self.store.begin(self._record())

    def run(self) -> Comparison:
        """Trains all networks that are not finished yet, and returns the comparison."""
        known, timings = self.store.alone()
        self.other.threads = self.other.threads or known
        with self.other.at_work():
            if not timings and self.terms.timing:
                timings = self._timed()
            self.store.keep_alone(self.other.threads, timings)
            ours = self._ours()
            theirs = [self._theirs(self.other, seed) for seed in self.terms.seeds]
            pairs = tuple(Pair(*both) for both in zip(ours, theirs, strict=True))
            control = self._control()
            comparison = self._comparison(pairs, control, timings)
            found = (*of_one_alone(self._alone, ours[0]), *findings(comparison, self._probe))
            return dataclasses.replace(comparison, findings=found)

    def initial(self, seed: int) -> nnx.Module:
        """Returns the jaxnets network with its initial weights."""
        model = self.this.build(seed)
        if not self.paired:
            return model
        without_dropout(model)
        if self.terms.weights_from == "torch":
            assert isinstance(self.other, Torch)
            load_torch(model, self.other.network(seed).state_dict())
        return model

    def _weights(self, seed: int) -> nnx.Module | None:
        return self.initial(seed) if self.paired else None

    def _timed(self) -> tuple[Timing, ...]:
        """Measures the time and memory of one separate run of each framework."""
        seed = self.terms.seeds[0]
        self._say(f"timing one separate run of each framework, in turns (seed {seed})")
        timings, self._alone = take_turns(self.this, self.other, seed, self._weights(seed))
        return timings

    def _ours(self) -> list[Side]:
        """Trains the jaxnets networks that are not finished, and returns those of all seeds."""
        done = {seed: self.store.side("jaxnets", seed) for seed in self.terms.seeds}
        left = [seed for seed, side in done.items() if side is None]
        for start in range(0, len(left), _TOGETHER):
            seeds = left[start : start + _TOGETHER]
            self._say(f"jaxnets, {_listed(seeds)}")
            models = [self.initial(seed) for seed in seeds]
            for side in train_together(self.this, seeds, models, self.progress):
                self.store.keep(side)
                done[side.seed] = side
        return [side for side in done.values() if side is not None]

    def _theirs(self, other: Other, seed: int, name: str | None = None) -> Side:
        """Trains the other framework's network from a seed, unless it is finished."""
        name = name or other.framework
        side = self.store.side(name, seed)
        if side is not None:
            return side
        self._say(f"{name}, seed {seed}")
        steps = self.this.plan(seed, 0).steps
        with reporter(self.progress, epochs=self.this.epochs, steps=steps) as report:
            training = other.begin(seed, self._weights(seed))
            side = train(other, training, self.this, seed, report)
        self.store.keep(side, name)
        return side

    def _control(self) -> Control | None:
        """Trains PyTorch a second time, with differences by rounding, if pairs are compared."""
        if not (self.terms.control and self.paired and isinstance(self.other, Torch)):
            return None
        control = self.other.control()
        with control.at_work():
            run = self._theirs(control, self.terms.seeds[0], _CONTROL)
        assert self.other.threads is not None
        assert control.threads is not None
        return Control(threads=(self.other.threads, control.threads), run=run)

    def _comparison(
        self,
        pairs: tuple[Pair, ...],
        control: Control | None,
        timings: tuple[Timing, ...],
    ) -> Comparison:
        this, terms = self.this, self.terms
        return Comparison(
            name=this.name,
            description=this.description,
            command=terms.command,
            date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            paired=self.paired,
            weights_from=terms.weights_from if self.paired else None,
            settings={**this.settings, **self._notes()},
            margin=_margin(terms, pairs),
            pairs=pairs,
            control=control,
            timings=timings,
            disagreements=disagreements(this, pairs),
            class_names=this.data.class_names,
            reference=this.reference,
            versions=machine.versions(self.other.framework),
            machine=machine.machine(self.other.threads),
        )

    def _notes(self) -> dict[str, str]:
        """Returns notes on deviations from the settings."""
        if self.terms.paired and not self.paired:
            why = "one bias where PyTorch's have two"
            return {"pairs": f"none, as {self.other.framework}'s cells have {why}"}
        dropped = self.paired and without_dropout(self.this.build(self.terms.seeds[0]))
        return {"dropout": "off on both sides"} if dropped else {}

    def _probe(self, pair: Pair) -> Probe | None:
        if not isinstance(self.other, Torch) or isinstance(self.this.train.inputs, dict):
            return None
        return Probe(self.this, self.other, pair.seed, self.initial(pair.seed))

    def _record(self) -> dict[str, Any]:
        """Returns the settings that must be the same when the comparison is resumed."""
        terms = self.terms
        return {
            **this_record(self.this),
            "seeds": list(terms.seeds),
            "paired": self.paired,
            "weights_from": terms.weights_from,
            "peer": terms.peer,
            "margin": terms.margin,
        }

    def _say(self, text: str) -> None:
        if self.progress != "none":
            print(text, flush=True)


def this_record(this: Experiment) -> dict[str, Any]:
    """Returns a record that identifies an experiment: its settings and a checksum of its data."""
    columns = (this.train.inputs, this.train.labels, this.test.inputs, this.test.labels)
    arrays = jax.tree.leaves(columns)
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(np.ascontiguousarray(array).data, checksum)
    return {"name": this.name, **this.settings, **this.record, "data_checksum": f"{checksum:08x}"}


def _margin(terms: Terms, pairs: Sequence[Pair]) -> float:
    if terms.margin is not None:
        return terms.margin
    if pairs[0].ours.test_accuracy is not None:
        return ACCURACY_MARGIN
    return LOSS_MARGIN * float(np.mean([pair.theirs.score for pair in pairs]))


def _listed(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"

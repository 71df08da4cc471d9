"""Compares training steps in jaxnets and in PyTorch."""

import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, called, shown
from jaxnets.compare import machine
from jaxnets.compare.engine import Terms
from jaxnets.compare.experiment import canonical
from jaxnets.compare.sides import sizes
from jaxnets.compare.step_findings import FirstStep, Weights, findings
from jaxnets.compare.step_records import Course, StepComparison
from jaxnets.compare.torch_side import check_weights, default_device, made_by, rows_of
from jaxnets.data import Dataset, Split, epoch_plan
from jaxnets.data.batching import Plan
from jaxnets.interop import load_torch, to_numpy, to_torch
from jaxnets.interop.dropout import without_dropout, without_torch_dropout
from jaxnets.metrics import Mean
from jaxnets.training import EpochRecord, Step, StepMetrics, initialize
from jaxnets.training.epoch import one_step
from jaxnets.training.progress import Progress, reporter

#: A training step in PyTorch: (model, optimizers, batch) → metrics by name.
TorchStep = Callable[[Any, Any, Any], Mapping[str, Any]]

TORCH_OPTIMIZERS = (
    "a function of a model that makes a torch.optim.Optimizer, or several in a tuple or dict"
)
TORCH_STEP = (
    "a function of (model, optimizers, batch) that returns numbers by name, 'loss' among them"
)


@dataclass(frozen=True, kw_only=True)
class StepExperiment:
    """A training, given by its step, that jaxnets and PyTorch can run.

    Attributes:
        name: the name of the comparison.
        description: one line about the network and the data.
        build: a function from a seed to the jaxnets network.
        build_torch: a function that makes the PyTorch network.
        data: the data set, in memory.
        step: the training step of jaxnets.
        torch_step: the training step of PyTorch.
        torch_optimizers: a function from the PyTorch network to its optimizer, or to a tuple or
            dict of several.
        epochs: number of epochs.
        batch_size: number of examples in a batch.
        torch_inputs: a function from the inputs of a batch to PyTorch's; None for no change.
    """

    name: str
    description: str
    build: Callable[[int], nnx.Module]
    build_torch: Callable[[], Any]
    data: Dataset
    step: Step
    torch_step: TorchStep
    torch_optimizers: Callable[[Any], Any]
    epochs: int
    batch_size: int
    torch_inputs: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        """Checks that both frameworks can use the same batches."""
        if not isinstance(self.data.train, Split):
            expected = "a Split in memory, so that both frameworks use the same batches"
            raise InputError("data.train", expected, type(self.data.train).__name__)

    def plans(self, seed: int) -> list[Plan]:
        """Returns the batches of each epoch, in the order of ``fit``."""
        count, size = len(self.data.train), self.batch_size
        return [epoch_plan(count, size, seed=seed, epoch=epoch) for epoch in range(self.epochs)]

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """Returns the columns of a batch."""
        assert isinstance(self.data.train, Split)
        return jax.tree.map(lambda column: column[rows], self.data.train.columns)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that determine the results, as far as they can be written."""
        plain = {"data": self.data.name, "epochs": self.epochs, "batch_size": self.batch_size}
        dropped = without_dropout(self.build(0))
        return {**plain, **({"dropout": "off on both sides"} if dropped else {})}


def compared_steps(
    this: StepExperiment, terms: Terms, progress: Progress = "auto"
) -> StepComparison:
    """Trains both networks from every seed, and compares the metrics of each step.

    Args:
        this: the experiment.
        terms: the settings, of which ``seeds``, ``weights_from``, ``device`` and ``control`` are
            used.
        progress: see ``fit``.

    Raises:
        ValueError: if the experiment and the settings do not fit together.
    """
    import torch

    with torch.random.fork_rng():
        pairs = [_pair(this, terms, seed, progress) for seed in terms.seeds]
        ours, theirs = zip(*pairs, strict=True)
        control = _control(this, terms, progress) if terms.control else None
    shared = sorted(theirs[0].names, key=lambda name: (name != "loss", name))
    comparison = StepComparison(
        name=this.name,
        description=this.description,
        date=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        weights_from=terms.weights_from,
        settings=this.settings(),
        ours=tuple(run.course(this, shared) for run in ours),
        theirs=tuple(run.course(this, shared) for run in theirs),
        control=None if control is None else control.course(this, shared),
        versions=machine.versions("torch"),
        machine=machine.machine(torch.get_num_threads()),
    )
    first = FirstStep(
        ours=ours[0].change,
        theirs=theirs[0].change,
        control=None if control is None else control.change,
        draws=tuple(run.framework for run in (ours[0], theirs[0]) if run.draws),
    )
    return dataclasses.replace(comparison, findings=findings(comparison, first))


def _pair(
    this: StepExperiment, terms: Terms, seed: int, progress: Progress
) -> tuple["_Trained", "_Trained"]:
    """Trains both networks from a seed."""
    model = _initial(this, terms, seed)
    theirs = _Theirs(this, model, seed, terms.device)  # first, so that it is checked early
    ours = _trained(_Ours(this, model, seed), this, seed, progress)
    return ours, _trained(theirs, this, seed, progress, ours.names)


def _control(this: StepExperiment, terms: Terms, progress: Progress) -> "_Trained":
    """Trains PyTorch from the first seed, with weights that differ in their last bit."""
    seed = terms.seeds[0]
    side = _Theirs(this, _initial(this, terms, seed), seed, terms.device, nudged=True)
    return _trained(side, this, seed, progress)


def _initial(this: StepExperiment, terms: Terms, seed: int) -> nnx.Module:
    """Returns the jaxnets network with the initial weights of both."""
    model, network = this.build(seed), made_by(this.build_torch, seed)
    without_dropout(model)
    check_weights(model, network)
    if terms.weights_from == "torch":
        load_torch(model, network.state_dict())
    return model


class _Side(Protocol):
    """A training in one framework, in progress.

    Attributes:
        framework: see ``Course``.
        draws: whether steps draw random numbers; None before the first step.
    """

    framework: str
    draws: bool | None

    def take(self, batch: dict[str, Any]) -> dict[str, float]:
        """Trains one step, and returns its metrics."""

    def weights(self) -> Weights:
        """Returns the weights, by PyTorch's names."""


class _Ours:
    """See ``_Side``."""

    framework = "jaxnets"
    draws: bool | None = None

    def __init__(self, this: StepExperiment, model: nnx.Module, seed: int) -> None:
        self._step: Any = one_step(this.step)
        self._state = initialize(model, this.step, seed)

    def take(self, batch: dict[str, Any]) -> dict[str, float]:
        """See ``_Side``; returns only metrics that are a single number."""
        before = self._state
        self._state, found = self._step(before, batch)
        numbers = _numbers(found)
        if self.draws is None:
            # the step is random if its metrics depend on the key
            otherwise = dataclasses.replace(before, key=jax.random.fold_in(before.key, 1))
            others = _numbers(self._step(otherwise, batch)[1])
            values, drawn = (list(each.values()) for each in (numbers, others))
            self.draws = not np.array_equal(values, drawn, equal_nan=True)
        return numbers

    def weights(self) -> Weights:
        """See ``_Side``."""
        return to_numpy(self._state.model)


class _Theirs:
    """See ``_Side``.

    Args:
        this: the experiment.
        model: the jaxnets network, with the initial weights of both.
        seed: the seed of the pair.
        device: PyTorch's device; None for ``default_device``.
        nudged: whether to start from weights that differ in their last bit.
    """

    framework = "torch"
    draws: bool | None = None

    def __init__(
        self,
        this: StepExperiment,
        model: nnx.Module,
        seed: int,
        device: str | None,
        *,
        nudged: bool = False,
    ) -> None:
        self._this = this
        self._device = device or default_device()
        self._network = made_by(this.build_torch, seed)
        without_torch_dropout(self._network)
        weights = to_torch(model)
        self._network.load_state_dict(_nudged(weights, seed) if nudged else weights)
        self._network.to(self._device).train()
        self._optimizers = _checked_optimizers(this.torch_optimizers, self._network)

    def take(self, batch: dict[str, Any]) -> dict[str, float]:
        """See ``_Side``."""
        if self._this.torch_inputs is not None:
            expected = "a function of the batch's inputs, NumPy arrays"
            made = called("torch_inputs", expected, self._this.torch_inputs, batch["inputs"])
            batch = {**batch, "inputs": made}
        tensors = {
            name: jax.tree.map(functools.partial(self._tensor, name), column)
            for name, column in batch.items()
        }
        before = self._random()
        found = self._this.torch_step(self._network, self._optimizers, tensors)
        if self.draws is None:
            self.draws = self._random() != before
        return _checked_metrics(found)

    def _random(self) -> bytes:
        """Returns the state of PyTorch's random number generator."""
        import torch

        cuda = torch.device(self._device).type == "cuda"
        state = torch.cuda.get_rng_state(self._device) if cuda else torch.get_rng_state()
        return state.numpy().tobytes()

    def _tensor(self, column: str, array: np.ndarray) -> Any:
        """Makes a tensor.

        Integers become int64, as PyTorch's losses and embeddings require, except for uint8 inputs.
        """
        import torch

        array = canonical(np.asarray(array))
        if array.dtype.kind in "iu" and (column == "labels" or array.dtype != np.uint8):
            array = array.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def weights(self) -> Weights:
        """See ``_Side``."""
        state = self._network.state_dict()
        return {name: weight.detach().cpu().numpy().copy() for name, weight in state.items()}


def _numbers(found: StepMetrics) -> dict[str, float]:
    """Returns the metrics of a step that are a single number."""
    one = jax.tree.map(lambda array: np.asarray(array)[None], found.metrics)
    values = {name: metric.over() for name, metric in one.items()}
    return {name: value for name, value in values.items() if not np.ndim(value)}


@dataclass(frozen=True)
class _Trained:
    """A finished training.

    Attributes:
        framework: see ``Course``.
        seed: the seed.
        numbers: the metrics of each step.
        change: the change of each weight by the first step.
        draws: whether steps draw random numbers.
    """

    framework: str
    seed: int
    numbers: list[dict[str, float]]
    change: Weights
    draws: bool | None

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        return set().union(*self.numbers)

    def course(self, this: StepExperiment, names: Sequence[str]) -> Course:
        """Returns the metrics of these names, for each step and each epoch."""
        plans = this.plans(self.seed)
        ends = np.cumsum([plan.steps for plan in plans])[:-1]
        examples = [sizes(plan) for plan in plans]
        steps = {
            name: np.array([numbers.get(name, np.nan) for numbers in self.numbers], np.float32)
            for name in names
        }
        epochs = {
            name: np.array(
                [_mean(*one) for one in zip(np.split(values, ends), examples, strict=True)]
            )
            for name, values in steps.items()
        }
        return Course(framework=self.framework, seed=self.seed, steps=steps, epochs=epochs)


def _trained(
    side: _Side,
    this: StepExperiment,
    seed: int,
    progress: Progress,
    names: Collection[str] | None = None,
) -> _Trained:
    """Trains one framework for all epochs.

    Args:
        side: the training in one framework.
        this: the experiment.
        seed: the seed of the pair.
        progress: see ``fit``.
        names: the names of the allowed metrics; None for any.
    """
    numbers: list[dict[str, float]] = []
    before, change = side.weights(), None
    plans = this.plans(seed)
    if progress != "none":
        print(f"{side.framework}, seed {seed}", flush=True)
    with reporter(progress, epochs=this.epochs, steps=plans[0].steps) as report:
        for epoch, plan in enumerate(plans, start=1):
            began = time.perf_counter()
            for rows in rows_of(plan):
                numbers.append(side.take(this.batch(rows)))
                if names is not None:
                    _check_names(numbers[-1], names)
                change = change or _difference(side.weights(), before)
                report.advance(1, numbers[-1]["loss"])
            losses = np.array([one["loss"] for one in numbers[-plan.steps :]])
            train = {"loss": _mean(losses, sizes(plan))}
            report.epoch(EpochRecord(epoch, train, {}, time.perf_counter() - began))
    assert change is not None
    return _Trained(side.framework, seed, numbers, change, side.draws)


def _mean(values: np.ndarray, examples: np.ndarray) -> float:
    """Returns the mean over the examples of the steps that measured the metric."""
    measured = ~np.isnan(values)
    return float(Mean(values[measured], examples[measured]).over())


def _difference(after: Weights, before: Weights) -> Weights:
    return {name: np.subtract(after[name], before[name], dtype=np.float64) for name in before}


def _nudged(weights: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Replaces each weight by the next larger or smaller floating-point number, at random."""
    import torch

    draws = torch.Generator().manual_seed(seed)
    return {
        name: torch.nextafter(
            weight, torch.inf * torch.randn(weight.shape, generator=draws, dtype=weight.dtype)
        )
        if weight.is_floating_point()
        else weight
        for name, weight in weights.items()
    }


def _checked_optimizers(make: Any, network: Any) -> Any:
    import torch

    made = called("torch_optimizers", TORCH_OPTIMIZERS, make, network)
    several = list(made.values()) if isinstance(made, Mapping) else made
    each = several if isinstance(several, list | tuple) else [made]
    if not each or not all(isinstance(one, torch.optim.Optimizer) for one in each):
        raise InputError(
            "torch_optimizers", TORCH_OPTIMIZERS, f"a function that makes {shown(made)}"
        )
    return made


def _checked_metrics(found: Any) -> dict[str, float]:
    if not isinstance(found, Mapping) or "loss" not in found:
        raise InputError("torch_step", TORCH_STEP, f"one that returns {shown(found)}")
    return {name: _number(name, value) for name, value in found.items()}


def _check_names(found: Collection[str], names: Collection[str]) -> None:
    if unknown := [name for name in found if name not in names]:
        expected = f"a function that returns metrics of step, {', '.join(sorted(names))}"
        raise InputError("torch_step", expected, ", ".join(map(str, unknown)))


def _number(name: str, value: Any) -> float:
    try:
        return float(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError, RuntimeError) as error:
        got = f"{name}={shown(value)}"
        raise InputError("torch_step", TORCH_STEP, f"one that returns {got}") from error

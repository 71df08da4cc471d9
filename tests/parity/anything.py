"""Runs a training twice: with ``fit``, and as a loop in PyTorch."""

import functools
import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import nnx

from jaxnets.data import Draws, Split, epoch_plan
from jaxnets.interop import to_torch
from jaxnets.training import Step, fit
from jaxnets.training.objective import as_metrics, size_of

EXAMPLES = Path(__file__).parents[2] / "examples"
EPOCHS, STEPS, BATCH = 2, 3, 8  # epochs, steps per epoch, examples per step
COUNT = STEPS * BATCH  # examples
#: Settings of ``fit`` that correspond to the PyTorch loop.
SETTINGS = {"epochs": EPOCHS, "batch_size": BATCH, "progress": "none"}


@dataclass(frozen=True)
class Case:
    """A network, its data, and how it is trained, here and in PyTorch.

    Attributes:
        build: (rngs=…, param_dtype=…) → the model.
        data: dtype → a ``Split`` of ``COUNT`` examples. Random numbers are columns of the data, as
            PyTorch would draw different ones.
        step: how ``fit`` trains the model.
        twin: creates the model in PyTorch, with attributes of the same names.
        loop: (network, batches) → the metrics of each step, by their names in ``step``. The batches
            are those of a ``DataLoader``: inputs, or inputs and labels if there are any; tensors,
            or tuples or dictionaries of them; images are [batch, channels, height, width].
            ``twin`` and ``loop`` are None for a case that is not compared with PyTorch, such as
            one that draws random numbers from its key.
        shuffle: whether the order changes from epoch to epoch.
    """

    build: Callable[..., nnx.Module]
    data: Callable[[Any], Split]
    step: Step
    twin: Callable[[], torch.nn.Module] | None = None
    loop: Callable[[Any, Iterable[Any]], Iterator[dict[str, Any]]] | None = None
    shuffle: bool = True


@functools.cache
def example(name: str) -> Any:
    """Imports the module of an example."""
    spec = importlib.util.spec_from_file_location(f"examples.{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Each:
    """A metric that is not combined over batches: it has one value for each."""

    metric: Any

    def over(self):
        """The metric over each batch, [batches, …]."""
        parts = range(len(jax.tree.leaves(self.metric)[0]))
        of_one = [jax.tree.map(lambda x, i=i: x[i : i + 1], self.metric) for i in parts]
        return np.array([one.over() for one in of_one])


@dataclass(frozen=True)
class Watched:
    """Wraps a step, and also measures its metrics separately for each batch."""

    step: Step

    @property
    def evaluation(self):
        return self.step.evaluation

    def init(self, model):
        return self.step.init(model)

    def apply(self, model, slots, batch, key):
        slots, found = self.step.apply(model, slots, batch, key)
        metrics = as_metrics(found, size_of(batch))
        return slots, {**metrics, **{f"each_{name}": Each(one) for name, one in metrics.items()}}


def train(case: Case, dtype=np.float32, **options):
    """Trains with ``fit``; with ``seeds``, one model for each seed."""
    build = functools.partial(case.build, param_dtype=dtype)
    model = build if "seeds" in options else build(rngs=nnx.Rngs(options.get("seed", 0)))
    return fit(
        model, case.data(dtype), Watched(case.step), shuffle=case.shuffle, **SETTINGS, **options
    )


def each_step(run) -> dict[str, np.ndarray]:
    """The metrics of each step of a run by name, [steps, …]."""
    names = [name for name in run.history[0].train if name.startswith("each_")]
    return {
        name.removeprefix("each_"): np.concatenate([epoch.train[name] for epoch in run.history])
        for name in names
    }


def train_in_torch(case: Case, dtype=np.float32):
    """Trains in PyTorch from the same weights; returns the metrics of each step and the network."""
    network = case.twin().to(torch.float64 if dtype == np.float64 else torch.float32)
    network.load_state_dict(to_torch(case.build(rngs=nnx.Rngs(0), param_dtype=dtype)))
    found = list(case.loop(network, batches(case.data(dtype), case.shuffle)))
    return {name: np.array([one[name] for one in found]) for name in found[0]}, network


def batches(data: Split | Draws, shuffle: bool) -> Iterator[Any]:
    """Yields the batches of all epochs in the order of ``fit``; for ``Draws``, the step numbers."""
    if isinstance(data, Draws):
        yield from range(EPOCHS * data.steps)
        return
    for epoch in range(EPOCHS):
        for rows in epoch_plan(len(data), BATCH, seed=0, epoch=epoch, shuffle=shuffle).full:
            inputs, labels = jax.tree.map(as_tensor, data.gather(rows))
            yield inputs if labels is None else (inputs, labels)


def as_tensor(array: np.ndarray) -> torch.Tensor:
    """Converts an array to PyTorch's conventions: images with channels first, classes as int64."""
    tensor = torch.tensor(np.moveaxis(array, -1, 1) if array.ndim == 4 else array)
    return tensor if tensor.is_floating_point() else tensor.long()

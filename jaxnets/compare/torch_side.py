"""Training in PyTorch: a plain loop over batches, as in its tutorials."""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets import losses
from jaxnets.arrays import InputError
from jaxnets.compare.experiment import Experiment, canonical
from jaxnets.compare.sides import EVALUATED, Advance, Clock, together
from jaxnets.data.batching import Plan
from jaxnets.interop import to_torch
from jaxnets.interop.dropout import without_dropout_functions, without_torch_dropout
from jaxnets.optional import require
from jaxnets.training.labels import unwrapped

_TRIED = 20  # number of steps to time with each number of threads


class Torch:
    """PyTorch in a comparison.

    Args:
        this: the experiment.
        paired: whether to use the batches of jaxnets; otherwise PyTorch draws their order.
        device: PyTorch's device, such as ``"cpu"``; None for ``default_device``.
        backwards: whether to reverse the examples of each batch, which changes only the order of
            sums.

    Attributes:
        threads: number of CPU threads; None before ``at_work``.
    """

    framework: str = "torch"
    takes_weights: bool = True

    def __init__(
        self, this: Experiment, *, paired: bool, device: str | None, backwards: bool = False
    ) -> None:
        require("torch", extra="torch", feature="a comparison with PyTorch")
        self.this, self.paired, self.backwards = this, paired, backwards
        self.device = device or default_device()
        self.threads: int | None = None
        self._tensors: dict[str, tuple[Any, Any]] = {}

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """See ``Other``. Chooses one thread or as many as there are cores, whichever is faster."""
        import torch

        before = torch.get_num_threads()
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(torch.random.fork_rng())
                if self.paired and self.this.ported:
                    stack.enter_context(without_dropout_functions())
                self.threads = self.threads or self._faster()
                torch.set_num_threads(self.threads)
                yield
        finally:
            torch.set_num_threads(before)

    def control(self) -> "Torch":
        """Returns PyTorch with another number of threads and reversed batches."""
        other = Torch(self.this, paired=True, device=self.device, backwards=True)
        other.threads = 1 if self.threads != 1 else max(2, visible_cores())
        other._tensors = self._tensors
        return other

    def _faster(self) -> int:
        import torch

        taken = {}
        for count in sorted({1, visible_cores()}):
            torch.set_num_threads(count)
            training = self.begin(0, None)
            batches = itertools.islice(itertools.cycle(self._few()), _TRIED)
            training.step(*next(batches))
            with Clock() as clock:
                for x, y in batches:
                    training.step(x, y)
            taken[count] = clock.seconds
        return min(taken, key=lambda count: taken[count])

    def _few(self) -> list[tuple[Any, Any]]:
        rows = next(rows_of(self.this.plan(0, 0)))
        raw, labels = self.this.augmented(rows, 0, 0)
        return [self.tensors(self.this.their_inputs(raw), labels)]

    def begin(self, seed: int, weights: nnx.Module | None) -> "TorchTraining":
        """See ``Other``."""
        network = self.network(seed)
        if weights is not None:
            network.load_state_dict(to_torch(weights))
        return TorchTraining(self, network, seed)

    def check(self, model: nnx.Module) -> None:
        """Checks that the networks have the same weights.

        Raises:
            InputError: if not; the message has the first few names, shapes or dtypes that differ.
        """
        check_weights(model, self.network(0))

    def network(self, seed: int) -> Any:
        """Returns the network with PyTorch's initial weights; in pairs without dropout."""
        assert self.this.build_torch is not None
        network = made_by(self.this.build_torch, seed)
        if self.paired:
            without_torch_dropout(network)
        return network.to(self.device).train()

    def split(self, name: str) -> tuple[Any, Any]:
        """Returns the tensors of a split, which are made at the first call."""
        if name not in self._tensors:
            split = getattr(self.this, name)
            self._tensors[name] = self.tensors(self.this.their_inputs(split.inputs), split.labels)
        return self._tensors[name]

    def tensors(self, inputs: Any, labels: np.ndarray) -> tuple[Any, Any]:
        """Makes tensors of inputs, one array or a dictionary, and labels; integers become int64."""
        import torch

        def tensor(array: np.ndarray) -> Any:
            array = canonical(array)
            made = torch.from_numpy(array if array.flags.writeable else array.copy())
            return (made if made.is_floating_point() else made.long()).to(self.device)

        return jax.tree.map(tensor, inputs), tensor(labels)

    def batches(self, seed: int, number: int) -> Iterator[tuple[Any, Any]]:
        """Returns the batches of an epoch; their order is drawn now, before the timing starts."""
        return self._taken(self.plan(seed, number), seed, number)

    def _taken(self, plan: Plan, seed: int, number: int) -> Iterator[tuple[Any, Any]]:
        import torch

        inputs, labels = self.split("train")
        for place, rows in enumerate(rows_of(plan)):
            rows = rows[::-1].copy() if self.backwards else rows
            if self.this.augment is not None:
                step = number * plan.steps + place
                own = seed if self.paired else seed + 2**31  # a seed that jaxnets never uses
                raw, targets = self.this.augmented(rows, own, step)
                yield self.tensors(self.this.their_inputs(raw), targets)
            else:
                chosen = torch.from_numpy(rows.astype(np.int64)).to(self.device)
                yield jax.tree.map(lambda each: each[chosen], inputs), labels[chosen]  # noqa: B023

    def plan(self, seed: int, number: int) -> Plan:
        """Returns the rows of the batches of an epoch."""
        plan = self.this.plan(seed, number)
        if self.paired:
            return plan
        import torch

        order = torch.randperm(plan.full.size + plan.rest.size).numpy().astype(np.int32)
        return Plan(order[: plan.full.size].reshape(plan.full.shape), order[plan.full.size :])


class TorchTraining:
    """See ``Training``."""

    compile_seconds = 0.0

    def __init__(self, side: Torch, network: Any, seed: int) -> None:
        this = side.this
        assert this.torch_optimizer is not None
        self._side, self.network, self._seed = side, network, seed
        self.optimizer = this.torch_optimizer(network.parameters())

    def step(self, x: Any, y: Any) -> Any:
        """Trains one step, and returns the loss before it."""

        def closure() -> Any:
            self.optimizer.zero_grad()
            loss = self.loss(x, y)
            loss.backward()
            return loss

        return self.optimizer.step(closure).detach()

    def loss(self, x: Any, y: Any) -> Any:
        """Returns the loss of a batch."""
        assert self._side.this.torch_loss is not None
        return self._side.this.torch_loss(outputs_of(self.network, x), y)

    def epoch(self, number: int, advance: Advance) -> tuple[np.ndarray, float]:
        """See ``Training``. The time does not include augmentation, which jaxnets computes."""
        import torch

        self._side.split("train")  # makes the tensors before the timing starts
        batches: Any = self._side.batches(self._seed, number)
        if self._side.this.augment is not None:
            batches = iter(list(batches))
        size = together(self._side.this.plan(self._seed, number).steps)
        self.network.train()
        found: list[np.ndarray] = []
        clock = Clock()
        while True:
            with clock:
                piece = [self.step(x, y) for x, y in itertools.islice(batches, size)]
                if piece:
                    found.append(torch.stack(piece).cpu().numpy())
            if not piece:
                return np.concatenate(found), clock.seconds
            advance(len(piece), float(found[-1][-1]))

    def evaluate(self) -> tuple[float, np.ndarray]:
        """See ``Training``."""
        import torch

        inputs, labels = self._side.split("test")
        loss: Any = self._side.this.torch_loss
        self.network.eval()
        total, found = 0.0, []
        with torch.no_grad():
            for start in range(0, len(labels), EVALUATED):
                part = slice(start, start + EVALUATED)
                x, y = jax.tree.map(lambda each: each[part], (inputs, labels))  # noqa: B023
                outputs = outputs_of(self.network, x)
                total += loss(outputs, y).item() * (1 if self._side.this.adds_up else len(y))
                found.append(classes_last(outputs, y).cpu().numpy())
        return total / len(labels), np.concatenate(found)


def outputs_of(network: Any, inputs: Any) -> Any:
    """The outputs for one tensor, or for a dictionary of those that the network takes by name."""
    return network(**inputs) if isinstance(inputs, dict) else network(inputs)


def made_by(build: Callable[[], Any], seed: int) -> Any:
    """Calls a function that makes a PyTorch network, with PyTorch's random numbers of a seed.

    Raises:
        InputError: if the function does not return a module, or returns a compiled one.
    """
    import torch

    torch.manual_seed(seed)
    network = build()
    if not isinstance(network, torch.nn.Module):
        raise InputError("torch_model", "a torch.nn.Module", type(network).__name__)
    if hasattr(network, "_orig_mod"):  # torch.compile renames the weights
        raise InputError("torch_model", "a network before torch.compile", "a compiled one")
    return network


def check_weights(model: nnx.Module, network: Any) -> None:
    """Checks that the jaxnets network and the PyTorch network have the same weights.

    Raises:
        InputError: if not; the message has the first few names, shapes or dtypes that differ.
    """
    mine, theirs = map(_described, (to_torch(model), network.state_dict()))
    faults = [
        f"{name} {theirs.get(name, 'missing')} for {mine.get(name, 'none')}"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]
    if faults:
        raise InputError("torch_model", "the weights of jax_model", ", ".join(faults[:3]))


def _described(weights: dict[str, Any]) -> dict[str, str]:
    """Returns the shape and dtype of each weight as text."""
    pairs = {name: (tuple(weight.shape), weight.dtype) for name, weight in weights.items()}
    return {name: f"{shape} {str(dtype)[6:]}" for name, (shape, dtype) in pairs.items()}


def rows_of(plan: Plan) -> Iterator[np.ndarray]:
    """Yields the rows of each batch."""
    yield from plan.full
    if len(plan.rest):
        yield plan.rest


def classes_last(outputs: Any, labels: Any) -> Any:
    """Moves the classes of outputs [N, C, d1, …] to the last axis, unless they are there."""
    if outputs.ndim == labels.ndim + 1 and outputs.shape[:-1] != labels.shape:
        return outputs.movedim(1, -1)
    return outputs


def optimizer_of(name: str, options: dict[str, Any]) -> Callable[[Any], Any]:
    """Returns a function that makes PyTorch's optimizer with the same name and arguments.

    Args:
        name: a name in ``jaxnets.optimizers.OPTIMIZERS``.
        options: its arguments.
    """
    torch = require("torch", extra="torch", feature="a comparison")
    kinds = {kind.lower(): getattr(torch.optim, kind) for kind in _OPTIMIZERS}
    return lambda parameters: kinds[name](parameters, **options)


def with_rates(made: Callable[[Any], Any], rates: np.ndarray) -> Callable[[Any], Any]:
    """Returns a function that makes an optimizer with a learning rate for each step.

    The rates are given rather than computed by ``torch.optim.lr_scheduler``, so that both
    frameworks train with the same numbers. The tests compare the schedules themselves.

    Args:
        made: a function from parameters to a ``torch.optim.Optimizer``.
        rates: the learning rates, float [steps]. Further steps have the last rate.
    """

    def make(parameters: Any) -> Any:
        optimizer, following = (
            made(parameters),
            itertools.chain(rates.tolist(), itertools.repeat(float(rates[-1]))),
        )

        def set_rate(*_: Any) -> None:
            rate = next(following)
            for group in optimizer.param_groups:
                group["lr"] = rate

        optimizer.register_step_pre_hook(set_rate)
        return optimizer

    return make


_OPTIMIZERS = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "Adamax", "AdamW", "ASGD", "LBFGS", "Muon"),
    *("NAdam", "RAdam", "RMSprop", "Rprop", "SGD"),
)


def loss_of(loss: Any) -> Callable[[Any, Any], Any] | None:
    """Returns PyTorch's equivalent of a loss, or of a ``functools.partial`` of it.

    Args:
        loss: a loss function.

    Returns:
        A function (outputs, labels) → scalar tensor; None if the loss is not one of
        ``jaxnets.losses`` with an equivalent.
    """
    functional = require("torch", extra="torch", feature="a comparison").nn.functional
    function, options = unwrapped(loss)
    if function in _OF_CLASSES:
        theirs = _OF_CLASSES[function](functional)
        options = _tensors(options)

        def of_classes(outputs: Any, labels: Any) -> Any:
            if outputs.ndim > 2 and outputs.shape[:-1] == labels.shape:
                outputs = outputs.movedim(-1, 1)
            return theirs(outputs, labels, **options)

        return of_classes
    if function not in _OF_VALUES:
        return None
    likewise, options = getattr(functional, function.__name__), _tensors(options)
    return lambda outputs, labels: likewise(
        outputs, labels.to(outputs.dtype).reshape(outputs.shape), **options
    )


def _tensors(options: dict[str, Any]) -> dict[str, Any]:
    import torch

    weights = {name: value for name, value in options.items() if hasattr(value, "shape")}
    return options | {name: torch.tensor(np.asarray(value)) for name, value in weights.items()}


_OF_CLASSES: dict[Any, Callable[[Any], Any]] = {
    losses.cross_entropy: lambda F: F.cross_entropy,
    losses.nll_loss: lambda F: F.nll_loss,
    losses.cross_entropy_of_probabilities: lambda F: (
        lambda outputs, labels, **options: F.nll_loss(
            outputs.log().clamp(min=-100), labels, **options
        )
    ),
}
#: Losses with the same name in PyTorch.
_OF_VALUES = (
    losses.binary_cross_entropy,
    losses.binary_cross_entropy_with_logits,
    losses.mse_loss,
    losses.l1_loss,
    losses.smooth_l1_loss,
    losses.huber_loss,
    losses.kl_div,
)


def default_device() -> str:
    """Returns ``"cuda"`` if JAX computes on a GPU and PyTorch can, else ``"cpu"``."""
    import torch

    return "cuda" if jax.default_backend() == "gpu" and torch.cuda.is_available() else "cpu"


def visible_cores() -> int:
    """Returns the number of CPU cores that this process may use."""
    known = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1

"""Examines the first steps of a pair, to find the cause of a difference."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.torch_side import Torch, classes_last, rows_of
from jaxnets.interop import Trace, to_numpy, trace_difference

_SAME = 1e-5
_OF_GRADIENTS = 1e-3
_TESTED = 64  # number of test examples
_STEPS = 2


class Cause(NamedTuple):
    """The cause of a difference.

    Attributes:
        layer: the first layer with the difference; None if there is no such layer.
        text: a sentence for the report.
    """

    layer: str | None
    text: str


class Probe:
    """The two networks of a pair with their initial weights.

    Args:
        this: the experiment.
        torch: PyTorch's side.
        seed: the seed of the pair.
        model: the jaxnets network, with the initial weights of both.
    """

    def __init__(self, this: Experiment, torch: Torch, seed: int, model: nnx.Module) -> None:
        self._this, self._torch, self._seed, self._model = this, torch, seed, model

    def forward(self, recorded: float) -> Cause | None:
        """Finds out why the losses of the first step differ.

        Args:
            recorded: PyTorch's loss in the comparison.
        """
        raw, labels = self._batch(0)
        training = self._torch.begin(self._seed, self._model)
        x, y = self._torch.tensors(self._this.their_inputs(raw), labels)
        with _without_gradients():
            again, twice = training.loss(x, y).item(), training.loss(x, y).item()
        if _apart(again, twice) > _SAME:
            text = (
                "PyTorch's loss of the same batch changes from call to call, so the network or the "
                "loss is random."
            )
            return Cause(None, text)
        if _apart(recorded, again) > _SAME:
            return Cause(
                None,
                f"PyTorch's loss of the first batch with the initial weights is {again:.6g}, so "
                "it trained on other examples (another shuffle) or from other weights.",
            )
        return self._of_inputs(raw) or self._of_layers(raw) or self._of_loss(raw, labels)

    def evaluation(self) -> Cause | None:
        """Compares the outputs for the first test examples in evaluation mode.

        Returns:
            The cause of a difference; None if the outputs agree.
        """
        raw, labels = self._this.test.inputs[:_TESTED], self._this.test.labels[:_TESTED]
        network = self._torch.begin(self._seed, self._model).network.eval()
        x, _ = self._torch.tensors(self._this.their_inputs(raw), labels)
        with _without_gradients():
            once, twice = (np.asarray(network(x).cpu()) for _ in range(2))
        trace = self._trace(raw)
        layer, words = _pointed(trace)
        if not np.array_equal(once, twice):
            return Cause(
                layer,
                "But PyTorch's outputs for the same test examples change from call to call, so "
                f"evaluation is random, such as by dropout. {words}".strip(),
            )
        if trace.first is None:
            return None
        text = f"But in evaluation mode, with the initial weights, the outputs differ. {words}"
        return Cause(layer, text)

    def updates(self) -> Cause | None:
        """Finds out why the losses agree at the first step but not at a later one."""
        ours, our_gradients = self._our_weights()
        theirs, their_gradients = self._their_weights()
        name, difference = _worst(our_gradients, their_gradients)
        if difference > _OF_GRADIENTS:
            layer = name.rpartition(".")[0]
            text = (
                f"The gradients of step 0 differ, most in {name}, by {difference:.1e} of its "
                "largest value, so the backward pass differs."
            )
            return Cause(layer, text)
        for step in range(_STEPS):
            mine, other = (_moved(weights, step, theirs[0]) for weights in (ours, theirs))
            difference = _length(other - mine) / max(_length(mine), 1e-30)
            if difference > _OF_GRADIENTS:
                return Cause(None, _of_update(step, mine, other, difference))
        return None

    def _batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = list(rows_of(self._this.plan(self._seed, 0)))
        place = min(step, len(rows) - 1)
        return self._this.augmented(rows[place], self._seed, place)

    def _of_inputs(self, raw: np.ndarray) -> Cause | None:
        mine, theirs = self._this.inputs(raw), np.asarray(self._this.their_inputs(raw))
        if mine.ndim == 4:
            mine = np.moveaxis(mine, -1, 1)
        if mine.size != theirs.size:
            return None
        mine, theirs = mine.reshape(theirs.shape).astype(float), theirs.astype(float)
        if np.abs(mine - theirs).max() <= _SAME * max(np.abs(mine).max(), 1):
            return None
        text = (
            f"The inputs of the first batch differ: those of jaxnets have mean {mine.mean():.4g} "
            f"and standard deviation {mine.std():.4g}, those of PyTorch {theirs.mean():.4g} and "
            f"{theirs.std():.4g}. The normalization may differ."
        )
        return Cause(None, text)

    def _of_layers(self, raw: np.ndarray) -> Cause | None:
        trace = self._trace(raw)
        layer, words = _pointed(trace)
        return None if trace.first is None else Cause(layer, words)

    def _trace(self, raw: np.ndarray) -> Trace:
        mine = self._this.inputs(raw)
        network = self._torch.begin(self._seed, self._model).network.cpu()
        theirs = np.asarray(self._this.their_inputs(raw))
        theirs = theirs.astype(np.int64) if theirs.dtype.kind in "iu" else theirs
        return trace_difference(self._model, network, theirs, to_ours=lambda _: mine)

    def _of_loss(self, raw: np.ndarray, labels: np.ndarray) -> Cause:
        outputs = np.array(_trained(self._model)(jnp.asarray(self._this.inputs(raw))))
        mine = float(self._this.loss(jnp.asarray(outputs), jnp.asarray(labels)))
        with _without_gradients():
            given, y = self._torch.tensors(outputs, labels)
            x, _ = self._torch.tensors(self._this.their_inputs(raw), labels)
            network = self._torch.begin(self._seed, self._model).network
            last = classes_last(network(x), y).shape == network(x).shape
            loss: Any = self._this.torch_loss
            theirs = loss(given if last else given.movedim(-1, 1), y).item()
        if _apart(mine, theirs) <= _SAME:
            text = "The layers agree in evaluation mode, so the difference is in training mode."
            return Cause(None, text)
        text = (
            f"The layers agree, but the loss functions differ: for the same {len(labels)} outputs, "
            f"PyTorch's loss is {theirs:.6g}, {theirs / mine:.4g} times that of jaxnets."
        )
        if _apart(theirs, mine * len(labels)) < 1e-3:
            text += " PyTorch's loss is a sum, that of jaxnets a mean."
        return Cause(None, text)

    def _our_weights(self) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """Returns jaxnets' weights before and after each step, and the first gradients."""
        this, model = self._this, _trained(self._model)
        graph, parameters, rest = nnx.split(model, nnx.Param, ...)

        def loss(parameters: Any, x: Any, y: Any) -> Any:
            return this.loss(nnx.merge(graph, parameters, rest, copy=True)(x), y)

        gradient = jax.jit(jax.grad(loss))
        update = optax.with_extra_args_support(this.optimizer).update
        state, weights, first = this.optimizer.init(parameters), [_named(model)], None
        for step in range(_STEPS):
            raw, labels = self._batch(step)
            x, y = jnp.asarray(this.inputs(raw)), jnp.asarray(labels)
            gradients = gradient(parameters, x, y)
            value = loss(parameters, x, y)
            changes, state = update(gradients, state, parameters, value=value, grad=gradients)
            parameters = optax.apply_updates(parameters, changes)
            first = first or _named(nnx.merge(graph, gradients, rest, copy=True))
            weights.append(_named(nnx.merge(graph, parameters, rest, copy=True)))
        assert first is not None
        return weights, first

    def _their_weights(self) -> tuple[list[dict[str, np.ndarray]], dict[str, np.ndarray]]:
        training = self._torch.begin(self._seed, self._model)
        named = dict(training.network.named_parameters())
        first: dict[str, np.ndarray] = {}
        weights = [_copied(named)]
        for step in range(_STEPS):
            raw, labels = self._batch(step)
            training.step(*self._torch.tensors(self._this.their_inputs(raw), labels))
            if not step:
                first = _copied({name: p.grad for name, p in named.items() if p.grad is not None})
            weights.append(_copied(named))
        return weights, first


def _of_update(step: int, mine: np.ndarray, theirs: np.ndarray, difference: float) -> str:
    lengths = _length(mine), _length(theirs)
    alike = float(mine @ theirs / max(lengths[0] * lengths[1], 1e-30))
    if step:
        return (
            f"The gradients of step 0 and the first updates agree, but the second updates differ "
            f"by {difference:.1e}, relative to jaxnets: the state of the optimizer differs, such "
            "as its momentum."
        )
    start = "The gradients of step 0 agree, but the first updates of the weights do not:"
    if alike > 0.9999:
        ratio = lengths[1] / lengths[0]
        return (
            f"{start} PyTorch's is {ratio:.4g} times that of jaxnets. The learning rate may differ."
        )
    return (
        f"{start} they differ by {difference:.1e}, relative to jaxnets, and in direction. The "
        "optimizer or its weight decay may differ."
    )


def _pointed(trace: Trace) -> tuple[str | None, str]:
    """Returns the first layer of a trace that differs, and a sentence about it."""
    if trace.first is None:
        return None, ""
    step, words = trace.first, ""
    layer = step.name
    if trace.unmatched:
        words = f"; {', '.join(trace.unmatched)} did not run in both"
        layer = layer or trace.unmatched[0]
    where = f"{step.name} ({step.kind})" if step.name else f"the outputs of {step.kind}"
    text = f"The first layer with another output is {where}, by {step.relative:.1e}{words}."
    return layer or None, text


def _worst(mine: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> tuple[str, float]:
    """Returns the parameter whose gradients differ most, relative to PyTorch's largest value."""
    largest = max((float(np.abs(each).max()) for each in theirs.values()), default=0.0)
    found = {
        name: float(np.abs(mine[name] - theirs[name]).max())
        / max(float(np.abs(theirs[name]).max()), 1e-3 * largest, 1e-30)
        for name in theirs
        if name in mine
    }
    name = max(found, key=lambda name: found[name], default="")
    return name, found.get(name, 0.0)


def _trained(model: nnx.Module) -> nnx.Module:
    copy = nnx.clone(model)
    copy.train()
    return copy


def _named(model: nnx.Module) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float64) for name, array in to_numpy(model).items()}


def _copied(named: dict[str, Any]) -> dict[str, np.ndarray]:
    return {
        name: np.array(tensor.detach().cpu().numpy(), np.float64) for name, tensor in named.items()
    }


def _moved(weights: list[dict[str, np.ndarray]], step: int, names: Iterable[str]) -> np.ndarray:
    """Returns the change of the parameters with these names by a step, as one vector."""
    before, after = weights[step : step + 2]
    return np.concatenate([np.ravel(after[name] - before[name]) for name in names])


def _length(vector: np.ndarray) -> float:
    return float(np.linalg.norm(vector))


def _apart(first: float, second: float) -> float:
    return abs(first - second) / max(abs(second), 1e-3)


def _without_gradients() -> Any:
    import torch

    return torch.no_grad()

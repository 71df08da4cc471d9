"""Averages of weights: over a training run (EMA, SWA), and over several networks (soups)."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    called,
    check_bool,
    check_integer,
    check_number,
    check_positive,
    describe,
    shown,
)
from jaxnets.data.batching import epoch_plan
from jaxnets.data.dataset import AnySplit, Draws, check_split
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.layers.normalization import BatchNorm
from jaxnets.optimizers.template import lerp
from jaxnets.training.evaluation import check_model, for_prediction
from jaxnets.training.objective import Batch, Objective, outputs_of
from jaxnets.training.records import TrainingRun
from jaxnets.training.state import TrainState
from jaxnets.training.steps import Step, check_step, reseed

#: Buffers in the sense of PyTorch: all state except for parameters and random streams.
_BUFFERS = nnx.All(nnx.Not(nnx.Param), nnx.Not(nnx.RngState))
_WEIGHTS = nnx.Not(nnx.RngState)


class Averages(NamedTuple):
    """The state of an ``Averaging`` step.

    Attributes:
        step: the slots of the wrapped step.
        average: the averaged parameters, and the buffers that belong to them.
        n_averaged: the number of states of the network in the average, int32.
        calls: the number of training steps so far, int32.
    """

    step: Any
    average: Any
    n_averaged: jax.Array
    calls: jax.Array


@dataclasses.dataclass(frozen=True)
class Averaging:
    """A training step that also averages weights, as ``ema`` and ``swa`` return.

    Attributes:
        step: the wrapped training step.
        decay: the weight of the old average; None for equal weights of all states.
        start: the number of steps before averaging starts.
        every: the number of steps between averaged states.
        use_buffers: whether buffers are averaged too; otherwise they are those of the newest state.
    """

    step: Step
    decay: float | None
    start: int = 0
    every: int = 1
    use_buffers: bool = False

    @property
    def evaluation(self) -> Objective | None:
        """The objective of the wrapped step."""
        return getattr(self.step, "evaluation", None)

    def init(self, model: nnx.Module) -> Averages:
        """Returns the initial state: the slots of the wrapped step and the network's weights."""
        zero = jnp.zeros((), jnp.int32)
        return Averages(self.step.init(model), _weights(model), zero, zero)

    def apply(
        self, model: nnx.Module, slots: Averages, batch: Batch, key: jax.Array
    ) -> tuple[Averages, Any]:
        """Takes one training step and updates the average; see ``Step``."""
        own, found = self.step.apply(model, slots.step, batch, key)
        nnx.pop(model, nnx.Intermediate)  # recorded activations are not weights
        calls, count = slots.calls + 1, slots.n_averaged
        due = (calls > self.start) & ((calls - self.start) % self.every == 0)

        def moved(old: jax.Array, new: jax.Array) -> jax.Array:
            return jnp.where(count == 0, new, self._with_state(old, new, count))

        parameters, buffers = _weights(model)
        after = jax.tree.map(moved, slots.average[0], parameters), buffers
        if self.use_buffers:
            after = after[0], jax.tree.map(moved, slots.average[1], buffers)
        average = jax.tree.map(lambda new, old: jnp.where(due, new, old), after, slots.average)
        return Averages(own, average, count + due.astype(jnp.int32), calls), found

    def _with_state(self, old: jax.Array, new: jax.Array, count: jax.Array) -> jax.Array:
        """Adds a state to the average. Averages of integers are truncated, as in PyTorch."""
        if not jnp.issubdtype(old.dtype, jnp.floating):
            whole = self._with_state(old.astype(jnp.float32), new.astype(jnp.float32), count)
            return whole.astype(old.dtype)
        if self.decay is None:
            return old + (new - old) / (count + 1).astype(old.dtype)
        return lerp(old, new, 1 - self.decay).astype(old.dtype)


def _weights(model: nnx.Module) -> tuple[Any, Any]:
    """Returns a network's parameters and buffers."""
    return nnx.state(model, nnx.Param), nnx.state(model, _BUFFERS)


def ema(step: Step, decay: float = 0.999, *, use_buffers: bool = False) -> Averaging:
    """Wraps a training step to keep an exponential moving average (EMA) of the weights.

    After each step, average ← decay · average + (1 - decay) · weights. The average starts as the
    weights after the first step. Training itself does not change. ``averaged`` returns the averaged
    network.

    Args:
        step: the training step, such as ``minimize`` returns.
        decay: the weight of the old average, in [0, 1].
        use_buffers: whether buffers, such as the running statistics of batch normalization, are
            averaged too. Otherwise the averaged network has the buffers of the newest state, and
            ``update_batch_norm`` can recompute them.

    Returns:
        A step for ``fit``, ``in_turn`` and ``train_step``.

    Raises:
        InputError: if an argument is invalid.

    PyTorch: ``torch.optim.swa_utils.AveragedModel`` with ``get_ema_multi_avg_fn(decay)``.

    Examples:
        >>> from jaxnets import losses, optimizers
        >>> from jaxnets.training import minimize, supervised
        >>> step = ema(minimize(supervised(losses.cross_entropy), optimizers.sgd(0.1)), 0.99)
    """
    check_step(step)
    decay = check_number("decay", decay, least=0, most=1)
    return Averaging(step, decay, use_buffers=check_bool("use_buffers", use_buffers))


def swa(step: Step, start: int = 0, every: int = 1, *, use_buffers: bool = False) -> Averaging:
    """Wraps a training step to keep the mean of the weights: stochastic weight averaging (SWA).

    Training itself does not change; ``jaxnets.optimizers.swalr`` is PyTorch's learning rate
    schedule for SWA. ``averaged`` returns the averaged network. If the network has batch
    normalization, use ``update_batch_norm`` afterwards, or ``use_buffers``.

    Args:
        step: the training step, such as ``minimize`` returns.
        start: the number of steps before averaging starts.
        every: the number of steps between averaged states. With the number of batches in an epoch,
            the mean is over the weights at the end of each epoch.
        use_buffers: see ``ema``.

    Returns:
        A step for ``fit``, ``in_turn`` and ``train_step``.

    Raises:
        InputError: if an argument is invalid.

    PyTorch: ``torch.optim.swa_utils.AveragedModel``.

    Examples:
        The mean over the weights at the end of epochs 6, 7, …, of 100 batches each:

        >>> from jaxnets import losses, optimizers
        >>> from jaxnets.training import minimize, supervised
        >>> step = minimize(supervised(losses.cross_entropy), optimizers.sgd(0.1))
        >>> step = swa(step, start=500, every=100)
    """
    check_step(step)
    check_integer("start", start, least=0, most=2**31 - 1)
    check_positive("every", every)
    return Averaging(step, None, start, every, check_bool("use_buffers", use_buffers))


def averaged(run: TrainingRun | TrainState) -> nnx.Module:
    """Returns the network with the averaged weights of a run with ``ema`` or ``swa``.

    Args:
        run: a run, or the state of your own training loop. Its step may be part of ``in_turn``.

    Returns:
        A new network, in evaluation mode.

    Raises:
        InputError: if the run has no average or several, or averaging has not started.
    """
    state = run.state if isinstance(run, TrainingRun) else run
    if not isinstance(state, TrainState):
        raise InputError("run", "a TrainingRun or a TrainState", shown(run))
    found = [
        part
        for part in jax.tree.leaves(state.optimizer_state, is_leaf=_is_average)
        if _is_average(part)
    ]
    if len(found) != 1:
        raise InputError("run", "a run with one step of ema or swa", f"{len(found)} of them")
    if int(found[0].n_averaged) == 0:
        got = f"no average after {int(found[0].calls)} steps"
        raise InputError("run", "a run that has started to average", got)
    model = state.model
    nnx.update(model, *found[0].average)
    return model


def _is_average(part: Any) -> bool:
    return isinstance(part, Averages)


def update_batch_norm(
    model: nnx.Module, split: AnySplit, *, transform: Transform | None = None, batch_size: int = 64
) -> nnx.Module:
    """Recomputes the running statistics of a network's batch normalization layers.

    The statistics are reset, and each becomes the mean of the statistics of all batches in one pass
    over the examples in training mode. Networks with averaged weights need this, because the
    running statistics were collected with other weights.

    Args:
        model: any ``nnx.Module``; it is not changed.
        split: the examples, used in their order.
        transform: see ``fit``.
        batch_size: the number of examples in a batch; the last batch may be smaller.

    Returns:
        A new network; a copy of ``model`` if it has no batch normalization.

    Raises:
        InputError: if an argument is invalid, or the examples do not fit the network.

    PyTorch: ``torch.optim.swa_utils.update_bn``.
    """
    check_positive("batch_size", batch_size)
    for_prediction(model, transform)  # only for its checks of the arguments
    check_split("split", split)
    if isinstance(split, Draws):
        raise InputError("split", "examples", shown(split))
    model = nnx.clone(model)
    layers = _batch_norms(model)
    for layer in layers:
        _reset(layer)
    if not layers:
        return model
    graphdef, buffers, rest = nnx.split(model, _BUFFERS, ...)

    @jax.jit
    def seen(buffers: Any, rest: Any, number: jax.Array, inputs: Any) -> Any:
        copy = nnx.merge(graphdef, buffers, rest, copy=True)
        _add_batch(copy, applied(transform, inputs), number)
        return nnx.state(copy, _BUFFERS)

    plan = epoch_plan(len(split), batch_size, seed=0, epoch=0, shuffle=False)
    for number, rows in enumerate([*plan.full, plan.rest]):
        if len(rows):
            inputs = jax.tree.map(jnp.asarray, split.gather(np.asarray(rows))[0])
            got = ", ".join(map(describe, jax.tree.leaves(inputs)))
            expected = "examples that the model accepts in training mode"
            arguments = buffers, rest, jnp.int32(number), inputs
            buffers = called("split", expected, seen, *arguments, got=got)
    nnx.update(model, buffers)
    return model


def _batch_norms(model: nnx.Module) -> list[Any]:
    kinds = BatchNorm | nnx.BatchNorm
    nodes = [node for _, node in nnx.iter_graph(model) if isinstance(node, kinds)]
    return [node for node in nodes if node.mean is not None]


def _reset(layer: Any) -> None:
    """Resets the running statistics of a layer to their initial values."""
    layer.mean.set_value(jnp.zeros_like(layer.mean[...]))
    layer.var.set_value(jnp.ones_like(layer.var[...]))
    if isinstance(layer, BatchNorm):
        layer.num_batches_tracked.set_value(jnp.zeros((), jnp.int32))


def _add_batch(model: nnx.Module, inputs: Any, number: jax.Array) -> None:
    """Runs the network on one batch and adds its statistics to the mean over batches."""
    model.train()
    reseed(model, jax.random.fold_in(jax.random.key(0), number))
    stock = []
    for layer in _batch_norms(model):
        layer.momentum = None  # the mean over all batches, in the BatchNorm of jaxnets
        if not isinstance(layer, BatchNorm):
            # Flax does not support this mean. With momentum 0, in Flax the weight of the old
            # statistics, each batch replaces the statistics, and the mean is computed below.
            layer.momentum = 0.0
            stock.append((layer, layer.mean[...], layer.var[...]))
    outputs_of(model, inputs)
    nnx.pop(model, nnx.Intermediate)
    for layer, mean, var in stock:
        for variable, old in ((layer.mean, mean), (layer.var, var)):
            variable.set_value(old + (variable[...] - old) / (number + 1).astype(old.dtype))


def soup(models: Sequence[nnx.Module]) -> nnx.Module:
    """Averages the weights of several networks: a uniform soup (Wortsman et al., 2022).

    Soups work for networks that were fine-tuned from the same weights with different seeds or
    settings. The mean of networks that were trained from different initial weights usually does not
    work.

    Args:
        models: networks of the same structure; they are not changed.

    Returns:
        A new network. Parameters and running statistics are means; integers are those of the first
        network.

    Raises:
        InputError: if there is no network, or they differ in structure.
    """
    _check_same_structure(models)

    def mean(*arrays: jax.Array) -> jax.Array:
        first = arrays[0]
        if not jnp.issubdtype(first.dtype, jnp.floating):
            return first
        total = sum(np.asarray(array, np.float64) for array in arrays)
        return jnp.asarray(total / len(arrays), first.dtype)

    made = nnx.clone(models[0])
    nnx.update(made, jax.tree.map(mean, *(nnx.state(model, _WEIGHTS) for model in models)))
    return made


class Soup(NamedTuple):
    """The result of ``greedy_soup``.

    Attributes:
        model: the network with the mean weights.
        chosen: the indices of the networks in the soup, the best first.
        score: the score of the soup.
    """

    model: nnx.Module
    chosen: tuple[int, ...]
    score: float


def greedy_soup(models: Sequence[nnx.Module], score: Callable[[nnx.Module], float]) -> Soup:
    """Averages those networks that do not lower the score: Wortsman et al. (2022), recipe 1.

    The networks are tried from the best to the worst. Each is added to the soup if the score of the
    mean does not drop.

    Args:
        models: networks of the same structure; they are not changed.
        score: a function that returns a network's score, larger is better. Use examples that are
            neither in the training split nor in the test split.

    Returns:
        The averaged network, its score, and the indices of the networks in it.

    Raises:
        InputError: if there is no network, they differ in structure, or a score is not finite.
    """
    _check_same_structure(models)

    def scored(model: nnx.Module) -> float:
        made = called("score", "a function of a network", score, model)
        return check_number("score", made)

    scores = [scored(model) for model in models]
    order = sorted(range(len(models)), key=lambda number: -scores[number])
    chosen, best, kept = [order[0]], scores[order[0]], nnx.clone(models[order[0]])
    for number in order[1:]:
        tried = soup([models[k] for k in (*chosen, number)])
        found = scored(tried)
        if found >= best:
            best, kept = found, tried
            chosen.append(number)
    return Soup(kept, tuple(chosen), best)


def _check_same_structure(models: Any) -> None:
    """Checks that all networks have arrays of the same names, shapes and dtypes."""
    if not isinstance(models, list | tuple) or not models:
        raise InputError("models", "a list of networks", shown(models))
    for model in models:
        check_model(model)
    first = _structure(models[0])
    for number, model in enumerate(models[1:], start=1):
        other = _structure(model)
        for name in first | other:
            one, two = first.get(name, "none"), other.get(name, "none")
            if one != two:
                got = f"{name} {one} and {two}"
                raise InputError(f"models[{number}]", "the structure of models[0]", got)


def _structure(model: nnx.Module) -> dict[str, str]:
    state = nnx.to_flat_state(nnx.state(model, _WEIGHTS))
    return {".".join(map(str, path)): describe(leaf.get_value()) for path, leaf in state}

"""Training steps as pure functions: minimize an objective, or take several steps in turn."""

import dataclasses
import zlib
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import (
    InputError,
    check_usable,
    describe,
    shown,
)
from jaxnets.metrics import Mean
from jaxnets.training.objective import (
    Batch,
    Measured,
    as_metrics,
    check_scalar,
    size_of,
)
from jaxnets.training.state import DRAWS, TrainState

#: The name under which a step says that it left its update out.
SKIPPED = "skipped"


class Step(Hashable, Protocol):
    """One training step of a model. Hashable, as it is a static argument of compiled programs.

    A class of your own needs these two methods. It may also have ``evaluation``, the objective
    that ``fit`` evaluates where it is given no other.
    """

    def init(self, model: nnx.Module) -> Any:
        """The state of the step beside the model, such as the optimizer's."""

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Mapping[str, Any]]:
        """Changes the model's variables by one step on a batch.

        Args:
            model: in training mode, its random streams seeded for this step; any of its variables
                may be changed, none added.
            slots: what ``init`` or the step before returned.
            batch: the columns of the batch.
            key: for what the step draws itself; another one for each step.

        Returns:
            The new slots and metrics by name, as of an ``Objective``; one is ``"loss"``.
        """


class StepMetrics(NamedTuple):
    """What a step measured on its batch, before the update; many steps' as arrays [steps, …].

    Attributes:
        loss: of the batch, as the objective returns it.
        metrics: by name, the loss included.
        skipped: whether the update was left out, bool; None where none ever is.
    """

    loss: Any
    metrics: Measured
    skipped: Any = None


def train_step(step: Step, state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
    """Takes one step on one batch: what ``fit`` runs, for loops of your own.

    A pure function; ``jax.jit(train_step, static_argnums=0)`` compiles it. Augmentation, dropout
    and the like are drawn from the state's key and step: the same state and batch give the same
    step.

    Args:
        step: such as ``minimize`` makes.
        state: before the step; see ``initialize``.
        batch: columns by name, such as ``{"inputs": …, "labels": …}``, each [batch, …].

    Returns:
        The state after the step, and what was measured before the update.

    Raises:
        ValueError: if an argument is bad.

    Examples:
        >>> import numpy as np
        >>> from jaxnets import losses, optimizers
        >>> from jaxnets.training import initialize, minimize, supervised
        >>> step = minimize(supervised(losses.mse_loss), optimizers.sgd(0.1))
        >>> state = initialize(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), step)
        >>> batch = {"inputs": np.ones((4, 2), np.float32), "labels": np.ones((4, 1), np.float32)}
        >>> state, metrics = train_step(step, state, batch)
        >>> int(state.step)
        1
    """
    _check_step(step, state, batch)
    model = nnx.merge(state.graphdef, state.parameters, state.model_state, copy=True)
    model.train()
    reseed(model, jax.random.fold_in(state.key, state.step))
    key = jax.random.fold_in(jax.random.fold_in(state.key, DRAWS), state.step)
    slots, found = step.apply(model, state.optimizer_state, batch, key)
    nnx.pop(model, nnx.Intermediate)
    _, parameters, model_state = nnx.split(model, nnx.Param, ...)
    after = dataclasses.replace(
        state,
        parameters=parameters,
        model_state=_with_streams_of(state.model_state, model_state),
        optimizer_state=slots,
        step=state.step + 1,
    )
    _check_same("the model's variables", (parameters, model_state), state)
    _check_same("its slots", slots, state.optimizer_state)
    return after, step_metrics(found, size_of(batch))


def step_metrics(found: Any, size: int) -> StepMetrics:
    """What a step returned, as the loop takes it.

    Args:
        found: metrics by name.
        size: examples in the batch.

    Raises:
        InputError: if there is no loss, or something is no metric.
    """
    if not isinstance(found, Mapping) or "loss" not in found:
        expected = "one whose apply returns (slots, metrics), with a metric 'loss'"
        raise InputError("step", expected, shown(found))
    others = {name: value for name, value in found.items() if name != SKIPPED}
    metrics = as_metrics(others, size)
    loss: Any = metrics["loss"]
    raw = loss.value if isinstance(loss, Mean) else getattr(loss, "total", loss)
    check_scalar("step", "one whose loss is a floating-point scalar", raw)
    return StepMetrics(jnp.asarray(raw), metrics, found.get(SKIPPED))


def _check_step(step: Any, state: Any, batch: Any) -> None:
    check_step(step)
    if not isinstance(state, TrainState):
        raise InputError("state", "a TrainState", state)
    if not isinstance(batch, Mapping):
        raise InputError("batch", "columns by name, such as {'inputs': …}", shown(batch))
    sizes = set()
    for column in jax.tree.leaves(dict(batch)):
        check_usable("batch", "columns that are arrays [batch, …]", column)
        if not column.ndim:
            raise InputError("batch", "columns that are arrays [batch, …]", describe(column))
        sizes.add(len(column))
    if len(sizes) > 1:
        raise InputError("batch", "columns of one length", f"lengths {sorted(sizes)}")


def check_step(step: Any) -> None:
    """Raises unless a step is one."""
    if not all(callable(getattr(type(step), name, None)) for name in ("init", "apply")):
        expected = "a step, such as jaxnets.training.minimize makes"
        raise InputError("step", expected, shown(step))
    check_hashable("step", step)


def check_hashable(argument: str, value: Any) -> None:
    """Raises unless a value can be hashed, as what programs are compiled for."""
    try:
        hash(value)
    except TypeError as error:
        raise InputError(argument, "something hashable", f"{shown(value)} ({error})") from error


def _check_same(what: str, after: Any, before: Any) -> None:
    """Raises if a step changed the structure, a shape or a dtype of what it carries."""
    if isinstance(before, TrainState):
        before = before.parameters, before.model_state
    old, new = (_described(tree) for tree in (before, after))
    structures: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if old != new or structures[0] != structures[1]:
        pairs = [pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]]
        got = " that became ".join(pairs[0]) if pairs else f"{len(new)} arrays, {len(old)} before"
        raise InputError("step", f"one that keeps the shapes and dtypes of {what}", got)


def _described(tree: Any) -> list[str]:
    return [f"{jnp.result_type(x)}{list(jnp.shape(x))}" for x in jax.tree.leaves(tree)]


def reseed(model: nnx.Module, key: jax.Array) -> None:
    """Sets every random stream of a model from one key and the stream's place in the model."""
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream):
            place = "/".join(map(str, path))
            fresh = jax.random.fold_in(key, zlib.crc32(place.encode()))
            fresh = _of_kind(fresh, jax.random.key_impl(node.key.get_value()))
            shape = node.key.shape
            node.key.set_value(jax.random.split(fresh, shape) if shape else fresh)
            node.count.set_value(jnp.zeros(shape, jnp.uint32))


def _of_kind(key: jax.Array, kind: Any) -> jax.Array:
    """A key for another generator, drawn from this one."""
    if jax.random.key_impl(key) == kind:
        return key
    words = jax.random.key_data(jax.random.key(0, impl=kind)).shape
    return jax.random.wrap_key_data(jax.random.bits(key, words, jnp.uint32), impl=kind)


def _with_streams_of(before: Any, after: Any) -> Any:
    """The model's other variables after a step; random streams stay, as each step seeds them."""
    return jax.tree.map(
        lambda old, new: old if isinstance(old, nnx.RngState) else new,
        before,
        after,
        is_leaf=lambda node: isinstance(node, nnx.Variable),
    )

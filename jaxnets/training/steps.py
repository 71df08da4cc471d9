"""The protocol of training steps, and ``train_step``, which takes one as a pure function."""

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

#: Key in a step's metrics of the flag that its update was skipped.
SKIPPED = "skipped"


class Step(Hashable, Protocol):
    """The protocol of training steps. Hashable, because a step is a static argument of programs.

    A user-defined class needs these two methods. It may also have an attribute ``evaluation``, the
    objective that ``fit`` evaluates by default.
    """

    def init(self, model: nnx.Module) -> Any:
        """Returns the state that the step needs in addition to the model, such as the optimizer's.

        The result is a pytree of arrays, called the step's slots.
        """

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, Mapping[str, Any]]:
        """Changes the model's variables by one step on a batch.

        Args:
            model: the model in training mode, its random streams seeded for this step. Variables
                may be changed, but not added.
            slots: the slots that ``init`` or the previous step returned.
            batch: the columns of the batch.
            key: a random key for the step itself; it differs at each step.

        Returns:
            The new slots, and metrics by name as an ``Objective`` returns them, with ``"loss"``.
        """


class StepMetrics(NamedTuple):
    """The metrics of a step, measured before the update; of several steps as arrays [steps, …].

    Attributes:
        loss: the loss of the batch, as the objective returns it.
        metrics: metrics by name, the loss included.
        skipped: whether the update was skipped, bool; None if the step never skips updates.
    """

    loss: Any
    metrics: Measured
    skipped: Any = None


def train_step(step: Step, state: TrainState, batch: Batch) -> tuple[TrainState, StepMetrics]:
    """Takes one training step on one batch, as ``fit`` does; for custom training loops.

    It is a pure function; ``jax.jit(train_step, static_argnums=0)`` compiles it. Augmentation,
    dropout and the like draw from the state's key and step, so the same state and batch give the
    same result.

    Args:
        step: a step, such as ``minimize`` makes.
        state: the state before the step; see ``initialize``.
        batch: columns by name, such as ``{"inputs": …, "labels": …}``, each [batch, …].

    Returns:
        The state after the step, and the metrics measured before the update.

    Raises:
        ValueError: if an argument is invalid.

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
    # A copy, because the step mutates the model and ``state`` must not change.
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
    """Converts the metrics that a step returned to ``StepMetrics``.

    Args:
        found: metrics by name.
        size: number of examples in the batch.

    Raises:
        InputError: if there is no loss, or a value is not a metric.
    """
    if not isinstance(found, Mapping) or "loss" not in found:
        expected = "one whose apply returns (slots, metrics), with a metric 'loss'"
        raise InputError("step", expected, shown(found))
    others = {name: value for name, value in found.items() if name != SKIPPED}
    metrics = as_metrics(others, size)
    loss: Any = metrics["loss"]
    # A loss that is a sum is a ``Ratio`` of the sum and the number of examples.
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
    """Checks that a value has the methods of a ``Step`` and is hashable."""
    if not all(callable(getattr(type(step), name, None)) for name in ("init", "apply")):
        expected = "a step, such as jaxnets.training.minimize makes"
        raise InputError("step", expected, shown(step))
    check_hashable("step", step)


def check_hashable(argument: str, value: Any) -> None:
    """Checks that a value is hashable, because programs are cached by it."""
    try:
        hash(value)
    except TypeError as error:
        raise InputError(argument, "a hashable value", f"{shown(value)} ({error})") from error


def _check_same(what: str, after: Any, before: Any) -> None:
    """Checks that a step kept the structure, shapes and dtypes of its state, as a scan requires."""
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
    """Sets each random stream of a model from one key and the stream's path.

    The path is hashed with CRC-32 because Python's hash of strings differs between processes.
    """
    for path, node in nnx.iter_graph(model):
        if isinstance(node, nnx.RngStream):
            place = "/".join(map(str, path))
            fresh = jax.random.fold_in(key, zlib.crc32(place.encode()))
            fresh = _of_kind(fresh, jax.random.key_impl(node.key.get_value()))
            shape = node.key.shape
            node.key.set_value(jax.random.split(fresh, shape) if shape else fresh)
            node.count.set_value(jnp.zeros(shape, jnp.uint32))


def _of_kind(key: jax.Array, kind: Any) -> jax.Array:
    """Returns a key of another generator ``kind``, drawn from this key."""
    if jax.random.key_impl(key) == kind:
        return key
    # Generators have keys of different sizes.
    words = jax.random.key_data(jax.random.key(0, impl=kind)).shape
    return jax.random.wrap_key_data(jax.random.bits(key, words, jnp.uint32), impl=kind)


def _with_streams_of(before: Any, after: Any) -> Any:
    """Returns the variables after a step, with the random streams as before it.

    Each step reseeds the streams, so their values at its end carry no information.
    """
    return jax.tree.map(
        lambda old, new: old if isinstance(old, nnx.RngState) else new,
        before,
        after,
        is_leaf=lambda node: isinstance(node, nnx.Variable),
    )

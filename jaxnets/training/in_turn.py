"""``in_turn``, the training step that takes several steps on each batch in order."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_positive, shown
from jaxnets.metrics import Mean
from jaxnets.training.minimize import submodules_of
from jaxnets.training.objective import Batch, Objective, measure, size_of
from jaxnets.training.steps import SKIPPED, Step, StepMetrics, check_step, step_metrics


@dataclasses.dataclass(frozen=True)
class InTurn:
    """The step that ``in_turn`` makes.

    Attributes:
        steps: the steps.
        names: one name for each step, the prefix of its metrics' names.
        every: for each step a number n; the step is taken on every n-th batch.
    """

    steps: tuple[Step, ...]
    names: tuple[str, ...]
    every: tuple[int, ...]

    @property
    def evaluation(self) -> Objective | None:
        """An objective that evaluates those of all steps; None if a step has none."""
        each: tuple[Any, ...] = tuple(getattr(step, "evaluation", None) for step in self.steps)
        return None if None in each else _Evaluations(self.names, each)

    def init(self, model: nnx.Module) -> Any:
        """Returns the steps' slots, and the number of calls so far, int32."""
        return tuple(step.init(model) for step in self.steps), jnp.zeros((), jnp.int32)

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """Takes each step that is due; see ``Step``."""
        every, calls = slots
        after, found = [], []
        for number, (step, own) in enumerate(zip(self.steps, every, strict=True)):
            run = _Run(step, model, batch, jax.random.fold_in(key, number))
            if self.every[number] == 1:  # known while tracing, so no conditional is needed
                own, metrics = run.take(own)
            else:
                due = (calls + 1) % self.every[number] == 0
                own, metrics = run.take_if(due, own)
            after.append(own)
            found.append(metrics)
        return (tuple(after), calls + 1), _named(self.names, found, size_of(batch))


class _Run(NamedTuple):
    """A step with the arguments of its call."""

    step: Step
    model: nnx.Module
    batch: Batch
    key: jax.Array

    def take(self, slots: Any) -> tuple[Any, StepMetrics]:
        """Takes the step; returns its slots and metrics."""
        after, found = self.step.apply(self.model, slots, self.batch, self.key)
        return after, step_metrics(found, size_of(self.batch))

    def take_if(self, due: jax.Array, slots: Any) -> tuple[Any, StepMetrics]:
        """Takes the step if it is due; otherwise nothing changes, and its metrics are zero.

        A ``cond`` requires both branches to return the same shapes, so the zeros are made from the
        shapes of the metrics of the step. Their count is zero too, so they do not affect a mean.
        """
        graphdef, state = nnx.split(self.model)

        def take(state: Any, slots: Any) -> Any:
            model = nnx.merge(graphdef, state, copy=True)
            after, metrics = self._replace(model=model).take(slots)
            nnx.pop(model, nnx.Intermediate)
            return nnx.state(model), after, metrics

        def leave(state: Any, slots: Any) -> Any:
            nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[2])
            return state, slots, nothing

        shapes = jax.eval_shape(take, state, slots)
        state, slots, metrics = lax.cond(due, take, leave, state, slots)
        nnx.update(self.model, state)
        return slots, metrics


def _named(names: Sequence[str], found: Sequence[StepMetrics], size: int) -> dict[str, Any]:
    """Prefixes the metrics of several steps with their names, and adds the sum of the losses."""
    loss = sum((one.loss for one in found[1:]), found[0].loss)
    named: dict[str, Any] = {"loss": Mean(loss, jnp.int32(size))}
    for name, one in zip(names, found, strict=True):
        named |= {f"{name}_{metric}": value for metric, value in one.metrics.items()}
    skipped = [one.skipped for one in found if one.skipped is not None]
    return {**named, SKIPPED: jnp.stack(skipped).any()} if skipped else named


@dataclasses.dataclass(frozen=True)
class _Evaluations:
    """An objective that evaluates several objectives, with their names as prefixes of metrics."""

    names: tuple[str, ...]
    objectives: tuple[Objective, ...]

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> Any:
        found = []
        for number, objective in enumerate(self.objectives):
            own = jax.random.fold_in(key, number)
            found.append(StepMetrics(*measure(objective, model, batch, own)))
        named = _named(self.names, found, size_of(batch))
        return named["loss"].value, named


def in_turn(
    *steps: Step, names: Sequence[str] | None = None, every: int | Sequence[int] = 1
) -> InTurn:
    """Makes a training step that takes several steps on each batch in order, as for a GAN.

    Each step starts from the model that the previous step updated. The names of a step's metrics
    begin with its name, such as ``critic_loss``; ``loss`` is the sum of the losses.

    Args:
        *steps: steps such as ``minimize`` makes, with ``wrt`` for the part that each trains.
        names: one name for each step; None for the name of the submodule in ``wrt``, or ``step1``,
            ``step2``, … if ``wrt`` is not a name.
        every: the interval of each step in batches: 1 takes it on every batch, n on every n-th. One
            integer for each step, or one for all.

    Returns:
        A step for ``fit`` and ``train_step``.

    Raises:
        ValueError: if an argument is invalid.
    """
    if not steps:
        raise InputError("steps", "at least one step", "none")
    for step in steps:
        check_step(step)
    if names is None:
        names = [_own_name(step) or f"step{place}" for place, step in enumerate(steps, start=1)]
    if isinstance(names, str) or not all(isinstance(x, str) and x.isidentifier() for x in names):
        raise InputError("names", "names such as 'critic'", shown(names))
    if len(names) != len(steps) or len(set(names)) < len(names):
        raise InputError("names", f"{len(steps)} different names, one for each step", shown(names))
    each = [every] * len(steps) if isinstance(every, int) else every
    if not isinstance(each, tuple | list) or len(each) != len(steps):
        raise InputError("every", f"a number, or {len(steps)} of them", shown(every))
    for number in each:
        check_positive("every", number)
    return InTurn(tuple(steps), tuple(names), tuple(each))


def _own_name(step: Any) -> str | None:
    """Returns the names of the submodules that a step trains, joined; None if unknown."""
    names = submodules_of(getattr(step, "wrt", None))
    return "_".join(names).replace(".", "_") if names else None

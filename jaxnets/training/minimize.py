"""The step that takes an objective's gradient and applies an optimizer's update."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import (
    InputError,
    check_choice,
    check_function,
    check_positive,
    describe,
    shown,
)
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.metrics import Metric
from jaxnets.optimizers.masks import masked
from jaxnets.training.objective import (
    Batch,
    Measured,
    Objective,
    Supervised,
    as_metrics,
    measure,
    size_of,
)
from jaxnets.training.state import check_optimizer
from jaxnets.training.steps import SKIPPED, check_hashable

#: Which part of a model: the dotted name of a submodule, such as ``"encoder"`` or
#: ``"blocks.0.conv"``, several of them, or any filter of ``nnx``.
Part = str | Sequence[str] | Any
NonFinite = Literal["stop", "skip"]


@dataclasses.dataclass(frozen=True)
class Minimize:
    """The step that ``minimize`` makes.

    Attributes:
        objective: what is minimized.
        optimizer: the gradient transformation.
        wrt: the filter of the variables that are trained.
        frozen: the dotted names of submodules that stay in evaluation mode, and untrained.
        accumulate: in how many parts a batch is taken.
        skip_non_finite: whether an update is left out whose loss or gradient is not finite.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    wrt: Any = nnx.Param
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    skip_non_finite: bool = False

    @property
    def evaluation(self) -> Objective:
        """The objective as it is evaluated: without augmentation."""
        return getattr(self.objective, "evaluation", self.objective)

    def init(self, model: nnx.Module) -> Any:
        """The optimizer's state for the variables that are trained.

        Raises:
            InputError: if there are none, or no submodule of a name.
        """
        for name in self.frozen:
            submodule(model, "frozen", name)
        for name in submodules_of(self.wrt):
            submodule(model, "wrt", name)
        trained = nnx.split(model, self.wrt, ...)[1]
        if not jax.tree.leaves(trained):
            got = ", ".join(submodules_of(self.wrt)) or shown(self.wrt)
            raise InputError("wrt", "what has parameters of the model that are not frozen", got)
        return self.optimizer.init(trained)

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """One optimizer step; see ``Step``."""
        graphdef, trained, rest = nnx.split(model, self.wrt, ...)

        def gradients_at(trained: Any) -> tuple[jax.Array, Any, dict[str, Any], Any]:
            return self._gradients(graphdef, trained, rest, batch, key)

        loss, gradients, metrics, rest_after = gradients_at(trained)
        updates, slots_after = optax.with_extra_args_support(self.optimizer).update(
            gradients,
            slots,
            trained,
            value=loss,
            grad=gradients,
            value_fn=_differentiable(gradients_at),
        )
        after = masked(optax.apply_updates(trained, updates)), rest_after, slots_after
        if self.skip_non_finite:
            finite = _all_finite((loss, gradients))
            before = trained, rest, slots
            after = jax.tree.map(lambda new, old: lax.select(finite, new, old), after, before)
            metrics = {**metrics, SKIPPED: ~finite}
        nnx.update(model, after[0], after[1])
        return after[2], metrics

    def _gradients(
        self, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Any, dict[str, Any], Any]:
        """The loss, its gradient, the metrics, and the model's other variables afterwards."""
        if self.accumulate > 1:
            run = _network_in_parts if isinstance(self.objective, Supervised) else _in_parts
            return run(self, graphdef, trained, rest, batch, key)

        def loss_of(trained: Any) -> tuple[jax.Array, Any]:
            model = self.model(graphdef, trained, rest)
            loss, metrics = measure(self.objective, model, batch, key)
            return loss, (metrics, self.others(model))

        (loss, (metrics, after)), gradients = _gradient(loss_of)(trained)
        return loss, gradients, metrics, after

    def model(self, graphdef: Any, trained: Any, rest: Any) -> nnx.Module:
        """A copy of the model, as statistics and streams change within the gradient's trace.

        Pruned weights are zero in it, whatever ``trained`` holds, so that their gradient is zero.
        """
        model = nnx.merge(graphdef, masked(trained), rest, copy=True)
        for name in self.frozen:
            submodule(model, "frozen", name).eval()
        return model

    def others(self, model: nnx.Module) -> Any:
        """The model's variables that are not trained."""
        nnx.pop(model, nnx.Intermediate)
        return nnx.split(model, self.wrt, ...)[2]


def minimize(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    wrt: Part = nnx.Param,
    frozen: str | Sequence[str] = (),
    accumulate: int = 1,
    non_finite: NonFinite = "stop",
) -> Minimize:
    """The step that takes an objective's gradient and applies an optimizer's update.

    Args:
        objective: a hashable function of (model, batch, key) that returns the loss to minimize, a
            scalar, or the loss and metrics by name; ``supervised`` makes one. A metric is a scalar,
            the mean over the batch, or a pair (total, count). ``batch["inputs"]`` and
            ``batch["labels"]`` are the split's columns [batch, …], and ``key`` is another one for
            each step. It may change the model's other variables, such as running statistics.
        optimizer: the gradient transformation. One that evaluates the loss itself, such as
            ``jaxnets.optimizers.lbfgs``, gets that of the batch as Optax's ``value_fn``.
        wrt: what is trained: a filter of ``nnx``, such as ``nnx.Param``, or the dotted name of a
            submodule, such as ``"critic"``, or several names.
        frozen: dotted names of submodules that are not trained and stay in evaluation mode, as
            after ``eval()`` in PyTorch: their running statistics do not change either.
        accumulate: in how many parts a batch is taken, one after the other. Of ``supervised`` the
            loss is that of the whole batch, whatever function it is; of any other objective it is
            the mean over the parts' losses, weighted by their number of examples.
        non_finite: what becomes of a step whose loss or gradient is not finite: ``"stop"`` takes
            it, and ``fit`` raises; ``"skip"`` leaves it out.

    Returns:
        A step for ``fit``, ``in_turn`` and ``train_step``.

    Raises:
        ValueError: if an argument is bad.
    """
    check_function("objective", objective, "a function of (model, batch, key)")
    check_hashable("objective", objective)
    check_optimizer(optimizer)
    names = _names("frozen", frozen)
    check_positive("accumulate", accumulate)
    check_choice("non_finite", non_finite, get_args(NonFinite))
    chosen = _filter(wrt)
    if names:
        parts = chosen.predicates if isinstance(chosen, nnx.All) else (chosen,)
        chosen = nnx.All(*parts, nnx.Not(Within(names)))
    return Minimize(objective, optimizer, chosen, names, accumulate, non_finite == "skip")


@dataclasses.dataclass(frozen=True)
class Within:
    """The filter of the variables within some submodules."""

    names: tuple[str, ...]

    def __call__(self, path: Any, value: Any) -> bool:
        """Whether a variable is within one of them."""
        dotted = ".".join(map(str, path))
        return any(f"{dotted}.".startswith(f"{name}.") for name in self.names)


def submodules_of(wrt: Any) -> tuple[str, ...]:
    """The dotted names that ``minimize`` was given as ``wrt``; empty for other filters."""
    parts = getattr(wrt, "predicates", ())
    return next((part.names for part in parts if isinstance(part, Within)), ())


def _filter(wrt: Any) -> Any:
    if isinstance(wrt, str) or (
        isinstance(wrt, tuple | list) and all(isinstance(x, str) for x in wrt)
    ):
        return nnx.All(nnx.Param, Within(_names("wrt", wrt)))
    if isinstance(wrt, type) and issubclass(wrt, nnx.Variable):
        return wrt
    try:
        nnx.filterlib.to_predicate(wrt)
        hash(wrt)
    except (TypeError, ValueError) as error:
        expected = "a hashable filter of nnx, or names of submodules"
        raise InputError("wrt", expected, shown(wrt)) from error
    return nnx.All(nnx.Param, wrt)


def _names(argument: str, names: Any) -> tuple[str, ...]:
    given = (names,) if isinstance(names, str) else names
    if not isinstance(given, tuple | list) or not all(isinstance(x, str) and x for x in given):
        raise InputError(argument, "dotted names of submodules, such as 'encoder'", shown(names))
    return tuple(given)


def submodule(model: nnx.Module, argument: str, name: str) -> nnx.Module:
    """A submodule by its dotted name.

    Raises:
        InputError: if there is none.
    """
    found: Any = model
    for part in name.split("."):
        try:
            found = found[int(part)] if part.isdigit() else getattr(found, part)
        except (AttributeError, LookupError, TypeError):
            found = None
    if not isinstance(found, nnx.Module):
        children = ", ".join(map(str, dict(nnx.iter_children(model))))
        raise InputError(argument, f"submodules of the model, such as {children}", repr(name))
    return found


@dataclasses.dataclass(frozen=True)
class _Parts:
    """A batch in parts of one size, and a smaller one for what is left over."""

    size: int
    part: int

    def cut(self, tree: Any) -> tuple[Any, Any]:
        """Arrays [batch, …] as [parts, part, …], and the rest [left, …]; None if nothing is."""
        full = self.size // self.part * self.part

        def stacked(array: jax.Array) -> jax.Array:
            return array[:full].reshape(-1, self.part, *array.shape[1:])

        left = jax.tree.map(lambda x: x[full:], tree) if full < self.size else None
        return jax.tree.map(stacked, tree), left

    def joined(self, stacked: Any, left: Any) -> Any:
        """The reverse of ``cut``."""
        whole = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), stacked)
        if left is None:
            return whole
        return jax.tree.map(lambda *both: jnp.concatenate(both), whole, left)


def _parts_of(batch: Batch, accumulate: int) -> _Parts:
    size = size_of(batch)
    part = -(-size // accumulate)
    while part > 1 and size % part == 1:  # one example alone has no batch statistics
        part += 1
    return _Parts(size, part)


def _network_in_parts(
    step: Minimize, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Any, Measured, Any]:
    """The gradient of a supervised objective, the network run on a part of the batch at a time.

    The outputs of all parts make the loss, which is thus that of the whole batch, whatever
    function it is. To come back from it each part is run once more. Batch statistics are a part's.
    """
    objective: Any = step.objective
    parts, seen = _parts_of(batch, step.accumulate), objective.augmented(batch, key)
    objective = objective.of_augmented

    def run(trained: Any, rest: Any, inputs: Any) -> tuple[Any, Any]:
        model = step.model(graphdef, trained, rest)
        outputs = objective.outputs(model, inputs)
        _check_of_examples(outputs, size_of({"inputs": inputs}))
        return outputs, step.others(model)

    def look(rest: Any, inputs: Any) -> tuple[Any, Any]:
        outputs, after = with_kernels(run)(trained, rest, inputs)
        return after, (outputs, rest)

    def learn(total: Any, one: Any) -> tuple[Any, None]:
        rest, inputs, cotangent = one
        outputs_of = with_kernels(lambda trained: run(trained, rest, inputs)[0])
        pull_back = jax.vjp(outputs_of, trained)[1]
        return jax.tree.map(jnp.add, total, pull_back(cotangent)[0]), None

    stacked, left = parts.cut(seen["inputs"])
    after, (outputs, before) = lax.scan(look, rest, stacked)
    last = None
    if left is not None:
        last_before = after
        after, (last, _) = look(after, left)

    def loss_of(outputs: Any) -> tuple[jax.Array, Any]:
        loss, made = objective.of_outputs(outputs, seen["labels"], batch["labels"])
        return loss, as_metrics({"loss": loss, **made}, parts.size)

    loss, pull_back, metrics = jax.vjp(loss_of, parts.joined(outputs, last), has_aux=True)
    cotangents, last_cotangent = parts.cut(pull_back(jnp.ones_like(loss))[0])
    gradients = jax.tree.map(jnp.zeros_like, trained)
    gradients, _ = lax.scan(learn, gradients, (before, stacked, cotangents))
    if left is not None:
        gradients, _ = learn(gradients, (last_before, left, last_cotangent))
    return loss, gradients, metrics, after


def _in_parts(
    step: Minimize, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Any, Measured, Any]:
    """The mean of an objective's gradients on parts of a batch, weighted by their examples."""
    parts = _parts_of(batch, step.accumulate)

    def of_part(rest: Any, number: Any, part: Batch) -> tuple[Any, Any]:
        weight = size_of(part) / parts.size

        def loss_of(trained: Any) -> tuple[jax.Array, Any]:
            model = step.model(graphdef, trained, rest)
            own = jax.random.fold_in(key, number)
            loss, metrics = measure(step.objective, model, part, own)
            return loss * weight, (metrics, step.others(model))

        (loss, (metrics, after)), gradients = _gradient(loss_of)(trained)
        return after, (loss, gradients, metrics)

    def learn(carry: Any, one: Any) -> tuple[Any, Any]:
        total, rest = carry
        after, (loss, gradients, metrics) = of_part(rest, *one)
        return (jax.tree.map(jnp.add, total, gradients), after), (loss, metrics)

    stacked, left = parts.cut(dict(batch))
    count = parts.size // parts.part
    carry = jax.tree.map(jnp.zeros_like, trained), rest
    carry, (losses, metrics) = lax.scan(learn, carry, (jnp.arange(count), stacked))
    if left is not None:
        carry, (last, last_metrics) = learn(carry, (count, left))
        losses = jnp.append(losses, last)
        metrics = jax.tree.map(
            lambda many, one: jnp.concatenate([many, one[None]]), metrics, last_metrics
        )
    gradients, after = carry
    return losses.sum(), gradients, {name: _combined(m) for name, m in metrics.items()}, after


def _combined(metric: Metric) -> Metric:
    """A metric of several parts of a batch, each array [parts, …], as one of the whole batch."""
    if hasattr(metric, "combined"):
        combined: Metric = metric.combined()
        return combined
    return jax.tree.map(lambda x: x.sum(axis=0), metric)


def _differentiable(gradients_at: Callable[[Any], tuple]) -> Callable[[Any], jax.Array]:
    """The loss as a function of the variables, for optimizers that evaluate it in a step.

    Its gradient is the step's own, by kernels and in parts of the batch as that is.
    """

    @jax.custom_vjp
    def loss(trained: Any) -> jax.Array:
        return gradients_at(trained)[0]

    def forward(trained: Any) -> tuple[jax.Array, Any]:
        return gradients_at(trained)[:2]

    def backward(gradients: Any, cotangent: jax.Array) -> tuple[Any]:
        return (jax.tree.map(lambda g: (cotangent * g).astype(g.dtype), gradients),)

    loss.defvjp(forward, backward)
    return loss


def _gradient(loss_of: Callable[[Any], tuple[jax.Array, Any]]) -> Callable[[Any], Any]:
    """The loss, what else is returned, and the gradient, in reverse mode by kernels."""
    return jax.value_and_grad(with_kernels(loss_of), has_aux=True)


def _check_of_examples(outputs: Any, count: int) -> None:
    """Raises unless outputs of parts of a batch can be put together: [count, …] each."""
    for leaf in jax.tree.leaves(outputs):
        if jnp.shape(leaf)[:1] != (count,):
            expected = "outputs [batch, …] alone, as each batch is taken in parts"
            got = f"{describe(jnp.asarray(leaf))} for {count} examples"
            raise InputError("model", expected, got)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()

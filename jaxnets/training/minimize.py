"""``minimize``, the training step of one optimizer and one objective."""

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

#: A part of a model: the dotted name of a submodule, such as ``"encoder"`` or ``"blocks.0.conv"``,
#: several names, or any filter of ``nnx``.
Part = str | Sequence[str] | Any
NonFinite = Literal["stop", "skip"]


@dataclasses.dataclass(frozen=True)
class Minimize:
    """The step that ``minimize`` makes.

    Attributes:
        objective: the objective to minimize.
        optimizer: the gradient transformation.
        wrt: the filter of the variables that are trained.
        frozen: the dotted names of submodules that are not trained and stay in evaluation mode.
        accumulate: number of parts into which each batch is divided.
        skip_non_finite: whether to skip updates whose loss or gradient is not finite.
    """

    objective: Objective
    optimizer: optax.GradientTransformation
    wrt: Any = nnx.Param
    frozen: tuple[str, ...] = ()
    accumulate: int = 1
    skip_non_finite: bool = False

    @property
    def evaluation(self) -> Objective:
        """The objective without augmentation."""
        return getattr(self.objective, "evaluation", self.objective)

    def init(self, model: nnx.Module) -> Any:
        """Returns the optimizer's state for the variables that are trained.

        Raises:
            InputError: if there are no such variables, or a submodule does not exist.
        """
        for name in self.frozen:
            submodule(model, "frozen", name)
        for name in submodules_of(self.wrt):
            submodule(model, "wrt", name)
        trained = nnx.split(model, self.wrt, ...)[1]
        if not jax.tree.leaves(trained):
            got = ", ".join(submodules_of(self.wrt)) or shown(self.wrt)
            raise InputError("wrt", "a part with parameters that are not frozen", got)
        return self.optimizer.init(trained)

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """Takes one optimizer step; see ``Step``."""
        graphdef, trained, rest = nnx.split(model, self.wrt, ...)

        def gradients_at(trained: Any) -> tuple[jax.Array, Any, dict[str, Any], Any]:
            return self._gradients(graphdef, trained, rest, batch, key)

        loss, gradients, metrics, rest_after = gradients_at(trained)
        updates, slots_after = optax.with_extra_args_support(self.optimizer).update(
            gradients,
            slots,
            trained,
            value=loss,  # the extra arguments are for line searches, such as L-BFGS
            grad=gradients,
            value_fn=_differentiable(gradients_at),
        )
        after = masked(optax.apply_updates(trained, updates)), rest_after, slots_after
        if self.skip_non_finite:
            # Not a ``cond``, which ``vmap`` over several runs turns into a select anyway.
            finite = _all_finite((loss, gradients))
            before = trained, rest, slots
            after = jax.tree.map(lambda new, old: lax.select(finite, new, old), after, before)
            metrics = {**metrics, SKIPPED: ~finite}
        nnx.update(model, after[0], after[1])
        return after[2], metrics

    def _gradients(
        self, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Any, dict[str, Any], Any]:
        """Returns the loss, its gradient, the metrics, and the model's other variables after it."""
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
        """Makes a copy of the model whose statistics and random streams the trace may change.

        Pruned weights are set to zero inside the differentiated function, so their gradient is
        zero as well.
        """
        model = nnx.merge(graphdef, masked(trained), rest, copy=True)
        for name in self.frozen:
            submodule(model, "frozen", name).eval()
        return model

    def others(self, model: nnx.Module) -> Any:
        """Returns the model's variables that are not trained."""
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
    """Makes a training step that computes an objective's gradient and updates the parameters.

    Args:
        objective: a hashable function of (model, batch, key) that returns the loss to minimize, a
            scalar, or the loss and metrics by name; ``supervised`` makes one. A metric is a scalar,
            the mean over the batch, or a pair (total, count). ``batch["inputs"]`` and
            ``batch["labels"]`` are the split's columns [batch, …], and ``key`` differs at each
            step. The objective may change the model's other variables, such as running statistics.
        optimizer: the gradient transformation. One that evaluates the loss itself, such as
            ``jaxnets.optimizers.lbfgs``, receives the loss of the batch as Optax's ``value_fn``.
        wrt: the variables to train: a filter of ``nnx``, such as ``nnx.Param``, or the dotted name
            of a submodule, such as ``"critic"``, or several names.
        frozen: dotted names of submodules that are not trained and stay in evaluation mode, as
            after ``eval()`` in PyTorch: their running statistics do not change either.
        accumulate: number of parts into which each batch is divided. For ``supervised``, the loss
            is that of the whole batch, for any loss function; for other objectives it is the mean
            of the parts' losses, weighted by their number of examples.
        non_finite: what to do if the loss or gradient is not finite: ``"stop"`` updates, and
            ``fit`` raises; ``"skip"`` skips the update.

    Returns:
        A step for ``fit``, ``in_turn`` and ``train_step``.

    Raises:
        ValueError: if an argument is invalid.
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
    """A filter that selects the variables within some submodules."""

    names: tuple[str, ...]

    def __call__(self, path: Any, value: Any) -> bool:
        """Whether a variable is within one of the submodules."""
        dotted = ".".join(map(str, path))
        return any(f"{dotted}.".startswith(f"{name}.") for name in self.names)


def submodules_of(wrt: Any) -> tuple[str, ...]:
    """Returns the dotted names passed to ``minimize`` as ``wrt``; empty for other filters."""
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
    """Returns a submodule by its dotted name.

    Raises:
        InputError: if it does not exist.
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
    """The division of a batch into parts of equal size and a smaller remainder."""

    size: int
    part: int

    def cut(self, tree: Any) -> tuple[Any, Any]:
        """Reshapes arrays [batch, …] to [parts, part, …]; also returns the remainder, or None."""
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
    while part > 1 and size % part == 1:  # a single example has no batch statistics
        part += 1
    return _Parts(size, part)


def _network_in_parts(
    step: Minimize, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Any, Measured, Any]:
    """Computes the gradient of a supervised objective with one part of the batch in memory.

    A first pass runs the network on each part and keeps only the outputs. The loss of all outputs
    is that of the whole batch, even if it is not a mean over examples. A second pass runs each
    part again and back-propagates its slice of the outputs' gradient. Batch statistics are
    computed for each part.
    """
    objective: Any = step.objective
    parts, seen = _parts_of(batch, step.accumulate), objective.augmented(batch, key)
    objective = objective.of_augmented

    def run(trained: Any, rest: Any, inputs: Any) -> tuple[Any, Any]:
        model = step.model(graphdef, trained, rest)
        outputs = objective.outputs(model, inputs)
        _check_of_examples(outputs, size_of({"inputs": inputs}))
        return outputs, step.others(model)

    def forward(rest: Any, inputs: Any) -> tuple[Any, Any]:
        outputs, after = with_kernels(run)(trained, rest, inputs)
        return after, (outputs, rest)

    def backward(total: Any, one: Any) -> tuple[Any, None]:
        # With the variables from before the part, so that dropout draws the same masks again.
        rest, inputs, cotangent = one
        outputs_of = with_kernels(lambda trained: run(trained, rest, inputs)[0])
        pull_back = jax.vjp(outputs_of, trained)[1]
        return jax.tree.map(jnp.add, total, pull_back(cotangent)[0]), None

    stacked, left = parts.cut(seen["inputs"])
    after, (outputs, before) = lax.scan(forward, rest, stacked)
    last = None
    if left is not None:
        last_before = after
        after, (last, _) = forward(after, left)

    def loss_of(outputs: Any) -> tuple[jax.Array, Any]:
        loss, made = objective.of_outputs(outputs, seen["labels"], batch["labels"])
        return loss, as_metrics({"loss": loss, **made}, parts.size)

    loss, pull_back, metrics = jax.vjp(loss_of, parts.joined(outputs, last), has_aux=True)
    cotangents, last_cotangent = parts.cut(pull_back(jnp.ones_like(loss))[0])
    # The carry accumulates the sum, so that only one part's gradient is in memory.
    gradients = jax.tree.map(jnp.zeros_like, trained)
    gradients, _ = lax.scan(backward, gradients, (before, stacked, cotangents))
    if left is not None:
        gradients, _ = backward(gradients, (last_before, left, last_cotangent))
    return loss, gradients, metrics, after


def _in_parts(
    step: Minimize, graphdef: Any, trained: Any, rest: Any, batch: Batch, key: jax.Array
) -> tuple[jax.Array, Any, Measured, Any]:
    """Averages an objective's gradients on parts of a batch, weighted by number of examples."""
    parts = _parts_of(batch, step.accumulate)

    def of_part(rest: Any, number: Any, part: Batch) -> tuple[Any, Any]:
        weight = size_of(part) / parts.size

        def loss_of(trained: Any) -> tuple[jax.Array, Any]:
            model = step.model(graphdef, trained, rest)
            own = jax.random.fold_in(key, number)  # parts must not repeat each other's noise
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
    """Combines a metric of several parts, each array [parts, …], into that of the whole batch."""
    if hasattr(metric, "combined"):
        combined: Metric = metric.combined()
        return combined
    return jax.tree.map(lambda x: x.sum(axis=0), metric)


def _differentiable(gradients_at: Callable[[Any], tuple]) -> Callable[[Any], jax.Array]:
    """Returns the loss as a function of the variables, for optimizers that evaluate it.

    A custom VJP makes its gradient the one of the training step, with native kernels and
    ``accumulate``, also where the optimizer differentiates it with plain ``jax.grad``.
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
    """Like ``jax.value_and_grad`` with auxiliary outputs, in reverse mode with native kernels."""
    return jax.value_and_grad(with_kernels(loss_of), has_aux=True)


def _check_of_examples(outputs: Any, count: int) -> None:
    """Checks that outputs of parts of a batch can be concatenated: [count, …] each."""
    for leaf in jax.tree.leaves(outputs):
        if jnp.shape(leaf)[:1] != (count,):
            expected = "outputs [batch, …] only, with accumulate above 1"
            got = f"{describe(jnp.asarray(leaf))} for {count} examples"
            raise InputError("model", expected, got)


def _all_finite(tree: Any) -> jax.Array:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()

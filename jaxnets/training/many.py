"""Many runs at once: one compiled program trains a model for each seed and learning rate."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnets import optimizers
from jaxnets.arrays import (
    InputError,
    called,
    check_number,
    check_positive,
    check_seed,
    entries,
    shown,
)
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.batching import Batching
from jaxnets.training.compiled import Compiled
from jaxnets.training.evaluation import check_model
from jaxnets.training.loop import Work
from jaxnets.training.members import Member, Members
from jaxnets.training.minimize import Minimize
from jaxnets.training.placement import one_device
from jaxnets.training.progress import Progress, reporter
from jaxnets.training.replicates import TrainingRuns
from jaxnets.training.saving import Journal
from jaxnets.training.state import TrainState, initialize
from jaxnets.training.steps import Step

#: Makes a model whose initial weights are drawn from these streams.
Build = Callable[[nnx.Rngs], nnx.Module]
# Others draw other numbers for many keys at once than for each alone.
_GENERATOR = "threefry2x32"
_PROBE = 0.271828


def fit_many(
    work: Work, build: Any, seeds: Any, learning_rates: Any, progress: Progress
) -> TrainingRuns:
    """What ``fit`` does where it is given seeds; the arguments are its own.

    Raises:
        InputError: if an argument is bad, or does not go with seeds.
    """
    if jax.process_count() > 1:
        raise InputError("seeds", "None with several processes", seeds)
    chosen = _checked_seeds(seeds)
    rates = None if learning_rates is None else _checked_rates(learning_rates)
    _check_batching(work.batching)
    if isinstance(build, nnx.Module) or not callable(build):
        expected = "a function of nnx.Rngs that makes the model, as seeds are given"
        raise InputError("model", expected, f"a {type(build).__name__}")
    steps = work.batching.plan(chosen[0], 0).steps
    begun = _begun(work.step, build, chosen)
    if rates is not None:
        _check_rate_counts(work.step, begun[0])
    pairs = list(itertools.product(rates or [None], range(len(chosen))))  # type: ignore[list-item]
    members = [Member(chosen[place], rate, Journal(begun[0])) for rate, place in pairs]
    here = one_device()
    feeds = work.feeds(begun[0], here)
    states = [_with_rate(begun[place], rate) for rate, place in pairs]
    together = here.replicate(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))
    course = Members(Compiled(here), work, feeds, members, together)
    with reporter(progress, epochs=work.epochs, steps=steps) as report:
        course.run(report)
    return course.result()


def _checked_seeds(seeds: Any) -> list[int]:
    given = entries(seeds)
    if given is None:
        return list(range(check_positive("seeds", seeds)))
    checked = [check_seed("seeds", seed) for seed in given]
    if not checked or len(set(checked)) < len(checked):
        raise InputError("seeds", "a number of seeds, or seeds of which no two are the same", seeds)
    return checked


def _checked_rates(rates: Any) -> list[float]:
    expected = "learning rates of which no two are the same"
    checked = [check_number("learning_rates", rate, least=0) for rate in entries(rates) or ()]
    if not checked or len(set(checked)) < len(checked):
        raise InputError("learning_rates", expected, rates)
    return checked


def _check_batching(batching: Batching) -> None:
    """Raises unless every member's batches have the same shapes."""
    if batching.buckets not in (None, 1):
        raise InputError("buckets", "None or 1 with seeds", batching.buckets)
    for split in batching.data.splits.values():
        if isinstance(split, StreamedSplit):
            raise InputError("data", "splits in memory with seeds", "one that is streamed")


def _begun(step: Step, build: Build, seeds: Sequence[int]) -> list[TrainState]:
    """For each seed the state in which training begins."""
    made = []
    for seed in seeds:
        model = built(build, seed)
        check_model(model)
        made.append(initialize(model, step, seed))
    first = made[0]
    for seed, state in zip(seeds, made, strict=True):
        if _shapes(state) != _shapes(first):
            got = f"others for {seed} and {seeds[0]}"
            raise InputError("model", "arrays of the same shapes for every seed", got)
    _check_generators(first)
    like = jax.tree.structure(first)
    return [jax.tree.unflatten(like, jax.tree.leaves(state)) for state in made]


def built(build: Build, seed: int) -> nnx.Module:
    """The model that a function of ``nnx.Rngs`` makes from a seed."""
    return called(
        "model", "a function of nnx.Rngs that makes a model", _made, build, seed, got=shown(build)
    )


def _made(build: Build, seed: int) -> nnx.Module:
    parameters = inspect.signature(build).parameters.values()
    several = inspect.Parameter.VAR_KEYWORD  # of classes Python sees no more
    by_name = any(each.name == "rngs" or each.kind is several for each in parameters)
    rngs = nnx.Rngs(seed)
    return build(rngs=rngs) if by_name else build(rngs)  # type: ignore[call-arg]


def _shapes(state: TrainState) -> list[Any]:
    leaves = jax.tree.leaves_with_path(state)
    return [(jax.tree_util.keystr(path), leaf.shape, leaf.dtype) for path, leaf in leaves]


def _check_generators(state: TrainState) -> None:
    for leaf in jax.tree.leaves(state):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            kind = str(jax.random.key_impl(leaf))
            if kind != _GENERATOR:
                raise InputError("seeds", f"None but for keys of {_GENERATOR}", f"keys of {kind}")


def _check_rate_counts(step: Step, state: TrainState) -> None:
    """Raises unless a step is taken with the learning rate that stands in the optimizer's state."""
    expected = "one of jaxnets.optimizers, as learning_rates are given"
    if not isinstance(step, Minimize):
        raise InputError("step", "one made by minimize, as learning_rates are given", "another")
    try:
        before = optimizers.set_learning_rate(state.optimizer_state, _PROBE)
    except InputError as error:
        raise InputError("optimizer", expected, "another") from error
    trained = nnx.split(state.model, step.wrt, ...)[1]
    nothing = jax.tree.map(jnp.zeros_like, trained)
    update = optax.with_extra_args_support(step.optimizer).update
    _, after = update(nothing, before, trained, value=jnp.zeros(()), grad=nothing)
    rates = optimizers.learning_rates
    if any(old != new for old, new in zip(rates(before), rates(after), strict=True)):
        expected = "one without a schedule, as learning_rates are given"
        raise InputError("optimizer", expected, "one that follows a schedule")


def _with_rate(state: TrainState, rate: float | None) -> TrainState:
    """The state with another learning rate, if any."""
    if rate is None:
        return state
    changed = optimizers.set_learning_rate(state.optimizer_state, rate)
    return dataclasses.replace(state, optimizer_state=changed)

"""Schedules compared with ``torch.optim.lr_scheduler`` at every step."""

import dataclasses
import inspect
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR

from jaxnets import interop, losses, optimizers, recipes
from jaxnets.data import Dataset, Split
from jaxnets.layers import Linear
from jaxnets.training import Callback, ReduceLROnPlateau, fit

STEPS = 300

rates = st.floats(1e-4, 10.0)
counts = st.integers(1, 60)
factors = st.floats(0.05, 1.0)


def theirs(make, lr, steps=STEPS, read=lambda group: group["lr"]):
    """The values that torch's scheduler sets before each step and after the last."""
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=lr, momentum=0.5)
    scheduler = make(optimizer)
    values = [read(optimizer.param_groups[0])]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == [optimizer.param_groups[0]["lr"]]
        values.append(read(optimizer.param_groups[0]))
    return np.array(values)


def check(schedule, expected, tolerance=1e-12):
    """Compares a schedule with expected values, without jit.

    All schedules have the same number of steps, so each operation is compiled only once.
    """
    steps = jnp.arange(STEPS + 1, dtype=jnp.int32)
    found = np.asarray(jax.vmap(schedule)(steps))[: len(expected)]
    assert found.dtype == (np.float64 if jax.config.jax_enable_x64 else np.float32)
    difference = np.abs(found - expected).max()
    assert difference <= tolerance * np.abs(expected).max(), np.abs(found - expected).argmax()


@given(lr=rates, step_size=counts, gamma=st.floats(0.01, 1.02))
def test_step_lr(lr, step_size, gamma):
    expected = theirs(lambda o: lr_scheduler.StepLR(o, step_size, gamma), lr)
    check(optimizers.step_lr(lr, step_size, gamma), expected)


@given(lr=rates, milestones=st.lists(st.integers(1, 320), max_size=5), gamma=st.floats(0.01, 2))
def test_multi_step_lr(lr, milestones, gamma):
    expected = theirs(lambda o: lr_scheduler.MultiStepLR(o, milestones, gamma), lr)
    check(optimizers.multi_step_lr(lr, milestones, gamma), expected)


@given(lr=rates, gamma=st.floats(0.05, 1.01))
def test_exponential_lr(lr, gamma):
    expected = theirs(lambda o: lr_scheduler.ExponentialLR(o, gamma), lr)
    check(optimizers.exponential_lr(lr, gamma), expected)


@given(lr=rates, total_iters=st.integers(1, 320), power=st.floats(0, 4))
def test_polynomial_lr(lr, total_iters, power):
    expected = theirs(lambda o: lr_scheduler.PolynomialLR(o, total_iters, power), lr)
    check(optimizers.polynomial_lr(lr, total_iters, power), expected)


@given(lr=rates, start=factors, end=st.floats(0, 1), total_iters=st.integers(1, 320))
def test_linear_lr(lr, start, end, total_iters):
    expected = theirs(lambda o: lr_scheduler.LinearLR(o, start, end, total_iters), lr)
    check(optimizers.linear_lr(lr, start, end, total_iters), expected)


@given(lr=rates, factor=factors, total_iters=st.integers(1, 320))
def test_constant_lr(lr, factor, total_iters):
    expected = theirs(lambda o: lr_scheduler.ConstantLR(o, factor, total_iters), lr)
    check(optimizers.constant_lr(lr, factor, total_iters), expected)


@given(lr=rates, T_max=st.integers(1, 80), eta_min=st.sampled_from([0, 1e-5, 0.5]))
def test_cosine_annealing_lr_goes_up_again_past_its_end(lr, T_max, eta_min):
    expected = theirs(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max, eta_min), lr)
    check(optimizers.cosine_annealing_lr(lr, T_max, eta_min), expected)


@pytest.mark.slow
@given(lr=rates, T_0=counts, T_mult=st.integers(1, 4), eta_min=st.sampled_from([0, 1e-5, 0.5]))
def test_cosine_annealing_warm_restarts(lr, T_0, T_mult, eta_min):
    expected = theirs(
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0, T_mult, eta_min), lr
    )
    check(optimizers.cosine_annealing_warm_restarts(lr, T_0, T_mult, eta_min), expected)


one_cycle = {
    "total_steps": st.integers(3, 300),
    "pct_start": st.floats(0, 1).map(lambda x: round(x, 3)),
    "anneal_strategy": st.sampled_from(["cos", "linear"]),
    "three_phase": st.booleans(),
}


def has_empty_phase(total_steps, pct_start, three_phase, **_):
    """Whether torch divides by zero, at the start or one step past the end."""
    ups = 2 if three_phase else 1
    return pct_start * total_steps == 1 or ups * (pct_start * total_steps - 1) == total_steps - 1


@given(
    max_lr=rates,
    options=st.fixed_dictionaries(
        one_cycle, optional={"div_factor": st.floats(1, 50), "final_div_factor": st.floats(1, 1e5)}
    ).filter(lambda options: not has_empty_phase(**options)),
)
def test_one_cycle_lr(max_lr, options):
    expected = theirs(
        lambda o: lr_scheduler.OneCycleLR(o, max_lr, **options), 0.1, options["total_steps"]
    )
    check(optimizers.one_cycle_lr(max_lr, **options), expected)


@given(
    options=st.fixed_dictionaries(
        one_cycle,
        optional={"base_momentum": st.floats(0, 0.9), "max_momentum": st.floats(0.8, 1)},
    ).filter(lambda options: not has_empty_phase(**options)),
)
def test_one_cycle_momentum(options):
    expected = theirs(
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, **options),
        0.1,
        options["total_steps"],
        lambda group: group["momentum"],
    )
    check(optimizers.one_cycle_momentum(**options), expected)


def test_one_cycle_by_epochs():
    expected = theirs(lambda o: lr_scheduler.OneCycleLR(o, 0.5, None, 10, 7), 0.1, 69)
    check(optimizers.one_cycle_lr(0.5, epochs=10, steps_per_epoch=7), expected)
    # torch divides by zero one step later; with pct_start=1 the rate never decreases.
    expected = theirs(lambda o: lr_scheduler.OneCycleLR(o, 0.5, 50, pct_start=1.0), 0.1, 49)
    check(optimizers.one_cycle_lr(0.5, 50, pct_start=1.0), expected)


@given(lr=rates, last=rates, steps=st.integers(0, 60), strategy=st.sampled_from(["cos", "linear"]))
def test_swalr(lr, last, steps, strategy):
    expected = theirs(lambda o: SWALR(o, last, steps, strategy), lr)
    check(optimizers.swalr(lr, last, steps, strategy), expected, 1e-11)


@given(lr=rates, period=counts)
def test_lambda_lr(lr, period):
    expected = theirs(lambda o: lr_scheduler.LambdaLR(o, lambda t: 1 + math.sin(t / period)), lr)
    schedule = optimizers.lambda_lr(lr, lambda t: 1 + jnp.sin(t.astype(jnp.float64) / period))
    check(schedule, expected)


PARTS = [
    (lambda lr: optimizers.linear_lr(lr, 0.1, total_iters=7), lr_scheduler.LinearLR, (0.1, 1.0, 7)),
    (lambda lr: optimizers.cosine_annealing_lr(lr, 40), lr_scheduler.CosineAnnealingLR, (40,)),
    (lambda lr: optimizers.exponential_lr(lr, 0.97), lr_scheduler.ExponentialLR, (0.97,)),
    (lambda lr: optimizers.step_lr(lr, 9, 0.5), lr_scheduler.StepLR, (9, 0.5)),
    (lambda lr: optimizers.constant_lr(lr), lr_scheduler.ConstantLR, ()),
    (lambda lr: optimizers.polynomial_lr(lr, 50, 2.0), lr_scheduler.PolynomialLR, (50, 2.0)),
    (
        lambda lr: optimizers.cosine_annealing_warm_restarts(lr, 11, 2),
        lr_scheduler.CosineAnnealingWarmRestarts,
        (11, 2),
    ),
]


@given(
    lr=rates,
    parts=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
    lengths=st.lists(st.integers(1, 90), min_size=3, max_size=3),
)
def test_sequential_lr(lr, parts, lengths):
    milestones = np.cumsum(lengths).tolist()[: len(parts) - 1]

    def make(optimizer):
        return lr_scheduler.SequentialLR(
            optimizer, [kind(optimizer, *options) for _, kind, options in parts], milestones
        )

    schedule = optimizers.sequential_lr([ours(lr) for ours, *_ in parts], milestones)
    check(schedule, theirs(make, lr))


def falling(n):
    return 1 / (5 + float(n)) if isinstance(n, int) else 1 / (5 + n.astype(jnp.float64))


CYCLES = [
    {"step_size_up": 7},
    {"step_size_up": 7, "step_size_down": 12, "mode": "triangular2"},
    {"step_size_up": 20, "step_size_down": 1, "mode": "exp_range", "gamma": 0.99},
    {"step_size_up": 9, "scale_fn": falling},
    {"step_size_up": 9, "scale_fn": falling, "scale_mode": "iterations"},
]


@pytest.mark.parametrize("options", CYCLES)
def test_cyclic_lr_and_momentum(options):
    def make(optimizer):
        return lr_scheduler.CyclicLR(optimizer, 0.02, 0.3, **options)

    check(optimizers.cyclic_lr(0.02, 0.3, **options), theirs(make, 0.1))
    expected = theirs(make, 0.1, read=lambda group: group["momentum"])
    check(optimizers.cyclic_momentum(**options), expected)


def test_multiplicative_lr():
    expected = theirs(lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 1 - falling(t)), 0.1)
    check(optimizers.multiplicative_lr(0.1, lambda t: 1 - falling(t)), expected)
    doubled = optimizers.multiplicative_lr(0.1, lambda t: jnp.where(t % 500 == 0, 2.0, 1.0))
    np.testing.assert_allclose([doubled(1024), doubled(1500), doubled(2048)], [0.4, 0.8, 1.6])


@pytest.mark.parametrize("places", [[0, 1, 2, 3], [4, 5], [1, 0, 2]])
def test_chained_scheduler(places):
    parts = [PARTS[i] for i in places]

    def make(optimizer):
        return lr_scheduler.ChainedScheduler(
            [kind(optimizer, *options) for _, kind, options in parts]
        )

    schedule = optimizers.chained_scheduler([ours(0.2) for ours, *_ in parts])
    check(schedule, theirs(make, 0.2, 40))  # later, a cosine increases again


@given(steps_per_epoch=st.integers(1, 40), step_size=st.integers(1, 9))
def test_per_epoch(steps_per_epoch, step_size):
    once_an_epoch = theirs(lambda o: lr_scheduler.StepLR(o, step_size), 0.1)
    expected = np.repeat(once_an_epoch, steps_per_epoch)[:STEPS]
    check(optimizers.per_epoch(optimizers.step_lr(0.1, step_size), steps_per_epoch), expected)


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (optimizers.exponential_lr(0.1, 0.999), lambda o: lr_scheduler.ExponentialLR(o, 0.999)),
        (optimizers.step_lr(0.1, 1, 0.9), lambda o: lr_scheduler.StepLR(o, 1, 0.9)),
        (optimizers.cosine_annealing_lr(0.1, 97), lambda o: lr_scheduler.CosineAnnealingLR(o, 97)),
        (optimizers.one_cycle_lr(0.1, 300), lambda o: lr_scheduler.OneCycleLR(o, 0.1, 300)),
        (optimizers.polynomial_lr(0.1, 300), lambda o: lr_scheduler.PolynomialLR(o, 300)),
    ],
)
def test_in_float32_each_value_is_right_to_its_last_digits(schedule, make):
    with jax.enable_x64(False):
        found = np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(STEPS)))
    expected = theirs(make, 0.1)[:STEPS]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-12)


@pytest.mark.parametrize("milestones", [[0], [0, 0], [0, 3], [3, 0]])
def test_milestones_at_the_start(milestones):
    def make(optimizer):
        return lr_scheduler.MultiStepLR(optimizer, milestones)

    check(optimizers.multi_step_lr(0.1, milestones), theirs(make, 0.1, steps=5))


def test_a_schedule_that_begins_at_the_start():
    def make(optimizer):
        first = lr_scheduler.ConstantLR(optimizer, 0.5, 100)
        second = lr_scheduler.ExponentialLR(optimizer, 0.5)
        return lr_scheduler.SequentialLR(optimizer, [first, second], [0])

    parts = optimizers.constant_lr(0.1, 0.5, 100), optimizers.exponential_lr(0.1, 0.5)
    check(optimizers.sequential_lr(parts, [0]), theirs(make, 0.1, steps=5))


@given(
    options=st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.sampled_from([0.1, 0.5, 0.9]),
            "patience": st.integers(0, 4),
            "threshold": st.sampled_from([0.0, 1e-4, 0.05]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.sampled_from([0.0, 0.01, [0.02, 0.0]]),
            "eps": st.sampled_from([1e-8, 0.004]),
        }
    ),
    seed=st.integers(0, 1000),
)
def test_reduce_lr_on_plateau(options, seed):
    rng = np.random.default_rng(seed)
    metrics = np.exp(-0.02 * np.arange(100)) + 0.1 * rng.normal(size=100)
    metrics[50] = np.nan
    parameters = [torch.ones(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [parameters[0]]}, {"params": [parameters[1]], "lr": 1}])
    optimizer.param_groups[0]["lr"] = 0.1
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **options)

    transformation = optimizers.param_groups(optimizers.sgd(0.1), [("second", optimizers.sgd(1))])
    state = transformation.init({"first": jnp.ones(1), "second": jnp.ones(1)})
    plateau = optimizers.reduce_lr_on_plateau(**options)

    @jax.jit
    def run(metrics, state):
        def epoch(carry, metric):
            epochs, state = plateau.update(metric, *carry)
            return (epochs, state), jnp.stack(optimizers.learning_rates(state))

        return jax.lax.scan(epoch, (plateau.init(), state), metrics)[1]

    found = run(jnp.asarray(metrics), state)
    for rates_, metric in zip(found, metrics, strict=True):
        scheduler.step(metric)
        np.testing.assert_allclose(rates_, scheduler.get_last_lr(), rtol=1e-12)


EPOCHS, BATCHES = 8, 3


@pytest.mark.parametrize(
    ("name", "options", "make"),
    [
        ("step", {"step_size": 3}, lambda o: lr_scheduler.StepLR(o, 3)),
        (
            "multistep",
            {"milestones": (2, 5), "gamma": 0.5},
            lambda o: lr_scheduler.MultiStepLR(o, [2, 5], 0.5),
        ),
        ("exponential", {"gamma": 0.8}, lambda o: lr_scheduler.ExponentialLR(o, 0.8)),
        ("cosine", {}, lambda o: lr_scheduler.CosineAnnealingLR(o, EPOCHS)),
        ("cosine", {"T_max": 3}, lambda o: lr_scheduler.CosineAnnealingLR(o, 3)),
        ("cosine-restarts", {"T_0": 2}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2)),
        ("linear", {}, lambda o: lr_scheduler.LinearLR(o)),
        ("constant", {"total_iters": 2}, lambda o: lr_scheduler.ConstantLR(o, total_iters=2)),
        ("polynomial", {"power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, power=2.0)),
        ("swa", {"swa_lr": 0.1, "anneal_epochs": 3}, lambda o: SWALR(o, 0.1, 3)),
    ],
)
def test_a_recipes_schedule_moves_on_after_each_epoch(name, options, make):
    expected = np.repeat(theirs(make, 0.3, EPOCHS), BATCHES)[: EPOCHS * BATCHES]
    np.testing.assert_allclose(used_by_a_recipe(name, options), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("options", [{}, {"total_steps": 20, "pct_start": 0.5}])
def test_a_recipes_one_cycle_moves_on_after_each_step(options):
    told = options or {"epochs": EPOCHS, "steps_per_epoch": BATCHES}
    cycle = partial(lr_scheduler.OneCycleLR, max_lr=0.3, cycle_momentum=False, **told)
    steps = options.get("total_steps", EPOCHS * BATCHES)
    expected = theirs(cycle, 0.3, steps - 1)
    found = used_by_a_recipe("onecycle", options)[:steps]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def used_by_a_recipe(scheduler, options):
    """The learning rate of each step of a recipe; an epoch has two full batches and a part."""
    own = dataclasses.replace(
        recipes.recipe("linear-regression"), optimizer_options={"lr": 0.3}, batch_size=8,
        epochs=EPOCHS, scheduler=scheduler, scheduler_options=options,
    )  # fmt: skip
    split = Split(np.zeros((20, 1), np.float32), np.zeros((20, 1), np.float32))
    optimizer = recipes.fit_settings(own, Dataset("none", split, split))[1]["optimizer"]
    parameters = {"w": jnp.zeros(())}
    state, rates = optimizer.init(parameters), []
    for _ in range(EPOCHS * BATCHES):
        updates, state = optimizer.update({"w": jnp.ones(())}, state, parameters)
        rates.append(-float(updates["w"]))
    return np.array(rates)


def test_every_optimizer_takes_a_schedule_from_its_own_rate():
    for name in optimizers.OPTIMIZERS:
        own = dataclasses.replace(
            recipes.recipe("linear-regression"), optimizer=name, optimizer_options={},
            scheduler="exponential", scheduler_options={"gamma": 0.5},
        )  # fmt: skip
        split = Split(np.zeros((20, 1), np.float32), np.zeros((20, 1), np.float32))
        optimizer = recipes.fit_settings(own, Dataset("none", split, split))[1]["optimizer"]
        (rate,) = optimizers.learning_rates(optimizer.init({"w": jnp.zeros((1, 1))}))
        usual = inspect.signature(optimizers.OPTIMIZERS[name]).parameters["lr"].default
        assert rate == pytest.approx(usual)


class Rates(Callback):
    """Records the learning rates after each epoch."""

    def __init__(self):
        self.seen = []

    def __call__(self, record):
        self.seen.append(self.run.learning_rates)


def regression():
    draw = np.random.default_rng(0)
    inputs, noise = draw.normal(size=(8, 3)), draw.normal(size=(8, 2))
    split = Split(inputs, inputs @ draw.normal(size=(3, 2)) + 0.1 * noise)
    return Dataset("drawn", split, split)


PLATEAU = {"factor": 0.4, "patience": 1, "threshold": 0.5, "cooldown": 1, "min_lr": [0.01, 0.02]}


def test_a_plateau_in_fit_is_that_of_a_loop():
    layer = Linear(3, 2, rngs=nnx.Rngs(0), param_dtype=jnp.float64)
    sgd = optimizers.param_groups(optimizers.sgd(0.3), [("bias", optimizers.sgd(0.2))])
    rates = Rates()
    settings = {"loss": losses.mse_loss, "optimizer": sgd, "epochs": 16, "batch_size": 8}
    settings |= {"callbacks": [ReduceLROnPlateau(**PLATEAU), rates], "progress": "none"}
    data = regression()
    run = fit(layer, data, **settings)
    theirs_ = torch.nn.Linear(3, 2, dtype=torch.float64)
    theirs_.load_state_dict(interop.to_torch(layer))
    groups = [{"params": [theirs_.weight], "lr": 0.3}, {"params": [theirs_.bias], "lr": 0.2}]
    optimizer = torch.optim.SGD(groups)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, **PLATEAU)
    x, y = torch.tensor(data.train.inputs), torch.tensor(data.train.labels)

    def loss():
        return torch.nn.functional.mse_loss(theirs_(x), y)

    for found in rates.seen:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        scheduler.step(loss().item())
        np.testing.assert_allclose(found, scheduler.get_last_lr(), rtol=1e-12)
    assert rates.seen[-1] == [0.01, 0.02]
    np.testing.assert_allclose(run.model.kernel[...].T, theirs_.weight.detach(), rtol=1e-10)

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import optimizers
from jaxnets.arrays import InputError

ARGUMENTS = {
    "chained_scheduler": ([optimizers.step_lr(0.1, 3), optimizers.constant_lr(0.1)],),
    "constant_lr": (0.1,),
    "cosine_annealing_lr": (0.1, 10),
    "cosine_annealing_warm_restarts": (0.1, 10),
    "cyclic_lr": (0.1, 0.2),
    "exponential_lr": (0.1, 0.9),
    "lambda_lr": (0.1, lambda count: jnp.where(count < 5, 1.0, 0.5)),
    "linear_lr": (0.1,),
    "multi_step_lr": (0.1, [3, 5]),
    "multiplicative_lr": (0.1, lambda count: 0.9),
    "one_cycle_lr": (0.1, 20),
    "polynomial_lr": (0.1,),
    "sequential_lr": ([lambda count: 0.1, lambda count: 0.2], [5]),
    "step_lr": (0.1, 5),
    "swalr": (0.1, 0.2),
}
WITHOUT_LR = {"chained_scheduler", "cyclic_lr", "one_cycle_lr", "sequential_lr"}
WITH_LR = [name for name in ARGUMENTS if name not in WITHOUT_LR]


@pytest.mark.parametrize("name", optimizers.SCHEDULES)
def test_counts_may_be_numbers_or_traced(name):
    schedule = optimizers.SCHEDULES[name](*ARGUMENTS[name])
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(12))
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, [schedule(count) for count in range(12)], rtol=1e-6)


# multiplicative_lr is slow: it is a product of as many factors as steps.
@pytest.mark.parametrize("name", [name for name in ARGUMENTS if name != "multiplicative_lr"])
def test_far_beyond_the_end_the_value_is_finite(name):
    schedule = optimizers.SCHEDULES[name](*ARGUMENTS[name])
    assert 0 <= schedule(2**31 - 1) <= 0.2


def test_one_cycle_rests_past_its_end():
    schedule = optimizers.one_cycle_lr(0.1, 20, anneal_strategy="linear")
    np.testing.assert_allclose([schedule(19), schedule(21), schedule(500)], 4e-7, rtol=1e-4)


def test_long_restarts_begin_where_they_should():
    schedule = optimizers.cosine_annealing_warm_restarts(1.0, 10, 2)
    starts = [10 * (2**n - 1) for n in range(27)]
    assert [schedule(start) for start in starts] == [1.0] * 27
    assert all(schedule(start - 1) < 0.1 for start in starts[1:])


@pytest.mark.parametrize("name", WITH_LR)
@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, "0.1", None])
def test_bad_learning_rate(name, lr):
    with pytest.raises(InputError, match="lr: expected a finite number >= 0, got"):
        optimizers.SCHEDULES[name](lr, *ARGUMENTS[name][1:])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("step_lr", {"step_size": 0}, "step_size: expected a positive integer, got 0"),
        ("step_lr", {"step_size": 2, "gamma": 0}, "gamma: expected a finite number > 0, got 0"),
        ("step_lr", {"step_size": 2**31}, "step_size: expected an integer of 32 bits"),
        ("multi_step_lr", {"milestones": [3, -1]}, "milestones: expected an integer >= 0, got -1"),
        ("multi_step_lr", {"milestones": [3], "gamma": -1}, "gamma: expected a finite number > 0"),
        ("exponential_lr", {"gamma": math.nan}, "gamma: expected a finite number > 0, got nan"),
        ("polynomial_lr", {"total_iters": 0}, "total_iters: expected a positive integer, got 0"),
        ("polynomial_lr", {"power": -1}, "power: expected a finite number >= 0, got -1"),
        ("linear_lr", {"start_factor": 0}, r"start_factor: expected a number in \(0, 1\], got 0"),
        ("linear_lr", {"start_factor": 2}, r"start_factor: expected a number in \(0, 1\], got 2"),
        ("linear_lr", {"end_factor": 1.1}, r"end_factor: expected a number in \[0, 1\], got 1.1"),
        ("linear_lr", {"total_iters": 2.5}, "total_iters: expected a positive integer, got 2.5"),
        ("constant_lr", {"factor": -0.1}, r"factor: expected a number in \[0, 1\], got -0.1"),
        ("constant_lr", {"total_iters": 0}, "total_iters: expected a positive integer, got 0"),
        ("cosine_annealing_lr", {"T_max": 0}, "T_max: expected a positive integer, got 0"),
        ("cosine_annealing_lr", {"T_max": 5, "eta_min": -1}, "eta_min: expected a finite number"),
        ("cosine_annealing_warm_restarts", {"T_0": 0}, "T_0: expected a positive integer, got 0"),
        ("cosine_annealing_warm_restarts", {"T_0": 1, "T_mult": 0}, "T_mult: expected a positive"),
        ("swalr", {"swa_lr": -1}, "swa_lr: expected a finite number >= 0, got -1"),
        ("swalr", {"swa_lr": 1, "anneal_epochs": -1}, "anneal_epochs: expected an integer"),
        ("swalr", {"swa_lr": 1, "anneal_strategy": "sine"}, "anneal_strategy: expected one of cos"),
        ("lambda_lr", {"lr_lambda": 0.5}, "lr_lambda: expected a function of the number of step"),
        ("multiplicative_lr", {"lr_lambda": 0.5}, "lr_lambda: expected a function of the numbe"),
        ("cyclic_lr", {"max_lr": -1}, "max_lr: expected a finite number >= 0, got -1"),
        ("cyclic_lr", {"max_lr": 1, "step_size_up": 0}, "step_size_up: expected a positive"),
        ("cyclic_lr", {"max_lr": 1, "step_size_down": 0}, "step_size_down: expected a positive"),
        ("cyclic_lr", {"max_lr": 1, "mode": "sine"}, "mode: expected one of triangular, tri"),
        ("cyclic_lr", {"max_lr": 1, "gamma": 0}, "gamma: expected a finite number > 0, got 0"),
        ("cyclic_lr", {"max_lr": 1, "scale_fn": 2}, "scale_fn: expected a function of the number"),
        ("cyclic_lr", {"max_lr": 1, "scale_mode": "step"}, "scale_mode: expected one of cycle, it"),
        ("one_cycle_lr", {}, "total_steps: expected a number, or epochs and steps_per_epoch"),
        ("one_cycle_lr", {"epochs": 3}, "total_steps: expected a number, or epochs and"),
        ("one_cycle_lr", {"total_steps": 0}, "total_steps: expected a positive integer, got 0"),
        ("one_cycle_lr", {"epochs": 0, "steps_per_epoch": 5}, "epochs: expected a positive"),
        ("one_cycle_lr", {"epochs": 5, "steps_per_epoch": 0}, "steps_per_epoch: expected a pos"),
        ("one_cycle_lr", {"total_steps": 9, "pct_start": 1.5}, r"pct_start: expected a number in"),
        ("one_cycle_lr", {"total_steps": 10, "pct_start": 0.1}, "pct_start: expected a fracti"),
        ("one_cycle_lr", {"total_steps": 9, "div_factor": 0}, "div_factor: expected a finite"),
        ("one_cycle_lr", {"total_steps": 9, "final_div_factor": 0}, "final_div_factor: expected"),
        (
            "one_cycle_lr",
            {"total_steps": 9, "anneal_strategy": "sine"},
            "anneal_strategy: expected one of cos, linear, got sine",
        ),
    ],
)
def test_bad_option(name, options, message):
    with pytest.raises(InputError, match=message):
        optimizers.SCHEDULES[name](0.1, **options)


def test_bad_momentum_of_a_cycle():
    for option in ("base_momentum", "max_momentum"):
        for cycle in (optimizers.one_cycle_momentum, optimizers.cyclic_momentum):
            expected = rf"{option}: expected a number in \[0, 1\], got 1.5"
            with pytest.raises(InputError, match=expected):
                cycle(10, **{option: 1.5})
    with pytest.raises(InputError, match="total_steps: expected a number, or epochs"):
        optimizers.one_cycle_momentum()


@pytest.mark.parametrize("cycle", [optimizers.one_cycle_lr, optimizers.one_cycle_momentum])
def test_phases_are_counted_by_true_or_false(cycle):
    arguments = [0.1, 10] if cycle is optimizers.one_cycle_lr else [10]
    with pytest.raises(InputError, match="three_phase: expected True or False, got no"):
        cycle(*arguments, three_phase="no")


def test_invalid_schedules():
    with pytest.raises(InputError, match=r"schedules: expected a sequence of schedules, got \[0.1"):
        optimizers.sequential_lr([0.1, 0.2], [5])


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        (0.1, "schedules: expected a sequence of schedules, got 0.1"),
        ([], r"schedules: expected a sequence of schedules, got \[\]"),
        (
            [optimizers.step_lr(0.1, 3), optimizers.cosine_annealing_lr(0.1, 3, 0.01)],
            r"schedules\[1\]: expected a schedule that multiplies the learning rate, got <function",
        ),
        (
            [optimizers.step_lr(0.1, 3), optimizers.step_lr(0.2, 3)],
            r"schedules: expected schedules with the same learning rate, got \[0.1, 0.2\]",
        ),
    ],
)
def test_schedules_that_are_no_chain(schedules, message):
    with pytest.raises(InputError, match=message):
        optimizers.chained_scheduler(schedules)


def test_bad_maximum_of_a_cycle():
    with pytest.raises(InputError, match="max_lr: expected a finite number >= 0, got -1"):
        optimizers.one_cycle_lr(-1, 10)


@pytest.mark.parametrize(
    ("count", "milestones", "message"),
    [
        (1, 5, "milestones: expected a sequence of numbers of steps, got 5"),
        (0, [], "milestones: expected one fewer than schedules, got 0 schedules and 0 milestones"),
        (2, [], "milestones: expected one fewer than schedules, got 2 schedules and 0 milestones"),
        (2, [-1], "milestones: expected an integer >= 0, got -1"),
        (3, [5, 5], r"milestones: expected increasing numbers of steps, got \[5, 5\]"),
    ],
)
def test_bad_milestones(count, milestones, message):
    with pytest.raises(InputError, match=message):
        optimizers.sequential_lr([lambda count: 0.1] * count, milestones)


def test_a_metric_is_one_number():
    state = optimizers.sgd(0.1).init(jnp.ones(1))
    plateau = optimizers.reduce_lr_on_plateau()
    with pytest.raises(InputError, match=r"metric: expected one number, got float32\[2\]"):
        plateau.update(jnp.ones(2), plateau.init(), state)
    with pytest.raises(InputError, match="metric: expected an array, got low"):
        plateau.update("low", plateau.init(), state)


def test_per_epoch_needs_steps():
    with pytest.raises(InputError, match="schedule: expected a function of the number of epoch"):
        optimizers.per_epoch(0.1, 5)
    with pytest.raises(InputError, match="steps_per_epoch: expected a positive integer, got 0"):
        optimizers.per_epoch(optimizers.step_lr(0.1, 2), 0)


def test_plateau_on_the_host():
    state = optimizers.adam(0.1).init(jnp.ones(1))
    plateau = optimizers.reduce_lr_on_plateau("max", factor=0.5, patience=0, cooldown=1)
    epochs, rates = plateau.init(), []
    for accuracy in [0.5, 0.5, 0.5, 0.5, 0.9]:
        epochs, state = plateau.update(accuracy, epochs, state)
        rates.append(float(state.lr))
    np.testing.assert_allclose(rates, [0.1, 0.05, 0.05, 0.025, 0.025], rtol=1e-6)
    np.testing.assert_allclose(epochs.best, 0.9, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "least"}, "mode: expected one of min, max, got least"),
        ({"threshold_mode": "both"}, "threshold_mode: expected one of rel, abs, got both"),
        ({"factor": 1.0}, r"factor: expected a number in \[0, 1\), got 1.0"),
        ({"patience": -1}, "patience: expected an integer >= 0, got -1"),
        ({"cooldown": 0.5}, "cooldown: expected an integer >= 0, got 0.5"),
        ({"threshold": -1}, "threshold: expected a finite number >= 0, got -1"),
        ({"min_lr": -1}, "min_lr: expected a finite number >= 0, got -1"),
        ({"eps": math.nan}, "eps: expected a finite number >= 0, got nan"),
    ],
)
def test_bad_plateau(options, message):
    with pytest.raises(InputError, match=message):
        optimizers.reduce_lr_on_plateau(**options)

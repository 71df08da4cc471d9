"""Averaging in ``fit``: saving, resuming, many seeds, several devices, bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import evaluate, fit, layers, losses, optimizers
from jaxnets.arrays import InputError
from jaxnets.averaging import averaged, ema, greedy_soup, soup, swa, update_batch_norm
from jaxnets.data import Dataset, Split
from jaxnets.models import MLP
from jaxnets.training import Saving, in_turn, initialize, minimize, supervised

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(40, 4)).astype(np.float32)
SPLIT = Split(INPUTS, (INPUTS[:, 0] > 0).astype(np.int32))
DATA = Dataset("drawn", SPLIT, SPLIT.take(9))
CLASSIFY = supervised(losses.cross_entropy)
TRAIN = minimize(CLASSIFY, optimizers.sgd(0.1))


def build(rngs):
    return MLP((4, 8, 2), rngs=rngs)


def train(step, model=None, **options):
    settings = {"epochs": 2, "batch_size": 16, "progress": "none", **options}
    return fit(model or build(nnx.Rngs(0)), DATA, step, **settings)


def weights(model):
    return jax.tree.leaves(nnx.state(model, nnx.Param))


@pytest.mark.slow
def test_averaging_changes_nothing_of_the_training_and_is_saved_with_it(tmp_path):
    step, plain = ema(TRAIN, 0.9), train(TRAIN)
    whole, saving = train(step), Saving(tmp_path, steps=1)
    np.testing.assert_array_equal(whole.step_losses, plain.step_losses)
    assert whole.test == plain.test
    train(step, epochs=1, save=saving)
    again = train(step, save=saving, resume=True)
    for one, other in zip(weights(averaged(whole)), weights(averaged(again)), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="step computes something else"):
        train(ema(TRAIN, 0.8), epochs=3, save=saving, resume=True)


@pytest.mark.slow
def test_many_seeds_average_as_one():
    step = swa(TRAIN, start=2, every=2)
    runs = train(step, build, seeds=2)
    alone = averaged(train(step, build(nnx.Rngs(1)), seed=1))
    for one, member in zip(weights(alone), weights(averaged(runs.members[1])), strict=True):
        np.testing.assert_allclose(member, one, rtol=1e-5, atol=1e-6)
    assert evaluate(alone, SPLIT, CLASSIFY).accuracy > 0.5


@pytest.mark.slow
def test_one_of_several_steps_may_average():
    one, two = (minimize(CLASSIFY, optimizers.sgd(0.1), wrt=part) for part in ("fc1", "fc2"))
    run = train(in_turn(ema(one, 0.5), two, names=("one", "two")))
    assert not np.array_equal(averaged(run).fc1.kernel, run.model.fc1.kernel)


def test_a_network_without_batch_normalization_stays_as_it_is():
    model = build(nnx.Rngs(0))
    same = update_batch_norm(model, SPLIT)
    assert same is not model
    np.testing.assert_array_equal(same(INPUTS), model(INPUTS))


def linear(size=2, **options):
    return layers.Linear(4, size, rngs=nnx.Rngs(0), **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ema("step"), "step: expected a step, such as jaxnets.training.minimize makes"),
        (lambda: ema(TRAIN, 1.5), r"decay: expected a number in \[0, 1\], got 1.5"),
        (lambda: ema(TRAIN, use_buffers="no"), "use_buffers: expected True or False, got no"),
        (lambda: swa(TRAIN, -1), "start: expected an integer .* got -1"),
        (lambda: swa(TRAIN, 0, 0), "every: expected a positive integer, got 0"),
        (lambda: averaged(linear()), "run: expected a TrainingRun or a TrainState, got"),
        (
            lambda: averaged(initialize(linear(), TRAIN)),
            "run: expected a run with one step of ema or swa, got 0 of them",
        ),
        (
            lambda: averaged(initialize(linear(), swa(TRAIN))),
            "run: expected a run that has started to average, got no average after 0 steps",
        ),
        (
            lambda: update_batch_norm(layers.BatchNorm1d(3), SPLIT),
            r"x: expected a floating-point array \[",
        ),
        (lambda: update_batch_norm(linear(), INPUTS), "split: expected"),
        (lambda: update_batch_norm(linear(), SPLIT, batch_size=0), "batch_size: expected a pos"),
        (lambda: soup([]), r"models: expected a list of networks, got \[\]"),
        (lambda: soup([linear(), 3]), "model: expected an nnx.Module, got a int"),
        (
            lambda: soup([linear(), linear(3)]),
            r"models\[1\]: expected the structure of models\[0\], got bias float32\[2\] and float",
        ),
        (
            lambda: soup([linear(bias=False), linear()]),
            r"got bias none and float32\[2\]",
        ),
        (lambda: greedy_soup([linear()], lambda m: jnp.nan), "score: expected a finite number"),
        (lambda: greedy_soup([linear()], 1), "score: expected a function"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, message):
    with pytest.raises(InputError, match=message):
        call()

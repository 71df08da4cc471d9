"""Objectives and steps of any kind: what they may do, and error messages."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import evaluate, fit, layers, losses, metrics, optimizers
from jaxnets.data import Dataset, Draws, Split
from jaxnets.models import MLP
from jaxnets.training import (
    Saving,
    callbacks,
    compiled,
    in_turn,
    initialize,
    minimize,
    supervised,
    train_step,
)

DRAW = np.random.default_rng(0)
INPUTS = DRAW.normal(size=(40, 4)).astype(np.float32)
CLASSES = (INPUTS[:, 0] > 0).astype(np.int32)
SPLIT = Split(INPUTS, CLASSES)
DATA = Dataset("drawn", SPLIT, SPLIT.take(9))
ADAM = optimizers.adam(1e-2)
CLASSIFY = supervised(losses.cross_entropy)


def model():
    return MLP((4, 8, 2), rngs=nnx.Rngs(0))


def train(step, data=DATA, network=None, **options):
    settings = {"epochs": 1, "batch_size": 16, "progress": "none", **options}
    return fit(network or model(), data, step, **settings)


def by_hand(model, batch, key):
    outputs = model(batch["inputs"])
    right = outputs.argmax(-1) == batch["labels"]
    metrics = {"share": jnp.mean(right), "pair": (jnp.sum(right), jnp.int32(len(right)))}
    return losses.cross_entropy(outputs, batch["labels"]), metrics


def test_the_short_form_is_minimize_of_supervised():
    short = train(None, loss=losses.cross_entropy, optimizer=ADAM)
    long = train(minimize(CLASSIFY, ADAM))
    own = train(minimize(by_hand, ADAM))
    np.testing.assert_array_equal(short.step_losses, long.step_losses)
    np.testing.assert_array_equal(short.step_losses, own.step_losses)
    assert short.history[0].train == long.history[0].train
    assert own.history[0].train["share"] == pytest.approx(short.history[0].train_accuracy)
    assert own.history[0].test["pair"] == short.test.accuracy == own.test.metrics["pair"]


def test_metrics_reach_history_and_evaluation_by_name():
    run = train(
        None,
        loss=losses.cross_entropy,
        optimizer=ADAM,
        metrics={"top1": lambda x, y: metrics.top_k_correct(x, y, 1) / len(y)},
    )
    assert run.history[0].train["top1"] == pytest.approx(run.history[0].train_accuracy)
    row = run.history[0].row()
    assert row["test_top1"] == run.test.metrics["top1"] == pytest.approx(run.test.accuracy)
    assert list(row)[:3] == ["epoch", "train_loss", "train_accuracy"]
    again = evaluate(run.model, DATA.test, by_hand)
    assert again.metrics["share"] == pytest.approx(run.test.accuracy)
    assert again.loss == pytest.approx(run.test.loss)


def test_a_loop_of_ones_own_takes_the_steps_of_fit():
    class Net(nnx.Module):
        def __init__(self):
            self.norm = layers.BatchNorm1d(4)
            self.drop = layers.Dropout(0.5, rngs=nnx.Rngs(0))
            self.out = layers.Linear(4, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.out(self.drop(self.norm(x)))

    step = minimize(CLASSIFY, ADAM)
    run = train(step, network=Net(), shuffle=False)
    take, state, found = jax.jit(train_step, static_argnums=0), initialize(Net(), step), []
    for start in range(0, 40, 16):
        rows = slice(start, start + 16)
        state, measured = take(step, state, {"inputs": INPUTS[rows], "labels": CLASSES[rows]})
        found.append(float(measured.loss))
    np.testing.assert_allclose(found, run.step_losses, rtol=1e-6)
    np.testing.assert_allclose(state.model(INPUTS), run.model(INPUTS), rtol=1e-5, atol=1e-7)
    assert state.model.drop.deterministic


@pytest.mark.slow
@pytest.mark.parametrize("objective", [CLASSIFY, by_hand])
def test_parts_of_a_batch_give_its_step(objective):
    whole, parts = (train(minimize(objective, ADAM, accumulate=n)) for n in (1, 3))
    np.testing.assert_allclose(parts.step_losses, whole.step_losses, rtol=1e-6)
    for name, value in whole.history[0].train.items():
        assert parts.history[0].train[name] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("wrt", ["fc1", ("fc1",), nnx.PathContains("fc1")])
def test_what_is_not_asked_for_is_not_trained(wrt):
    run, before = train(minimize(CLASSIFY, ADAM, wrt=wrt)), model()
    assert not np.array_equal(run.model.fc1.kernel, before.fc1.kernel)
    np.testing.assert_array_equal(run.model.fc2.kernel, before.fc2.kernel)
    slots = nnx.to_flat_state(run.state.optimizer_state.slots["exp_avg"])
    assert {path[0] for path in slots.paths} == {"fc1"}


def test_a_frozen_part_keeps_weights_and_statistics():
    trunk = nnx.Sequential(layers.Linear(4, 8, rngs=nnx.Rngs(0)), layers.BatchNorm1d(8))
    network = nnx.Sequential(trunk, layers.BatchNorm1d(8), layers.Linear(8, 2, rngs=nnx.Rngs(1)))
    run = train(minimize(CLASSIFY, ADAM, frozen="layers.0"), network=network)
    frozen, moved = run.model.layers[0].layers[1], run.model.layers[1]
    np.testing.assert_array_equal(frozen.mean, np.zeros(8))
    assert frozen.num_batches_tracked[...] == 0
    assert moved.num_batches_tracked[...] == 3
    np.testing.assert_array_equal(run.model.layers[0].layers[0].kernel, trunk.layers[0].kernel)


@pytest.mark.slow
def test_steps_in_turn_are_steps_after_each_other():
    one, two = (minimize(by_hand, ADAM, wrt=part) for part in ("fc1", "fc2"))
    both = in_turn(one, two)
    state = initialize(model(), both)
    batch = {"inputs": INPUTS[:16], "labels": CLASSES[:16]}
    after, measured = train_step(both, state, batch)
    first, _ = train_step(one, initialize(model(), one), batch)
    second, last = train_step(two, initialize(first.model, two), batch)
    np.testing.assert_allclose(after.model(INPUTS), second.model(INPUTS), rtol=1e-6)
    assert measured.metrics["fc2_loss"].over is not None
    assert float(measured.metrics["fc2_loss"].value) == pytest.approx(float(last.loss), rel=1e-6)


@pytest.mark.slow
def test_a_step_every_other_time_counts_what_it_does():
    one, two = (minimize(by_hand, ADAM, wrt=part) for part in ("fc1", "fc2"))
    run = train(in_turn(one, two, names=["often", "seldom"], every=(1, 2)))
    assert int(run.state.optimizer_state[0][0].step) == 3
    assert int(run.state.optimizer_state[0][1].step) == 1
    assert run.history[0].train["often_pair"] != run.history[0].train["seldom_pair"]


@pytest.mark.slow
def test_many_seeds_take_any_step():
    step = in_turn(minimize(by_hand, ADAM, wrt="fc1"), minimize(by_hand, ADAM, wrt="fc2"))
    runs = fit(
        lambda rngs: MLP((4, 8, 2), rngs=rngs), SPLIT, step, epochs=1, batch_size=16, seeds=2,
        progress="none",
    )  # fmt: skip
    alone = train(step, SPLIT, MLP((4, 8, 2), rngs=nnx.Rngs(1)), seed=1)
    np.testing.assert_allclose(runs.members[1].step_losses, alone.step_losses, rtol=1e-5)
    assert runs.accuracy is runs.loss is None
    assert runs.summary("train_fc1_share").count == 2
    assert "train loss mean" in repr(runs)


class Average(nnx.Variable):
    """The running mean of a kernel."""


class Averaged(nnx.Module):
    def __init__(self):
        self.fc = layers.Linear(4, 2, rngs=nnx.Rngs(0))
        self.mean = Average(jnp.zeros((4, 2)))

    def __call__(self, x):
        return self.fc(x)


class AveragedStep:
    """A user-defined step that wraps another one."""

    inner = minimize(CLASSIFY, ADAM)
    evaluation = CLASSIFY

    def init(self, model):
        return self.inner.init(model)

    def apply(self, model, slots, batch, key):
        slots, found = self.inner.apply(model, slots, batch, key)
        model.mean[...] = 0.9 * model.mean[...] + 0.1 * model.fc.kernel[...]
        return slots, found


@pytest.mark.slow
def test_a_step_of_ones_own_keeps_what_it_changes(tmp_path):
    step = AveragedStep()
    whole = train(step, network=Averaged(), epochs=2)
    assert np.abs(whole.model.mean).max() > 0

    class Stop(callbacks.Callback):
        def steps(self, step, losses):
            if step == 4:
                raise KeyError("as if it were killed")

    saving = Saving(tmp_path, steps=1)
    with pytest.raises(KeyError):
        train(step, network=Averaged(), epochs=2, save=saving, callbacks=[Stop()])
    again = train(step, network=Averaged(), epochs=2, save=saving, resume=True)
    np.testing.assert_array_equal(again.step_losses, whole.step_losses)
    np.testing.assert_array_equal(again.model.mean, whole.model.mean)
    assert again.history[1].train == whole.history[1].train


def test_a_step_without_an_objective_is_tested_by_one_that_is_given():
    class Shrink:
        def init(self, model):
            return ()

        def apply(self, model, slots, batch, key):
            model.fc.kernel[...] = model.fc.kernel[...] * 0.9
            return slots, {"loss": jnp.sum(model.fc.kernel[...] ** 2)}

    assert train(Shrink(), network=Averaged()).test is None
    tested = train(Shrink(), network=Averaged(), evaluate=CLASSIFY)
    assert tested.history[0].test_accuracy == tested.test.accuracy


def test_training_that_draws_its_own_data():
    def away_from_zero(model, batch, key):
        assert batch == {}
        x = jax.random.normal(key, (8, 4))
        return jnp.mean(model(x) ** 2), {"first": x[0, 0]}

    step = minimize(away_from_zero, ADAM)
    run = train(step, Draws(3), epochs=2)
    assert len(run.step_losses) == 6
    assert len(set(run.step_losses.tolist())) == 6  # another key each
    assert run.test is None
    np.testing.assert_array_equal(train(step, Draws(3), epochs=2).step_losses, run.step_losses)


@pytest.mark.slow
def test_equal_settings_compile_once():
    def once():
        optimizer = optimizers.adam(0.02)  # a new object
        return train(None, loss=losses.cross_entropy, optimizer=optimizer).step_losses

    first, known = once(), set(compiled._KNOWN)
    for _ in range(7):
        np.testing.assert_array_equal(once(), first)
    assert set(compiled._KNOWN) == known
    assert len(known) <= compiled._MOST_KNOWN


def array(model, batch, key):
    return jnp.ones(3)


def strange_name(model, batch, key):
    return jnp.mean(model(batch["inputs"])), {"a b": 1.0}


def strange_metric(model, batch, key):
    return jnp.mean(model(batch["inputs"])), {"a": "x"}


class Grows:
    def init(self, model):
        return ()

    def apply(self, model, slots, batch, key):
        model.new = nnx.Param(jnp.zeros(3))
        return slots, {"loss": jnp.float32(0)}


class Nothing(Grows):
    def apply(self, model, slots, batch, key):
        return slots, {"x": 1.0}


ONE = minimize(CLASSIFY, ADAM)


BATCH = {"inputs": INPUTS, "labels": CLASSES}
STATE = initialize(model(), ONE)
#: Invalid calls by their error message.
REFUSED = {
    "frozen: expected submodules of the model, such as fc1, fc2, got 'fc9'": lambda: train(
        minimize(CLASSIFY, ADAM, frozen="fc9")
    ),
    "wrt: expected submodules of the model, such as fc1, fc2, got 'fc9'": lambda: train(
        minimize(CLASSIFY, ADAM, wrt="fc9")
    ),
    "data: expected labels, as the loss takes .*, got none": lambda: train(ONE, Split(INPUTS)),
    "data.train: expected examples, as the loss takes": lambda: train(ONE, Draws(3)),
    "loss: expected a function of .outputs, labels., got None": lambda: train(None, optimizer=ADAM),
    "loss: expected the default with step, got": lambda: train(ONE, loss=losses.mse_loss),
    "objective: expected a function of .model, batch, key. .*, got float32.3.": lambda: train(
        minimize(array, ADAM)
    ),
    "metrics: expected names such as 'accuracy', got a b": lambda: train(
        minimize(strange_name, ADAM)
    ),
    "metrics: expected a scalar or a pair .* for 'a', got a str": lambda: train(
        minimize(strange_metric, ADAM)
    ),
    "step: expected one that keeps .* the model's variables, got": lambda: train(Grows()),
    "step: expected one whose apply returns .slots, metrics., with a metric 'loss'": lambda: train(
        Nothing()
    ),
    "evaluate: expected a function of .model, batch, key.": lambda: train(ONE, evaluate=[by_hand]),
    "step: expected a step, such as jaxnets.training.minimize makes": lambda: train(ADAM),
    "steps: expected at least one step, got none": lambda: in_turn(),
    "names: expected 1 different names, one for each step": lambda: in_turn(ONE, names=["a", "b"]),
    "names: expected names such as 'critic', got": lambda: in_turn(ONE, names=["a b"]),
    "every: expected a number, or 1 of them, got": lambda: in_turn(ONE, every=(1, 2)),
    "every: expected a positive integer, got 0": lambda: in_turn(ONE, every=0),
    "frozen: expected dotted names of submodules": lambda: minimize(CLASSIFY, ADAM, frozen=3),
    "wrt: expected a hashable filter of nnx, or names": lambda: minimize(
        CLASSIFY, ADAM, wrt=[object()]
    ),
    "metrics: expected functions .* other than loss and accuracy": lambda: supervised(
        losses.mse_loss, metrics={"loss": abs}
    ),
    "metrics: expected names such as 'top_5', got a b": lambda: supervised(
        losses.mse_loss, metrics={"a b": abs}
    ),
    "metrics: expected functions of .outputs, labels. by name": lambda: supervised(
        losses.mse_loss, metrics=[abs]
    ),
    "objective: expected None with loss": lambda: evaluate(
        model(), SPLIT, by_hand, loss=losses.mse_loss
    ),
    "batch: expected columns by name": lambda: train_step(ONE, STATE, INPUTS),
    "batch: expected columns of one length": lambda: train_step(
        ONE, STATE, {**BATCH, "labels": CLASSES[:3]}
    ),
    "state: expected a TrainState, got None": lambda: train_step(ONE, None, {}),
    "steps: expected a positive integer, got 0": lambda: Draws(0),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_trained_is_refused_in_a_sentence(message):
    with pytest.raises(ValueError, match=f"^{message}"):
        REFUSED[message]()

import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.layers import BatchNorm1d, Dropout, Linear
from jaxnets.training import NonFiniteLossError, Saving, fit
from tests.test_training_placement import NETWORKS, on_devices

SGD = optimizers.sgd(lr=0.1, momentum=0.9)


class Net(nnx.Module):
    """State of every kind: parameters, statistics, random streams."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fc1 = Linear(3, 4, rngs=rngs)
        self.norm = BatchNorm1d(4)
        self.dropout = Dropout(0.5, rngs=rngs)
        self.fc2 = Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.dropout(self.norm(self.fc1(x))))


def data(*bad, value=np.nan, examples=20):
    """Data with invalid examples; in batches of 4 without shuffling, example 4·k is in step k."""
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(examples, 3)).astype(np.float32)
    labels = draw.integers(2, size=examples).astype(np.int32)
    test = Split(inputs.copy(), labels)
    inputs[list(bad)] = value
    return Dataset("drawn", Split(inputs, labels), test)


def train(on, **options):
    settings = {"loss": losses.cross_entropy, "optimizer": SGD, "epochs": 2, "batch_size": 4}
    settings |= {"shuffle": False, "progress": "none", "non_finite": "skip"}
    return fit(Net(), on, **{**settings, **options})


def arrays(state):
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state.parameters, state.optimizer_state))]


def test_a_step_that_is_not_finite_stops_the_run_by_default():
    with pytest.raises(NonFiniteLossError, match="the loss is nan at epoch 1, step 3") as error:
        train(data(8), non_finite="stop")
    assert (error.value.epoch, error.value.step) == (1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"compute_dtype": jnp.bfloat16}])
def test_a_skipped_step_leaves_no_trace_but_its_number(options):
    run = train(data(4, 5), epochs=1, **options)
    assert [record.skipped for record in run.history] == [1]
    np.testing.assert_array_equal(np.isfinite(run.step_losses), [1, 0, 1, 1, 1])
    assert int(run.state.step) == 5
    assert all(np.isfinite(leaf).all() for leaf in arrays(run.state))
    statistics = jax.tree.leaves(nnx.state(run.model, nnx.BatchStat))
    assert statistics
    assert all(np.isfinite(leaf).all() for leaf in statistics)
    kept = np.delete(run.step_losses, 1).astype(np.float64)
    assert run.history[0].train_loss == pytest.approx(kept.mean(), rel=1e-12)
    assert 0 <= run.history[0].train_accuracy <= 1


@pytest.mark.slow
def test_where_the_last_steps_are_skipped_the_state_is_that_before_them():
    """Bit for bit, including statistics and momentum, as in a run of only the valid batches."""
    whole = train(data(12, 16), epochs=1)
    good = data()
    short = train(Dataset("short", good.train.take(12), good.test), epochs=1)
    for one, two in zip(arrays(whole.state), arrays(short.state), strict=True):
        np.testing.assert_array_equal(one, two)
    before, after = (nnx.state(run.model, nnx.BatchStat) for run in (short, whole))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert whole.test.loss == short.test.loss
    assert whole.history[0].train_loss == short.history[0].train_loss
    assert whole.history[0].train_accuracy == short.history[0].train_accuracy


@pytest.mark.slow
def test_devices_skip_together_what_one_of_them_sees():
    """All devices agree exactly, and with a single device except for the order of sums."""
    on_devices(
        3,
        textwrap.dedent(NETWORKS)
        + textwrap.dedent("""
        drawn = data((4,))
        drawn.train.inputs[[10, 20]] = np.nan
        network = nnx.Sequential(
            layers.Linear(4, 8, **wide), layers.BatchNorm1d(8, **wide),
            layers.Linear(8, 3, **wide),
        )
        one, three = (
            losses_of(network, drawn, devices=count, batch_size=5, non_finite="skip")
            for count in (1, 3)
        )
        skipped = [record.skipped for record in three.history]
        assert min(skipped) > 0 and skipped == [record.skipped for record in one.history]
        np.testing.assert_allclose(three.step_losses, one.step_losses, rtol=1e-12)
        parameters = (jax.tree.leaves(run.state.parameters) for run in (one, three))
        for alone, shared in zip(*parameters, strict=True):
            np.testing.assert_allclose(shared, alone, rtol=1e-9, atol=1e-12)
            copies = [np.asarray(shard.data) for shard in shared.addressable_shards]
            assert len(copies) == 3
            for copy in copies:
                np.testing.assert_array_equal(copy, copies[0])
        """),
    )


@pytest.mark.slow
def test_a_gradient_that_is_not_finite_is_enough():
    def rooted(outputs, labels):  # at 0 its value is 0, and its slope infinite
        return jnp.sqrt(jnp.abs(outputs - outputs)).mean() + losses.cross_entropy(outputs, labels)

    @jax.custom_vjp
    def poisoned(x):
        return x

    poisoned.defvjp(lambda x: (x, None), lambda _, g: (jnp.full_like(g, jnp.inf),))

    def loss(outputs, labels):
        return losses.cross_entropy(poisoned(outputs), labels)

    for bad in (rooted, loss):
        with pytest.raises(NonFiniteLossError, match="gradient is not finite at epoch 1, step 5"):
            train(data(), loss=bad, epochs=1)


def test_an_epoch_that_is_skipped_as_a_whole_ends_the_run():
    with pytest.raises(NonFiniteLossError, match="the loss is nan at epoch 1, step 5"):
        train(data(*range(20)))


def test_without_skipping_nothing_is_carried_along():
    plain, skipping = (train(data(), non_finite=mode) for mode in ("stop", "skip"))
    np.testing.assert_allclose(plain.step_losses, skipping.step_losses, rtol=1e-5)
    assert plain.history[-1].skipped == skipping.history[-1].skipped == 0


@pytest.mark.slow
def test_what_was_skipped_of_an_epoch_under_way_is_saved(tmp_path):
    whole = train(data(4, 12), save=Saving(tmp_path / "run", steps=3, keep=9))
    for path in (tmp_path / "run").glob("step-*"):
        if int(path.name[5:]) > 3:
            path.rename(tmp_path / path.name)
    again = train(data(4, 12), save=Saving(tmp_path / "run"), resume=True)
    assert [record.skipped for record in again.history] == [2, 2]
    assert again.history[0].train_loss == whole.history[0].train_loss
    np.testing.assert_array_equal(again.step_losses, whole.step_losses)
    for one, two in zip(arrays(whole.state), arrays(again.state), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_run_that_stopped_at_a_bad_batch_goes_on_by_skipping_it(tmp_path):
    with pytest.raises(NonFiniteLossError):
        train(data(8), save=Saving(tmp_path, steps=2), non_finite="stop")
    run = train(data(8), save=Saving(tmp_path), resume=True)
    assert [record.skipped for record in run.history] == [1, 1]


def test_it_is_reported(capsys):
    train(data(4), epochs=1, progress="lines")
    assert capsys.readouterr().out.rstrip().endswith("s  1 steps skipped")


def test_another_word_is_refused():
    with pytest.raises(ValueError, match="non_finite: expected one of stop, skip, got ignore"):
        train(data(), non_finite="ignore")

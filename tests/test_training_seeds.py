"""Many runs at once: each equals the single run with its seed and learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, RandomCrop, Split, StreamedSplit
from jaxnets.layers import BatchNorm2d, Dropout, Linear, flatten
from jaxnets.models import MLP, LeNet, RecurrentClassifier
from jaxnets.training import (
    NonFiniteLossError,
    Saving,
    Sharding,
    Summary,
    epoch,
    fit,
    initialize,
    minimize,
    supervised,
)
from jaxnets.training.batches import Gathered
from tests import tier


class Varied(nnx.Module):
    """Batch statistics and two kinds of dropout."""

    def __init__(self, rngs, param_dtype):
        self.norm = BatchNorm2d(1, param_dtype=param_dtype)
        self.fc1 = Linear(16, 8, rngs=rngs, param_dtype=param_dtype)
        self.dropout = Dropout(0.5, rngs=rngs)
        self.stock = nnx.Dropout(0.3, rngs=rngs, rng_collection="noise")
        self.fc2 = Linear(8, 3, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x):
        x = jax.nn.relu(self.fc1(flatten(self.norm(x))))
        return self.fc2(self.stock(self.dropout(x)))


CROP = RandomCrop(4, padding=1)
CASES = {
    "mlp": (functools.partial(MLP, (4, 8, 3)), (4,), optimizers.sgd(0.1, momentum=0.9), None),
    "varied": (Varied, (4, 4, 1), optimizers.adamw(0.01, weight_decay=0.1), CROP),
    "lenet": (functools.partial(LeNet, 1, 3, 28), (28, 28, 1), optimizers.sgd(0.1), None),
    "lstm": (
        functools.partial(RecurrentClassifier, 4, 5, 2, 0.3, 3),
        (6, 4),
        optimizers.adam(0.01),
        None,
    ),
}


SGD = optimizers.sgd(0.1, momentum=0.9)  # one object, so that runs share programs


def drawn(shape=(4,), dtype=np.float32, counts=(20, 11)):
    draw = np.random.default_rng(0)
    splits = [
        Split(
            draw.normal(size=(count, *shape)).astype(dtype),
            draw.integers(3, size=count).astype(np.int32),
        )
        for count in counts
    ]
    return Dataset("drawn", *splits)


def train(model=None, data=None, **options):
    settings = {
        "loss": losses.cross_entropy,
        "optimizer": SGD,
        "epochs": 2,
        "batch_size": 8,
        "progress": "none",
    }
    model = functools.partial(MLP, (4, 8, 3)) if model is None else model
    return fit(model, drawn() if data is None else data, **{**settings, **options})


def assert_same(member, alone, rtol):
    def close(a, b):
        if not jax.dtypes.issubdtype(b.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(1e-30, np.abs(b).max()))

    jax.tree.map(close, member.state, alone.state)
    np.testing.assert_allclose(member.step_losses, alone.step_losses, rtol=rtol)
    assert member.test.loss == pytest.approx(alone.test.loss, rel=rtol)
    assert member.test.correct == alone.test.correct
    for one, other in zip(member.history, alone.history, strict=True):
        assert one.train_accuracy == other.train_accuracy
        assert one.test_loss == pytest.approx(other.test_loss, rel=rtol)


@pytest.fixture
def all_at_once(monkeypatch):
    """Trains and evaluates all runs at once, as on accelerators."""
    monkeypatch.setattr(epoch, "_trained_at_once", lambda *_: 99)
    monkeypatch.setattr(epoch, "_evaluated_at_once", lambda: 99)


@pytest.mark.usefixtures("all_at_once")
@pytest.mark.parametrize("name", tier.usually(CASES, ["mlp"]))
def test_each_member_is_its_own_run(name):
    build, shape, optimizer, augment = CASES[name]
    with jax.enable_x64(True):
        build = functools.partial(build, param_dtype=np.float64)
        # only the faster networks have a smaller last batch, which needs another program
        data = drawn(shape, np.float64, (20, 11) if name in ("mlp", "varied") else (16, 8))
        options = {"data": data, "optimizer": optimizer, "augment": augment}
        runs = train(build, seeds=[0, 3], **options)
        assert [member.seed for member in runs.members] == [0, 3]
        for member in runs.members:
            alone = train(build(rngs=nnx.Rngs(member.seed)), seed=member.seed, **options)
            assert_same(member, alone, rtol=1e-12)
    assert not np.allclose(runs.members[0].step_losses, runs.members[1].step_losses)


@pytest.mark.slow
def test_in_float32_members_differ_from_their_own_runs_by_rounding():
    runs = train(seeds=2)
    for seed, member in enumerate(runs.members):
        alone = train(MLP((4, 8, 3), rngs=nnx.Rngs(seed)), seed=seed)
        assert_same(member, alone, rtol=1e-5)
        np.testing.assert_allclose(
            member.model(drawn().test.inputs), alone.model(drawn().test.inputs), atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "evaluated"), [(1, 1), (2, 2)])
def test_members_in_groups_are_their_own_runs(monkeypatch, trained, evaluated):
    monkeypatch.setattr(epoch, "_trained_at_once", lambda *_: trained)
    monkeypatch.setattr(epoch, "_evaluated_at_once", lambda: evaluated)
    optimizer = optimizers.sgd(0.1, momentum=0.9)  # a new one: the program is compiled again
    runs = train(seeds=3, optimizer=optimizer)
    for seed, member in enumerate(runs.members):
        alone = train(MLP((4, 8, 3), rngs=nnx.Rngs(seed)), seed=seed, optimizer=optimizer)
        assert_same(member, alone, rtol=0 if trained == 1 else 1e-5)


@pytest.mark.parametrize(("name", "at_once"), [("mlp", 4), ("lenet", 1), ("lstm", 1)])
def test_a_cpu_takes_members_of_long_steps_one_after_the_other(name, at_once):
    build, shape, optimizer, _ = CASES[name]
    model = build(rngs=nnx.Rngs(0), param_dtype=np.float32)
    step = minimize(supervised(losses.cross_entropy), optimizer)
    state = initialize(model, step)
    states = jax.tree.map(lambda array: array[None], state)
    columns = {"inputs": jnp.zeros((5, *shape)), "labels": jnp.zeros(5, int)}
    batches = Gathered(columns, jnp.zeros((1, 4, 1), int))
    assert epoch._trained_at_once(step, states, batches) == at_once


@pytest.mark.slow
def test_each_seed_is_trained_with_each_learning_rate():
    runs = train(seeds=[4, 1], learning_rates=[0.1, 0.02])
    assert [(member.learning_rate, member.seed) for member in runs.members] == [
        (0.1, 4), (0.1, 1), (0.02, 4), (0.02, 1)
    ]  # fmt: skip
    optimizer = optimizers.sgd(0.02, momentum=0.9)
    alone = train(MLP((4, 8, 3), rngs=nnx.Rngs(1)), seed=1, optimizer=optimizer)
    assert_same(runs.members[3], alone, rtol=1e-5)
    slow = runs.by_learning_rate[0.02]
    assert slow.members == runs.members[2:]
    assert slow.loss == Summary.of(member.test.loss for member in runs.members[2:])
    assert slow.accuracy.mean == pytest.approx(
        np.mean([member.test.accuracy for member in runs.members[2:]])
    )


@pytest.mark.slow
def test_parts_of_batches_and_left_out_steps_are_those_of_single_runs():
    data = drawn()
    data.train.inputs[3] = np.nan
    options = {"data": data, "accumulate": 2, "non_finite": "skip"}
    runs = train(seeds=[2, 5], **options)
    for member in runs.members:
        alone = train(MLP((4, 8, 3), rngs=nnx.Rngs(member.seed)), seed=member.seed, **options)
        assert [record.skipped for record in member.history] == [1, 1]
        np.testing.assert_allclose(member.step_losses, alone.step_losses, rtol=1e-5)


@pytest.mark.slow
def test_a_member_that_diverges_leaves_the_others_alone(capsys):
    runs = train(seeds=2, learning_rates=[0.1, 1e38], progress="lines")
    well = train(seeds=2)
    assert runs.diverged == runs.members[2:]
    for member, alone in zip(runs.members, well.members, strict=False):
        assert_same(member, alone, rtol=1e-5)
    error = runs.members[2].diverged
    assert isinstance(error, NonFiniteLossError)
    assert error.epoch == 1
    assert runs.members[2].history == ()
    assert np.isfinite(runs.members[2].step_losses).tolist() == [True, False]
    assert runs.loss.count == 2
    assert runs.by_learning_rate[1e38].loss is None
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"seed 0, learning rate 1e+38: {error}"
    assert [line[:9] for line in lines[2:]] == ["epoch 1/2", "epoch 2/2"]
    assert "nan" not in "".join(lines[2:])


def test_if_all_diverge_it_is_an_error():
    with pytest.raises(NonFiniteLossError, match="at epoch 1, step 2"):
        train(seeds=2, optimizer=optimizers.sgd(1e38))


def test_a_summary_has_students_interval():
    summary = Summary.of([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.std == pytest.approx(1.5275252)
    assert summary.interval == pytest.approx((7 / 3 - 3.794583, 7 / 3 + 3.794583))  # t = 4.3027
    assert Summary.of([3.0]) == Summary(3.0, None, None, 1)
    assert Summary.of([None, None]) is None


def streamed():
    data = drawn()
    return Dataset("streamed", data.train, StreamedSplit(data.test))


def differing(rngs):
    differing.size = getattr(differing, "size", 4) + 1
    return MLP((4, differing.size, 3), rngs=rngs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds: expected a positive integer, got 0"),
        ({"seeds": True}, "seeds: expected a positive integer, got True"),
        ({"seeds": []}, "seeds: expected a number of seeds, or different seeds"),
        ({"seeds": [1, 1]}, "seeds: expected .* different seeds, got \\[1, 1\\]"),
        ({"seeds": [-1]}, "seeds: expected an integer from 0"),
        ({"seeds": None, "learning_rates": [0.1]}, "seeds: expected seeds or their number, with"),
        ({"learning_rates": [0.1, 0.1]}, "learning_rates: expected different learning rates"),
        ({"learning_rates": 0.1}, "learning_rates: expected different"),
        ({"learning_rates": [-1.0]}, "learning_rates: expected a finite number >= 0, got -1.0"),
        ({"learning_rates": [0.1], "optimizer": optax.sgd(0.1)}, "optimizer: expected one of jaxn"),
        (
            {"learning_rates": [0.1], "optimizer": optimizers.sgd(optimizers.step_lr(0.1, 3))},
            "optimizer: expected one without a schedule, with learning_rates",
        ),
        ({"seed": 3}, "seed: expected the default with seeds, got 3"),
        ({"save": Saving("folder")}, "save: expected the default with seeds"),
        ({"resume": True}, "resume: expected the default with seeds, got True"),
        ({"sharding": Sharding()}, "sharding: expected the default with seeds"),
        ({"devices": 2}, "devices: expected the default with seeds, got 2"),
        ({"callbacks": [print]}, "callbacks: expected the default with seeds"),
        ({"buckets": 2}, "buckets: expected None or 1 with seeds, got 2"),
        ({"data": streamed()}, "data: expected splits in memory with seeds, got a streamed split"),
        ({"model": MLP((4, 3), rngs=nnx.Rngs(0))}, "model: expected a function of nnx.Rngs that m"),
        ({"model": lambda rngs: 3}, "model: expected an nnx.Module, got a int"),
        ({"model": differing}, "model: expected arrays of the same shapes for every seed"),
    ],
)
def test_what_does_not_go_with_seeds_is_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        train(**{"seeds": 2, **options})


def test_generators_that_draw_otherwise_for_many_keys_are_refused():
    def build(rngs):
        return nnx.Sequential(Linear(4, 3, rngs=rngs), nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=key)))

    key = jax.random.key(0, impl="rbg")
    with pytest.raises(ValueError, match="seeds: expected None except with threefry2x32 keys, got"):
        train(build, seeds=2)

import csv

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets import losses, metrics, optimizers
from jaxnets.data import Compose, Dataset, Normalize, Split, ToFloat, epoch_plan, load
from jaxnets.data.batching import CHUNK, Plan
from jaxnets.layers import BatchNorm1d, Dropout, Linear
from jaxnets.models import MLP, LinearRegression
from jaxnets.training import (
    EpochRecord,
    NonFiniteLossError,
    evaluate,
    fit,
    initialize,
    minimize,
    plot_history,
    predict,
    progress,
    supervised,
    train_step,
    write_history,
)
from jaxnets.training.batches import cut
from tests import tier


def drawn(count=50, test=23, classes=3, seed=0):
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(classes, 4))

    def split(n):
        labels = draw.integers(classes, size=n).astype(np.int32)
        inputs = centres[labels] + 0.3 * draw.normal(size=(n, 4))
        return Split(inputs.astype(np.float32), labels)

    return Dataset("drawn", split(count), split(test))


SGD = optimizers.sgd(0.1, momentum=0.9)  # one object, so that runs share programs


def train(model=None, data=None, **options):
    settings = {
        "loss": losses.cross_entropy,
        "optimizer": SGD,
        "epochs": 2,
        "batch_size": 16,
        "progress": "none",
    }
    model = MLP((4, 8, 3), rngs=nnx.Rngs(0)) if model is None else model
    return fit(model, drawn() if data is None else data, **{**settings, **options})


class Regularized(nnx.Module):
    """A user-defined network with state of every kind."""

    def __init__(self, rngs):
        self.fc1 = Linear(4, 8, rngs=rngs)
        self.norm = BatchNorm1d(8, rngs=rngs)
        self.dropout = Dropout(0.5, rngs=rngs)
        self.stock = nnx.Dropout(0.5, rngs=rngs, rng_collection="noise")
        self.fc2 = Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.stock(self.dropout(jax.nn.relu(self.norm(self.fc1(x))))))


def test_fit_equals_a_plain_loop_over_the_same_batches():
    data = drawn()
    run = train(data=data, epochs=3, seed=5)
    model = MLP((4, 8, 3), rngs=nnx.Rngs(0))
    graphdef, parameters = nnx.split(model)
    optimizer = optax.sgd(0.1, momentum=0.9)
    state = optimizer.init(parameters)

    @jax.jit
    def step(parameters, state, x, y):
        def objective(parameters):
            logits = nnx.merge(graphdef, parameters)(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

        value, gradient = jax.value_and_grad(objective)(parameters)
        updates, state = optimizer.update(gradient, state)
        return value, optax.apply_updates(parameters, updates), state

    plain = []
    for epoch in range(3):
        plan = epoch_plan(50, 16, seed=5, epoch=epoch)
        for rows in [*plan.full, plan.rest]:
            x, y = data.train.inputs[rows], data.train.labels[rows]
            value, parameters, state = step(parameters, state, x, y)
            plain.append(value)
    np.testing.assert_allclose(run.step_losses, plain, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        run.state.parameters,
        parameters,
    )
    assert run.state.step == 12
    assert run.state.epoch == 3


def test_the_model_given_is_left_as_it_is():
    model = MLP((4, 8, 3), rngs=nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.state(model))
    run = train(model)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
    assert not np.array_equal(run.model.fc1.kernel, model.fc1.kernel)


def test_a_seed_decides_order_and_dropout_and_nothing_else_does():
    first, second = train(Regularized(nnx.Rngs(0))), train(Regularized(nnx.Rngs(0)))
    np.testing.assert_array_equal(first.step_losses, second.step_losses)
    other = train(Regularized(nnx.Rngs(0)), seed=1)
    assert not np.array_equal(first.step_losses, other.step_losses)
    unshuffled = [train(Regularized(nnx.Rngs(0)), seed=s, shuffle=False) for s in (0, 1)]
    # the order is the same, so only the keys of the dropouts differ
    assert unshuffled[0].step_losses[0] != unshuffled[1].step_losses[0]


def test_dropout_follows_from_key_and_step_whatever_streams_the_model_came_with():
    model = Regularized(nnx.Rngs(0))
    again = Regularized(nnx.Rngs(params=0, dropout=7, noise=8))
    nnx.update(again, nnx.state(model, nnx.Param))
    first, second = train(model, epochs=1), train(again, epochs=1)
    np.testing.assert_array_equal(first.step_losses, second.step_losses)


def test_two_steps_and_two_layers_draw_different_masks():
    class Masks(nnx.Module):
        def __init__(self, rngs):
            self.one, self.two = (nnx.Dropout(0.5, rngs=rngs) for _ in range(2))
            self.scale = nnx.Param(jnp.ones(()))

        def __call__(self, x):
            return jnp.concatenate([self.one(x), self.two(x)], axis=-1) * self.scale[...]

    seen = []

    def loss(outputs, labels):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), outputs)
        return outputs.mean()

    step = minimize(supervised(loss), optax.set_to_zero())
    state = initialize(Masks(nnx.Rngs(0)), step)
    batch = {"inputs": jnp.ones((1, 64)), "labels": jnp.zeros((1,), jnp.int32)}
    for _ in range(2):
        state, _ = train_step(step, state, batch)
    jax.effects_barrier()
    masks = np.stack([half for output in seen for half in np.split(output[0], 2)])
    assert len(np.unique(masks, axis=0)) == 4


def test_batch_statistics_are_updated_and_used_in_evaluation():
    run = train(Regularized(nnx.Rngs(0)))
    assert run.model.norm.num_batches_tracked[...] == 2 * 4
    assert not np.array_equal(run.model.norm.mean, np.zeros(8))
    assert run.model.norm.use_running_average
    again = evaluate(run.model, drawn().test, loss=losses.cross_entropy, batch_size=5)
    assert again.correct == run.test.correct
    assert again.loss == pytest.approx(run.test.loss, rel=1e-6)


SIZES = [(1, 1), (1, 45), (5, 1), (9, 3), (16, 16), (17, 16), (16, 17), (40, 16)]


@pytest.mark.parametrize("sizes", tier.usually(SIZES, [(1, 45), (9, 3), (17, 16)]))
def test_every_example_is_scored_whatever_the_batch_size(sizes):
    count, batch_size = sizes
    split = drawn(test=count).test
    model = MLP((4, 3), rngs=nnx.Rngs(0))
    result = evaluate(model, split, loss=losses.cross_entropy, batch_size=batch_size)
    outputs = np.asarray(model(jnp.asarray(split.inputs)))
    assert result.total == count
    assert result.correct == (outputs.argmax(-1) == split.labels).sum()
    losses_ = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(outputs), split.labels)
    assert result.loss == pytest.approx(float(losses_.mean()), rel=1e-5)
    assert result.accuracy == result.correct / count
    np.testing.assert_allclose(
        predict(model, split.inputs, batch_size=batch_size), outputs, rtol=1e-5, atol=1e-6
    )


@given(
    steps=st.integers(0, 80),
    rest=st.integers(0, 3),
    start=st.integers(0, 81),
    room=st.none() | st.integers(1, 90),
    stops=st.lists(st.integers(0, 90)),
    widths=st.none() | st.lists(st.integers(1, 3), min_size=80, max_size=80).map(np.array),
)
def test_pieces_hold_every_step_once_and_in_order(steps, rest, start, room, stops, widths):
    full = np.arange(4 * steps).reshape(steps, 4)
    widths = None if widths is None else widths[:steps]
    plan = Plan(full, np.arange(4 * steps, 4 * steps + rest), widths)
    start = min(start, plan.steps)
    pieces = cut(plan, start=start, room=room, stops=stops)
    seen = np.concatenate([np.ravel(piece.rows) for piece in pieces] or [[]])
    np.testing.assert_array_equal(seen, np.arange(4 * start, 4 * steps + rest))
    ends = start + np.cumsum([len(piece.rows) for piece in pieces])
    assert {stop for stop in stops if start < stop <= plan.steps} <= set(ends)
    for piece in pieces:
        if widths is None and room is None:
            whole = len(piece.rows) == steps or len(piece.rows[0]) < 4
            assert piece.room == (None if whole else steps)
        else:
            assert piece.count <= piece.room <= (room or CHUNK)
        if widths is not None and len(piece.rows[0]) == 4:
            assert set(widths[piece.rows[:, 0] // 4]) == {piece.width}
        else:
            assert piece.width is None


def test_the_history_holds_means_over_examples():
    run = train(optimizer=optimizers.sgd(0.0), epochs=1)
    model = MLP((4, 8, 3), rngs=nnx.Rngs(0))
    whole = evaluate(model, drawn().train, loss=losses.cross_entropy)
    record = run.history[0]
    assert record.train_loss == pytest.approx(whole.loss, rel=1e-5)
    assert record.train_accuracy == whole.accuracy
    assert record.test_accuracy == run.test.accuracy
    assert run.timings.compile_seconds > 0
    assert run.timings.train_seconds == record.seconds
    assert run.examples_per_second == 50 / record.seconds


@pytest.mark.slow
def test_drop_last_leaves_the_smaller_batch_out():
    assert train(drop_last=True).state.step == 2 * 3
    with pytest.raises(ValueError, match="batch_size: expected at most the 50 training examples"):
        train(drop_last=True, batch_size=51)
    assert train(batch_size=51).state.step == 2


def test_regression_has_no_accuracy():
    run = train(LinearRegression(rngs=nnx.Rngs(0)), load("linear"), loss=losses.mse_loss, epochs=1)
    assert run.test.accuracy is None
    assert run.test.correct is None
    assert run.history[0].train_accuracy is None


def test_inputs_are_transformed_inside_the_step():
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(20, 2, 2, 1), dtype=np.uint8)
    labels = draw.integers(3, size=20).astype(np.int32)
    ready = ((images / 255 - 0.5) / 0.25).astype(np.float32)
    raw = Dataset("raw", Split(images, labels), Split(images, labels))
    prepared = Dataset("prepared", Split(ready, labels), Split(ready, labels))
    first = train(data=raw, transform=Compose(ToFloat(), Normalize(0.5, 0.25)))
    np.testing.assert_allclose(first.step_losses, train(data=prepared).step_losses, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": -1}, "epochs: expected a positive integer, got -1"),
        ({"epochs": 0}, "epochs: expected a positive integer, got 0"),
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"progress": "loud"}, "progress: expected one of auto, bar, lines, none, got loud"),
        ({"model": MLP((5, 3), rngs=nnx.Rngs(0))}, r"inputs: expected a batch of examples of 5"),
        ({"model": MLP((4, 2), rngs=nnx.Rngs(0))},
         r"data.train.labels: expected classes in \[0, 1\], as the model has 2 outputs, "
         "got labels from 0 to 2"),
        ({"loss": lambda outputs, labels: outputs}, "loss: expected a function that returns a"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_divergence_names_epoch_and_step():
    data = drawn()
    inputs = data.train.inputs.copy()
    poisoned = epoch_plan(50, 16, seed=0, epoch=0).full[2][5]
    inputs[poisoned] = np.nan
    with pytest.raises(NonFiniteLossError, match="the loss is nan at epoch 1, step 3") as caught:
        train(data=Dataset("bad", Split(inputs, data.train.labels), data.test))
    assert (caught.value.epoch, caught.value.step) == (1, 3)


def test_lines_are_printed_where_output_is_no_terminal(capsys):
    train(progress="auto")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  train loss ")
    assert "test accuracy" in lines[1]
    train(progress="none")
    assert capsys.readouterr().out == ""


def test_the_bar_leaves_one_line_an_epoch(capsys):
    train(progress="bar")
    assert [line.split("  ")[0] for line in capsys.readouterr().out.splitlines() if line] == [
        "epoch 1/2",
        "epoch 2/2",
    ]


def test_the_bar_says_that_a_program_is_compiled(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("rich._console", None)  # later tests would use this console
    said = []

    def seen(bar, task, **fields):
        said.append(fields.get("now"))

    monkeypatch.setattr("rich.progress.Progress.update", seen)
    train(progress="bar", epochs=1)
    assert said[:2] == ["compiling (once)", "loss –"]
    assert said[2].startswith("loss ")
    shown = said.index(said[2])
    assert said[shown + 1 :].count("compiling (once)") >= 1  # the last, smaller batch


def test_lines_say_on_standard_error_that_compiling_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    train(progress="lines", epochs=1)
    out, err = capsys.readouterr()
    assert err == "compiling (once)\n"
    assert "compiling" not in out
    train(progress="none", epochs=1)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    train(progress="lines", epochs=1)
    assert capsys.readouterr().err == ""


def test_history_as_csv_and_png(tmp_path):
    history = [
        EpochRecord(1, {"loss": 1.0, "accuracy": 0.5}, {"loss": 0.9, "accuracy": 0.6}, 2.0),
        EpochRecord(2, {"loss": 0.5, "accuracy": 0.8}, {"loss": 0.6, "accuracy": 0.7}, 2.0),
    ]
    write_history(history, tmp_path / "history.csv")
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["test_accuracy"] == "0.7"
    assert [row["epoch"] for row in rows] == ["1", "2"]
    plot_history(history, tmp_path / "curves.png", title="two epochs")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_counter_of_ones_own():
    run = train(correct=lambda outputs, labels: metrics.correct(outputs, labels) * 0)
    assert run.test.correct == 0
    assert train(correct=None).test.correct is None

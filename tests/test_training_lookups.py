"""Indices and labels out of range are refused before they reach a compiled program."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import evaluate, fit, losses, optimizers, predict, predictor
from jaxnets.data import Dataset, Split, StreamedSplit
from jaxnets.layers import Embedding, Linear


class Direct(nnx.Module):
    """Looks up the inputs as they are."""

    def __init__(self):
        self.embedding = Embedding(5, 2, padding_idx=-1, rngs=nnx.Rngs(0))
        self.fc = Linear(2, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.fc(self.embedding(x).mean(1))


class Columns(nnx.Module):
    """Looks up the first column, which counts from 1, and the second one in another table."""

    def __init__(self):
        self.first = Embedding(5, 2, rngs=nnx.Rngs(0))
        self.second = Embedding(9, 2, rngs=nnx.Rngs(1))
        self.fc = Linear(2, 3, rngs=nnx.Rngs(2))

    def __call__(self, x):
        return self.fc(self.first(x[:, 0].astype(int) - 1) + self.second(x[:, 1].astype(int)))


class Positions(nnx.Module):
    """Looks up the inputs and their positions."""

    def __init__(self, rows):
        self.embedding = Embedding(5, 2, rngs=nnx.Rngs(0))
        self.positions = Embedding(rows, 2, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.embedding(x) + self.positions(jnp.arange(x.shape[1])[None])


#: A model, valid inputs, an invalid value of the first column, and the message.
MODELS = {
    "direct": (Direct(), np.array([[0, 4], [1, 2]] * 3, np.int32), 5, "4.*5 rows, got 0 to 5"),
    "negative": (Direct(), np.array([[0, 4], [1, 2]] * 3, np.int32), -1, "got -1 to 4"),
    "columns": (Columns(), np.array([[1, 8], [5, 0]] * 3, np.int32), 0, "4.*5 rows, got -1 to 4"),
    "floats": (Columns(), np.array([[1, 8], [5, 0]] * 3, np.float32), 6, "4.*got 0 to 5"),
}


def split(inputs, labels=0):
    return Split(inputs, np.broadcast_to(np.int32(labels), len(inputs)).copy())


def train(model, train, test, loss=losses.cross_entropy):
    settings = {"optimizer": optimizers.sgd(0.1), "epochs": 1, "batch_size": 3, "shuffle": False}
    data = Dataset("drawn", train, test)
    return fit(model, data, loss=loss, **settings, progress="none")


@pytest.mark.parametrize("name", MODELS)
def test_an_index_without_a_row_is_refused(name):
    model, good, value, got = MODELS[name]
    bad = good.copy()
    bad[3, 0] = value
    message = rf"inputs: expected indices in \[0, {got}"
    if not got.startswith("4"):
        message = rf"inputs: expected indices in \[0, 4\], as .*{got}"
    for argument, call in {
        "data.train.": lambda: train(model, split(bad), split(good)),
        "data.test.": lambda: train(model, split(good), split(bad)),
        "split.": lambda: evaluate(model, split(bad), loss=losses.cross_entropy),
        "": lambda: predict(model, bad),
    }.items():
        with pytest.raises(ValueError, match=f"^{argument}{message}"):
            call()
    with pytest.raises(ValueError, match=f"^{message}"):
        predictor(model)(bad)


@pytest.mark.parametrize("name", ["direct", "columns"])
def test_an_index_is_refused_when_it_is_read(name):
    model, good, value, _ = MODELS[name]
    train(model, StreamedSplit(split(good)), split(good))
    bad = good.copy()
    bad[5, 0] = value
    with pytest.raises(ValueError, match=r"data\.train\.inputs: expected indices in \[0, 4\]"):
        train(model, StreamedSplit(split(bad)), split(good))


def test_all_chunks_of_many_examples_are_looked_at():
    model, good, _, _ = MODELS["columns"]
    many = np.tile(good, (400, 1))
    assert np.isfinite(predict(model, many)).all()
    for place in (0, 1023, 1024, len(many) - 1):
        bad = many.copy()
        bad[place, 1] = 9
        with pytest.raises(ValueError, match=r"inputs: .* \[0, 8\], .* 9 rows, got 0 to 9"):
            predict(model, bad)


def test_a_predictor_looks_at_each_call():
    answer = predictor(MODELS["direct"][0])
    assert np.isfinite(answer(np.array([[0, 4]]))).all()
    with pytest.raises(ValueError, match="inputs: expected indices"):
        answer(jnp.array([[0, 5]]))
    assert np.isfinite(answer(np.array([[4, 0]]))).all()


def test_indices_that_no_input_changes_are_looked_at_once(monkeypatch):
    inputs = np.array([[0, 4], [1, 2]], np.int32)
    with pytest.raises(ValueError, match=r"inputs: .* \[0, 0\], .* 1 rows, got 0 to 1"):
        predictor(Positions(1))(inputs)
    answer = predictor(Positions(2))
    outputs = answer(inputs)
    programs = []
    monkeypatch.setattr("jax.device_get", programs.append)
    np.testing.assert_array_equal(answer(inputs), outputs)
    assert not programs
    with pytest.raises(ValueError, match=r"inputs: expected indices in \[0, 4\]"):
        answer(inputs + 3)


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_is_looked_at_within_a_loss_of_ones_own(label):
    model, good, _, _ = MODELS["direct"]

    def loss(outputs, labels):
        return losses.cross_entropy(2 * outputs, labels, ignore_index=-2)

    train(model, split(good, [-2, 0, 2, 1, 1, 1]), split(good, 2), loss)
    with pytest.raises(ValueError, match=r"data\.train\.labels: expected classes in \[0, 2\], as"):
        train(model, split(good, label), split(good), loss)

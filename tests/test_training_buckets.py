"""Batches of texts of similar length, padded only as far as needed."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split, epoch_plan
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.models import TextClassifier
from jaxnets.training import Saving, fit
from jaxnets.training.batches import ResidentFeed, cut
from jaxnets.training.placement import one_device
from tests.test_training_saving import assert_same, truncated

pytestmark = pytest.mark.slow

ADAM = optimizers.adam(0.01)
LONGEST, COUNT, BATCH = 9, 75, 6  # twelve batches, and one of three
WORDS = Vocabulary(("<pad>", "<unk>", *"abcdefg"))


def texts(labels=()):
    draw = np.random.default_rng(0)
    tokens = draw.integers(1, len(WORDS), size=(COUNT, LONGEST)).astype(np.int32)
    ends = draw.integers(1, LONGEST + 1, size=(COUNT, 1))
    tokens[np.arange(LONGEST)[None] >= ends] = 0
    split = Split(tokens, draw.integers(3, size=(COUNT, *labels)).astype(np.int32))
    return TextDataset("drawn", split, split.take(8), encoder=TextEncoder(Tokenizer(), WORDS))


DATA = texts()


def network(dtype=np.float32, dropout=0.0, **options):
    return TextClassifier(
        len(WORDS), 4, 5, dropout=dropout, output_dim=3, rngs=nnx.Rngs(0), param_dtype=dtype,
        **options,
    )  # fmt: skip


def train(dtype=np.float32, directory=None, steps=None, on=DATA, dropout=0.0, **options):
    settings = {"loss": losses.cross_entropy, "optimizer": ADAM, "epochs": 2, "progress": "none"}
    save = None if directory is None else Saving(directory, steps=steps, keep=100)
    model = network(dtype, dropout)
    return fit(model, on, batch_size=BATCH, save=save, **{**settings, **options})


def outputs(model, tokens):
    graphdef, state = nnx.split(model)
    return np.asarray(jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, tokens))


@pytest.mark.parametrize(("dtype", "within"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_a_width_leaves_out_changes_no_output(cell, bidirectional, dtype, within):
    with jax.enable_x64(dtype == np.float64):
        model = network(dtype, cell=cell, bidirectional=bidirectional)
        width = DATA.widths(2).min()
        narrow = DATA.train.inputs[DATA.widths(2) == width]
        whole = outputs(model, narrow)
        np.testing.assert_allclose(outputs(model, narrow[:, :width]), whole, rtol=within)


def test_training_at_widths_is_training_at_full_length(monkeypatch):
    with jax.enable_x64(True):
        narrow = train(np.float64, buckets=2, epochs=1)
        monkeypatch.setattr(ResidentFeed, "_of_width", lambda feed, width: feed._columns)
        whole = train(np.float64, buckets=2, epochs=1)
    np.testing.assert_allclose(narrow.step_losses, whole.step_losses, rtol=1e-12)
    leaves = (jax.tree.leaves(run.state.parameters) for run in (narrow, whole))
    for one, other in zip(*leaves, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_batches_lie_on_the_device_at_their_width():
    plan = epoch_plan(COUNT, BATCH, seed=0, epoch=0, widths=DATA.widths(3))
    pieces = cut(plan)
    feed = ResidentFeed(DATA.train.columns, one_device())
    seen = set()
    for piece, batches in zip(pieces, feed.batches(pieces), strict=True):
        np.testing.assert_array_equal(batches.rows[: len(piece.rows)], piece.rows)
        np.testing.assert_array_equal(
            batches.columns["inputs"], DATA.train.inputs[:, : piece.width]
        )
        np.testing.assert_array_equal(batches.columns["labels"], DATA.train.labels)
        width = batches.columns["inputs"].shape[1]
        assert not DATA.train.inputs[piece.rows.ravel(), width:].any()
        seen.add((piece.rows.shape[1], width))
    assert seen == {*((BATCH, width) for width in DATA.widths(3)), (COUNT % BATCH, LONGEST)}


def test_one_bucket_equals_no_buckets_bit_for_bit():
    assert_same(train(buckets=1, dropout=0.5), train(dropout=0.5))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved") / "run"
    return directory, train(directory=directory, steps=4, buckets=2, dropout=0.5)


def test_saving_changes_nothing(saved):
    assert_same(saved[1], train(buckets=2, dropout=0.5))


@pytest.mark.parametrize("step", [4, 12, 20])
def test_a_run_goes_on_bit_for_bit(saved, tmp_path, step):
    directory = truncated(saved[0], tmp_path / "run", step)
    assert_same(train(directory=directory, resume=True, buckets=2, dropout=0.5), saved[1])


def test_other_buckets_are_another_run(saved):
    with pytest.raises(ValueError, match="resume: expected .* buckets is 3, was 2"):
        train(directory=saved[0], resume=True, buckets=3, dropout=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": 0}, "buckets: expected a positive integer, got 0"),
        ({"buckets": 2.5}, "buckets: expected a positive integer, got 2.5"),
        ({"buckets": 2, "on": Dataset("other", DATA.train, DATA.test)},
         "buckets: expected None or 1, except for a TextDataset, got 2"),
        ({"buckets": 2, "on": texts(labels=(LONGEST,))},
         r"buckets: expected None or 1, unless each text has one label, got labels \[9\]"),
    ],
)  # fmt: skip
def test_buckets_require_texts(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_a_text_is_as_long_as_its_last_token():
    tokens = np.array([[2, 0, 3, 0], [0, 0, 0, 0], [2, 2, 2, 2], [0, 2, 0, 0]], np.int32)
    split = Split(tokens, np.zeros(4, np.int32))
    data = TextDataset("t", split, split, encoder=TextEncoder(Tokenizer(), WORDS))
    assert data.widths(4).tolist() == [3, 2, 4, 2]
    assert data.widths(1).tolist() == [4] * 4

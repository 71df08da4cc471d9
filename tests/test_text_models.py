import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.models import LanguageModel, TextClassifier
from jaxnets.training import count_parameters, evaluate, fit
from tests import tier


def run(model, inputs):
    graphdef, state = nnx.split(model)
    return np.asarray(jax.jit(lambda s, x: nnx.merge(graphdef, s)(x))(state, jnp.asarray(inputs)))


@nnx.jit
def answer(model, tokens):
    return model(tokens)


@nnx.jit
def advance(model, tokens, state):
    return model.advance(tokens, state)


def classifier(**options):
    return TextClassifier(11, 5, 8, output_dim=3, rngs=nnx.Rngs(0), **options)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("bidirectional", tier.usually([False, True], [True]))
def test_padding_changes_nothing(cell, bidirectional):
    model = classifier(cell=cell, bidirectional=bidirectional, n_layers=2)
    rows = [[3, 7, 2, 9], [4, 10], [5]]
    padded = np.zeros((3, 9), np.int32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    outputs = run(model, padded)
    for row, output in zip(rows, outputs, strict=True):
        np.testing.assert_allclose(run(model, np.array([row], np.int32))[0], output, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("bidirectional", [False, True])
def test_every_token_of_a_row_counts(bidirectional):
    model = classifier(bidirectional=bidirectional)
    row = np.array([[3, 7, 2, 9]], np.int32)
    for place in range(4):
        other = row.copy()
        other[0, place] = 5
        assert not np.allclose(run(model, row), run(model, other), rtol=1e-6)


def test_a_row_of_padding_alone_has_outputs_too():
    assert np.isfinite(run(classifier(), np.zeros((1, 4), np.int32))).all()


def test_padding_learns_nothing():
    model = classifier()
    tokens, labels = jnp.array([[3, 7, 0], [4, 0, 0]]), jnp.array([0, 1])
    gradient = nnx.jit(nnx.grad(lambda model: losses.cross_entropy(model(tokens), labels)))(model)
    table = np.asarray(gradient["embedding"]["embedding"][...])
    assert not table[[0, 1, 2]].any()
    assert table[[3, 4, 7]].any(axis=1).all()


def test_dropout_is_for_training_alone():
    model = classifier(dropout=0.5)
    tokens = jnp.ones((2, 4), jnp.int32)
    model.train()
    assert not np.array_equal(answer(model, tokens), answer(model, tokens))
    model.eval()
    np.testing.assert_array_equal(answer(model, tokens), answer(model, tokens))


def test_the_documented_sizes():
    def shapes(network, *sizes, **options):
        return nnx.eval_shape(lambda: network(*sizes, **options, rngs=nnx.Rngs(0)))

    lstm = shapes(TextClassifier, 1000, 100, 128, 2, output_dim=1)
    assert count_parameters(lstm) == 100_000 + 512 * (100 + 128 + 2 + 128 + 128 + 2) + 129
    both = shapes(TextClassifier, 10, 4, 8, bidirectional=True, cell="gru")
    assert count_parameters(both) == 40 + 2 * 24 * (4 + 8 + 2) + 17
    language = shapes(LanguageModel, 67, 64, 256)
    assert count_parameters(language) == 67 * 64 + 1024 * (64 + 256 + 2) + 257 * 67


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_language_model_reads_on_from_its_state(cell):
    model = LanguageModel(11, 5, 8, 2, cell=cell, rngs=nnx.Rngs(0))
    tokens = jnp.array(np.random.default_rng(0).integers(11, size=(3, 6)))
    whole, end = advance(model, tokens, None)
    np.testing.assert_array_equal(answer(model, tokens), whole)
    first, state = advance(model, tokens[:, :4], None)
    second, state = advance(model, tokens[:, 4:], state)
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), whole, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state, end)


def test_a_language_model_sees_no_token_ahead():
    model = LanguageModel(11, 5, 8, rngs=nnx.Rngs(0))
    tokens = np.array([[3, 7, 2, 9]], np.int32)
    other = tokens.copy()
    other[0, 2] = 5
    same, differs = run(model, tokens)[0], run(model, other)[0]
    np.testing.assert_array_equal(same[:2], differs[:2])
    assert not np.array_equal(same[2], differs[2])


def test_loss_and_accuracy_are_means_over_characters():
    draw = np.random.default_rng(0)
    split = Split(*(draw.integers(11, size=(7, 6)).astype(np.int32) for _ in "xy"))
    model = LanguageModel(11, 5, 8, rngs=nnx.Rngs(0))
    logits = jax.nn.log_softmax(run(model, split.inputs))
    picked = np.take_along_axis(np.asarray(logits), split.labels[..., None], -1)
    right = int((np.argmax(logits, -1) == split.labels).sum())
    for batch_size in (1000, 3):  # the last batch is smaller
        found = evaluate(model, split, loss=losses.cross_entropy, batch_size=batch_size)
        assert found.loss == pytest.approx(-picked.mean(), rel=1e-5)
        assert (found.correct, found.total) == (right, 42)
        assert found.accuracy == right / 42


def test_a_language_model_learns_a_repeated_text():
    stream = np.tile(np.arange(1, 6, dtype=np.int32), 40)
    inputs, labels = stream[:192].reshape(24, 8), stream[1:193].reshape(24, 8)
    split = Split(inputs, labels)
    result = fit(
        LanguageModel(6, 8, 16, rngs=nnx.Rngs(0)), Dataset("loop", split, split),
        loss=losses.cross_entropy, optimizer=optimizers.adam(0.03), epochs=30, batch_size=8,
        progress="none",
    )  # fmt: skip
    assert result.test.accuracy == 1.0
    assert result.test.loss < 0.1
    assert result.history[-1].train_accuracy == 1.0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: TextClassifier(0, 5, 8, rngs=r), "vocab_size: expected a positive integer"),
        (lambda r: TextClassifier(9, 0, 8, rngs=r), "embedding_dim: expected a positive integer"),
        (lambda r: TextClassifier(9, 5, 8, cell="rnn", rngs=r), "cell: expected one of lstm, gru"),
        (lambda r: TextClassifier(9, 5, 8, output="x", rngs=r), "output: expected one of sigmoid"),
        (lambda r: TextClassifier(9, 5, 8, 1, 1.5, rngs=r), "dropout: expected"),
        (lambda r: LanguageModel(9, 5, 0, rngs=r), "hidden_dim: expected a positive integer"),
        (lambda r: LanguageModel(9, 5, 8, 0, rngs=r), "n_layers: expected a positive integer"),
        (
            lambda r: LanguageModel(9, 5, 8, 1, -1, rngs=r),
            r"dropout: expected a number in \[0, 1\]",
        ),
        (lambda r: LanguageModel(9, 5, 8, cell="rnn", rngs=r), "cell: expected one of lstm, gru"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build(nnx.Rngs(0))


@pytest.mark.parametrize(
    "build", [lambda r: TextClassifier(9, 5, 8, rngs=r), lambda r: LanguageModel(9, 5, 8, rngs=r)]
)
def test_inputs_that_are_no_rows_of_tokens_are_refused(build):
    model = build(nnx.Rngs(0))
    for shape, dtype in [((4,), jnp.int32), ((2, 4), jnp.float32), ((2, 4, 1), jnp.int32)]:
        with pytest.raises(ValueError, match=r"tokens: expected integers \[batch, time\], got"):
            model(jnp.zeros(shape, dtype))
    with pytest.raises(ValueError, match=r"indices: expected indices in \[0, 9\), got 9 to 9"):
        model(jnp.full((1, 2), 9))

"""Sequence to sequence: pairs of texts, decoding, and the commands on them."""

import datetime
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import explain
from jaxnets.cli import main
from jaxnets.data import load, text
from jaxnets.data.text import END
from jaxnets.data.text.pairs import written
from jaxnets.models import Seq2Seq, TransformerSeq2Seq
from jaxnets.models.seq2seq import shifted
from jaxnets.sampling import translate
from tests import tier

TOKENS, LENGTH = 6, 3
SOURCE = np.array([[3, 4, 5, 0], [5, 5, 3, 3]], np.int32)
MODELS = {
    "gru": lambda: Seq2Seq(TOKENS, 4, 5, dropout=0.5, rngs=nnx.Rngs(1)),
    "transformer": lambda: TransformerSeq2Seq(TOKENS, 8, 2, 1, 16, 0.5, rngs=nnx.Rngs(3)),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    made = MODELS[request.param]()
    for head in (getattr(made, "generator", None), getattr(made, "decoder", None)):
        layer = getattr(head, "out", head)
        if layer is not None:
            layer.kernel[...] *= 4  # so that the probabilities differ
    made.eval()
    return made


def every_text():
    """All possible texts, int32 [texts, LENGTH], with 0 after the end."""
    others = [token for token in range(1, TOKENS) if token != END]
    found = []
    for count in range(LENGTH + 1):
        for start in itertools.product(others, repeat=count):
            ended = count < LENGTH
            found.append([*start, *([END] if ended else []), *[0] * (LENGTH - count - ended)])
    return np.array(found, np.int32)


@functools.partial(jax.jit, static_argnames="graphdef")
def _log_probabilities(state, graphdef, source, target):
    logits = nnx.merge(graphdef, state)(source, shifted(target))
    return jax.nn.log_softmax(logits.at[..., 0].set(-jnp.inf))


def scores(model, row, penalty):
    """All texts with their scores, for one source."""
    texts = every_text()
    graphdef, state = nnx.split(model)
    found = _log_probabilities(state, graphdef, np.repeat(row[None], len(texts), 0), texts)
    each = np.take_along_axis(np.asarray(found), texts[..., None], axis=2)[..., 0]
    return texts, np.where(texts == 0, 0, each).sum(1) / (texts != 0).sum(1) ** penalty


@pytest.mark.parametrize("penalty", tier.usually([0.0, 1.0, 2.0], [1.0]))
def test_a_beam_that_keeps_all_finds_the_best_of_all_texts(model, penalty):
    found = translate(model, SOURCE, LENGTH, beam_size=100, length_penalty=penalty)
    for row, tokens, score in zip(SOURCE, *found, strict=True):
        texts, expected = scores(model, row, penalty)
        np.testing.assert_array_equal(tokens, texts[expected.argmax()])
        assert score == pytest.approx(expected.max(), rel=1e-5)


@pytest.mark.slow
def test_a_beam_of_one_takes_the_likeliest_token_each_time(model):
    found = translate(model, SOURCE, LENGTH, length_penalty=0)
    graphdef, state = nnx.split(model)
    written = np.zeros((len(SOURCE), LENGTH), np.int32)
    for place in range(LENGTH):
        each = np.asarray(_log_probabilities(state, graphdef, SOURCE, written))[:, place]
        going = np.full(len(SOURCE), True) if place == 0 else written[:, place - 1] > END
        going |= written[:, place - 1] == 1
        written[:, place] = np.where(going, each.argmax(-1), 0)
    np.testing.assert_array_equal(found.tokens, written)


@pytest.mark.slow
def test_more_padding_changes_nothing(model):
    wide = np.pad(SOURCE, ((0, 0), (0, 3)))
    narrow, other = translate(model, SOURCE, LENGTH), translate(model, wide, LENGTH)
    np.testing.assert_array_equal(narrow.tokens, other.tokens)
    np.testing.assert_allclose(narrow.scores, other.scores, rtol=1e-5)
    weights = explain.attention(model, wide, other.tokens)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    assert (weights[0, :, 3:] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": nnx.Linear(2, 3, rngs=nnx.Rngs(0))}, "model: expected a Seq2Seq or a Transf"),
        ({"source": np.ones(3, np.int32)}, r"source: expected integers \[batch, steps\], got"),
        ({"source": np.full((1, 2), 6)}, "source: expected tokens from 0 to 5, got 6 to 6"),
        ({"length": 0}, "length: expected a positive integer, got 0"),
        ({"beam_size": 0}, "beam_size: expected a positive integer, got 0"),
        ({"length_penalty": "much"}, "length_penalty: expected a finite number, got '?much"),
    ],
)
def test_bad_arguments_of_translate_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        translate(**({"model": model, "source": SOURCE, "length": LENGTH} | options))


def test_targets_that_do_not_fit_are_named(model):
    with pytest.raises(ValueError, match="target: expected as many rows as the 2 of source"):
        model(SOURCE, np.ones((3, 2), np.int32))
    with pytest.raises(ValueError, match="model: expected a Seq2Seq or a TransformerSeq2Seq"):
        explain.attention(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), SOURCE, SOURCE)
    with pytest.raises(ValueError, match=r"target: expected integers \[batch, time\], got"):
        explain.attention(model, SOURCE, np.ones(3, np.int32))


def test_attention_is_drawn_up_to_the_last_token():
    figure = explain.draw_attention(np.eye(4, dtype=np.float32), ["a", " ", "c"], ["x", "y"])
    (axes,) = figure.axes
    assert axes.images[0].get_array().shape == (2, 3)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "␣", "c"]
    with pytest.raises(ValueError, match="source: expected at least one token, and at most 4"):
        explain.draw_attention(np.eye(4, dtype=np.float32), list("abcde"), ["x"])


def test_dates_in_words():
    day = datetime.date(1905, 11, 22)
    assert [written(day, form) for form in range(10)] == [
        "the twenty-second of november 1905",
        "november the twenty-second 1905",
        "22 november 1905",
        "november 22, 1905",
        "22nd of november, 1905",
        "22 nov 1905",
        "wednesday, 22nd november 1905",
        "wednesday the twenty-second of november, 1905",
        "the twenty-second of november nineteen oh five",
        "november 22nd, nineteen oh five",
    ]
    years = {1900: "nineteen hundred", 2000: "two thousand", 2001: "two thousand and one"}
    years |= {2010: "twenty ten", 1999: "nineteen ninety-nine"}
    for year, words in years.items():
        assert written(datetime.date(year, 1, 12), 9) == f"january 12th, {words}"
    ordinals = {1: "1st", 2: "2nd", 3: "3rd", 11: "11th", 12: "12th", 13: "13th", 30: "30th"}
    assert [written(datetime.date(2000, 1, d), 4).split()[0] for d in ordinals] == list(
        ordinals.values()
    )
    data = load("dates")
    dates = [set(text.target_texts(data.encoder, s.labels)) for s in (data.train, data.test)]
    assert (len(dates[0]), len(dates[1]), len(dates[0] & dates[1])) == (9000, 1000, 0)
    assert data.origin == "generated by jaxnets"
    with pytest.raises(ValueError, match="count: expected at most the 73049 days of two cent"):
        text.dates(100_000)
    with pytest.raises(ValueError, match="data_dir: expected None, as dates are generated"):
        load("dates", data_dir=".")


def write_pairs(path):
    words = ["one", "two", "three", "four"]
    lines = [f"{a} {b}\t{b} {a}" for a in words for b in words]
    path.write_text("\n".join(lines) + "\n")


def test_pairs_from_a_file(tmp_path):
    write_pairs(tmp_path / "pairs.tsv")
    letters = load(tmp_path / "pairs.tsv")
    words = load("pairs", data_dir=tmp_path, tokens="words", test_fraction=0.25)
    assert letters.train.inputs.shape[1] == 11
    assert letters.train.labels.shape[1] == 12
    assert words.train.spec.labels.shape == (3,)
    assert len(words.test) == 4
    assert words.vocabulary.tokens[:3] == ("<pad>", "<unk>", "</s>")
    source = words.encoder.decode(words.test.inputs[0]).split()
    assert text.target_texts(words.encoder, words.test.labels)[0].split() == source[::-1]
    again = load("pairs", data_dir=tmp_path, tokens="words", encoder=words.encoder)
    assert again.vocabulary is words.vocabulary
    (tmp_path / "pairs.tsv").write_text("one\ttwo\nthree\n")
    with pytest.raises(ValueError, match="expected two texts with a tab between them in line 2"):
        load("pairs", data_dir=tmp_path)
    other = text.learn_encoder(["a b"], text.Tokenizer())
    with pytest.raises(ValueError, match="encoder: expected one whose third token is </s>"):
        text.paired("x", ["a", "b"], ["b", "a"], text.Tokenizer(), encoder=other)
    with pytest.raises(ValueError, match="sources: expected at least two pairs, .*, got 1 sources"):
        text.paired("x", ["a"], ["b", "a"], text.Tokenizer())
    with pytest.raises(ValueError, match="tokens: expected None, as text is a data set of texts"):
        load("text", data_dir=tmp_path, tokens="words")
    with pytest.raises(
        ValueError, match="stride: expected None, as 'linear' is not a data set of texts"
    ):
        load("linear", stride=2)


SMALL = ["hidden_dim=8", "embedding_dim=8"]


@pytest.mark.slow
def test_a_run_prints_the_text_that_it_writes(tmp_path, capsys):
    write_pairs(tmp_path / "pairs.tsv")
    out = tmp_path / "run"
    words = [
        "train",
        "dates-seq2seq",
        "--data",
        "pairs",
        "--data-dir",
        str(tmp_path),
        "--epochs",
        "1",
    ]
    words += [w for option in SMALL for w in ("--model-option", option)]
    words += ["--data-option", "tokens=words", "--quiet", "--out", str(out)]
    assert main(words) == 0
    record = json.loads((out / "run.json").read_text())
    assert record["test_total"] == 2
    capsys.readouterr()
    asked = ["predict", str(out), "--text", "two one", "four four", "--length", "3"]
    assert main([*asked, "--beam-size", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {word for line in lines for word in line.split()} <= {
        "one",
        "two",
        "three",
        "four",
        "<unk>",
    }
    assert main(["predict", str(out), "--text", "one", "--prompt", "one"]) == 2
    assert "prompt: expected none, as" in capsys.readouterr().err
    assert main(["visualize", str(out), "--out", str(tmp_path / "map.png")]) == 0
    assert (tmp_path / "map.png").stat().st_size > 1000
    capsys.readouterr()
    assert main(["evaluate", str(out)]) == 2
    assert "a network that predicts from the inputs alone" in capsys.readouterr().err
    assert main([*words[:-1], str(tmp_path / "half"), "--compute-dtype", "bfloat16"]) == 2
    assert "compute_dtype: expected None, with the objective" in capsys.readouterr().err

"""The evaluation of a network on a split, and the pages about it."""

import dataclasses
import functools
import json
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets import data, evaluate, losses, recipes, reports
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.models import LanguageModel
from jaxnets.pages.blocks import Figure, Heading, Table
from jaxnets.reports.content import content
from jaxnets.reports.of_run import _rates
from tests.pages import blocks

RNG = np.random.default_rng(0)


class Given(nnx.Module):
    """Returns its inputs, so that a test can choose the outputs."""

    def __init__(self, output=None):
        self.scale = nnx.Param(jnp.ones(()))
        if output is not None:
            self.output = output

    def __call__(self, x):
        return x.astype(jnp.float32) * self.scale[...]


def split(outputs, labels):
    return data.Split(np.asarray(outputs, np.float32), np.asarray(labels))


def named(outputs, labels, names):
    one = split(outputs, labels)
    return data.Dataset("things", one, one, names)


LOGITS = RNG.normal(size=(60, 3))
CLASSES = np.where(RNG.random(60) < 0.7, LOGITS.argmax(1), RNG.integers(3, size=60)).astype(
    np.int32
)


@pytest.fixture(scope="module")
def classified():
    things = named(LOGITS, CLASSES, ("cat", "dog|x", "<emu>"))
    return reports.report(Given(), things, loss=losses.cross_entropy)


def test_loss_and_accuracy_are_those_of_evaluate(classified):
    expected = evaluate(Given(), split(LOGITS, CLASSES), loss=losses.cross_entropy)
    assert classified.scores["loss"] == pytest.approx(expected.loss, rel=1e-6)
    assert classified.scores["accuracy"] == expected.accuracy
    assert np.trace(classified.found.confusion) == expected.correct
    assert classified.examples == classified.found.confusion.sum() == 60


def test_the_most_confident_mistakes_come_first(classified):
    found = classified.found.mistakes
    shares = [each.probability for each in found]
    assert shares == sorted(shares, reverse=True)
    assert len(found) == min(16, round(60 * (1 - classified.scores["accuracy"])))
    names = ("cat", "dog|x", "<emu>")
    for each in found:
        assert each.label == names[CLASSES[each.index]]
        assert each.predicted == names[LOGITS[each.index].argmax()]
        assert each.text == ", ".join(f"{value:g}" for value in LOGITS[each.index].astype("f4"))


def test_the_summary_is_for_people(classified):
    text = repr(classified)
    assert text.startswith("Given on things, test split, 60 examples\n  loss  ")
    assert re.search(r"^  ECE \(15 bins\) +\d+\.\d\d %$", text, re.M)
    assert re.search(r"^cat  +\d+\.\d\d % +\d+\.\d\d % +\d+\.\d\d % +\d+$", text, re.M)
    assert "most frequent confusions: " in text


def test_the_pages(classified, tmp_path):
    classified.write(tmp_path / "report")
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"report.md", "report.html", "report.json", "confusion.png", "calibration.png"}
    page = (tmp_path / "report" / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{,30})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page
    assert "&lt;emu&gt;" in page
    assert "<emu>" not in page
    assert r"dog\|x" in (tmp_path / "report" / "report.md").read_text()
    held = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert held["scores"] == pytest.approx(dict(classified.scores))
    assert held["confusion"] == classified.found.confusion.tolist()
    assert [each["class"] for each in held["classes"]] == ["cat", "dog|x", "<emu>"]
    assert held["calibration"]["bins"] == len(held["calibration"]["count"]) == 15
    assert classified._repr_html_().count("<img") == 2


def test_images_are_shown_as_a_sheet():
    class First(Given):
        def __call__(self, x):
            return jnp.stack([x.mean((1, 2, 3)), jnp.zeros(len(x))], 1) * self.scale[...]

    pixels = RNG.integers(1, 256, size=(6, 4, 4, 1)).astype(np.uint8)
    one = data.Split(pixels, np.array([1, 1, 0, 1, 1, 1], np.int32))
    images = data.Dataset("images", one, one, ("cat", "狗"))  # figures show its number instead
    found = reports.report(First(), images, transform=data.ToFloat())
    sheet = next(b for b in content(found) if isinstance(b, Figure) and b.name == "mistakes")
    said = [text.get_text() for text in sheet.draw().texts]
    assert said[::3] == ["true: 1"] * 5
    assert said[1::3] == ["predicted: cat"] * 5
    shown = found.found.mistakes
    assert sorted(each.index for each in shown) == [0, 1, 3, 4, 5]
    assert all((each.image == pixels[each.index]).all() for each in shown)


@pytest.mark.parametrize("wrong", [0, 7])
def test_many_classes_are_listed_in_part(wrong):
    classes = np.arange(50)
    labels = np.where(classes < wrong, classes + 1, classes)
    found = reports.report(Given(), split(9 * np.eye(50), labels))
    assert "the 20 of 50 classes with the lowest F1:" in repr(found)
    page = content(found)
    headings = [block.text for block in page if isinstance(block, Heading)]
    mistakes = ["Most confident mistakes"] if wrong else []
    assert headings == ["Classes", *["Confusion"] * bool(wrong), "Calibration", *mistakes]
    tables = [block for block in page if isinstance(block, Table)]
    assert len(tables[1].rows) == 42
    assert not wrong or [row[2] for row in tables[2].rows] == ["1"] * 7


@pytest.mark.parametrize("labels", [[0, 1, 1, 0], [[0], [1], [1], [0]], [0.0, 1.0, 1.0, 0.0]])
def test_one_output_tells_two_classes_apart(labels):
    shares = np.array([[0.1], [0.5], [0.3], [0.8]])  # 0.5 counts as class 1
    loss = losses.binary_cross_entropy
    expected = [[1, 1], [1, 1]]
    found = reports.report(Given(), split(shares, labels), loss=loss)
    assert found.found.confusion.tolist() == expected
    assert found.scores["brier_score"] == pytest.approx(np.mean([0.01, 0.25, 0.49, 0.64]), rel=1e-6)
    logits = np.log(shares / (1 - shares))
    loss = losses.binary_cross_entropy_with_logits
    same = reports.report(Given(), split(logits, labels), loss=loss)
    assert same.found.confusion.tolist() == expected
    assert same.scores["loss"] == pytest.approx(found.scores["loss"], rel=1e-5)


def test_probabilities_are_told_from_logits():
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    of_logits = reports.report(Given(), split(LOGITS, CLASSES)).scores
    for network, outputs in (
        (Given(), "auto"),
        (Given("softmax"), "auto"),
        (Given(), "probabilities"),
    ):
        found = reports.report(network, split(shares, CLASSES), outputs=outputs).scores
        assert found == pytest.approx(dict(of_logits), rel=1e-5)
    assert reports.report(Given("logits"), split(shares, CLASSES)).scores["ece"] != found["ece"]


def test_a_label_for_each_position_counts_but_for_those_that_are_ignored():
    outputs, labels = RNG.normal(size=(5, 4, 3)), RNG.integers(3, size=(5, 4)).astype(np.int32)
    labels[0, 1], labels[3] = -100, -100
    found = reports.report(Given(), split(outputs, labels), loss=losses.cross_entropy)
    expected = evaluate(Given(), split(outputs, labels), loss=losses.cross_entropy)
    assert found.found.predictions == 15
    assert found.scores["accuracy"] == expected.accuracy
    assert {each.index for each in found.found.mistakes} <= {0, 1, 2, 4}
    ignoring = functools.partial(losses.cross_entropy, ignore_index=2)
    assert (
        reports.report(Given(), split(outputs, np.abs(labels) % 3), loss=ignoring).found.predictions
        == (np.abs(labels) % 3 != 2).sum()
    )


def test_values_are_in_the_units_of_the_data():
    x = np.linspace(0, 9, 40, dtype=np.float32)[:, None]
    line = data.Split(x, 100 * x + 7)
    standardized = data.standardize(data.Dataset("line", line, line))
    found = reports.report(Given(), standardized, loss=losses.mse_loss)  # the line itself
    assert found.scores["rmse"] == pytest.approx(0, abs=1e-3)
    assert found.scores["r2"] == pytest.approx(1)
    np.testing.assert_allclose(found.found.true, line.labels, rtol=1e-5)
    page = content(found)
    drawn = [block.name for block in page if isinstance(block, Figure)]
    assert drawn == ["predictions", "residuals"]
    assert [len(block.draw().axes) for block in page if isinstance(block, Figure)] == [1, 1]
    assert [block.text for block in page if isinstance(block, Heading)][1] == "Largest errors"


def test_several_values_have_a_row_each():
    values = RNG.normal(size=(30, 3)).astype(np.float32)
    found = reports.report(Given(), split(values + np.arange(3), values))
    np.testing.assert_allclose(found.found.scores.mae, [0, 1, 2], atol=1e-6)
    assert found.scores["mae"] == pytest.approx(1)
    assert "value 3" in repr(found)
    table = [block for block in content(found) if isinstance(block, Table)][1]
    assert [row[0] for row in table.rows] == ["value 1", "value 2", "value 3"]


def test_a_language_model_has_a_perplexity():
    tokens = ("<pad>", "<unk>", *"abcdefgh")
    rows = data.Split(*(RNG.integers(2, 10, size=(6, 5)).astype(np.int32) for _ in range(2)))
    encoder = TextEncoder(Tokenizer("characters"), Vocabulary(tokens))
    texts = TextDataset("texts", rows, rows, tokens, encoder=encoder)
    found = reports.report(LanguageModel(10, 4, 4, rngs=nnx.Rngs(0)), texts)
    assert found.found is None
    assert found.scores["perplexity"] == pytest.approx(np.exp(found.scores["loss"]), rel=1e-5)
    assert found.scores["bits_per_token"] == pytest.approx(found.scores["loss"] / np.log(2))
    assert set(found.scores) > {"accuracy", "top_5_accuracy"}


def test_all_are_both_parts():
    things = data.Dataset("things", split(LOGITS, CLASSES), split(LOGITS[:7], CLASSES[:7]))
    assert [
        reports.report(Given(), things, which).examples for which in ("test", "train", "all")
    ] == [*(7, 60, 67)]


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        ([[0.1], [0.9]], [0, 1], "outputs: expected 'logits' or 'probabilities', as outputs from"),
        (
            LOGITS,
            RNG.integers(2, size=(60, 3)),
            r"labels: .* output of float32\[60, 3\], got int64",
        ),
        (LOGITS, np.full(60, 3), r"labels: expected classes \[N\] from 0 to 2, got 3 to 3"),
        (
            LOGITS,
            np.full(60, -100),
            "labels: expected at least one label that is not ignored",
        ),
        (
            np.where(LOGITS > 2, np.nan, LOGITS),
            CLASSES,
            "model: expected finite outputs, got nan fo",
        ),
        (LOGITS, RNG.normal(size=60), r"model: expected an output for each of float64\[60\]"),
    ],
)
def test_what_cannot_be_reported_is_refused(outputs, labels, message):
    with pytest.raises(ValueError, match=message):
        reports.report(Given(), split(outputs, labels))


def test_labels_and_several_outputs_are_refused():
    class Two(Given):
        def __call__(self, x):
            return x, x

    with pytest.raises(ValueError, match="model: expected one array of outputs, got a tuple"):
        reports.report(Two(), split(LOGITS, CLASSES))
    with pytest.raises(ValueError, match="data: expected examples with labels, got examples wi"):
        reports.report(Given(), data.Split(LOGITS.astype(np.float32)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step", {"step_size": 2}),
        ("cosine", {}),
        ("onecycle", {}),
        ("onecycle", {"total_steps": 40}),
        (None, {}),
    ],
)
def test_the_learning_rate_is_that_of_the_recipe(name, options):
    recipe = recipes.recipe("engel-linear")
    changes = {"scheduler": name, "scheduler_options": options, "epochs": 4, "batch_size": 19}
    engel = recipes.load_data(recipe)
    recipe = recipes.sized(dataclasses.replace(recipe, **changes), engel)
    epochs, rates = _rates(recipe, 4, len(engel.train))
    steps = 10  # of 188 examples
    if name is None:
        assert set(rates) == {0.25}
    else:
        schedule = recipes.learning_rate(recipe, len(engel.train))
        expected = jax.vmap(schedule)(np.arange(40, dtype=np.int32))
        np.testing.assert_allclose(rates[:-1], expected, rtol=1e-6)
    np.testing.assert_allclose(epochs, np.arange(41) / steps)
    assert rates[-1] == rates[-2]
    without = _rates(recipe, 4, None)
    assert (without is None) == ("total_steps" in options)
    if without is not None:
        assert without[1][0] == pytest.approx(rates[0])


@pytest.mark.slow
def test_the_page_on_evaluation_and_its_example_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = Path(jaxnets.__file__).parent.parent
    (code,) = blocks((root / "docs" / "evaluate.md").read_text(), "python")
    exec(code, {"__name__": "__main__"})
    assert (tmp_path / "reports" / "untrained" / "report.html").exists()
    words = ["evaluate.py", "--epochs", "1", "--examples", "640", "--out", "made"]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(root / "examples" / "evaluate.py"), run_name="__main__")
    assert (tmp_path / "made" / "report.html").exists()
    assert "lowest recall: digit " in capsys.readouterr().out

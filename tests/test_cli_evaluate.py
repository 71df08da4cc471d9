"""``jaxnets evaluate`` and ``jaxnets predict --csv``."""

import csv
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jaxnets
from jaxnets import losses, optimizers, recipes, reports, runs
from jaxnets.cli import main
from jaxnets.commands import prediction_file
from jaxnets.commands.examples import given
from jaxnets.data import load
from jaxnets.data.text import polarity
from tests.data_files import write_images
from tests.test_data_text import write_polarity

FEW = ["--data-option", "train=train[:300]", "--data-option", "test=test[:120]"]


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(["--no-cache", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trained(folder, *words):
    assert main(["--no-cache", "train", *map(str, words), "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mlp"
    return trained(folder, "mnist-mlp", "--epochs", 2, "--scheduler", "cosine", *FEW)


@pytest.mark.slow
def test_a_run_is_evaluated_as_in_its_training(digits, capsys, tmp_path):
    code, out, err = run(capsys, "evaluate", digits, "--json", "--out", tmp_path / "report")
    assert code == 0
    assert err == f"wrote {tmp_path / 'report' / 'report.html'}\n"
    found, record = json.loads(out), json.loads((digits / "run.json").read_text())
    assert found["scores"]["accuracy"] == record["test_accuracy"]
    assert found["scores"]["loss"] == pytest.approx(record["test_loss"], rel=1e-6)
    assert found["examples"] == 120
    assert found["settings"]["optimizer"] == {"sgd": {"lr": 0.01, "momentum": 0.9}}
    assert found["settings"]["seed"] == 0
    assert found["learning_rate"][1][0] == pytest.approx(0.01)
    assert found["learning_rate"][1][-1] == pytest.approx(0.005)
    assert len(found["history"]) == 2
    assert (tmp_path / "report" / "report.json").read_text() + "\n" == out
    images = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert images == {"confusion", "calibration", "mistakes", "training"}
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"jaxnets evaluate {digits} --split test" in text


def digit_files(folder, size):
    """Twelve test digits as files, in a folder for each that occurs."""
    test = load("mnist").test
    for number in range(12):
        place = folder / str(test.labels[number])
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(test.inputs[number, :, :, 0]).resize((size, size))
        image.save(place / f"{number}.png")
    return folder


@pytest.mark.slow
def test_classes_of_other_data_are_numbered_by_their_names(digits, capsys, tmp_path):
    folder = digit_files(tmp_path / "digits", 28)
    where = ["--data", folder, "--data-option", "train=train[:11]", "--data-option", "test=train"]
    code, out, err = run(capsys, "evaluate", digits, *where, "--json")
    assert (code, err) == (0, "")
    saved = jaxnets.load(digits)
    test = load("mnist").test.take(12)
    counts = np.array(json.loads(out)["confusion"])
    assert counts.sum(1).tolist() == np.bincount(test.labels, minlength=10).tolist()
    assert np.trace(counts) == (saved.predict(test.inputs).argmax(1) == test.labels).sum()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "big",
            r"data big: expected examples uint8[28, 28, 1], as in training, got uint8[",
        ),
        (
            "colours",
            "data colours: expected the classes 0, 1, 2, 3, 4, 5, …, as in training",
        ),
        (
            "engel",
            "data engel: expected the classes 0, 1, 2, 3, 4, 5, …, as in training, ",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(digits, data, message, capsys, tmp_path):
    if data == "big":
        digit_files(tmp_path / data, 32)
    elif data == "colours":
        write_images(tmp_path / data, {"red": 3, "green": 3})
    place = data if data == "engel" else tmp_path / data
    options = ["--data-option", "test=train"] * (data == "big")
    code, out, err = run(capsys, "evaluate", digits, "--data", place, *options)
    assert (code, out) == (2, "")
    assert err.startswith(f"jaxnets: {message}")
    assert err.count("\n") == 1


def test_predictions_of_a_split_are_a_file(digits, capsys, tmp_path):
    code, out, _ = run(capsys, "predict", digits, "--csv", tmp_path / "p.csv", "--split", "test")
    assert (code, out) == (0, f"wrote 120 predictions to {tmp_path / 'p.csv'}\n")
    found = rows(tmp_path / "p.csv")
    assert list(found[0]) == [
        "index",
        "label",
        "predicted",
        "probability",
        *(f"p_{k}" for k in range(10)),
    ]
    assert [int(row["index"]) for row in found] == list(range(120))
    right = np.mean([row["label"] == row["predicted"] for row in found])
    assert right == pytest.approx(json.loads((digits / "run.json").read_text())["test_accuracy"])
    for row in found:
        shares = [float(row[f"p_{k}"]) for k in range(10)]
        assert sum(shares) == pytest.approx(1, abs=1e-4)
        assert float(row["probability"]) == max(shares) == shares[int(row["predicted"])]


def test_predictions_of_a_folder_of_images(digits, capsys, tmp_path):
    folder = digit_files(tmp_path / "digits", 28)
    assert run(capsys, "predict", digits, folder, "--csv", tmp_path / "p.csv")[0] == 0
    found = {row["name"]: row for row in rows(tmp_path / "p.csv")}
    test, saved = load("mnist").test.take(12), jaxnets.load(digits)
    taken = saved.predict(test.inputs).argmax(1)
    for number, (label, predicted) in enumerate(zip(test.labels, taken, strict=True)):
        row = found[str(folder / str(label) / f"{number}.png")]
        assert (row["label"], row["predicted"]) == (str(label), str(predicted))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "test"], "--split requires --csv FILE."),
        (
            ["--csv", "no-folder/p.csv"],
            "csv: expected a file in a folder that exists, got no-folder",
        ),
        (
            ["--csv", "p.csv", "--top", "2"],
            "top: expected none, as --csv writes every class, got 2",
        ),
        (
            ["--csv", "p.csv", "--split", "test", "--index", "0"],
            "split: expected none, as examples",
        ),
        (["--csv", "p.csv", "empty"], "empty: expected a folder with images, got none"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    digits, words, message, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    code, out, err = run(capsys, "predict", digits, *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"jaxnets: {message}")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def write_table(path, kinds, sizes=range(12)):
    lines = [
        f"{size},{kinds[size % len(kinds)]},{3 * size + size % len(kinds)}.5" for size in sizes
    ]
    path.write_text("\n".join(["size,kind,price", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """A run on a table with categories, standardized."""
    folder = tmp_path_factory.mktemp("prices")
    table = write_table(folder / "prices.csv", ["blue", "green", "red"])
    words = ["engel-linear", "--data", table, "--data-option", "standardize=True", "--epochs", 2]
    return trained(folder / "run", *words), table


def test_a_table_is_encoded_and_standardized_by_the_run(prices, capsys, tmp_path):
    folder, _ = prices
    saved = jaxnets.load(folder)
    other = write_table(tmp_path / "other.csv", ["red", "blue"], range(100, 110))
    data = reports.data_of(saved, str(other))
    cells = [line.split(",") for line in other.read_text().splitlines()[1:]]
    expected = saved.inputs_scaler(saved.table([cell[:2] for cell in cells]))
    order = np.argsort(np.concatenate([data.train.inputs, data.test.inputs])[:, 0], kind="stable")
    given = np.concatenate([data.train.inputs, data.test.inputs])[order]
    np.testing.assert_array_equal(given, expected)
    values = np.concatenate([data.train.labels, data.test.labels])[order]
    units = saved.labels_scaler.inverse(values)[:, 0]
    np.testing.assert_allclose(units, [float(cell[2]) for cell in cells], rtol=1e-5)
    code, out, _ = run(capsys, "evaluate", folder, "--data", other, "--split", "all", "--json")
    assert code == 0
    predicted = saved.labels_scaler.inverse(saved.predict([cell[:2] for cell in cells]))[:, 0]
    rmse = json.loads(out)["scores"]["rmse"]
    assert rmse == pytest.approx(np.sqrt(np.mean((predicted - units) ** 2)), rel=1e-4)


def test_predictions_of_a_table_are_in_its_units_beside_its_labels(prices, capsys, tmp_path):
    folder, table = prices
    assert run(capsys, "predict", folder, table, "--csv", tmp_path / "p.csv")[0] == 0
    found = rows(tmp_path / "p.csv")
    cells = [line.split(",") for line in table.read_text().splitlines()[1:]]
    assert [row["label"] for row in found] == [cell[2] for cell in cells]
    assert found[0]["name"] == f"{table}, row 2"
    saved = jaxnets.load(folder)
    predicted = saved.labels_scaler.inverse(saved.predict([cell[:2] for cell in cells]))[:, 0]
    values = [float(row["predicted"]) for row in found]
    np.testing.assert_allclose(values, predicted, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "size,colour,price\n1,red,2.5\n2,red,3.5\n",
            "expected the columns size, kind, got size",
        ),
        (
            "size,kind,price\n1,pink,2.5\n2,red,3.5\n",
            "expected a category that was trained on (blue",
        ),
        (
            "size,kind,price\n1,red,dear\n2,red,cheap\n",
            "expected values to predict, as in training",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_refused(prices, text, message, capsys, tmp_path):
    (tmp_path / "other.csv").write_text(text)
    options = ["--data", tmp_path / "other.csv", "--data-option", "test=train"]
    code, out, err = run(capsys, "evaluate", prices[0], *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


class Bag(nnx.Module):
    """Computes a probability from a bag of words."""

    def __init__(self, words):
        self.weights = nnx.Param(jnp.linspace(-1, 1, words))

    def __call__(self, tokens):
        return jax.nn.sigmoid(self.weights[...][tokens].sum(1, keepdims=True))


def test_texts_are_encoded_by_the_run(tmp_path):
    for folder, count in (("texts", 20), ("other", 5)):  # with different vocabularies
        (tmp_path / folder).mkdir()
        write_polarity(tmp_path / folder, count)
    texts = polarity(tmp_path / "texts")
    recipe, names = recipes.recipe("sentiment-lstm"), ("negative", "positive")
    network = Bag(len(texts.vocabulary))
    saved = runs.SavedRun(recipe, network, True, names, texts.spec.inputs, texts.encoder)
    data = reports.data_of(saved, str(tmp_path / "other"))
    assert data.encoder == texts.encoder
    found = reports.of_run(saved, data, "train")
    taken = np.asarray(network(data.train.inputs))[:, 0] >= 0.5
    assert found.scores["accuracy"] == np.mean(taken == data.train.labels)
    mistake = found.found.mistakes[0]
    assert mistake.text == texts.encoder.decode(data.train.inputs[mistake.index])
    with pytest.raises(ValueError, match="'linear': expected texts, as the encoder is a Text"):
        reports.data_of(saved, "linear")
    (tmp_path / "lines.txt").write_text("a lovely film\n\na dull film\n")
    examples = given(saved, [str(tmp_path / "lines.txt")], whole=True)
    assert [each.name for each in examples] == ["a lovely film", "a dull film"]
    np.testing.assert_array_equal(examples[1].inputs, texts.encoder(["a dull film"])[0])


class Last(nnx.Module):
    """Forecasts that the last value does not change."""

    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, x):
        return x[:, -1] * self.scale[...]


def test_a_series_is_evaluated_in_its_units():
    recipe = recipes.recipe("elnino-lstm")
    standardized = recipes.load_data(recipe)
    scalers = {name: getattr(standardized, name) for name in ("inputs_scaler", "labels_scaler")}
    spec, table = standardized.spec.inputs, standardized.encoder
    saved = runs.SavedRun(recipe, Last(), False, None, spec, None, table=table, **scalers)
    data = reports.data_of(saved)
    for name in ("train", "test"):
        for column in ("inputs", "labels"):
            expected = getattr(getattr(standardized, name), column)
            np.testing.assert_array_equal(getattr(getattr(data, name), column), expected)
    found = reports.of_run(saved, data)
    assert found.scores["rmse"] == pytest.approx(1.18, abs=0.005)  # °C, as the recipe says
    months = prediction_file.of_split(saved, "test")
    assert months.labels[0] == (f"{found.found.true[0, 0]:.7g}",)


def test_a_run_from_python_needs_data(capsys, tmp_path):
    line = load("linear")
    network = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    options = {"loss": losses.mse_loss, "optimizer": optimizers.sgd(0.1), "epochs": 1}
    jaxnets.fit(network, line, progress="none", **options).save(tmp_path / "run")
    with pytest.raises(ValueError, match="data: expected a data set, as a run from Python does"):
        reports.data_of(jaxnets.load(tmp_path / "run", model=network))
    saved = jaxnets.load(tmp_path / "run", model=network)
    found = reports.of_run(saved, reports.data_of(saved, "linear"))
    assert found.rates is None
    assert found.scores["rmse"] < 1
    assert len(found.history) == 1

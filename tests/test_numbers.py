"""Recipes on tables and series."""

import dataclasses
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets import recipes, runs
from jaxnets.cli import main
from jaxnets.data import load
from jaxnets.recipes import Recipe, recipe, sized, train
from jaxnets.training import predict

ROOT = Path(__file__).parent.parent
PRICES = "rooms,age,price\n" + "".join(
    f"{rooms},{age},{100 * rooms - 2 * age + 0.5}\n" for rooms in range(1, 6) for age in range(10)
)


def rmse(forecast, truth):
    return float(np.sqrt(np.mean((forecast - truth) ** 2)))


@pytest.fixture
def table(tmp_path):
    def write(text=PRICES):
        (tmp_path / "prices.csv").write_text(text)
        return {"data_dir": str(tmp_path)}

    return write


def test_the_line_trained_on_engels_households_is_that_of_least_squares():
    data = load("engel", standardize=True)
    run = train(recipe("engel-linear"), progress="none")
    design = np.column_stack([data.train.inputs, np.ones(len(data.train))]).astype(np.float64)
    (slope, intercept), *_ = np.linalg.lstsq(design, data.train.labels[:, 0].astype(np.float64))
    assert run.model.kernel.get_value()[0, 0] == pytest.approx(slope, abs=1e-6)
    assert run.model.bias.get_value()[0] == pytest.approx(intercept, abs=1e-6)
    line = slope * data.test.inputs + intercept
    assert run.test.loss == pytest.approx(rmse(line, data.test.labels) ** 2, rel=1e-5)
    francs = data.labels_scaler.inverse
    assert rmse(francs(line), francs(data.test.labels)) == pytest.approx(98.5, abs=0.05)
    mean = np.zeros_like(data.test.labels)
    assert rmse(francs(mean), francs(data.test.labels)) == pytest.approx(216.1, abs=0.05)


@pytest.mark.slow
def test_the_lstm_forecasts_the_sea_far_better_than_the_month_before_does():
    data = load("elnino", standardize=True, window=24)
    run = train(recipe("elnino-lstm"), progress="none")
    celsius = data.labels_scaler.inverse
    truth = celsius(data.test.labels)
    persistence = rmse(celsius(data.test.inputs[:, -1]), truth)
    seasonal = rmse(celsius(data.test.inputs[:, -12]), truth)
    assert persistence == pytest.approx(1.176, abs=1e-3)
    assert seasonal == pytest.approx(1.184, abs=1e-3)
    ours = rmse(celsius(predict(run.model, data.test.inputs)), truth)
    assert ours < 0.6
    assert ours == pytest.approx(data.labels_scaler.std[0] * run.test.loss**0.5, rel=1e-4)


@pytest.mark.parametrize("model", [{}, {"model": "mlp", "model_options": {"features": (None, 1)}}])
def test_a_table_of_ones_own_decides_the_sizes(table, model):
    options = {**table(), "standardize": True}
    own = dataclasses.replace(
        recipe("engel-linear"), data="prices", data_options=options, epochs=60, **model
    )
    run = train(own, progress="none")
    assert run.test.loss < 1e-3
    assert predict(run.model, np.zeros((3, 2), np.float32)).shape == (3, 1)


@pytest.mark.parametrize(
    ("model", "given", "found"),
    [
        ("mlp", {"features": (None, 8, None)}, {"features": (24, 8, 3)}),
        ("mlp", {"features": (24, 8, None)}, {"features": (24, 8, 3)}),
        ("mlp", {"features": (5, 8, 3)}, {"features": (5, 8, 3)}),
        ("linear-regression", {}, {"in_features": 24, "out_features": 3}),
        ("linear-regression", {"in_features": 7}, {"in_features": 7, "out_features": 3}),
        ("recurrent-classifier", {"cell": "gru"}, {"cell": "gru", "input_dim": 1, "output_dim": 3}),
        ("lenet", {"image_size": 32}, {"image_size": 32}),
    ],
)
def test_sizes_come_from_the_data_where_the_recipe_leaves_them(model, given, found):
    own = Recipe(
        name="r", document="", expect="", data="elnino", model=model, model_options=given, epochs=1
    )
    assert sized(own, load("elnino", horizon=3)).model_options == found


def command(*arguments):
    return ["train", *map(str, arguments), "--quiet"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["elnino-lstm", "--data", "prices"], "data: expected examples [time, features], as win"),
        (
            ["linear-regression", "--data", "prices", "--data-option", "label=rooms"],
            "labels of prices: expected values to predict, as regression=True makes of a table's "
            "whole numbers, got classes, for the loss mse",
        ),
        (
            ["elnino-lstm", "--data", "prices", "--data-option", "window=90"],
            "window: expected at most 39, as the train part of prices",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(table, capsys, arguments, message):
    folder = table()["data_dir"]
    assert main(command(*arguments, "--data-dir", folder)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_series_of_ones_own_is_forecast_in_its_own_units(table, tmp_path, capsys):
    flags = ["--data", "prices", "--data-dir", table()["data_dir"], "--epochs", 1]
    for option in ("standardize=True", "window=3", "horizon=2", "test_fraction=0.3"):
        flags += ["--data-option", option]
    folder = tmp_path / "run"
    assert main(command("elnino-lstm", *flags, "--out", folder)) == 0
    loss, error = re.fullmatch(r"test loss: (\S+), RMSE (\S+)\n", capsys.readouterr().out).groups()
    scaler = runs.read(folder).labels_scaler
    assert float(error) == pytest.approx(scaler.std[0] * float(loss) ** 0.5, rel=1e-4)
    data = recipes.load_data(runs.read(folder).recipe)
    assert scaler == data.labels_scaler

    assert main(["predict", str(folder), "--index", "1"]) == 0
    label, answer = capsys.readouterr().out.split("): ")
    assert label.startswith("test example 1 (label [")
    truth = data.labels_scaler.inverse(data.test.labels[1])
    assert [float(n) for n in label.split("[")[1][:-1].split()] == pytest.approx(truth, rel=1e-4)
    outputs = predict(runs.read(folder).model, data.test.inputs[1:2])
    expected = data.labels_scaler.inverse(outputs)[0]
    assert [float(n) for n in answer.split()] == pytest.approx(expected, rel=1e-4)


def test_whole_numbers_can_be_trained_on_as_values(table):
    whole = PRICES.replace(".5\n", "\n")
    own = dataclasses.replace(
        recipe("engel-linear"),
        data="prices",
        data_options={**table(whole), "standardize": True, "regression": True},
        epochs=1,
    )
    assert np.isfinite(recipes.train(own, progress="none").test.loss)


def example(*arguments):
    command = [sys.executable, "examples/forecast.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.slow
def test_the_example_forecasts_and_draws(tmp_path):
    done = example("--epochs", 12, "--out", tmp_path / "forecast.png")
    assert done.returncode == 0, done.stderr
    ours, *others = done.stdout.splitlines()[-3:]
    match = re.fullmatch(r"RMSE of the LSTM: (\d\.\d+) °C in 122 months held out", ours)
    assert float(match[1]) < 0.8
    assert others == ["the month before: 1.176 °C", "the same month a year before: 1.184 °C"]
    with Image.open(tmp_path / "forecast.png") as image:
        assert image.size == (1500, 825)


def test_the_example_refuses_bad_arguments(tmp_path, monkeypatch, capsys):
    for arguments, message in [
        (["--window", 3], "--window: expected 12 months or more, got 3"),
        (["--window", 146], "window: expected at most 145, as the test part of elnino (bundled"),
        (["--out", tmp_path / "a" / "b.png"], "--out: expected a file in an existing folder"),
        (["--out", tmp_path], "--out: expected a new file that ends in .png, got"),
    ]:
        monkeypatch.setattr(sys, "argv", ["forecast.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / "examples" / "forecast.py"), run_name="__main__")
        assert ended.value.code == 2
        assert message in capsys.readouterr().err

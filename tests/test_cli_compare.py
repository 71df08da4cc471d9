"""The command that compares with PyTorch."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from jaxnets import recipes
from jaxnets.cli import main
from jaxnets.commands.compare import _as_json, summary
from jaxnets.compare import report
from jaxnets.compare.engine import Terms, compared
from jaxnets.compare.from_recipe import from_recipe
from jaxnets.compare.peers.flax_side import NETWORKS, carry
from jaxnets.compare.peers.networks import sizes_of, weights_of
from jaxnets.data import Dataset, Split
from tests.compared import comparison

SMALL = ["compare", "engel-linear", "--epochs", "2", "--seeds", "2", "--no-timing"]


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_comparison_is_a_table_a_verdict_and_a_report(capsys, monkeypatch, tmp_path):
    out = tmp_path / "pairs"
    code, text, _ = run(capsys, *SMALL, "--quiet", "--out", str(out))
    assert code == 0
    lines = text.splitlines()
    assert lines[0].split() == ["seed", "jaxnets", "PyTorch", "difference"]
    assert [line.split()[0] for line in lines[1:3]] == ["0", "1"]
    assert lines[4].startswith("Over 2 seeds, the test loss is ")
    assert "The frameworks are equivalent within" in lines[4]
    assert lines[-1] == f"report: {out / 'report.html'}"
    record = json.loads((out / "report.json").read_text())
    assert record["measure"] == "test loss"
    theirs = [pair["theirs"]["test_loss"][-1] for pair in record["pairs"]]
    assert record["margin"] == pytest.approx(0.01 * sum(theirs) / 2)
    assert record["findings"] == []
    monkeypatch.setattr(report, "write", lambda comparison, directory: None)  # takes seconds
    code, text, log = run(capsys, "compare", "--resume", str(out), "--no-timing", "--json")
    assert code == 0
    again = json.loads(text)
    assert [row["theirs"] for row in again["seeds"]] == theirs
    assert "seed" not in log  # nothing was trained again
    code, _, log = run(capsys, "compare", "--resume", str(out), "--lr", "0.5")
    assert code == 2
    assert "optimizer_options is {'lr': 0.5}, was {'lr': 0.25}" in log
    code, _, log = run(capsys, *SMALL, "--out", str(out))
    assert code == 2
    assert "which contains a comparison (use --resume)" in log


def test_the_result_says_who_takes_longer_and_json_has_null_for_what_is_not_finite():
    made = comparison(2, epochs=1, steps=1, examples=5)
    assert "PyTorch takes 1.94 times as long as jaxnets" in summary(made, Path("pairs"))
    ours = dataclasses.replace(made.pairs[0].ours, test_accuracy=np.array([np.nan]))
    pairs = (dataclasses.replace(made.pairs[0], ours=ours), made.pairs[1])
    text = _as_json(dataclasses.replace(made, pairs=pairs), Path("pairs"))
    found = json.loads(text, parse_constant=pytest.fail)
    assert (found["seeds"][0]["ours"], found["equivalence"]["difference"]) == (None, None)


@pytest.mark.slow
def test_flax_takes_our_weights_where_it_can():
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(160, 28, 28, 1), dtype=np.uint8)
    split = Split(images, draw.integers(10, size=160))
    small = {"epochs": 1, "model_options": {"features": (784, 4, 10)}}
    mlp = dataclasses.replace(recipes.recipe("mnist-mlp"), **small)
    terms = Terms(seeds=[0], peer="flax", timing=False)
    found = compared(from_recipe(mlp, Dataset("noise", split, split)), terms, None, "none")
    assert found.frameworks == ("jaxnets", "flax")
    assert (found.paired, found.control, found.findings) == (True, None, ())
    (pair,) = found.pairs
    np.testing.assert_allclose(pair.ours.step_losses, pair.theirs.step_losses, rtol=1e-4)
    np.testing.assert_allclose(pair.ours.test_loss, pair.theirs.test_loss, rtol=1e-4)


@pytest.mark.slow
def test_flaxs_lenet_is_ours():
    blank = Split(np.zeros((64, 28, 28, 1), np.uint8), np.arange(64) % 10)
    lenet = from_recipe(recipes.recipe("mnist-lenet"), Dataset("blank", blank, blank))
    model = lenet.build(0)
    sizes = sizes_of(lenet, "Flax")
    there = NETWORKS["lenet"](sizes, nnx.Rngs(0))
    carry(there, weights_of(model, sizes))
    images = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    np.testing.assert_allclose(there(images), model(images), rtol=1e-4, atol=1e-5)


def test_flax_knows_classifiers_alone(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, _, log = run(capsys, "compare", "elnino-lstm", "--peer", "flax")
    assert code == 2
    assert "loss: expected cross-entropy with Flax, got mse" in log


def test_without_keras_a_sentence_names_what_to_install(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "keras", None)
    code, _, log = run(capsys, "compare", "mnist-mlp", "--peer", "keras")
    assert code == 1
    assert "a comparison with Keras requires keras, which is not installed: pip install" in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'RECIPE'"),
        (["mnist"], "recipe: expected one of mnist-mlp"),
        (["--resume", "nowhere"], "resume: expected the folder of a comparison"),
        (["--resume", "own"], "resume: expected a comparison of a recipe (others resume with"),
        (["--resume", "a", "--out", "b"], "--resume continues in its own folder"),
        (["fashion-mnist-lenet", "--data-dir", "nowhere"], "nowhere"),
        (["mnist-mlp", "--epochs", "0"], "epochs: expected a positive integer, got 0"),
        (["mnist-mlp", "--seeds", "0"], "seeds: expected a positive integer, got 0"),
        (["mnist-mlp", "--margin", "-1"], "margin: expected a finite number > 0, got -1.0"),
        (["mnist-mlp", "--device", "gpu"], "device: expected the device of JAX, cpu"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_compared_ends_with_a_sentence(
    capsys, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "begun.json").write_text('{"name": "MLP"}')  # as compare.run does
    code, _, log = run(capsys, "compare", *arguments)
    assert code == 2
    assert message in log
    assert log.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own"]

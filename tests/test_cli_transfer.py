"""``jaxnets train`` from other weights, with frozen parameters, and with averages of weights."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets import evaluate, fit, recipes, runs
from jaxnets.arrays import InputError
from jaxnets.averaging import averaged, ema, swa, update_batch_norm
from jaxnets.cli import main
from jaxnets.training import minimize, supervised

pytestmark = pytest.mark.slow

SMALL = ["train", "mnist-mlp", "--data-option", "train=train[:640]"]
SMALL += ["--data-option", "test=test[:100]", "--model-option", "features=(784,4,10)"]
NET = """
import jax
from flax import nnx
from jaxnets import layers


class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.norm = layers.BatchNorm1d(784)
        self.fc = layers.Linear(784, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.norm(layers.flatten(x)))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    assert main([*SMALL, "--quiet", "--epochs", "1", "--out", str(place / "base")]) == 0
    (place / "nets.py").write_text(NET)
    return place


@pytest.fixture
def trained(folder, monkeypatch, capsys):
    """Runs a command in the folder, and returns its output."""
    monkeypatch.chdir(folder)

    def trained(*arguments):
        capsys.readouterr()
        assert main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr()

    return trained


def test_a_run_begins_with_anothers_weights_and_frozen_ones_stay(trained):
    tuned = ["--from", "base", "--freeze", "fc1", "--head", "fc2"]
    said = trained(*SMALL, *tuned, "--epochs", "2", "--out", "whole").err
    assert "2 arrays of base loaded into MLP" in said
    assert "new: fc2.weight (part of the head), fc2.bias (part of the head)" in said
    trained(*SMALL, *tuned, "--epochs", "1", "--save-every", "4", "--out", "half")
    trained("train", "--resume", "half", "--epochs", "2", "--quiet")
    base, whole, half = (jaxnets.load(name).model for name in ("base", "whole", "half"))
    np.testing.assert_array_equal(whole.fc1.kernel, base.fc1.kernel)
    for one, other in zip(*(jax.tree.leaves(nnx.state(m)) for m in (whole, half)), strict=True):
        np.testing.assert_array_equal(one, other)
    with open("whole/run.json") as file:
        settings = json.load(file)["settings"]
    assert settings["freeze"] == ["fc1"]
    assert settings["document"].endswith("; begins with the weights in base except for fc2")


def test_what_does_not_fit_is_named_and_drawn_by_each_seed(trained):
    other = [*SMALL[:-1], "features=(784,4,5,10)", "--epochs", "1", "--lr", "0"]
    said = trained(*other, "--from", "base", "--seeds", "2", "--out", "two").err
    assert "2 arrays of base loaded into MLP" in said
    assert "new: fc3.weight (float32[10, 5], not in the source)" in said
    assert "fc2.weight (is float32[10, 4], not float32[5, 4]" in said
    first, second = (jaxnets.load(f"two/seed-{seed}").model for seed in (0, 1))
    np.testing.assert_array_equal(first.fc1.kernel, second.fc1.kernel)
    assert not np.array_equal(first.fc2.kernel, second.fc2.kernel)


def test_a_run_ends_with_the_moving_average(trained):
    out = trained(*SMALL, "--epochs", "2", "--ema", "0.5", "--quiet", "--out", "ema").out
    recipe = jaxnets.load("ema").recipe
    data, told = recipes.fit_settings(recipe, None)
    of_step = {name: told.pop(name) for name in ("loss", "transform", "augment")}
    step = ema(minimize(supervised(**of_step), told.pop("optimizer")), 0.5)
    run = fit(recipes.build_model(recipe), data, step, progress="none", **told)
    model, saved = averaged(run), jaxnets.load("ema").model
    np.testing.assert_allclose(saved.fc1.kernel, model.fc1.kernel, rtol=1e-6, atol=1e-8)
    tested = evaluate(model, data.test, step.evaluation)
    assert out.startswith(f"test accuracy: {tested.accuracy:.2%} ({tested.correct}/100); ")
    assert f"; {run.test.accuracy:.2%} before the weights were averaged" in out


def test_a_run_ends_with_the_mean_of_epochs_and_statistics_of_it(trained):
    trained(
        *SMALL[:-2],
        "--model",
        "nets.py:Net",
        "--epochs",
        "3",
        "--swa",
        "1",
        "--quiet",
        "--out",
        "swa",
    )
    saved = jaxnets.load("swa", run_code=True)
    data, told = recipes.fit_settings(saved.recipe, None)
    of_step = {name: told.pop(name) for name in ("loss", "transform", "augment")}
    step = swa(minimize(supervised(**of_step), told.pop("optimizer")), start=10, every=10)
    run = fit(recipes.build_model(saved.recipe), data, step, progress="none", **told)
    model = update_batch_norm(averaged(run), data.train, transform=of_step["transform"])
    np.testing.assert_allclose(saved.model.fc.kernel, model.fc.kernel, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(saved.model.norm.mean, model.norm.mean, rtol=1e-5, atol=1e-7)
    assert int(saved.model.norm.num_batches_tracked[...]) == 10


def test_a_run_that_is_stopped_before_its_average_says_so():
    recipe = dataclasses.replace(recipes.recipe("linear-regression"), epochs=3, swa=2)

    def stop(record):
        raise jaxnets.training.StopTraining("enough")

    with pytest.warns(UserWarning, match="the run ended before epoch 2 did: its weights are not"):
        run = recipes.train(recipe, callbacks=[stop], progress="none")
    assert len(run.history) == 1


def test_a_run_that_an_older_version_began_continues(tmp_path):
    recipe = recipes.recipe("linear-regression")
    runs.begin(tmp_path / "run", recipe, 0)
    path = tmp_path / "run" / "begun.json"
    record = json.loads(path.read_text())
    for name in ("freeze", "ema", "swa"):
        del record["settings"][name]
    path.write_text(json.dumps(record))
    assert runs.extend(runs.resume(tmp_path / "run"), recipe, 0).recipe == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*SMALL, "--head", "fc2"], "--head requires --from."),
        (
            [*SMALL, "--from", "base", "--head", "conv"],
            "head: expected a pattern that matches one of fc1",
        ),
        ([*SMALL, "--from", "nowhere"], "nowhere"),
        (
            [*SMALL, "--freeze", "conv*"],
            "freeze: expected a pattern that matches one of fc1.bias, fc1.ker",
        ),
        ([*SMALL, "--freeze", "*"], "freeze: expected patterns that leave something to train"),
        ([*SMALL, "--ema", "2"], "ema: expected a number in [0, 1], got 2.0"),
        ([*SMALL, "--swa", "10"], "swa: expected fewer than the 10 epochs, and no ema beside it"),
        ([*SMALL, "--swa", "1", "--ema", "0.9"], "swa: expected fewer than the 10 epochs, and no"),
    ],
)
def test_bad_arguments(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_comparison_refuses_what_only_one_side_has():
    from jaxnets.compare.from_recipe import from_recipe

    recipe = dataclasses.replace(recipes.recipe("mnist-mlp"), ema=0.9)
    with pytest.raises(
        InputError, match="ema: expected the default, as comparisons do not support"
    ):
        from_recipe(recipe)
    with pytest.raises(InputError, match="freeze: expected names or patterns, such as"):
        dataclasses.replace(recipe, freeze=3)

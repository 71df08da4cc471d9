"""Hyperparameter search: the space, the comparison of trials, and resuming."""

import csv
import dataclasses
import json
import math
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from sqlalchemy.exc import IntegrityError

import jaxnets
from jaxnets import recipes
from jaxnets.cli import main
from jaxnets.data import Dataset, Split, hold_out
from jaxnets.losses import mse_loss
from jaxnets.networks import OwnNetwork
from jaxnets.optimizers import adam, sgd
from jaxnets.search import Between, Space, lr_range_test, search, smoothed, steepest, studies
from jaxnets.search.searching import _held_out
from jaxnets.search.space import Choices, applied, flags
from jaxnets.search.studies import WORKER, give_up, next_trial, opened, retry_lost
from jaxnets.training import fit
from tests.pages import blocks
from tests.quick_compilation import environment

ROOT = Path(__file__).parent.parent
RECIPE = dataclasses.replace(
    recipes.recipe("linear-regression"),
    epochs=4,
    batch_size=32,
    data_options={"train": "train[:128]"},
    optimizer_options={"lr": 0.001},
)
RATES = {"lr": "1e-4..1"}
COMMAND = ["search", "linear-regression", "--epochs", "2", "--lr", "1e-3..1", "--batch-size", "64"]


@pytest.fixture(scope="module")
def data():
    return recipes.load_data(RECIPE)


@pytest.fixture(scope="module")
def found(data):
    """A search of 8 trials, and its messages."""
    lines = []
    result = search(RECIPE, RATES, data=data, trials=8, seed=1, report=lines.append)
    return result, lines


def run(capsys, *arguments):
    code = main(list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# The space


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("lr", "1e-4..1e-1", Between(1e-4, 0.1, log=True)),
        ("weight_decay", "0..1:linear", Between(0.0, 1.0)),
        ("momentum", "0.5..0.9", Between(0.5, 0.9)),
        ("batch_size", "32..128:log", Between(32, 128, log=True)),
        ("model.hidden_dim", "64..512", Between(64, 512)),
        ("optimizer", "sgd,adam", Choices(("sgd", "adam"))),
        ("model.features", "(2,3),(2,4)", Choices(((2, 3), (2, 4)))),
        ("optimizer.nesterov", "True,False", Choices((True, False))),
    ],
)
def test_what_is_searched_as_text(name, text, values):
    assert Space.of({name: text}).parameters == {name: values}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": "1e-1..1e-4"}, "lr: expected a lower end below the upper one, got 1e-1..1e-4"),
        ({"lr": "0..1"}, "lr: expected a positive range, as its scale is logarithmic"),
        ({"lr": "a..b"}, "lr: expected a range such as 1e-4..1e-1, or choices such as"),
        ({"lr": "1..2:odd"}, r"lr: expected a\.\.b, a\.\.b:log or a\.\.b:linear, got"),
        ({"lr": "1,1"}, "lr: expected a range such as"),
        ({"lr": []}, "lr: expected a Between, or a sequence of different choices, got"),
        ({"lr": "0.1"}, "space: expected at least one range, or several choices, got"),
        ({"epochs": "1,2"}, "space: expected lr, momentum, weight_decay, .*, got 'epochs'"),
        ({"optimizer": "sgd,adm"}, "optimizer: expected one of .*, got 'adm'"),
        ({"batch_size": "0,8"}, "batch_size: expected positive integers, got 0,8"),
        ({"optimizer.betas": "1,2"}, "space: expected an argument of sgd, got optimizer.betas"),
        ({"model.hidden": "1,2"}, "space: expected model.NAME with one of in_features, .*hidden"),
        (3, "space: expected a dict with the keys lr, .*, got 3"),
    ],
)
def test_a_bad_space_is_one_sentence(space, message):
    with pytest.raises(ValueError, match=message):
        Space.of(space).check(RECIPE)


def test_ends_and_parameters_are_checked():
    with pytest.raises(ValueError, match="low: expected a finite number, got nan"):
        Between(math.nan, 1)
    with pytest.raises(ValueError, match="lr: expected a Between or Choices, got 3"):
        Space({"lr": 3})


def test_values_make_a_recipe_and_the_flags_of_train():
    sgd_values = {"lr": 0.1, "momentum": 0.5, "optimizer": "sgd", "batch_size": 8}
    made = applied(RECIPE, {**sgd_values, "optimizer.nesterov": True})
    assert made.optimizer_options == {"lr": 0.1, "momentum": 0.5, "nesterov": True}
    assert made.batch_size == 8
    words = flags(RECIPE, {**sgd_values, "model.in_features": 3, "optimizer.nesterov": True})
    assert " ".join(words) == (
        "--lr 0.1 --momentum 0.5 --optimizer sgd --batch-size 8 "
        "--model-option in_features=3 --optimizer-option nesterov=True"
    )


def test_the_arguments_of_a_network_of_ones_own(tmp_path):
    (tmp_path / "nets.py").write_text("def net(width, depth=1, kind='a'): pass\n")
    network = OwnNetwork.at(f"{tmp_path}/nets.py:net", "8, kind=b")
    recipe = dataclasses.replace(RECIPE, model=network, model_options={})
    Space.of({"model.depth": "1..3"}).check(recipe)
    with pytest.raises(ValueError, match="expected model.NAME with one of width, depth, kind, got"):
        Space.of({"model.size": "1..3"}).check(recipe)
    values = {"lr": 0.1, "model.depth": 3}
    assert applied(recipe, values).model.arguments == "8, kind='b', depth=3"
    assert flags(recipe, values) == ["--lr", "0.1", "--args", "8, kind='b', depth=3"]


# The search


def test_trials_are_judged_on_held_out_training_examples(found, data):
    result, lines = found
    assert [trial.number for trial in result.trials] == list(range(1, 9))
    assert [line.split()[1] for line in lines] == [f"{number}/8" for number in range(1, 9)]
    complete = [trial for trial in result.trials if trial.state == "complete"]
    assert result.best.value == min(trial.value for trial in complete)
    kept, held = hold_out(data.train, 0.1, 1)
    judged = Dataset("line", kept, held)
    made = recipes.train(result.best_recipe, seed=1, data=judged, progress="none")
    assert result.best.value == made.test.loss
    assert result.best.by_epoch == tuple(record.test_loss for record in made.history)


def test_the_best_is_trained_on_all_and_tested(found, data):
    result, _ = found
    made = recipes.train(result.best_recipe, seed=1, data=data, progress="none")
    assert result.run.test.loss == made.test.loss
    assert result.flags == ["--lr", str(result.best.values["lr"])]


def test_it_finds_a_better_rate_than_a_bad_one_and_says_so(found):
    result, _ = found
    assert result.trials[0].values == {"lr": 0.001}
    assert result.best.value < 0.1 * result.trials[0].value
    head, first, *_ = result.table().splitlines()
    assert head.split() == ["trial", "validation", "loss", "lr"]
    assert first.split()[0] == str(result.best.number)
    assert result.importance == {"lr": pytest.approx(1.0)}


def test_worse_trials_end_early(found):
    result, lines = found
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial.value == trial.by_epoch[-1] > result.best.value
        assert len(trial.by_epoch) < RECIPE.epochs
        assert f"pruned after epoch {len(trial.by_epoch)}  lr " in lines[trial.number - 1]


def test_successive_halving_lets_a_third_train_on(data):
    options = {"trials": 6, "pruner": "halving", "sampler": "random", "train_best": False}
    result = search(RECIPE, RATES, data=data, report=None, **options)
    for trial in result.trials:
        seen = [t.by_epoch[0] for t in result.trials[: trial.number]]
        goes_on = trial.by_epoch[0] <= sorted(seen)[max(len(seen) // 3 - 1, 0)]
        assert (len(trial.by_epoch) > 1) == goes_on


@pytest.mark.slow
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(found, data, tmp_path):
    storage = tmp_path / "search.db"
    lines = []

    def report(line):
        lines.append(line)
        if len(lines) == 4:
            raise KeyboardInterrupt

    options = {"data": data, "trials": 8, "seed": 1, "storage": storage}
    with pytest.raises(KeyboardInterrupt):
        search(RECIPE, RATES, report=report, **options)
    result = search(RECIPE, RATES, report=lines.append, train_best=False, **options)
    assert len(lines) == 8

    def facts(trials):
        return [(trial.values, trial.by_epoch, trial.state) for trial in trials]

    assert facts(result.trials) == facts(found[0].trials)
    with pytest.raises(ValueError, match="name: expected the settings of the search 'linear-reg"):
        search(RECIPE, {"lr": "1e-4..2"}, **options)


@pytest.mark.slow
def test_together_and_from_seeds_a_trial_is_what_it_is_alone(data):
    options = {"data": data, "report": None, "train_best": False, "seeds": 2}
    space = {"lr": [0.1, 0.3], "batch_size": [32, 64]}
    result = search(RECIPE, space, sampler="grid", together=2, **options)
    values = [trial.values for trial in result.trials]
    pairs = [(32, 0.1), (32, 0.3), (64, 0.1), (64, 0.3)]
    assert [(v["batch_size"], v["lr"]) for v in values] == pairs
    kept, held = hold_out(data.train, 0.1, 0)
    judged = Dataset("line", kept, held)
    one = applied(RECIPE, values[3])
    each = [recipes.train(one, seed=s, data=judged, progress="none").test.loss for s in (0, 1)]
    assert result.trials[3].value == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.slow
def test_together_the_rest_is_the_same(data):
    options = {"data": data, "report": None, "train_best": False, "trials": 4}
    result = search(RECIPE, {**RATES, "batch_size": "16..64"}, together=2, **options)
    sizes = [trial.values["batch_size"] for trial in result.trials]
    assert sizes[0] == sizes[1] != sizes[2] == sizes[3]
    assert len({trial.values["lr"] for trial in result.trials}) == 4


def test_what_diverges_is_no_value(data):
    lines = []
    space = {"lr": [0.1, 1e30]}
    result = search(RECIPE, space, data=data, sampler="grid", report=lines.append, train_best=False)
    assert [trial.state for trial in result.trials] == ["complete", "diverged"]
    assert result.trials[1].value is None
    assert lines[1].startswith("trial 2/2  diverged  lr 1e+30")


def test_a_trial_that_cannot_be_trained_is_said(data):
    lines = []
    options = {"data": data, "sampler": "grid", "report": lines.append, "train_best": False}
    result = search(RECIPE, {"model.in_features": "1,2"}, **options)
    assert [trial.state for trial in result.trials] == ["complete", "failed"]
    assert "failed: " in lines[1]
    with pytest.raises(
        ValueError, match="trials: expected at least one complete trial, got inputs: expected"
    ):
        search(RECIPE, {"model.in_features": "2..9"}, **options)
    assert len(lines) == 2 + 3  # including the message that it stops


def test_of_a_series_no_window_is_both_learned_from_and_judged_by():
    series = np.arange(100, dtype=np.float32)
    split = Split(series[:, None], series)
    recipe = dataclasses.replace(RECIPE, data_options={"window": 5})
    parts = _held_out(Dataset("series", split, split), recipe, 0.2, 0)
    assert parts.test.labels.tolist() == series[80:].tolist()
    assert parts.train.labels.tolist() == series[:76].tolist()


@pytest.mark.slow
def test_each_of_several_workers_has_trials_of_its_own(data, tmp_path):
    options = {"grows": False, "pruner": None, "about": {"a": 1}}
    place = tmp_path / "search.db"
    given = {"data": data, "storage": place, "report": None, "train_best": False}
    search(RECIPE, RATES, trials=2, **given)
    study, joined = opened(place, "other", **options)
    assert not joined
    study.enqueue_trial({})
    study.enqueue_trial({})
    mine, again = next_trial(study), next_trial(opened(place, "other", **options)[0])
    assert {mine.number, again.number} == {0, 1}
    assert next_trial(study) is None
    mine.set_user_attr(WORKER, "elsewhere:1")
    again.set_user_attr(WORKER, f"{os.uname().nodename}:{_ended_process()}")
    assert retry_lost(study) == 1  # the trial of a process that has ended
    assert next_trial(study).number == 2
    give_up(study, 2)
    assert next_trial(study).number == 3


def test_workers_that_make_the_same_database_at_once_do_not_fail(monkeypatch):
    answers = [IntegrityError("", (), Exception("UNIQUE constraint failed")), "storage"]

    def connected(url):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(studies, "_connected", connected)
    assert studies._database("sqlite:///a.db") == "storage"


def _ended_process():
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


# The command


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_same_command(tmp_path, capsys):
    out = tmp_path / "found"
    command = [*COMMAND, "--trials", "5", "--pruner", "none", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxnets", *command],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        before = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGKILL)
    code, text, _ = run(capsys, *command)
    assert code == 0
    lines = text.splitlines()
    said = [line for line in lines if line.startswith("trial ") and "/" in line.split()[1]]
    assert before[0].startswith("trial 1/5  ")
    assert 2 <= len(said) <= 3
    assert said[-1].startswith("trial 5/5  ")
    record = json.loads((out / "search.json").read_text())
    assert [trial["state"] for trial in record["trials"]] == ["complete"] * 5
    for line, trial in zip(before, record["trials"], strict=False):
        assert f"{trial['value']:.5g}" in line
    assert sorted(path.name for path in out.iterdir()) == [
        *("best", "search.db", "search.json", "search.png", "trials.csv"),
    ]
    command_of_best = (
        f"jaxnets train linear-regression --epochs 2 --lr {record['best']['values']['lr']}"
    )
    assert lines[-2] == f"{command_of_best} --batch-size 64"
    rows = list(csv.DictReader((out / "trials.csv").read_text().splitlines()))
    assert [float(row["lr"]) for row in rows] == [t["values"]["lr"] for t in record["trials"]]
    assert jaxnets.load(out / "best").recipe.optimizer_options == {
        "lr": float(lines[-2].split()[6])
    }
    before = (out / "best" / "run.json").stat().st_mtime_ns
    code, text, _ = run(capsys, *command, "--json")
    assert code == 0
    assert (out / "best" / "run.json").stat().st_mtime_ns == before  # nothing is trained again
    assert json.loads(text)["command"] == lines[-2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "1..0.1"], "lr: expected a lower end below the upper one, got 1..0.1"),
        (["--lr", "1..2", "--trials", "0"], "trials: expected a positive integer, got 0"),
        (["--lr", "1..2", "--jobs", "0"], "jobs: expected a positive integer, got 0"),
        (["--option", "hidden=1..2"], "space: expected model.NAME with one of in_features, "),
        (["--option", "hidden"], "--option: expected NAME=A..B or NAME=A,B,…, got hidden"),
        ([], "Nothing to search: give --lr, --option or another range."),
        (["--lr", "1..2", "--sampler", "grid"], "expected choices for lr in a grid, such as"),
        (["--lr", "1..2", "--seeds", "2", "--pruner", "median"], "pruner: expected none, as"),
        (["--lr", "1..2", "--metric", "loss"], "metric: expected a metric of an epoch, such as"),
        (["--lr", "1..2", "--metric", "test_f1"], "metric: expected one that the run measures"),
        (["--lr", "1..2", "--validation", "2"], "validation: expected a number between 0 and 1"),
        (["--lr", "1..2", "--storage", "odd://x"], "storage: expected a database that can be"),
        (["--lr", "1..2", "--storage", "no/file.db"], "no/file.db: unable to open database file"),
        (["--lr", "1..2", "--storage", "text"], "text: file is not a database"),
        (["--lr", "1..2", "--out", "."], "out: expected a new folder, or one of an earlier search"),
        (["--lr", "1..2", "--out", "text/x"], "out: expected a folder that can be made, got"),
    ],
)
def test_bad_words_are_one_sentence(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no database\n" * 99)
    code, _, err = run(capsys, "search", "linear-regression", *words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_wrong_settings_leave_nothing(capsys, tmp_path):
    out = tmp_path / "found"
    wrong = [*COMMAND, "--metric", "test_f1", "--trials", "1"]
    code, _, err = run(capsys, *wrong, "--out", out)
    assert (code, err) == (2, "jaxnets: metric: expected one that the run measures, got test_f1\n")
    assert not out.exists()
    code, _, _ = run(capsys, *COMMAND, "--trials", "1", "--out", out, "--storage", tmp_path / "db")
    assert code == 0
    names = ["best", "search.json", "search.png", "trials.csv"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_a_password_is_not_said(capsys):
    words = ["--lr", "1..2", "--storage", "odd://me:secret@host/name"]
    _, _, err = run(capsys, "search", "linear-regression", *words)
    assert "odd://me:***@host/name" in err


# The learning-rate range test


def test_the_range_test_is_its_formula_on_the_losses_of_training(data):
    found = lr_range_test(RECIPE, data=data, start=1e-3, end=10.0, steps=60)
    rates = 1e-3 * 1e4 ** (np.arange(60) / 59)
    np.testing.assert_allclose(found.rates, rates[: len(found.rates)], rtol=1e-12)
    mean, means = 0.0, []
    for step, loss in enumerate(found.losses, start=1):
        mean = 0.9 * mean + 0.1 * loss
        means.append(mean / (1 - 0.9**step))
    np.testing.assert_allclose(found.smoothed, means, rtol=1e-12)
    slopes = np.gradient(means, np.log(found.rates))
    begin, end = len(means) // 10, np.argmin(means) + 1
    assert found.suggestion == found.rates[begin + np.argmin(slopes[begin:end])]
    assert 1e-2 < found.suggestion < 1
    # the losses are those of ``fit`` with such a schedule
    _, settings = recipes.fit_settings(RECIPE, data)
    settings |= {"optimizer": sgd(lambda t: 1e-3 * 1e4 ** (t / 59)), "epochs": 2}
    model = recipes.build_model(recipes.sized(RECIPE, data))
    run = fit(model, data.train, progress="none", **settings)
    count = len(run.step_losses)
    np.testing.assert_allclose(found.losses[:count], run.step_losses[:count], rtol=1e-5)


@pytest.mark.slow
def test_the_range_test_of_a_recipe_with_another_objective_and_frozen_weights():
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)
    data = Dataset("drawn", split := Split(images, np.arange(24, dtype=np.int32) % 3), split)
    recipe = dataclasses.replace(
        recipes.recipe("mnist-autoencoder"), batch_size=8, freeze="encoder*"
    )
    found = lr_range_test(recipe, data=data, start=1e-4, end=1e-2, steps=5)
    assert len(found.losses) == 5
    assert np.isfinite(found.losses).all()


def test_it_ends_where_the_loss_diverges(data):
    found = lr_range_test(RECIPE, data=data, start=0.1, end=1e6, steps=50)
    assert found.diverged
    assert len(found.rates) < 50
    assert found.smoothed[-1] <= 4 * found.smoothed.min()
    assert "where the loss diverges" in repr(found)
    with pytest.raises(ValueError, match="start: expected a learning rate at which the loss is "):
        lr_range_test(RECIPE, data=data, start=1e35, end=1e37, steps=5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: smoothed([[1.0]]), "losses: expected a vector of numbers, got"),
        (lambda: smoothed([1.0], 1.0), r"beta: expected a number in \[0, 1\), got 1.0"),
        (lambda: steepest([1.0], [1.0]), "rates: expected as many rates as losses, and at"),
        (lambda: steepest([2.0, 1.0], [1.0, 1.0]), "rates: expected positive, increasing numbers"),
        (lambda: steepest([1.0, 2.0], [1.0, math.nan]), "losses: expected finite numbers, got"),
        (lambda: lr_range_test(RECIPE, start=1.0, end=0.1), "end: expected a finite number > 1"),
        (lambda: lr_range_test(RECIPE, steps=1), "steps: expected at least 2, got 1"),
    ],
)
def test_a_bad_range_test_is_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_model_is_tested_with_an_optimizer_of_ones_choice(data):
    options = {"loss": mse_loss, "batch_size": 32, "start": 1e-3, "steps": 40, "data": data}
    model = nnx.Linear(1, 1, rngs=nnx.Rngs(0))
    found = lr_range_test(model, optimizer=adam, **options)
    assert 1e-3 < found.suggestion < 10
    with pytest.raises(ValueError, match="data: expected a Dataset, as a model is given, got None"):
        lr_range_test(model, loss=mse_loss)
    with pytest.raises(ValueError, match="optimizer: expected a function from a schedule to an"):
        lr_range_test(model, optimizer=None, **options)


def test_without_optuna_the_message_says_what_to_install(monkeypatch, data):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"a search requires optuna, .* '\.\[search\]'"):
        search(RECIPE, RATES, data=data)


def test_a_loss_that_only_grows_suggests_nothing():
    assert steepest([0.1, 1.0, 10.0], [1.0, 2.0, 3.0]) is None


def test_the_command_draws_what_it_suggests(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["lr-find", "linear-regression", "--start", "1e-3", "--steps", "40"]
    code, text, _ = run(capsys, *words)
    assert code == 0
    assert text.startswith("suggested learning rate: 0.")
    assert (tmp_path / "lr-find.png").read_bytes().startswith(b"\x89PNG")
    code, text, _ = run(capsys, *words, "--json")
    record = json.loads(text)
    assert record["suggestion"] in record["rates"]


# Page and example


@pytest.mark.slow
def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks((ROOT / "docs" / "search.md").read_text(), "python")
    exec(code, {"__name__": "__main__"})
    out = capsys.readouterr().out
    assert out.startswith("True\ntrial 1/4  ")
    assert out.endswith("4 complete True\n")


@pytest.mark.slow
def test_the_example_finds_a_setting(monkeypatch, capsys):
    words = ["--trials", "2", "--epochs", "1", "--examples", "640"]
    monkeypatch.setattr(sys, "argv", ["search.py", *words])
    runpy.run_path(str(ROOT / "examples" / "search.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert out.startswith("LRRangeTest: ")
    assert "trial 2/2  " in out
    assert "TrainingRun of MLP" in out

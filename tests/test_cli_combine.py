"""``jaxnets combine``."""

import json
import re
import shutil

import numpy as np
import pytest

import jaxnets
from jaxnets.cli import main

pytestmark = pytest.mark.slow

SMALL = ["--quiet", "--epochs", "1", "--data-option", "train=train[:640]"]
SMALL += ["--data-option", "test=test[:100]"]
MLP = [*SMALL, "--model-option", "features=(784,4,10)"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    assert main(["train", "mnist-mlp", *MLP, "--seeds", "0,1", "--out", str(place / "two")]) == 0
    saving = ["--save-every", "4", "--keep", "2", "--out", str(place / "saved")]
    assert main(["train", "mnist-mlp", *MLP, *saving]) == 0
    other = ["--model", "image-classifier", "--normalize", "0", "1", "--out", str(place / "other")]
    assert main(["train", "mnist-mlp", *SMALL, *other]) == 0
    regression = ["--quiet", "--epochs", "1", "--out"]
    assert main(["train", "linear-regression", *regression, str(place / "line")]) == 0
    return place


def combined(capsys, folder, *arguments):
    capsys.readouterr()
    code = main(["combine", *(str(folder / a) if (folder / a).exists() else a for a in arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def shares(text):
    return [float(share) for share in re.findall(r"accuracy (\d+\.\d\d)%", text)]


def test_an_ensemble_of_seeds_is_a_run_again(capsys, folder):
    out = combined(capsys, folder, "two", "--out", str(folder / "ensemble"))
    first, second, mean, together = shares(out)
    assert mean == pytest.approx((first + second) / 2)
    assert out.splitlines()[3].startswith("ensemble (mean of probabilities)")
    saved = jaxnets.load(folder / "ensemble")
    test = jaxnets.recipes.load_data(saved.recipe).test
    right = saved.predict(test.inputs).argmax(-1) == test.labels
    assert 100 * right.mean() == pytest.approx(together)
    members = [
        jaxnets.load(folder / "two" / f"seed-{seed}").predict(test.inputs) for seed in (0, 1)
    ]
    probabilities = [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in members]
    np.testing.assert_allclose(
        np.exp(saved.predict(test.inputs)), np.mean(probabilities, 0), rtol=1e-4, atol=1e-7
    )
    assert main(["predict", str(folder / "ensemble"), "--index", "0"]) == 0
    record = json.loads((folder / "ensemble" / "run.json").read_text())
    assert record["changes"] == [
        {"name": "ensemble", "settings": {"count": 2, "how": "probabilities"}}
    ]


def test_networks_of_several_kinds_vote_and_checkpoints_mix(capsys, folder):
    out = combined(capsys, folder, "two/seed-0", "other", "saved", "--how", "vote")
    assert out.splitlines()[-1].startswith("ensemble (votes)")
    assert len(shares(out)) == 5
    out = combined(capsys, folder, "saved", "--checkpoints", "--how", "soup")
    steps = re.findall(r"saved step (\d+) ", out)
    assert steps == ["8", "10"]
    assert out.splitlines()[-1].startswith("soup ")


def test_a_greedy_soup_is_tested_on_what_did_not_choose(capsys, folder):
    out = combined(capsys, folder, "two", "saved", "--how", "greedy-soup", "--json")
    record = json.loads(out)
    assert record["examples"] == 50
    assert re.fullmatch("greedy soup of [123]", record["made"])
    assert len(record["runs"]) == 3
    shutil.rmtree(folder / "soup", ignore_errors=True)
    combined(capsys, folder, "saved", "saved", "--how", "soup", "--out", str(folder / "soup"))
    one, two = (jaxnets.load(folder / name).model for name in ("saved", "soup"))
    np.testing.assert_array_equal(one.fc1.kernel, two.fc1.kernel)


def test_values_are_averaged(capsys, folder):
    out = combined(capsys, folder, "line", "line")
    assert out.splitlines()[-1].startswith("ensemble (mean of outputs) ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["saved"], "run: expected two runs or more, got 1"),
        (["two", "--checkpoints"], "run: expected two checkpoints or more, got 0"),
        (["saved", "line"], "run: expected runs on the same data, mnist, got "),
        (["line", "line", "--how", "vote"], "how: expected mean or soup, as the runs have no cl"),
        (
            ["saved", "other", "--how", "soup"],
            "models[1]: expected the structure of models[0], got",
        ),
        (["saved", "other", "--out", "new"], "out: expected none, as the networks have different"),
        (["saved", "saved", "--out", "two"], "out: expected a new or empty folder"),
        (["saved", "none"], "run: expected a folder with a run.json in it, got "),
    ],
)
def test_bad_arguments(capsys, folder, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    code = main(["combine", *arguments])
    err = capsys.readouterr().err
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (folder / "new").exists()

import dataclasses
import json

import pytest

from jaxnets import recipes
from jaxnets.cli import main

pytestmark = pytest.mark.slow

SMALL = ["train", "mnist-mlp", "--quiet", "--epochs", "1", "--data-option", "train=train[:640]"]
SMALL += ["--data-option", "test=test[:100]", "--model-option", "features=(784,4,10)"]


def run(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_many_seeds_are_a_table_a_record_and_a_folder_of_runs(capsys, tmp_path):
    out = tmp_path / "runs"
    flags = ["--seeds", "0,2", "--learning-rates", "0.02,1e30", "--out", str(out)]
    code, text, _ = run(capsys, *SMALL, *flags)
    assert code == 0
    lines = text.splitlines()
    assert lines[0] == "learning rate 0.02"
    assert [line[:26] for line in lines[1:3]] == [f"seed {s}      test accuracy " for s in (0, 2)]
    assert lines[3].startswith("accuracy    mean ")
    assert "(n = 2), 95 % interval" in lines[3]
    assert lines[4:] == [
        "learning rate 1e+30",
        "seed 0      diverged at epoch 1, step 2",
        "seed 2      diverged at epoch 1, step 2",
    ]
    record = json.loads((out / "runs.json").read_text())
    assert [member["seed"] for member in record["members"]] == [0, 2, 0, 2]
    assert record["members"][2]["test_loss"] is None
    assert "nan at epoch 1, step 2" in record["members"][2]["diverged"]
    assert record["summary"][1] == {"learning_rate": 1e30, "accuracy": None, "loss": None}
    names = ["lr-0.02-seed-0", "lr-0.02-seed-2", "runs.json"]
    assert sorted(path.name for path in out.iterdir()) == names
    single = json.loads((out / "lr-0.02-seed-2" / "run.json").read_text())
    assert single["test_accuracy"] == record["members"][1]["test_accuracy"]
    assert single["settings"]["optimizer_options"]["lr"] == 0.02
    code, text, _ = run(capsys, "predict", str(out / "lr-0.02-seed-2"), "--index", "0")
    assert code == 0
    assert text.startswith("test example 0 (label 7): ")


def test_a_member_is_the_run_of_its_seed(capsys):
    code, text, _ = run(capsys, *SMALL, "--seeds", "2", "--json")
    assert code == 0
    member = json.loads(text)["members"][1]
    code, text, _ = run(capsys, *SMALL, "--seed", "1", "--json")
    single = json.loads(text)
    assert member["test_accuracy"] == single["test_accuracy"]
    assert member["test_loss"] == pytest.approx(single["test_loss"], rel=1e-5)


def test_of_regression_the_table_has_losses(capsys):
    flags = ["--quiet", "--epochs", "1", "--learning-rates", "0.1", "--seed", "3"]
    code, text, _ = run(capsys, "train", "linear-regression", *flags)
    assert code == 0
    head, member, mean = text.splitlines()
    assert head == "learning rate 0.1"
    assert member.startswith("seed 3      test loss ")
    assert mean == "test loss   mean " + member.split()[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seeds", "x"], "'--seeds': expected N or S,S,…, got 'x'"),
        (["--learning-rates", "1;2"], "'--learning-rates': expected LR,LR,…, got '1;2'"),
        (["--seeds", "0"], "seeds: expected a positive integer, got 0"),
        (["--seeds", "2", "--seed", "1"], "--seed cannot be used with --seeds."),
        (["--learning-rates", "1", "--lr", "1"], "--lr cannot be used with --learning-rates."),
        (["--seeds", "2", "--devices", "2"], "--devices cannot be used with --seeds"),
        (["--seeds", "2", "--jsonl", "log"], "--jsonl cannot be used with --seeds"),
        (["--seeds", "2", "--save-every", "3", "--out", "x"], "--save-every cannot be used"),
        (["--seeds", "2", "--processes", "3"], "--processes cannot be used with --seeds"),
    ],
)
def test_what_does_not_go_with_seeds_is_one_sentence(capsys, flags, message):
    code, out, err = run(capsys, "train", "linear-regression", *flags)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_resume_does_not_go_with_seeds(capsys, tmp_path):
    code, _, err = run(capsys, "train", "--resume", str(tmp_path), "--seeds", "2")
    assert code == 2
    assert "--resume cannot be used with --seeds" in err


def test_train_many_refuses_what_a_recipe_cannot_have_with_seeds():
    odd = dataclasses.replace(recipes.recipe("linear-regression"), buckets=2)
    with pytest.raises(ValueError, match="buckets: expected None or 1 with seeds, got 2"):
        recipes.train_many(odd, seeds=2)

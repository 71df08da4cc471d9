import json
import shutil

import pytest

from jaxnets import runs
from jaxnets.cli import main

QUICK = ["linear-regression", "--quiet", "--epochs"]  # 16 steps an epoch


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_is_watched_and_profiled(tmp_path):
    board, log, profile = tmp_path / "board", tmp_path / "run.jsonl", tmp_path / "profile"
    flags = ["--tensorboard", str(board), "--jsonl", str(log), "--profile", str(profile)]
    assert main(["train", *QUICK, "2", *flags, "--log-every", "8"]) == 0
    assert [row["step"] for row in lines(log)] == [8, 16, 16, 24, 32, 32]
    assert len(list(board.glob("events.*"))) == 1
    assert len(list(profile.glob("plugins/profile/*/perfetto_trace.json.gz"))) == 1


def test_a_run_that_gets_no_better_is_stopped_and_says_so(tmp_path, capsys):
    flags = ["--early-stopping", "2", "--lr", "1e-30", "--out", str(tmp_path / "run"), "--json"]
    assert main(["train", *QUICK, "9", *flags]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["stopped"] == "test_loss is no better after 2 more epochs"
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(record["history"]) == 3
    assert record["stopped"] == out["stopped"]


def test_a_step_that_is_not_finite_can_be_skipped(tmp_path, capsys):
    hot = ["train", *QUICK, "2", "--lr", "1e30"]
    assert main(hot) == 1
    assert "the loss is inf at epoch 1, step" in capsys.readouterr().err
    assert main([*hot, "--non-finite", "skip"]) == 1  # diverges in the first, finite update
    assert "at epoch 1, the test" in capsys.readouterr().err


@pytest.mark.slow
def test_a_resumed_run_is_watched_and_guarded_as_before(tmp_path, capsys):
    run, log = tmp_path / "run", tmp_path / "run.jsonl"
    flags = ["--early-stopping", "2", "--lr", "1e-30", "--jsonl", str(log), "--non-finite", "skip"]
    begin = ["train", *QUICK, "9", *flags, "--save-every", "10", "--keep", "9", "--out", str(run)]
    assert main(begin) == 0
    whole = lines(log)
    for path in (run / "checkpoints").glob("step-*"):
        if int(path.name[5:]) > 20:
            shutil.rmtree(path)
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    again = lines(log)
    assert [row["step"] for row in again] == [row["step"] for row in whole] == [16, 32, 48]
    assert [row["test_loss"] for row in again] == [row["test_loss"] for row in whole]
    record = json.loads((run / "begun.json").read_text())
    monitoring = record.pop("monitoring")
    assert monitoring == {"jsonl": str(log), "early_stopping": 2, "non_finite": "skip"}
    assert main(["train", "--resume", str(run), "--early-stopping", "3", "--json"]) == 0
    assert len(lines(log)) == 4
    (run / "begun.json").write_text(json.dumps({**record, "watching": monitoring}))  # formerly
    assert runs.resume(run).monitoring == monitoring


def test_a_run_ends_with_its_best_epoch_and_goes_on_to_the_same(tmp_path, capsys):
    run = tmp_path / "run"
    flags = ["--restore-best", "--lr", "2.02", "--batch-size", "500"]  # which diverges slowly
    begin = ["train", *QUICK, "3", *flags, "--save-every", "2", "--out", str(run)]
    assert main(begin) == 0
    capsys.readouterr()
    assert main(["train", "--resume", str(run), "--epochs", "5", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    record = json.loads((run / "run.json").read_text())
    losses = [epoch["test_loss"] for epoch in record["history"]]
    assert out["restored"] == 1 + losses.index(min(losses)) < len(losses) == 5
    assert out["test_loss"] == record["test_loss"] == min(losses)
    assert out["train_loss"] == record["history"][out["restored"] - 1]["train_loss"]
    assert main(["train", *QUICK, "5", *flags, "--out", str(tmp_path / "whole")]) == 0
    whole, resumed = (runs.read(folder).model for folder in (tmp_path / "whole", run))
    assert whole.kernel[...] == resumed.kernel[...]


def test_without_classes_there_is_no_best_accuracy(tmp_path, capsys):
    flags = ["--metric", "test_accuracy", "--save-every", "9", "--out", str(tmp_path / "run")]
    assert main(["train", *QUICK, "3", *flags]) == 2
    message = "metric: expected one that the run measures, got test_accuracy"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jsonl", "{}/taken"], "path: expected a new or empty file, got "),
        (["--jsonl", "{}/out/a", "--out", "{}/out"], "--jsonl is inside --out, which is only"),
        (["--tensorboard", "{}/out", "--out", "{}/out"], "--tensorboard is inside --out"),
        (["--early-stopping", "0"], "patience: expected a positive integer, got 0"),
        (["--jsonl", "{}/a", "--log-every", "-1"], "every: expected a positive integer, got -1"),
        (["--restore-best", "--metric", "loss"], "metric: expected a metric of an epoch"),
        (["--non-finite", "ignore"], "'ignore' is not one of 'stop', 'skip'"),
    ],
)
def test_bad_flags_are_named_and_leave_nothing(tmp_path, capsys, flags, message):
    (tmp_path / "taken").write_text("mine\n")
    assert main(["train", *QUICK, "1", *(flag.format(tmp_path) for flag in flags)]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

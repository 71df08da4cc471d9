import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from flax import nnx

from jaxnets import runs
from jaxnets.cli import main
from tests.test_training_placement import on_devices

QUICK = ["linear-regression", "--epochs", "4", "--quiet"]  # 16 steps an epoch


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *QUICK, "--save-every", "10", "--keep", "9", "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def killed(saved, tmp_path):
    """The folder of a run that was killed after 30 steps."""
    folder = tmp_path / "killed"
    shutil.copytree(saved, folder)
    for path in folder.iterdir():
        if path.name not in ("begun.json", "checkpoints"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (folder / "checkpoints").glob("step-*"):
        if int(path.name[5:]) > 30:
            shutil.rmtree(path)
    return folder


def result(arguments, capsys):
    capsys.readouterr()
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_run_that_saves_leaves_what_any_run_leaves(saved):
    names = {path.name for path in saved.iterdir()} - {"begun.json", "checkpoints"}
    assert names == {"run.json", "history.csv", "curves.png", "weights"}
    steps = sorted(int(path.name[5:]) for path in (saved / "checkpoints").glob("step-*"))
    assert steps == [10, 16, 20, 30, 32, 40, 48, 50, 60, 64][-9:]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(saved, killed, capsys):
    again = result(["train", "--resume", str(killed), "--json"], capsys)
    before = json.loads((saved / "run.json").read_text())
    after = json.loads((killed / "run.json").read_text())
    for key in ("test_loss", "train_loss", "settings", "seed"):
        assert after[key] == before[key]
    assert again["test_loss"] == before["test_loss"]
    weights = [nnx.state(runs.read(folder).model) for folder in (saved, killed)]
    jax.tree.map(np.testing.assert_array_equal, *weights)


@pytest.mark.slow
def test_a_finished_run_takes_more_epochs(saved, tmp_path, capsys):
    folder = tmp_path / "more"
    shutil.copytree(saved, folder)
    longer = result(["train", "--resume", str(folder), "--epochs", "5", "--json"], capsys)
    whole = result(["train", *QUICK[:1], "--epochs", "5", "--json"], capsys)
    assert longer["test_loss"] == whole["test_loss"]
    assert json.loads((folder / "run.json").read_text())["epochs"] == 5
    # as after a kill while the result was written
    (folder / "run.json").unlink()
    (folder / ".finishing-killed").mkdir()
    assert result(["train", "--resume", str(folder), "--json"], capsys) | whole == longer | whole
    assert json.loads((folder / "run.json").read_text())["test_loss"] == whole["test_loss"]
    assert not [*folder.glob(".*")]


@pytest.mark.slow
def test_sigterm_saves_and_says_how_to_go_on(tmp_path, saved):
    folder = tmp_path / "stopped"
    arguments = ["train", *QUICK, "--epochs", "100000", "--save-every", "50", "--out", str(folder)]
    run = subprocess.Popen([sys.executable, "-m", "jaxnets", *arguments], stderr=subprocess.PIPE)
    while not [*folder.glob("checkpoints/step-*")]:
        assert run.poll() is None
        time.sleep(0.1)
    os.kill(run.pid, signal.SIGTERM)
    _, error = run.communicate()
    assert run.returncode == 143
    assert b"stopped by SIGTERM after step" in error
    assert b"--resume continues" in error
    assert not (folder / "run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "{}", "--lr", "0.5"], "optimizer_options is {'lr': 0.5}, was {'lr': 0.01}"),
        (["mnist-mlp", "--resume", "{}"], "batch_size|data is mnist, was linear"),
        (["--resume", "{}", "--seed", "3"], "seed is 3, was 0"),
        (["--resume", "{}", "--epochs", "1"], "epochs: expected at least the 4 that are done, g"),
        (["--resume", "{}", "--accumulate", "3"], "accumulate is 3, was 1"),
        (["--resume", "{}", "--compute-dtype", "bfloat16"], "compute_dtype is bfloat16, was None"),
        (["--resume", "{}", "--model-devices", "2"], "model: expected a divisor of the number"),
        (["--resume", "{}", "--out", "x"], "--resume continues in its own folder"),
        (["--resume", "{}", "--save-every", "3"], "--resume continues in its own folder"),
        (["--resume", "{}/weights"], "resume: expected the folder of a run that saves"),
        ([], "Missing argument 'RECIPE'"),
        ([QUICK[0], "--save-every", "3"], "require --out"),
        ([QUICK[0], "--keep", "3", "--out", "x"], "--keep requires --save-every"),
        ([QUICK[0], "--same-bits"], "--same-bits requires --resume."),
        ([QUICK[0], "--save-every", "0", "--out", "x"], "steps: expected a positive integer"),
        ([QUICK[0], "--devices", "0"], "devices: expected a positive integer, got 0"),
        ([QUICK[0], "--accumulate", "0"], "accumulate: expected a positive integer, got 0"),
        ([QUICK[0], "--save-every", "3", "--out", "{}"], "out: expected a new or empty folder"),
    ],
)  # fmt: skip
def test_bad_flags_are_one_sentence(saved, tmp_path, capfd, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(saved) for argument in arguments]
    assert main(["train", "--quiet", *arguments]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert any(part in error for part in message.split("|"))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_run_goes_on_as_it_began(tmp_path):
    script = f"""
        import json
        from jaxnets.cli import main
        run = {str(tmp_path / "x")!r}
        flags = ["--devices", "4", "--model-devices", "2", "--fsdp", "--accumulate", "2"]
        flags += ["--compute-dtype", "bfloat16", "--save-every", "9", "--out", run]
        on = ["--resume", run, "--epochs", "2"]
        main(["train", "linear-regression", "--epochs", "1", "--json", *flags])
        main(["train", *on, "--json"])
        main(["train", *on, "--json", "--devices", "3", "--no-fsdp"])
        """
    done = on_devices(4, script)
    devices = [json.loads(line)["device"] for line in done.stdout.splitlines()]
    assert devices == ["2 × 2 × cpu", "2 × 2 × cpu", "3 × cpu"]
    assert "continues with --model-devices 1 (was 2)\n" in done.stderr
    began = {
        "devices": 4, "model_devices": 2, "fsdp": True, "accumulate": 2,
        "compute_dtype": "bfloat16",
    }  # fmt: skip
    assert json.loads((tmp_path / "x" / "begun.json").read_text())["computing"] == began
    assert json.loads((tmp_path / "x" / "run.json").read_text())["computing"] == {
        **began, "devices": 3, "model_devices": 1, "fsdp": False,
    }  # fmt: skip


@pytest.mark.slow
def test_without_its_devices_a_run_goes_on_with_those_that_are_there(saved, killed, capsys):
    begun = json.loads((killed / "begun.json").read_text())
    begun["computing"] |= {"devices": 64, "model_devices": 2}
    (killed / "begun.json").write_text(json.dumps(begun))
    capsys.readouterr()
    assert main(["train", "--resume", str(killed), "--json", "--quiet"]) == 0
    out, error = capsys.readouterr()
    line = "continues with --devices 1 (was 64) and --model-devices 1 (was 2)"
    assert error == f"jaxnets: the run {line}\n"
    assert json.loads(out)["test_loss"] == json.loads((saved / "run.json").read_text())["test_loss"]


@pytest.mark.slow
def test_where_bits_may_be_others_it_says_so_in_a_line_or_refuses(killed, capfd, monkeypatch):
    monkeypatch.setenv("NPROC", "77")
    arguments = ["train", "--resume", str(killed), "--quiet"]
    assert main([*arguments, "--same-bits"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "for the same bits, got cores: 77, before " in error
    assert not (killed / "run.json").exists()
    line = "^the resumed run may differ in some bits from an uninterrupted one: cores: 77, "
    with pytest.warns(UserWarning, match=line) as said:
        assert main(arguments) == 0
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    assert capfd.readouterr().err == ""
    assert json.loads((killed / "run.json").read_text())["machine"]["cores"] == 77


@pytest.mark.slow
def test_a_run_with_a_schedule_goes_on_along_it(tmp_path, capsys):
    flags = ["--epochs", "2", "--save-every", "10", "--out", str(tmp_path / "run")]
    assert main(["train", *QUICK[:1], "--quiet", "--scheduler", "cosine", *flags]) == 0
    settings = json.loads((tmp_path / "run" / "begun.json").read_text())["settings"]
    assert (settings["scheduler"], settings["scheduler_options"]) == ("cosine", {"T_max": 2})
    again = result(["train", "--resume", str(tmp_path / "run"), "--epochs", "4", "--json"], capsys)
    whole = ["train", *QUICK[:1], "--epochs", "4", "--json", "--quiet"]
    assert (
        again["test_loss"] == result([*whole, "--scheduler", "cosine:T_max=2"], capsys)["test_loss"]
    )
    assert again["test_loss"] != result([*whole, "--scheduler", "cosine"], capsys)["test_loss"]
    capsys.readouterr()
    other = ["train", "--resume", str(tmp_path / "run"), "--scheduler", "step:step_size=1"]
    assert main(other) == 2
    assert "scheduler is step, was cosine" in capsys.readouterr().err


def test_a_damaged_record_is_one_sentence(killed, capfd):
    (killed / "begun.json").write_text("[]")
    assert main(["train", "--resume", str(killed)]) == 2
    assert "resume: expected a begun.json written by jaxnets" in capfd.readouterr().err

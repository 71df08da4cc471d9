"""``jaxnets train --model FILE.py:Class`` and ``jaxnets compare --torch FILE.py:Class``."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch

import jaxnets
from jaxnets.arrays import InputError
from jaxnets.cli import main
from jaxnets.compare import report

FLAX = """
import jax
from flax import nnx
from jaxnets import layers
from parts import pooled


class Net(nnx.Module):
    def __init__(self, width=2, *, rngs):
        self.conv = layers.Conv2d(1, width, 3, rngs=rngs)
        self.fc = layers.Linear(width, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc(pooled(jax.nn.relu(self.conv(x))))
"""
PARTS = "def pooled(x):\n    return x.mean((1, 2))\n"
TORCH = """
import random

import torch.nn.functional as F
from torch import nn


class Table(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc1 = nn.Linear(2, width)
        self.fc2 = nn.Linear(width, 1)
        nn.init.constant_(self.fc2.bias, 0.5)

    def forward(self, x):
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.2, self.training))


class Decides(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 1)

    def forward(self, x):
        if x.sum() > 0:
            x = x + 1
        return self.fc(x)


class Draws(nn.Module):
    def forward(self, x):
        return x * random.randint(0, 3)
"""


@pytest.fixture(autouse=True)
def promotion_of_users():
    """JAX's default promotion, with which users' files run."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flax_nets.py").write_text(FLAX)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "nets.py").write_text(TORCH)
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(48, 6, 6, 1), dtype=np.uint8)
    labels = np.arange(48) % 3
    halves = {"x_train": images[:32], "x_test": images[32:]}
    np.savez("images.npz", **halves, y_train=labels[:32], y_test=labels[32:])
    rows = draw.random((40, 2))
    lines = [f"{a:.4f},{b:.4f},{a - b:.4f}" for a, b in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    return tmp_path


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main([*map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def trained(capsys, *arguments):
    code, out, err = run(capsys, "train", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)["test_loss"], err


@pytest.mark.slow
def test_a_run_keeps_the_network_and_needs_no_file_of_the_users(capsys, folder):
    net = ["--model", "flax_nets.py:Net", "--args", "width=3", "--data", "images.npz"]
    settings = ["--epochs", "2", "--batch-size", "16"]
    _, err = trained(capsys, *net, *settings, "--save-every", "3", "--out", "whole")
    assert err.splitlines()[0] == "imported flax_nets.py:Net, whose code has run"
    files = sorted(path.name for path in (folder / "whole" / "network").iterdir())
    assert files == ["flax_nets.py", "parts.py"]
    record = json.loads((folder / "whole" / "run.json").read_text())
    model = record["settings"]["model"]
    assert (model["class"], model["arguments"], [*model["files"]]) == ("Net", "width=3", files)
    assert [record["settings"][name] for name in ("loss", "layout")] == ["cross-entropy", "images"]
    assert record["settings"]["optimizer"] == "adam"

    shutil.copytree("whole", "killed")
    for name in ("run.json", "weights"):
        path = folder / "killed" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (folder / "killed" / "checkpoints").glob("step-*"):
        if int(path.name[5:]) > 3:
            shutil.rmtree(path)
    (folder / "parts.py").write_text("no Python")
    (folder / "flax_nets.py").unlink()
    loss, err = trained(capsys, "--resume", "killed")
    assert loss == record["test_loss"]
    assert "imported killed/network/flax_nets.py:Net, whose code has run" in err

    code, out, err = run(capsys, "predict", "killed", "--index", "0")
    assert (code, out[:24]) == (0, "test example 0 (label 2)")
    assert err == "imported killed/network/flax_nets.py:Net, whose code has run\n"
    code, out, err = run(capsys, "inspect", "killed")
    assert (code, err, out.splitlines()[-1]) == (0, "", "4 arrays, 42 numbers")
    code, _, err = run(capsys, "convert", "killed", "net.pt")
    assert (code, err.splitlines()[0][:8]) == (0, "imported")
    assert torch.load("net.pt")["conv.weight"].shape == (3, 1, 3, 3)

    with pytest.raises(InputError, match=r"run_code: expected True to run the code .*"):
        jaxnets.load("killed")
    with pytest.raises(InputError, match="run_code: expected True or False"):
        jaxnets.load("killed", run_code=1)
    saved = jaxnets.load("killed", run_code=True)
    assert jaxnets.load("whole", model=saved.model).recipe.name == "Net"
    (folder / "killed" / "network" / "parts.py").write_text("other = 1")
    code, _, err = run(capsys, "predict", "killed", "--index", "0")
    assert code == 2
    assert "the file that the run saved, got a modified parts.py" in err


@pytest.mark.slow
def test_a_recipe_takes_another_network_and_a_file_of_weights(capsys, folder):
    flax = folder / "flax_nets.py"
    flax.write_text(FLAX.replace("from parts import pooled", PARTS))
    net = ["mnist-lenet", "--model", "flax_nets.py:Net", "--data", "images.npz", "--epochs", "1"]
    weights = {"conv.weight": torch.ones(2, 1, 3, 3), "conv.bias": torch.zeros(2)}
    weights |= {"fc.weight": torch.zeros(3, 2), "fc.bias": torch.zeros(3)}
    torch.save(weights, "net.pt")
    _, err = trained(capsys, *net, "--lr", "0", "--weights", "net.pt", "--out", "run")
    assert "4 arrays of net.pt loaded into Net" in err
    record = json.loads((folder / "run" / "run.json").read_text())
    assert record["settings"]["optimizer"] == "sgd"
    assert record["settings"]["document"].endswith("; begins with the weights in net.pt")
    assert record["test_loss"] == pytest.approx(np.log(3))
    code, out, _ = run(capsys, "summary", *net[:-2])
    assert code == 0
    assert "Conv2d" in out


def test_a_pytorch_network_is_ported_and_begins_with_its_weights(capsys, folder):
    net = ["--model", "nets.py:Table", "--args", "width=3", "--data", "rows.csv", "--epochs", "2"]
    loss, err = trained(capsys, *net, "--seed", "3", "--save-every", "2", "--out", "run")
    first, *_, verdict, begins = [line for line in err.splitlines() if "epoch" not in line]
    assert first == "imported nets.py:Table, whose code has run"
    assert verdict.startswith("ported nets.py:Table: exact; outputs, gradients")
    assert begins == "the initial weights are those that PyTorch draws"
    assert [path.name for path in (folder / "run" / "network").iterdir()] == ["table_jax.py"]
    torch.manual_seed(3)
    with np.load("run/initial.npz") as initial:
        np.testing.assert_array_equal(initial["fc2.bias"], 0.5)
        np.testing.assert_array_equal(initial["fc1.weight"], torch.nn.Linear(2, 3).weight.detach())

    code, _, err = run(capsys, "train", "--resume", "run", "--model", "nets.py:Table")
    assert code == 2
    assert "other settings: model is {'class': 'network', 'arguments': '', 'files': {" in err
    (folder / "nets.py").unlink()
    shutil.rmtree("run/checkpoints")  # as if it had been killed before the first of them
    assert trained(capsys, "--resume", "run")[0] == loss
    code, out, err = run(capsys, "predict", "run", "--row", "a=0.5,b=0.25")
    assert (code, err) == (0, "imported run/network/table_jax.py:network, whose code has run\n")
    assert out.startswith("a=0.5,b=0.25: ")


OUTPUTS = """
from flax import nnx
from jaxnets import layers


class Sigmoid(nnx.Module):
    def __init__(self, *, rngs):
        self.output = layers.Linear(2, 1, rngs=rngs)

    def __call__(self, x):
        return nnx.sigmoid(self.output(x) + 20)


class Tokens(nnx.Module):
    def __init__(self, *, rngs):
        self.fc = layers.Embedding(6, 6, rngs=rngs)

    def __call__(self, x):
        return self.fc(x)
"""


@pytest.mark.slow
def test_predictions_of_what_networks_of_ones_own_return(capsys, folder):
    (folder / "outputs.py").write_text(OUTPUTS)
    (folder / "kinds.csv").write_text("a,b,kind\n" + "1,2,x\n3,4,y\n" * 10)
    net = ["--model", "outputs.py:Sigmoid", "--data", "kinds.csv", "--epochs", "1", "--lr", "0"]
    trained(capsys, *net, "--loss", "binary-cross-entropy", "--out", "kinds")
    _, out, _ = run(capsys, "predict", "kinds", "--row", "a=0,b=0")
    assert out == "a=0,b=0: y 100.00%  x 0.00%\n"
    (folder / "words.txt").write_text("ab c " * 300)
    net = ["--model", "outputs.py:Tokens", "--data", "words.txt", "--epochs", "1"]
    trained(capsys, *net, "--out", "words")
    code, _, err = run(capsys, "predict", "words", "a")
    assert code == 2
    assert "run: expected a run with one class for each example, got outputs of shape [" in err


@pytest.mark.slow
def test_many_seeds_of_a_pytorch_network(capsys, folder):
    net = ["--model", "nets.py:Table", "--data", "rows.csv", "--epochs", "1", "--lr", "0"]
    code, out, err = run(capsys, "train", *net, "--seeds", "2", "--json", "--out", "runs")
    assert code == 0, err
    losses = [member["test_loss"] for member in json.loads(out)["members"]]
    for seed, loss in enumerate(losses):
        single, _ = trained(capsys, *net, "--seed", seed)
        assert loss == pytest.approx(single, rel=1e-5)
    assert (folder / "runs" / "seed-1" / "network" / "table_jax.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nets.py", "--data", "rows.csv"], "expected FILE.py:Class or one of lin"),
        (["--model", "no.py:Net", "--data", "rows.csv"], "model: expected a file that exists"),
        (
            ["--model", "nets.py:Net", "--data", "rows.csv"],
            "such as Table, Decides, Draws, got Net",
        ),
        (["--model", "nets.py:Table"], "Missing option '--data' for Table."),
        (["--model", "nets.py:Table", "--data", "rows.csv", "--args", "x=("], "expected argumen"),
        (
            ["--model", "nets.py:Table", "--data", "rows.csv", "--args", "x=1"],
            "args: expected arguments of",
        ),
        (["--model", "nets.py:Table", "--data", "images.npz"], "accepts float32[2, 1, 6, 6], got"),
        (["--model", "flax_nets.py:Net", "--data", "rows.csv"], "accepts float32[2, 2], got"),
        (["--model", "nets.py:Table", "--data", "rows.csv", "--model-option", "w=1"], "use --args"),
        (["--model", "nets.py:Decides", "--data", "rows.csv"], "without Python control flow"),
        (["mnist-mlp", "--args", "width=3"], "--args requires your own network, FILE.py:Class"),
        (["--resume", "run", "--from", "net.pt"], "--from cannot be used with --resume"),
        ([], "Missing argument 'RECIPE', or --model FILE.py:Class."),
    ],
)
def test_bad_arguments_of_training(capsys, folder, arguments, message):
    code, _, err = run(capsys, "train", *arguments)
    assert code == 2, err
    assert message in err
    assert err.splitlines()[-1].startswith("jaxnets: ")


def test_a_network_that_cannot_be_ported_is_not_trained(capsys, folder):
    for command in (["train", "--model"], ["compare", "--torch"]):
        code, out, err = run(capsys, *command, "nets.py:Draws", "--data", "rows.csv")
        assert (code, out) == (1, "")
        assert "nets.py:Draws cannot be ported:" in err
        assert "nets.py:32 | Draws.forward | random.randint(0, 3)" in err


@pytest.mark.slow
def test_a_pytorch_network_is_compared_with_its_port(capsys, folder, monkeypatch):
    monkeypatch.setattr(report, "write", lambda comparison, directory: None)  # takes seconds
    net = ["--torch", "nets.py:Table", "--data", "rows.csv", "--epochs", "2", "--no-timing"]
    code, out, err = run(capsys, "compare", *net, "--seeds", "2", "--json", "--out", "pairs")
    assert code == 0, err
    assert "ported nets.py:Table: exact" in err
    found = json.loads(out)
    assert found["findings"] == []
    for row in found["seeds"]:
        assert row["ours"] == pytest.approx(row["theirs"], rel=1e-5)
    begun = json.loads((folder / "pairs" / "begun.json").read_text())
    assert begun["weights_from"] == "torch"

    (folder / "nets.py").write_text("no Python")
    code, out, err = run(capsys, "compare", "--resume", "pairs", "--no-timing", "--json")
    assert code == 0, err
    assert json.loads(out)["seeds"] == found["seeds"]
    assert "imported pairs/network/nets.py:Table, whose code has run" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--torch", "flax_nets.py:Net", "--data", "images.npz"], "torch: expected a torch.nn.Mod"),
        (["--torch", "nets.py:Table", "--data", "rows.csv", "--peer", "flax"], "omit --peer"),
        (["--torch", "nets.py:Table", "--model", "mlp"], "--torch cannot be used with --model"),
        (["--torch", "nets.py"], "expected FILE.py:Class, got 'nets.py'"),
        (["--model", "nets.py:Table"], "Invalid value for '--model'"),
        ([], "Missing argument 'RECIPE', or --torch FILE.py:Class."),
    ],
)
def test_bad_arguments_of_comparing(capsys, folder, arguments, message):
    code, _, err = run(capsys, "compare", *arguments)
    assert code == 2, err
    assert message in err


def test_a_network_without_rngs(capsys, folder):
    (folder / "plain.py").write_text(
        "import jax.numpy as jnp\nfrom flax import nnx\n\n"
        "class Net(nnx.Module):\n    def __init__(self):\n"
        "        self.w = nnx.Param(jnp.zeros((2, 1)))\n\n"
        "    def __call__(self, x):\n        return x @ self.w\n"
    )
    loss, _ = trained(capsys, "--model", "plain.py:Net", "--data", "rows.csv", "--epochs", "1")
    assert loss > 0

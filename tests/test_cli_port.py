"""``jaxnets port``."""

import json

import pytest
import torch

from jaxnets.cli import main

NET = '''
import torch
from torch import nn


class Net(nn.Module):
    """Two layers."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.fc = nn.Linear(width, 2)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


class Sorts(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        return torch.linalg.svd(self.fc(x))[0]


class Asserts(nn.Module):
    def forward(self, x):
        assert len(x) > 2, "few\\nrows"
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    return tmp_path


def run(capsys, *arguments):
    """Exit code, standard output and standard error of one command."""
    code = main(["port", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_network_becomes_a_file_with_its_weights(capsys, folder):
    torch.manual_seed(0)
    weights = {"conv.weight": torch.randn(5, 3, 3, 3), "conv.bias": torch.randn(5)}
    weights |= {"fc.weight": torch.randn(2, 5), "fc.bias": torch.randn(2)}
    torch.save(weights, "net.pt")
    arguments = ["nets.py:Net", "--args", "width=5", "--input", "2x3x6x6", "--weights", "net.pt"]
    code, out, err = run(capsys, *arguments, "--quick", "--report", "report.json")
    assert (code, err) == (0, "")
    first, *_, verdict, last = out.splitlines()
    assert first == "imported nets.py:Net, whose code has run"
    assert (verdict, last) == ("Net: exact", "wrote net_jax.py")
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "exact"
    assert report["inputs"] == [[0, 2, 3, 1]]
    names = {}
    exec((folder / "net_jax.py").read_text(), names)

    import numpy as np
    from flax import nnx

    from jaxnets.interop import load_torch

    model = names["Net"](width=5, rngs=nnx.Rngs(0))
    load_torch(model, folder / "net_jax.npz")
    x = np.zeros((1, 6, 6, 3), np.float32)
    expected = weights["fc.weight"] @ weights["conv.bias"].relu() + weights["fc.bias"]
    np.testing.assert_allclose(model(x)[0], expected, rtol=1e-5, atol=1e-5)

    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert err == "jaxnets: out: expected a new file, or --force to replace it, got net_jax.py\n"


def test_what_cannot_be_ported_is_listed_and_nothing_written(capsys, folder):
    code, out, _ = run(capsys, "nets.py:Sorts", "--input", "2x2", "--report", "report.txt")
    assert code == 1
    _, head, *refusals = out.splitlines()
    assert head == "nets.py:Sorts cannot be ported:"
    assert refusals[0].startswith("  nets.py:24 | Sorts.forward | torch.linalg.svd")
    assert (folder / "report.txt").read_text().splitlines() == [head, *refusals]
    assert not (folder / "sorts_jax.py").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nets.py:Net", "--input", "2x3x6x6", "--out", "net.txt"], "a file that ends in .py"),
        (["nets.py:Net", "--input", "2x3x6x6", "--out", "a/b.py"], "a file in a folder that exi"),
        (["nets.py:Net", "--input", "2x3x6x6", "--args", "width"], "arguments of nets.py:Net"),
        (["nets.py:Net", "--input", "2x3x6x6", "--args", "width=("], "expected arguments such as"),
        (["nets.py:Net", "--input", "2x1x6x6"], "input: expected inputs that the network accepts"),
        (["nets.py:Asserts", "--input", "2"], "network accepts, got 2 (AssertionError: few)"),
        (["nets.py:Net", "--input", "2:int64:0"], "got 2:int64:0 (RuntimeError: random_ expects"),
        (["nets.py:Net", "--input", "2", "--out", "x" * 300 + ".py"], "expected a path, got"),
        (["no-module:Net", "--input", "2"], "target: expected FILE.py:Class or"),
        (["nets.py:Net"], "Missing option '--input'"),
        (["nets.py:None", "--input", "2"], "a class in nets.py, such as Net, Sorts"),
    ],
)
def test_bad_arguments(capsys, folder, arguments, message):
    code, _, err = run(capsys, *arguments)
    assert code == 2, err
    assert message in err
    assert err.startswith("jaxnets: ")
    assert len(err.splitlines()) == 1


def test_nothing_is_said_of_an_import_before_there_is_a_file(capsys):
    code, _, err = run(capsys, "no-file.py:Net", "--input", "2")
    assert (code, err) == (2, "jaxnets: target: expected a file that exists, got no-file.py\n")


def test_weights_of_another_network(capsys, folder):
    torch.save({"fc.weight": torch.zeros(2, 2)}, "net.pt")
    given = ["nets.py:Net", "--input", "2x3x6x6", "--weights", "net.pt"]
    code, _, err = run(capsys, *given)
    assert code == 2
    assert "weights: expected weights of Net, got Missing key(s)" in err

"""User-defined networks, given by their file."""

import sys

import pytest
import torch
from flax import nnx

from jaxnets import recipes
from jaxnets.arrays import InputError
from jaxnets.networks import OwnNetwork, arguments_of
from jaxnets.port import port

FLAX = """
from flax import nnx
from own_parts import rows
from own_package.more import extra


class Net(nnx.Module):
    def __init__(self, width=2, *, rngs):
        self.fc = nnx.Linear(rows(), width + extra, rngs=rngs)


class Fixed(nnx.Module):
    pass


class Plain:
    pass


def make(rngs):
    return Net(3, rngs=rngs)
"""
TORCH = """
import torch


class Net(torch.nn.Linear):
    pass


def make(width):
    return Net(2, width)


number = 3
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own_flax.py").write_text(FLAX)
    (tmp_path / "own_torch.py").write_text(TORCH)
    (tmp_path / "own_parts.py").write_text("import own_flax\n\ndef rows():\n    return 4\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "more.py").write_text("extra = 1\n")
    (tmp_path / "json.py").write_text("import torch\n\nclass Net(torch.nn.Identity):\n    pass\n")
    return tmp_path


def test_networks_by_name(folder):
    net = OwnNetwork.at(f"{folder}/own_flax.py:Net", "width=5")
    assert not net.is_torch
    assert net.build(nnx.Rngs(0)).fc.out_features == 6
    assert isinstance(OwnNetwork.at(f"{folder}/own_flax.py:Fixed").build(nnx.Rngs(0)), nnx.Module)
    made = OwnNetwork.at(f"{folder}/own_flax.py:make")
    assert not made.is_torch
    assert made.build(nnx.Rngs(0)).fc.out_features == 4
    theirs = OwnNetwork.at(f"{folder}/own_torch.py:make", "3")
    assert theirs.is_torch
    assert theirs.build_torch().out_features == 3
    assert OwnNetwork.at("torch.nn:Linear").make is torch.nn.Linear


def test_a_file_with_the_name_of_an_installed_module_leaves_that_alone(folder):
    import json

    assert OwnNetwork.at(f"{folder}/json.py:Net").is_torch
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Net", "model: expected FILE.py:Class or module.name:Class"),
        ("{}/own_torch.py:Other", "a class in .*, such as Net, got Other"),
        ("{}/own_torch.py:number", "a class in .*, such as Net, got number"),
        ("{}/none.py:Net", "model: expected a file that exists"),
        ("no_such_module_here:Net", "model: expected an importable module"),
    ],
)
def test_invalid_names(folder, target, message):
    with pytest.raises(InputError, match=message):
        _ = OwnNetwork.at(target.format(folder)).make


def test_networks_that_cannot_be_made(folder):
    with pytest.raises(InputError, match="args: expected arguments of .*Net.*, got TypeError"):
        OwnNetwork.at(f"{folder}/own_torch.py:Net", "depth=3").build_torch()
    with pytest.raises(InputError, match=r"model: expected .* of a torch.nn.Module, got a int"):
        OwnNetwork.at("builtins:int").build_torch()
    with pytest.raises(InputError, match=r"model: expected .* of an nnx.Module, got a Plain"):
        OwnNetwork.at(f"{folder}/own_flax.py:Plain").build(nnx.Rngs(0))
    (folder / "broken.py").write_text("raise ValueError('no')")
    with pytest.raises(InputError, match="to be importable, got ValueError: no"):
        _ = OwnNetwork.at(f"{folder}/broken.py:Net").make
    (folder / "broken.py").write_bytes(b"\xff")
    with pytest.raises(InputError, match="a readable Python file"):
        OwnNetwork.at(f"{folder}/broken.py:Net")


def test_a_network_is_kept_with_the_files_that_it_imports(folder, tmp_path_factory):
    net = OwnNetwork.at(f"{folder}/own_flax.py:Net", "width=5")
    copy = tmp_path_factory.mktemp("copy")
    net.write(copy)
    assert list(net.files) == ["own_flax.py", "own_package/more.py", "own_parts.py"]
    (folder / "own_parts.py").write_text("no Python")
    again = OwnNetwork.recorded(net.record(), copy)
    assert again.record() == net.record()
    assert again.build(nnx.Rngs(0)).fc.out_features == 6
    (copy / "own_parts.py").write_text("other = 1")
    with pytest.raises(InputError, match=r"the file that the run saved, got a modified own_parts"):
        OwnNetwork.recorded(net.record(), copy)
    with pytest.raises(InputError, match="files: expected paths within the folder"):
        OwnNetwork.recorded({**net.record(), "files": {"../own_flax.py": ""}}, copy)
    installed = OwnNetwork.at("torch.nn:Linear", "2, 3")
    assert OwnNetwork.recorded(installed.record(), copy).build_torch().out_features == 3


def test_what_does_not_go_with_a_network_of_ones_own(folder):
    net = OwnNetwork.at(f"{folder}/own_flax.py:Net")
    given = {"name": "net", "document": "", "expect": "", "data": "linear", "epochs": 1}
    with pytest.raises(InputError, match="model_options: expected none, as a network of your own"):
        recipes.Recipe(**given, model=net, model_options={"width": 2})
    with pytest.raises(InputError, match="orders: expected a permutation of the axes for each "):
        port(torch.nn.Identity, torch.zeros(2, 2), orders=[(0, 2)])


@pytest.mark.parametrize("text", ["width=(", "f(2)", "**{}", "a b", "x); (y"])
def test_invalid_arguments(text):
    with pytest.raises(InputError, match=r"args: expected arguments such as depth=20"):
        arguments_of(text)


def test_arguments_are_literals_and_words():
    found = arguments_of("1, kind=lstm, widths=(8, 16)")
    assert found == ((1,), {"kind": "lstm", "widths": (8, 16)})

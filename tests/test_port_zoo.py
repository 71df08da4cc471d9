"""Every network of ``port_zoo`` becomes a readable file that computes the same, or is refused."""

import ast
import subprocess
import sys
import warnings

import jax
import pytest
import torch

from jaxnets.interop import load_torch
from jaxnets.networks import OwnNetwork
from jaxnets.port import port
from jaxnets.port.check import prove
from jaxnets.port.compilers import without_compilers
from jaxnets.port.examples import inputs_of
from tests.port_cases import CASES

pytestmark = pytest.mark.slow

RUFF = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--line-length=100"]
#: jaxnets is a third-party package for users of the file.
OTHERS = ["--config", "lint.isort.known-third-party = ['jaxnets']"]
CHOSEN = [*OTHERS, "--select=E,F,W,I", "--target-version=py311"]

torch.set_num_threads(1)


def definitions(source):
    """The number of characters, without spaces, of each class and function of a file."""
    lines = source.splitlines()
    return {
        node.name: len("".join("".join(lines[node.lineno - 1 : node.end_lineno]).split()))
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
    }


@pytest.fixture(autouse=True)
def promotion_of_users():
    """JAX's default promotion, with which ported files run."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of emitted files, in which Ruff must find no fault at the end."""
    folder = tmp_path_factory.mktemp("written")
    yield folder
    found = subprocess.run([*RUFF, *CHOSEN, folder], capture_output=True, text=True)
    assert not found.returncode, found.stdout


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_network_is_ported(case, written):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's warnings about users' code
        factory = OwnNetwork.at(f"{case.path}:{case.name}").make
        torch.manual_seed(0)
        with without_compilers():
            module = factory(**case.args)
        inputs = inputs_of(case.inputs, module)
        done = port(module, inputs) if case.built else port(factory, inputs, kwargs=case.args)
    refusals = "\n".join(map(str, done.refusals))
    if case.refused:
        assert case.refused in refusals
        assert case.path.name in refusals
        return
    assert not refusals

    model = done.build()
    load_torch(model, module.state_dict())
    proof = prove(model, module, inputs, orders=done.inputs, quick=True, steps=2)
    assert proof.verdict == "exact", proof
    assert any("jax.jit" in note for note in proof.notes) == case.eager

    theirs, ours = definitions(case.path.read_text()), definitions(done.source)
    length = sum(theirs.get(name, 0) for name in ours)
    assert sum(ours.values()) <= 1.5 * length, done.source
    (written / f"{case}.py".replace("/", "-")).write_text(done.source)

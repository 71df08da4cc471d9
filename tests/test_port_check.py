"""The check of a port, with pairs that were written by hand."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers
from jaxnets.arrays import InputError
from jaxnets.interop import load_torch
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import convolve
from jaxnets.port import port
from jaxnets.port.check import prove
from jaxnets.port.convolutions import by_products
from jaxnets.port.examples import inputs_of

NHWC = (0, 2, 3, 1)


class Theirs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.bn = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)
        self.fc = torch.nn.Linear(4, 5)

    def forward(self, x):
        x = maps = torch.relu(self.bn(self.conv(x)))
        x = self.drop(x.mean((2, 3)))
        x = x + 0.1 * torch.randn_like(x) + 0.1 * torch.nn.functional.dropout(x, 0.5, self.training)
        return {"answers": self.fc(x), "maps": [maps, None]}


class Ours(nnx.Module):
    def __init__(self, *, rngs, wrong=""):
        self.rngs, self.wrong = rngs, wrong
        self.conv = layers.Conv2d(3, 4, 3, rngs=rngs)
        self.bn = layers.BatchNorm2d(4, momentum=0.2 if wrong == "momentum" else 0.1)
        self.drop = layers.Dropout(0.5, rngs=rngs)
        self.fc = layers.Linear(4, 5, rngs=rngs)

    def __call__(self, x):
        x = maps = jax.nn.relu(self.bn(self.conv(x)))
        x = self.drop(x.mean((1, 2)))
        if self.wrong == "number":
            x = x * 1.001
        if self.wrong == "gradient":
            x = jax.lax.stop_gradient(x)
        if self.wrong == "decides" and x.sum() > 0:
            x = x + 0
        if self.wrong == "size":
            x = jnp.where(jnp.arange(maps.shape[1])[0] == 0, x, x).reshape(-1, 4 * maps.shape[1])
            x = x[:, :4] if maps.shape[1] == 1 else x.reshape(-1, 4)
        x = x + 0.1 * jax.random.normal(self.rngs.noise(), x.shape) + 0.1 * x
        return {"answers": self.fc(x), "maps": [maps, None]}


def proof(wrong="", **options):
    torch.manual_seed(0)
    theirs = Theirs()
    ours = Ours(rngs=nnx.Rngs(0), wrong=wrong)
    load_torch(ours, theirs.state_dict())
    before = theirs.state_dict()["bn.running_mean"].clone()
    given = {"orders": [NHWC], "quick": True, "steps": 2} | options
    found = prove(ours, theirs, [torch.randn(2, 3, 5, 4)], **given)
    assert torch.equal(before, theirs.state_dict()["bn.running_mean"])
    assert theirs.drop.p == ours.drop.p == 0.5
    return found


def test_equal_networks_are_exact():
    found = proof(quick=False)
    assert found.verdict == "exact"
    assert not found.failure
    assert {(one.what, one.mode, one.inputs) for one in found.measures} >= {
        ("outputs", "train", "as given"),
        ("gradients", "train", "batch 3"),
        ("buffers", "train", "batch 3"),
        ("outputs", "eval", "batch 3"),
        ("weights", "train", "as given, 2 steps"),
    }
    assert found.sizes == ("2x3x7x4", "2x3x5x6")
    assert str(found).splitlines()[-2:] == [
        "also equal with 2x3x7x4, 2x3x5x6",
        "Theirs: exact",
    ]
    assert json.loads(json.dumps(found.as_json()))["verdict"] == "exact"


@pytest.mark.parametrize(
    ("wrong", "what", "where"),
    [
        ("number", "outputs", "answers"),
        ("gradient", "gradients", "conv.weight"),
        ("momentum", "buffers", "bn.running_mean"),
    ],
)
def test_a_difference_is_found(wrong, what, where):
    found = proof(wrong)
    assert found.verdict == "different"
    assert (what, where) in {(one.what, one.where) for one in found.measures if not one.holds}
    assert what in found.failure
    assert "<-" in str(found)


def test_a_divergence_names_its_layer():
    assert proof("number").failure.endswith("; fc is the first layer that differs")


@pytest.mark.slow
def test_a_network_that_python_decides_runs_without_jit():
    found = proof("decides")
    assert found.verdict == "exact"
    assert any("jax.jit" in note for note in found.notes)


class Likelihood(torch.nn.Module):
    """Its weights overflow in training unless the steps are small."""

    def __init__(self):
        super().__init__()
        self.mean, self.logvar = torch.nn.Linear(6, 2), torch.nn.Linear(6, 2)

    def forward(self, x):
        mean, logvar = self.mean(x), self.logvar(x)
        return mean, -0.5 * torch.sum(1 + logvar - mean**2 - logvar.exp())


def test_training_with_steps_so_small_that_weights_stay_finite():
    torch.manual_seed(0)
    theirs, x = Likelihood(), torch.randn(3, 6)
    ours = port(Likelihood, x).build()
    load_torch(ours, theirs.state_dict())
    assert prove(ours, theirs, [x], quick=True).verdict == "exact"


def test_a_network_that_does_not_run_has_failed():
    found = proof(orders=[None])
    assert found.verdict == "failed"
    assert "failed with InputError: x: expected" in found.failure
    assert json.loads(json.dumps(found.as_json()))["measures"] == []


def test_bad_arguments():
    model = layers.Linear(2, 3, rngs=nnx.Rngs(0))
    with pytest.raises(InputError, match="torch_module: expected a torch.nn.Module, got Linear"):
        prove(model, model, [torch.zeros(1, 2)])
    with pytest.raises(InputError, match="inputs: expected inputs that the network takes"):
        prove(model, torch.nn.Linear(2, 3), [torch.zeros(1, 3)])
    with pytest.raises(InputError, match="steps: expected a positive integer, got 0"):
        prove(model, torch.nn.Linear(2, 3), [torch.zeros(1, 2)], steps=0)


def test_inputs_of_texts():
    table = torch.nn.Embedding(7, 2)
    texts = ["2x3", "4x5:int64", "50:int64:3", "2:bool", "[3, 1]", "None", "(2.5)"]
    floats, tokens, bound, truths, numbers, nothing, number = inputs_of(texts, table)
    assert (floats.shape, floats.dtype) == ((2, 3), torch.float32)
    assert tokens.dtype == torch.int64
    assert int(tokens.max()) < 7
    assert set(bound.tolist()) == {0, 1, 2}
    assert truths.dtype == torch.bool
    assert numbers.tolist() == [3, 1]
    assert nothing is None
    assert number == 2.5
    again = inputs_of(texts, table)
    np.testing.assert_array_equal(floats, again[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2xx3", "input: expected sizes such as 2x3x32x32"),
        ("2x3:int65", "input: expected a dtype of torch in '2x3:int65', such as int64"),
        ("2:complex64", "input: expected sizes such as"),
    ],
)
def test_invalid_inputs(text, message):
    with pytest.raises(InputError, match=message):
        inputs_of([text], torch.nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("kernel", "geometry"),
    [
        ((3, 2, 6, 4), Geometry((2, 1), ((1, 2), (0, 1)), (1, 2), (1, 1))),
        ((3, 2, 1, 12), Geometry((1, 1), ((1, 2), (-1, 1)), (2, 1), (2, 1), groups=6)),
        ((3, 2, 3, 4), Geometry((1, 2), ((1, 2), (0, 1)), (1, 2), (1, 1), groups=2)),
    ],
    ids=["strides", "each channel", "groups"],
)
def test_convolutions_as_products(kernel, geometry):
    with jax.enable_x64(True):
        draw = np.random.default_rng(0)
        arrays = draw.normal(size=(2, 7, 8, 6)), draw.normal(size=kernel)

        def of(convolution):
            def loss(x, kernel):
                return jnp.sin(convolution(x, kernel, geometry)).sum()

            return jax.jit(jax.value_and_grad(loss, (0, 1)))(*arrays)

        for one, other in zip(*map(jax.tree.leaves, map(of, (by_products, convolve))), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)

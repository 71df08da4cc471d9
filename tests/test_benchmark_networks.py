import importlib
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import jax
import pytest
import torch
from flax import nnx
from torch.utils.flop_counter import FlopCounterMode

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
networks = importlib.import_module("networks")
flax_networks = importlib.import_module("flax_networks")
torch_networks = importlib.import_module("torch_networks")


def output_shape(network):
    _, labels = networks.examples(network, 2)
    return (*labels.shape, network.classes) if network.loss == "cross_entropy" else labels.shape


def in_torch(network):
    """The network without values, its number of parameters, and that of its second biases."""
    with torch.device("meta"):
        model = torch_networks.build(network)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return model, sum(sizes.values()), sum(sizes[name] for name in sizes if "bias_hh" in name)


def in_flax(build, network):
    """The number of parameters of a network in Flax, and the shape of its outputs."""
    x, _ = networks.examples(network, 2)
    model = nnx.eval_shape(lambda: build(network))
    parameters = jax.tree.leaves(nnx.state(model, nnx.Param))
    outputs = nnx.eval_shape(lambda model, x: model(x), model, x)
    return sum(math.prod(array.shape) for array in parameters), outputs.shape


@pytest.fixture(autouse=True)
def _as_people_write_them(monkeypatch):
    monkeypatch.setattr(torch_networks, "DEVICE", "meta")  # only shapes
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("name", networks.NETWORKS)
@pytest.mark.slow
def test_a_network_is_the_same_in_each_library(name):
    network = networks.NETWORKS[name]
    model, count, second = in_torch(network)
    assert in_flax(networks.build, network) == (count, output_shape(network))
    assert in_flax(flax_networks.build, network) == (count - second, output_shape(network))
    if not second:  # counting the steps of a recurrent network takes too long
        x, _ = torch_networks.tensors(network, 2)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = model(x)
        shape = list(output_shape(network))
        if network.axes and len(shape) == 2 + network.axes:
            shape.insert(1, shape.pop())
        assert list(outputs.shape) == shape
        # PyTorch pads causal convolutions on both sides, and the surplus outputs are discarded.
        assert network.multiplications == pytest.approx(counter.get_total_flops() / 4, rel=0.07)


if find_spec("keras"):  # an optional dependency

    def test_networks_are_the_same_in_keras():
        keras_networks = importlib.import_module("keras_networks")
        for name, network in networks.ORDINARY.items():
            with keras_networks.keras.StatelessScope(initialize_variables=False):  # only shapes
                model = keras_networks.build(network)
            _, count, second = in_torch(network)
            size = sum(math.prod(variable.shape) for variable in model.trainable_variables)
            assert (name, size) == (name, count - second)
            assert model.output_shape[1:] == output_shape(network)[1:]

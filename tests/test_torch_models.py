"""The networks in PyTorch: their arguments and the exported source."""

import inspect

import pytest
from flax import nnx

from jaxnets.torch_models import torch_source, twin
from tests import tier
from tests.networks import CASES


@pytest.mark.parametrize("name", tier.one_in(3, CASES))
def test_every_network_has_a_class_in_pytorch_with_its_arguments(name):
    model = CASES[name].build(nnx.Rngs(0))
    network = twin(model)
    assert type(network).__name__ == type(model).__name__
    accepted = set(inspect.signature(type(network)).parameters)
    assert set(model.options) - accepted <= {"remat"}
    assert accepted <= set(inspect.signature(type(model).__init__).parameters)
    assert f"class Network({type(model).__name__})" in torch_source(model)


def test_another_network_has_neither():
    with pytest.raises(ValueError, match=r"model: expected a network of jaxnets.models \(actor_cr"):
        twin(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    assert torch_source(nnx.Linear(2, 3, rngs=nnx.Rngs(0))) is None

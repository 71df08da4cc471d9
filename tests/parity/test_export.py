"""Layers and networks as ONNX in onnxruntime, for two batch sizes, compared with PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
import torch
from flax import nnx

from jaxnets.export import Program, save_onnx
from jaxnets.interop import load_torch, to_torch
from jaxnets.torch_models import torch_source, twin
from tests import tier
from tests.networks import CASES as NETWORKS
from tests.parity.interop_networks import DIFFERENT
from tests.parity.layer_cases import FIRST, our_layer
from tests.parity.test_layer_cases import randomized, torch_layer

onnxruntime.set_default_logger_severity(3)  # hides warnings about unused constants


class Around(nnx.Module):
    """Calls a layer with keyword arguments; has a parameter, which an exported program needs."""

    def __init__(self, layer, call):
        self.layer, self.call, self.idle = layer, dict(call), nnx.Param(jnp.zeros(1))

    def __call__(self, *inputs):
        return self.layer(*inputs, **self.call)


def batched(case):
    """Whether each input of a case has the batch as its first axis."""
    lengths = {np.shape(array)[0] if np.ndim(array) else None for array in case.values()}
    return len(lengths) == 1 and not case.unbatched and "_random_samples" not in case.ours


LAYERS = [case for case in FIRST.values() if batched(case)]


def narrow(array):
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def outputs_of(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip((i.name for i in session.get_inputs()), inputs, strict=True)))


@pytest.mark.parametrize("case", tier.one_in(4, LAYERS), ids=str)
def test_a_layer_in_onnx_gives_the_outputs_of_pytorch(case, tmp_path):
    ours, theirs = our_layer(case, rngs=nnx.Rngs(0)), torch_layer(case).float()
    randomized(theirs)
    load_torch(ours, theirs.state_dict())
    theirs.eval()
    inputs = [narrow(array) for array in case.values()]
    specs = [case.to_ours(array) for array in inputs]
    spec = tuple(jax.ShapeDtypeStruct(one.shape[1:], one.dtype) for one in specs)
    model = Around(ours, case.call)
    model.eval()
    save_onnx(Program(model, spec if len(spec) > 1 else spec[0]), tmp_path / "layer.onnx")
    for size in (len(inputs[0]), 5):
        given = [np.resize(array, (size, *array.shape[1:])) for array in inputs]
        tensors = [
            torch.tensor(x) if x.dtype == np.float32 else torch.tensor(x).long() for x in given
        ]
        with torch.no_grad():
            expected = jax.tree.leaves(theirs(*tensors, **case.call))
        made = outputs_of(tmp_path / "layer.onnx", [case.to_ours(array) for array in given])
        for one, other in zip(made, expected, strict=True):
            other = other.numpy()
            if case.name in ("LSTM", "GRU", "RNN") and one.ndim == 3:
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
                continue
            np.testing.assert_allclose(case.from_ours(one), other, rtol=1e-5, atol=2e-6)


OF_ARRAYS = [name for name, case in NETWORKS.items() if not isinstance(case.inputs(1), dict)]


@pytest.mark.parametrize("name", tier.usually(OF_ARRAYS, DIFFERENT))
def test_a_network_in_onnx_and_as_source_gives_the_outputs_of_pytorch(name, tmp_path):
    case = NETWORKS[name]
    model = case.build(nnx.Rngs(0))
    model.eval()
    theirs = twin(model)
    theirs.load_state_dict(to_torch(model))
    theirs.eval()
    written = theirs
    if (source := torch_source(model)) is not None:
        space = {}
        exec(source, space)
        written = space["Network"]()
        written.load_state_dict(to_torch(model))
        written.eval()
    spec = jax.ShapeDtypeStruct(case.example, case.inputs(1).dtype)
    save_onnx(Program(model, spec), tmp_path / "network.onnx")
    for size in (1, 4):
        inputs = case.inputs(size)
        tensor = torch.tensor(np.moveaxis(inputs, -1, 1) if inputs.ndim == 4 else inputs)
        with torch.no_grad():
            expected, again = theirs(tensor).numpy(), written(tensor).numpy()
        (made,) = outputs_of(tmp_path / "network.onnx", [inputs])
        made = np.moveaxis(made, -1, 1) if made.ndim == 4 else made
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(again, expected)

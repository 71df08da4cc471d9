import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets.interop import load_torch, to_numpy, to_torch
from tests import tier
from tests.parity.interop_networks import DIFFERENT, DOCUMENTED, ONE_BIAS, OTHERS, RNGS
from tests.parity.oracle import assert_equal

PAIRS = DOCUMENTED | OTHERS | ONE_BIAS
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def random_twin(pair):
    """The PyTorch counterpart with random weights and statistics, so that none is zero or one."""
    torch.manual_seed(0)
    twin = pair.theirs()
    for name, value in twin.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(2**31 - 1 if name.startswith("bn1") else 7)
        elif name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif value.ndim == 1 and "bias_hh" not in name:
            value.normal_()
    return twin


def bits(state):
    return {name: (str(value.dtype), value.numpy().tobytes()) for name, value in state.items()}


def weights(model):
    flat = nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState)))
    return [np.asarray(value).tobytes() for _, value in flat]


@pytest.mark.parametrize("name", tier.usually(PAIRS, DIFFERENT))
def test_outputs_of_loaded_weights_equal_torch(name):
    pair = PAIRS[name]
    twin = random_twin(pair)
    model = pair.ours()
    report = load_torch(model, twin.state_dict())
    counts = {name for name in report.aside if name.endswith("num_batches_tracked")}
    assert {*report.loaded, *counts} == twin.state_dict().keys()
    assert not report.faults
    inputs = pair.inputs()
    assert_equal(pair.outputs(model, inputs), pair.torch_outputs(twin, inputs), "outputs")


@pytest.mark.parametrize("name", tier.usually(PAIRS, DIFFERENT))
def test_weights_come_back_bit_for_bit(name):
    pair = PAIRS[name]
    twin = random_twin(pair)
    first, second = pair.ours(), pair.ours()
    load_torch(first, twin.state_dict())
    state = to_torch(first)
    if pair not in ONE_BIAS.values():
        theirs = twin.state_dict()
        if pair is OTHERS["stock"]:
            theirs["1.num_batches_tracked"].zero_()  # Flax does not count batches
        assert bits(state) == bits(theirs)
    load_torch(second, state)
    assert weights(first) == weights(second)
    assert bits(to_torch(second)) == bits(state)


@pytest.mark.parametrize("name", tier.usually(PAIRS, DIFFERENT))
def test_the_twin_takes_our_weights(name):
    pair = PAIRS[name]
    model, twin = pair.ours(), pair.theirs()
    twin.load_state_dict(to_torch(model), strict=True)
    inputs = pair.inputs()
    assert_equal(pair.outputs(model, inputs), pair.torch_outputs(twin, inputs), "outputs")


@pytest.mark.parametrize("name", tier.usually(PAIRS, DIFFERENT))
def test_numpy_arrays_are_as_good_as_tensors(name):
    pair = PAIRS[name]
    model, other = pair.ours(), pair.ours()
    arrays = to_numpy(model)
    assert {name: (str(v.dtype), v.tobytes()) for name, v in arrays.items()} == {
        name: (dtype.removeprefix("torch."), data)
        for name, (dtype, data) in bits(to_torch(model)).items()
    }
    load_torch(other, arrays)
    assert weights(model) == weights(other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_of_the_model_survive_too(dtype):
    ours = str(dtype).removeprefix("torch.")
    twin = torch.nn.Linear(3, 4).to(dtype)
    model = nnx.Linear(3, 4, param_dtype=ours, rngs=RNGS)
    report = load_torch(model, twin.state_dict())
    assert report.conversions == {}
    assert model.kernel.dtype == jnp.dtype(ours)
    for name, value in to_torch(model).items():
        assert value.dtype == dtype
        assert torch.equal(value, twin.state_dict()[name])


@pytest.mark.parametrize("cell", [nnx.OptimizedLSTMCell, nnx.LSTMCell, nnx.SimpleCell])
def test_a_cell_of_flax_equals_that_of_torch(cell):
    twin = torch.nn.RNNCell(3, 4) if cell is nnx.SimpleCell else torch.nn.LSTMCell(3, 4)
    model = cell(3, 4, rngs=RNGS)
    report = load_torch(model, twin.state_dict())
    assert report.conversions["bias_hh"] == "summed with the other bias, as Flax has one"
    state = to_torch(model)
    assert state.keys() == twin.state_dict().keys()
    assert torch.equal(state["weight_hh"], twin.weight_hh)
    np.testing.assert_array_equal(state["bias_ih"], (twin.bias_ih + twin.bias_hh).detach())
    assert not state["bias_hh"].any()


def test_a_gru_whose_bias_flax_cannot_hold_is_refused():
    model = nnx.RNN(nnx.GRUCell(3, 4, rngs=RNGS))
    before = weights(model)
    with pytest.raises(ValueError, match=r"nnx.GRUCell does not support; use jaxnets.layers.GRU"):
        load_torch(model, torch.nn.GRU(3, 4).state_dict())
    assert weights(model) == before

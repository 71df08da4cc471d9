import inspect

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import layers
from jaxnets.interop import load_torch, trace_difference
from tests import tier
from tests.parity.interop_networks import DOCUMENTED, ONE_BIAS, OTHERS, RNGS, Block

PAIRS = DOCUMENTED | OTHERS | ONE_BIAS
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")


def twins(name):
    pair = PAIRS[name]
    torch.manual_seed(0)
    twin, model = pair.theirs(), pair.ours()
    load_torch(model, twin.state_dict())
    inputs = pair.inputs()
    if isinstance(inputs, dict):
        order = inspect.signature(type(model).__call__).parameters
        inputs = [inputs[argument] for argument in order if argument in inputs]
    return model, twin, inputs


@pytest.mark.parametrize("name", tier.one_in(8, PAIRS))
def test_equal_twins_do_not_depart(name):
    model, twin, inputs = twins(name)
    trace = trace_difference(model, twin, inputs)
    assert trace.first is None
    assert trace.steps[-1].name == ""
    assert max(step.relative for step in trace.steps) < 1e-5
    assert str(trace).endswith("\nno layer differs by more than 0.0001")


def shift(variable, amount=0.1):
    variable[...] = variable[...] + jnp.asarray(amount, variable.dtype)


def swap_gates(model):
    kernel = model.lstm.kernel_hh_l1
    i, f, g, o = jnp.split(kernel[...], 4, axis=1)
    kernel[...] = jnp.concatenate([f, i, g, o], axis=1)


def swap_kernel_axes(model):
    model.conv2.kernel[...] = jnp.swapaxes(model.conv2.kernel[...], 0, 1)


BREAKS = {
    "a bias": ("mlp", lambda m: shift(m.fc2.bias), "fc2"),
    "the bias of a bare layer": ("linear-regression", lambda m: shift(m.bias), ""),
    "a swapped gate": ("lstm", swap_gates, "lstm"),
    "a kernel's axes": ("lenet-28", swap_kernel_axes, "conv2"),
    "a running mean": (
        "resnet",
        lambda m: shift(m.layer2.layers[0].downsample.layers[1].mean),
        "layer2.0.downsample.1",
    ),
    "attention": (
        "transformer",
        lambda m: shift(m.encoder.layers[1].self_attn.in_proj_bias),
        "encoder.layers.1.self_attn",
    ),
    "a parameter of no layer": (  # found in the first layer that it enters
        "transformer",
        lambda m: shift(m.position),
        "encoder.layers.0.self_attn",
    ),
    "not a number": ("sequential", lambda m: shift(m.layers[0].bias, np.nan), "0"),
}


@pytest.mark.parametrize(
    ("name", "damage", "first"),
    tier.one_in(2, [pytest.param(*each, id=name) for name, each in BREAKS.items()]),
)
def test_the_first_broken_layer_is_named(name, damage, first):
    model, twin, inputs = twins(name)
    damage(model)
    trace = trace_difference(model, twin, inputs)
    assert trace.first.name == first
    before = trace.steps[: trace.steps.index(trace.first)]
    assert all(step.relative < 1e-5 for step in before)
    assert f"\n{first or '(model)'} is the first layer that differs" in str(trace)


class Twice(Block):
    def __call__(self, x):
        return super().__call__(x) * 2


def test_what_happens_between_layers_shows_in_the_block():
    model, twin, inputs = twins("resnet")
    model.layer1.layers[1] = Twice(4, 4, 1)
    load_torch(model, twin.state_dict())
    trace = trace_difference(model, twin, inputs)
    assert trace.first.name == "layer1.1"
    assert trace.first.kind == "TorchBlock"


def test_calls_are_counted():
    model, twin, inputs = twins("lenet-28")
    trace = trace_difference(model, twin, inputs)
    assert [(step.name, step.call) for step in trace.steps] == [
        ("conv1", 0), ("pool", 0), ("conv2", 0), ("pool", 1), ("fc1", 0), ("fc2", 0), ("fc3", 0),
        ("", 0),
    ]  # fmt: skip
    lines = str(trace).splitlines()
    assert lines[0].split() == ["layer", "kind", "shape", "absolute", "relative"]
    assert lines[4].startswith("pool (call 2)  MaxPool2d")
    assert "[2, 16, 5, 5]" in lines[4]


def test_layers_that_only_one_calls_are_named():
    model, twin, inputs = twins("sequential")
    trace = trace_difference(model, twin, inputs)
    assert trace.unmatched == ("5",)  # jax.nn.relu here, a layer there
    assert "not compared: 5" in str(trace)


def test_another_shape_is_a_difference():
    ours, theirs = layers.Linear(3, 4, rngs=RNGS), torch.nn.Linear(3, 5)
    trace = trace_difference(ours, theirs, np.ones((2, 3), np.float32))
    assert trace.first.absolute == np.inf
    assert trace.first.shape == (2, 5)
    assert trace.first.note == "[2, 4] in JAX, [2, 5] in PyTorch"
    assert str(trace).splitlines() == [
        "layer    kind    shape   absolute  relative",
        "(model)  Linear  [2, 5]  [2, 4] in JAX, [2, 5] in PyTorch  <- first",
        "(model) is the first layer that differs: [2, 4] in JAX, [2, 5] in PyTorch",
    ]


class TheirImages(torch.nn.Sequential):
    def __init__(self, padding):
        conv = torch.nn.Conv2d(1, 2, 3, padding=padding)
        super().__init__(conv, torch.nn.Flatten(), torch.nn.Linear(32, 3))


class OurImages(nnx.Sequential):
    def __init__(self):
        conv = layers.Conv2d(1, 2, 3, rngs=RNGS)
        super().__init__(conv, layers.Flatten(), layers.Linear(8, 3, rngs=RNGS))


def test_a_layer_that_refuses_what_another_shape_gave_it_is_explained():
    ours, theirs = OurImages(), TheirImages(1)
    ours.layers[2] = layers.Linear(32, 3, rngs=RNGS)
    message = (
        r"inputs: expected what OurImages takes, .* with which .*32.*; "
        r"0 is the first layer that differs: \[1, 2, 2, 2\] in JAX, \[1, 2, 4, 4\] in PyTorch$"
    )
    with pytest.raises(ValueError, match=message):
        trace_difference(ours, theirs, np.ones((1, 1, 4, 4), np.float32))


@pytest.mark.parametrize(
    ("here", "there", "note"),
    [
        (np.nan, 0, "not finite in JAX"),
        (0, np.inf, "not finite in PyTorch"),
        (np.nan, np.inf, "not finite in both, and not equal"),
    ],
)
def test_what_is_not_finite_in_one_alone_is_said(here, there, note):
    theirs, ours = torch.nn.Linear(2, 2), layers.Linear(2, 2, rngs=RNGS)
    with torch.no_grad():
        theirs.bias[0] = there
    load_torch(ours, theirs.state_dict())
    ours.bias[...] = jnp.array([here, theirs.bias[1].item()], jnp.float32)
    trace = trace_difference(ours, theirs, np.ones((1, 2), np.float32))
    assert note in trace.first.note
    assert "inf" not in str(trace).split("\n")[1].replace("not finite", "")


def test_the_tolerance_decides():
    model, twin, inputs = twins("mlp")
    shift(model.fc1.bias, 1e-3)
    assert trace_difference(model, twin, inputs, tolerance=0.1).first is None
    assert trace_difference(model, twin, inputs, tolerance=1e-5).first.name == "fc1"


def test_sequences_in_the_default_layout_of_torch():
    theirs = torch.nn.GRU(3, 4, num_layers=2)
    ours = layers.GRU(3, 4, num_layers=2, rngs=RNGS)
    load_torch(ours, theirs.state_dict())
    inputs = np.random.default_rng(0).normal(size=(5, 2, 3))  # time first; float64 by default
    trace = trace_difference(ours, theirs, inputs, to_ours=lambda x: np.swapaxes(x, 0, 1))
    assert trace.first is None
    assert trace.steps[0].shape == (5, 2, 4)


def test_inputs_in_another_layout_ask_for_to_ours():
    ours, theirs = layers.Conv1d(3, 2, 1, rngs=RNGS), torch.nn.Conv1d(3, 2, 1)
    message = (
        r"inputs: expected what Conv1d takes, or to_ours= to bring them to our layout, "
        r"got float32\[2, 3, 5\], with which x: expected a floating-point array \[N, L, 3\]"
    )
    with pytest.raises(ValueError, match=message):
        trace_difference(ours, theirs, np.ones((2, 3, 5), np.float32))


def test_several_inputs():
    theirs = torch.nn.MultiheadAttention(4, 2, batch_first=True)
    ours = layers.MultiheadAttention(4, 2, rngs=RNGS)
    load_torch(ours, theirs.state_dict())
    inputs = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    assert trace_difference(ours, theirs, list(inputs)).first is None


def test_both_are_left_as_they_were():
    model, twin, inputs = twins("resnet")
    twin.layer1.eval()
    before = {name: value.clone() for name, value in twin.state_dict().items()}
    kinds = nnx.Linear, layers.Linear, layers.Conv2d, nnx.Module
    calls = {kind: kind.__dict__.get("__call__") for kind in kinds}
    state = nnx.to_flat_state(nnx.state(model))
    trace_difference(model, twin, inputs)
    assert all(torch.equal(value, before[name]) for name, value in twin.state_dict().items())
    assert twin.training
    assert not twin.layer1.training
    assert not twin.conv1._forward_hooks
    assert not model.bn1.use_running_average  # still in training mode
    for (_, a), (_, b) in zip(state, nnx.to_flat_state(nnx.state(model)), strict=True):
        np.testing.assert_array_equal(a[...], b[...])
    for kind, call in calls.items():
        assert kind.__dict__.get("__call__") is call


def test_a_failure_leaves_no_trace():
    model, twin, _ = twins("lenet-28")
    calls = {kind: kind.__dict__.get("__call__") for kind in (type(model), layers.Conv2d)}
    other = torch.nn.Identity()
    with pytest.raises(ValueError, match="images: expected"):
        trace_difference(model, other, np.ones((2, 3, 28, 28), np.float32))
    with pytest.raises(ValueError, match="inputs: .* torch_module takes, .*expected input"):
        trace_difference(model, twin, np.ones((2, 3, 28, 28), np.float32))
    for kind, call in calls.items():
        assert kind.__dict__.get("__call__") is call
    assert twin.training
    assert not twin._forward_hooks


def test_what_is_no_model_is_refused():
    with pytest.raises(ValueError, match="model: expected an nnx.Module, got Linear"):
        trace_difference(torch.nn.Linear(1, 1), torch.nn.Linear(1, 1), np.ones((1, 1)))
    with pytest.raises(ValueError, match="torch_module: expected a torch.nn.Module, got Linear"):
        trace_difference(layers.Linear(1, 1, rngs=RNGS), layers.Linear(1, 1, rngs=RNGS), 1)


class TheirEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.encoder(x, src_key_padding_mask=x[..., 0] == 0)


class OurEncoder(nnx.Module):
    def __init__(self):
        layer = layers.TransformerEncoderLayer(8, 2, 16, rngs=RNGS)
        self.encoder = layers.TransformerEncoder(layer, 2)

    def __call__(self, x):
        return self.encoder(x, src_key_padding_mask=x[..., 0] == 0)


@pytest.mark.parametrize("fast", [True, False])
def test_an_encoder_with_a_padding_mask_is_traced(fast):
    theirs, ours = TheirEncoder(), OurEncoder()
    load_torch(ours, theirs.state_dict())
    inputs = np.random.default_rng(0).normal(size=(2, 5, 8)).astype(np.float32)
    inputs[1, 3:] = 0
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        trace = trace_difference(ours, theirs, inputs)
        assert torch.backends.mha.get_fastpath_enabled() is fast
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert trace.first is None
    assert "encoder.layers.0.self_attn" in {step.name for step in trace.steps}


class TheirPacked(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.norm = torch.nn.GRU(3, 4), torch.nn.Linear(4, 4)
        self.fc = torch.nn.Linear(4, 2)

    def forward(self, x, lengths):
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x.swapaxes(0, 1), lengths, enforce_sorted=False
        )
        outputs, h = self.gru(packed)
        return self.fc(h[-1]) + self.norm(outputs.data).sum(0)[:2]


class OurPacked(nnx.Module):
    def __init__(self):
        self.gru = layers.GRU(3, 4, rngs=RNGS)
        self.norm = layers.Linear(4, 4, rngs=RNGS)
        self.fc = layers.Linear(4, 2, rngs=RNGS)

    def __call__(self, x, lengths):
        outputs, h = self.gru(x, lengths=lengths)
        real = (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]
        normed = jnp.where(real, self.norm(outputs), jnp.zeros((), x.dtype))
        return self.fc(h[-1]) + normed.sum((0, 1))[None, :2]


@pytest.mark.slow
def test_packed_sequences_are_compared_as_padded_ones():
    theirs, ours = TheirPacked(), OurPacked()
    load_torch(ours, theirs.state_dict())
    inputs = [np.random.default_rng(0).normal(size=(3, 6, 3)), np.array([2, 5, 3])]
    trace = trace_difference(ours, theirs, inputs)
    assert trace.first is None
    assert {"gru", "fc", ""} <= {step.name for step in trace.steps}
    assert trace.unmatched == ("norm",)  # PyTorch applies it to concatenated steps
    shift(ours.gru.bias_hh_l0)
    assert trace_difference(ours, theirs, inputs).first.name == "gru"


@pytest.mark.slow
def test_no_common_layout_is_a_difference_if_later_layers_differ():
    theirs, ours = TheirPacked(), OurPacked()
    load_torch(ours, theirs.state_dict())
    shift(ours.norm.bias)
    shift(ours.fc.bias)
    inputs = [np.random.default_rng(0).normal(size=(3, 6, 3)), np.array([2, 5, 3])]
    trace = trace_difference(ours, theirs, inputs)
    assert trace.first.name == "fc"
    shift(ours.fc.bias, -0.1)
    trace = trace_difference(ours, theirs, inputs)
    assert trace.first.name == "norm"

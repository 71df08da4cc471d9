"""Scales, zero points, integers and outputs compared with ``torch.ao.quantization``."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch.ao import quantization as theirs

from jaxnets import interop, layers, quantization
from jaxnets.quantization.rounding import range_scale

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(0.3, 2, size=shape).astype(np.float32)


def same_weights(ours, torch_layer):
    interop.load_torch(ours, torch_layer.state_dict())
    return ours


def integers(weight):
    return np.asarray(weight.values)


def within_a_step(ours, expected, scale):
    assert np.abs(np.asarray(ours) - expected).max() <= scale * 1.001


@pytest.mark.parametrize("most", [127, 255])
def test_the_range_of_a_call_gives_the_scale_and_zero_point_of_pytorch(most):
    ends = RNG.normal(size=(20000, 2)).astype(np.float32) * RNG.choice([1e-6, 1, 30], (20000, 1))
    ends = np.concatenate([ends, [[-1, 1], [0, 0], [2, 3], [-3, -2]]]).astype(np.float32)
    low, high = np.sort(ends, axis=1).T
    scale, zero = jax.jit(lambda a, b: range_scale(a, b, most))(low, high)
    below, above = np.minimum(low, 0).astype(float), np.maximum(high, 0).astype(float)
    exact = (above - below) / most
    exact = np.where(exact == 0, 0.1, np.maximum(exact, np.float32(6.1e-5)))
    np.testing.assert_array_equal(scale, exact.astype(np.float32))
    amplified = below * most / np.where(above > below, above - below, 1)
    np.testing.assert_array_equal(zero, np.clip(np.rint(-amplified), 0, most))


def test_a_range_of_nan_makes_outputs_of_nan():
    scale, zero = range_scale(jnp.float32(np.nan), jnp.float32(1), 127)
    assert np.isnan(scale)
    assert 0 <= zero <= 127


@pytest.mark.parametrize("per_channel", [False, True])
def test_a_dynamic_linear_layer_equals_pytorch(per_channel):
    layer = torch.nn.Linear(37, 11)
    config = theirs.per_channel_dynamic_qconfig if per_channel else theirs.default_dynamic_qconfig
    made = theirs.quantize_dynamic(torch.nn.Sequential(layer), {torch.nn.Linear: config})
    ours = same_weights(layers.Linear(37, 11, rngs=nnx.Rngs(0)), layer)
    small = quantization.quantize_dynamic(ours, per_channel=per_channel)
    weight = made[0].weight()
    np.testing.assert_array_equal(integers(small.weights["kernel"]), weight.int_repr())
    scales = weight.q_per_channel_scales() if per_channel else [weight.q_scale()]
    np.testing.assert_array_equal(small.weights["kernel"].scale[...], np.float32(scales))
    x = numbers(5, 3, 37)
    np.testing.assert_allclose(small(x), made(torch.from_numpy(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {"num_layers": 2, "bidirectional": True}), ("GRU", {})],
)
def test_a_dynamic_recurrent_layer_equals_pytorch(kind, options):
    layer = getattr(torch.nn, kind)(6, 8, batch_first=True, **options)
    made = theirs.quantize_dynamic(torch.nn.Sequential(layer), {type(layer)}, torch.qint8)[0]
    ours = same_weights(getattr(layers, kind)(6, 8, rngs=nnx.Rngs(0), **options), layer)
    small = quantization.quantize_dynamic(ours)
    weights = made.get_weight()
    for name, weight in weights.items():
        mine = small.weights[name.replace("weight", "kernel")]
        np.testing.assert_array_equal(integers(mine), weight.int_repr())
        assert np.asarray(mine.scale[...]) == np.float32(weight.q_scale())
    x = numbers(3, 5, 6)
    outputs, states = jax.jit(lambda x: small(x))(x)
    expected, theirs_states = made(torch.from_numpy(x))
    # tanh and sigmoid differ by rounding errors, so integers of later steps may differ by one.
    within_a_step(outputs, expected.numpy(), 1 / 127)
    for mine, other in zip(jax.tree.leaves(states), jax.tree.leaves(theirs_states), strict=True):
        within_a_step(mine, other.numpy(), 1 / 127)
    assert np.abs(np.asarray(outputs) - expected.numpy()).mean() < 1e-5


@pytest.mark.slow
def test_lengths_hold_the_state_of_a_quantized_layer():
    layer = quantization.quantize_dynamic(layers.LSTM(3, 4, rngs=nnx.Rngs(0)), per_row=True)
    x, lengths = numbers(2, 5, 3), np.array([5, 2], np.int32)
    outputs, (h, _) = layer(jnp.asarray(x), lengths=lengths)
    short, (h_short, _) = layer(jnp.asarray(x[1:, :2]))
    np.testing.assert_allclose(outputs[1, :2], short[0], atol=1e-6)
    np.testing.assert_allclose(h[0, 1], h_short[0, 0], atol=1e-6)
    assert not np.asarray(outputs[1, 2:]).any()


OBSERVERS = [
    ("MinMaxObserver", {}),
    ("MinMaxObserver", {"reduce_range": True}),
    ("MovingAverageMinMaxObserver", {"averaging_constant": 0.1}),
]


@pytest.mark.parametrize(("name", "options"), OBSERVERS)
@pytest.mark.parametrize("shift", [0, 9, -9])
def test_observers_equal_pytorch(name, options, shift):
    other = getattr(theirs, name)(**options)
    mine = getattr(quantization, name)(**{"reduce_range": False} | options)
    for _ in range(3):
        x = numbers(4, 7) + np.float32(shift)
        other(torch.from_numpy(x))
        mine(x)
    scale, zero = other.calculate_qparams()
    assert mine.calculate_qparams() == (scale.numpy(), zero.numpy())


def test_the_observer_of_channels_equals_pytorch():
    x = numbers(5, 3, 2)
    other = theirs.PerChannelMinMaxObserver(
        ch_axis=1, dtype=torch.qint8, qscheme=torch.per_channel_symmetric
    )
    mine = quantization.PerChannelMinMaxObserver(ch_axis=1)
    other(torch.from_numpy(x))
    mine(x)
    np.testing.assert_array_equal(mine.calculate_qparams()[0], other.calculate_qparams()[0])
    np.testing.assert_array_equal(mine.calculate_qparams()[1], other.calculate_qparams()[1])


def statically(layer, x, per_channel):
    """PyTorch's layer between the two stubs, calibrated with x and converted."""
    network = theirs.QuantWrapper(torch.nn.Sequential(layer)).eval()
    weights = theirs.default_per_channel_weight_observer
    network.qconfig = theirs.QConfig(
        activation=theirs.MinMaxObserver.with_args(reduce_range=True),
        weight=weights if per_channel else theirs.default_weight_observer,
    )
    prepared = theirs.prepare(network)
    prepared(x)
    return theirs.convert(prepared)


STATIC = [
    (torch.nn.Linear(20, 6), lambda: layers.Linear(20, 6, rngs=nnx.Rngs(0)), (30, 20)),
    (
        torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        lambda: layers.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, rngs=nnx.Rngs(0)),
        (8, 4, 9, 9),
    ),
    (
        torch.nn.Conv1d(4, 6, 3, dilation=2),
        lambda: layers.Conv1d(4, 6, 3, dilation=2, rngs=nnx.Rngs(0)),
        (8, 4, 9),
    ),
]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("layer", "ours", "shape"), STATIC)
def test_a_static_layer_equals_pytorch(layer, ours, shape, per_channel):
    x = numbers(*shape)
    made = statically(layer, torch.from_numpy(x), per_channel)
    x_ours = np.moveaxis(x, 1, -1)
    model = same_weights(ours(), layer)
    small = quantization.quantize_static(model, x_ours, per_channel=per_channel)
    assert np.asarray(small.inputs.scale[...]) == made.quant.scale.numpy()
    assert np.asarray(small.inputs.zero_point[...]) == made.quant.zero_point.numpy()
    weight = made.module[0].weight().int_repr().numpy()
    kernel = small.weights["kernel"]
    mine = np.asarray(kernel.laid_out(kernel.values))
    mine = mine.T if weight.ndim == 2 else np.moveaxis(mine, (-1, -2), (0, 1))
    np.testing.assert_array_equal(mine, weight)
    expected = made(torch.from_numpy(x)).numpy()
    outputs = np.moveaxis(np.asarray(small(x_ours)), -1, 1)
    # Only PyTorch rounds outputs and biases, and clips outputs to their range.
    step, zero = made.module[0].scale, made.module[0].zero_point
    cut = np.clip(outputs, -zero * step, (127 - zero) * step)
    within_a_step(cut, expected, step)


SCHEMES = {
    "per_tensor_affine": (
        theirs.MovingAverageMinMaxObserver,
        {"quant_min": 0, "quant_max": 255, "reduce_range": True},
    ),
    "per_tensor_symmetric": (
        theirs.MovingAverageMinMaxObserver,
        {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8},
    ),
    "per_channel_symmetric": (
        theirs.MovingAveragePerChannelMinMaxObserver,
        {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8, "ch_axis": 1},
    ),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fake_quantization_and_its_gradient_equal_pytorch(scheme):
    observer, options = SCHEMES[scheme]
    other = theirs.FakeQuantize(observer, qscheme=getattr(torch, scheme), **options)
    channels = {"channels": 5, "ch_axis": 1} if "channel" in scheme else {}
    mine = quantization.FakeQuantize(scheme, **channels)
    graph, state = nnx.split(mine)

    @jax.jit
    def both(state, x):
        def rounded(x):
            fake = nnx.clone(nnx.merge(graph, state))
            return fake(x), nnx.state(fake)

        y, back, state_after = jax.vjp(rounded, x, has_aux=True)
        return y, back(jnp.cos(x))[0], state_after

    for number in range(3):
        x = numbers(4, 5, 2) * np.float32(1 + 3 * number)  # beyond the previous range
        given = torch.from_numpy(x).requires_grad_()
        y = other(given)
        y.backward(torch.cos(given.detach()))
        ours, d, state = both(state, x)
        np.testing.assert_allclose(ours, y.detach(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(d, given.grad, rtol=1e-5, atol=1e-6)
    assert (np.asarray(d) == 0).any()
    nnx.update(mine, state)
    np.testing.assert_allclose(mine.calculate_qparams()[0], other.scale.squeeze(), rtol=1e-6)
    np.testing.assert_array_equal(mine.calculate_qparams()[1], other.zero_point.squeeze())


def test_a_layer_in_training_equals_pytorch():
    layer = torch.nn.Linear(6, 4)
    layer.qconfig = theirs.get_default_qat_qconfig("x86", version=0)
    made = torch.ao.nn.qat.Linear.from_float(layer)
    ours = same_weights(layers.Linear(6, 4, rngs=nnx.Rngs(0)), layer)
    prepared = quantization.prepare_qat(ours)
    x = numbers(3, 6)
    stub = layer.qconfig.activation()  # quantizes inputs; PyTorch does it in a separate stub
    made(stub(torch.from_numpy(x))).square().sum().backward()

    @nnx.jit
    def gradient(model):
        return nnx.grad(lambda model: jnp.square(model(x)).sum())(model)

    d = gradient(prepared)["layer"]
    np.testing.assert_allclose(d["kernel"][...], made.weight.grad.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(d["bias"][...], made.bias.grad, rtol=1e-4, atol=1e-4)

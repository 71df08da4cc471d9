from functools import partial

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from jaxnets import layers
from jaxnets.interop import table
from jaxnets.kernels import native
from jaxnets.kernels.rewrite import with_kernels
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, copy_weights

KINDS = {
    "LSTM": (layers.LSTM, torch.nn.LSTM, {}),
    "GRU": (layers.GRU, torch.nn.GRU, {}),
    "RNN-tanh": (layers.RNN, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "RNN-relu": (layers.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
}
CELLS = {
    "LSTM": (layers.LSTMCell, torch.nn.LSTMCell, {}),
    "GRU": (layers.GRUCell, torch.nn.GRUCell, {}),
    "RNN-tanh": (layers.RNNCell, torch.nn.RNNCell, {"nonlinearity": "tanh"}),
    "RNN-relu": (layers.RNNCell, torch.nn.RNNCell, {"nonlinearity": "relu"}),
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
)


def undrawn(kind, *arguments, **options):
    """A layer without values: torch's are copied, and drawing them compiles a program per shape."""
    return nnx.eval_shape(lambda: kind(*arguments, **options, rngs=nnx.Rngs(0)))


def check(ours, theirs, run_ours, run_theirs, inputs, *, rewritten=False):
    """Compares all outputs, and the gradients of every input and parameter, with torch's.

    ``run_ours`` and ``run_theirs`` take the module and the inputs; each of their outputs gets a
    separate cotangent. If ``rewritten``, ours is computed by a kernel, or by a loop in XLA with a
    hand-written gradient.
    """
    copy_weights(ours, theirs)
    tensors = [torch.tensor(array, requires_grad=True) for array in inputs]
    expected = run_theirs(theirs, *tensors)
    weights = [np.cos(np.arange(y.numel()) + k).reshape(y.shape) for k, y in enumerate(expected)]
    weights = [weight.astype(inputs[0].dtype) for weight in weights]
    torch.autograd.backward(expected, [torch.tensor(weight) for weight in weights])

    graphdef, parameters = nnx.split(ours)

    @jax.jit
    def run(parameters, inputs, cotangents):
        def forward(parameters, inputs):
            return run_ours(nnx.merge(graphdef, parameters), *inputs)

        forward = with_kernels(forward) if rewritten else forward
        outputs, pullback = jax.vjp(forward, parameters, inputs)
        return outputs, *pullback(cotangents)

    outputs, gradients, input_gradients = run(parameters, list(inputs), weights)
    for k, (y, want) in enumerate(zip(outputs, expected, strict=True)):
        assert_equal(y, want, f"output {k}")
    for k, (gradient, tensor) in enumerate(zip(input_gradients, tensors, strict=True)):
        assert_equal(gradient, tensor.grad, f"gradient by input {k}")
    check_parameter_gradients(nnx.merge(graphdef, gradients), theirs)


def check_parameter_gradients(with_gradients, theirs):
    leaves = table.leaves(with_gradients)
    assert {leaf.name for leaf in leaves.values()} == dict(theirs.named_parameters()).keys()
    for attribute, leaf in leaves.items():
        gradient = leaf.to_torch(np.asarray(getattr(with_gradients, attribute)[...]))
        assert_equal(gradient, getattr(theirs, leaf.name).grad, leaf.name)


def flat(outputs, state):
    """(outputs, h_n) and (outputs, (h_n, c_n)) as a list."""
    return [outputs, *(state if isinstance(state, tuple) else (state,))]


def pack(state):
    """The initial state as the layers take it: None, h or (h, c)."""
    return (tuple(state) if len(state) > 1 else state[0]) if state else None


def run_ours(layer, x, *state, lengths):
    return flat(*layer(x, pack(state), lengths=lengths))


def run_theirs(layer, x, *state, lengths):
    if lengths is None:
        return flat(*layer(x, pack(state)))
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    outputs, final = layer(packed, pack(state))
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=x.shape[1])
    return flat(outputs, final)


def check_sequences(
    kind, dtype, sizes, options, *, given_state=False, lengths=None, rewritten=False
):
    """Checks one layer on sequences; ``sizes`` are those of batch, time, features and state."""
    layer, theirs, own = KINDS[kind]
    batch, time, features, hidden = sizes
    torch.manual_seed(0)
    theirs = theirs(features, hidden, batch_first=True, **own, **options)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    ours = undrawn(layer, features, hidden, param_dtype=dtype, **own, **options)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(batch, time, features)).astype(dtype)]
    if given_state:
        rows = theirs.num_layers * (1 + theirs.bidirectional)
        widths = [theirs.proj_size or hidden] + [hidden] * (kind == "LSTM")
        inputs += [rng.normal(size=(rows, batch, width)).astype(dtype) for width in widths]
    check(
        ours,
        theirs,
        partial(run_ours, lengths=None if lengths is None else jnp.asarray(lengths)),
        partial(run_theirs, lengths=lengths),
        inputs,
        rewritten=rewritten,
    )


@st.composite
def cases(draw, kind):
    sizes = draw(st.tuples(*[st.integers(1, 6)] * 4))
    batch, time, _, hidden = sizes
    options = {
        "num_layers": draw(st.integers(1, 2)),
        "bias": draw(st.booleans()),
        "bidirectional": draw(st.booleans()),
    }
    if kind == "LSTM":
        options["proj_size"] = draw(st.integers(0, hidden - 1))
    lengths = st.lists(st.integers(1, time), min_size=batch, max_size=batch)
    return {
        "sizes": sizes,
        "options": options,
        "given_state": draw(st.booleans()),
        "lengths": draw(st.none() | lengths),
        "rewritten": draw(st.booleans()),
    }


@DTYPES
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@tier.examples(3)
@hypothesis.given(data=st.data())
def test_sequences_equal_torch(kind, dtype, data):
    if kind == "RNN":
        kind = data.draw(st.sampled_from(["RNN-tanh", "RNN-relu"]))
    check_sequences(kind, dtype, **data.draw(cases(kind)))


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN-tanh"])
def test_everything_at_once_equals_torch(kind, dtype):
    """Two bidirectional layers with padding and an initial state, which hypothesis may not draw."""
    options = {"num_layers": 2, "bidirectional": True}
    lengths = [3, 7, 1, 5]
    check_sequences(kind, dtype, (4, 7, 3, 5), options, given_state=True, lengths=lengths)


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN-tanh"])
@pytest.mark.parametrize("large", tier.usually([4, 99], [4]))
def test_gradients_by_hand_equal_torch(kind, dtype, large, monkeypatch):
    """The gradients without kernels, which are computed step by step for large batches."""
    without_kernels(monkeypatch, large)
    options = {"num_layers": 2, "bidirectional": True, "bias": large == 4}
    sequences = {"given_state": True, "lengths": [3, 7, 1, 5], "rewritten": True}
    check_sequences(kind, dtype, (4, 7, 3, 5), options, **sequences)


@DTYPES
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bias", [True, tier.slow(False)])
def test_native_kernels_equal_torch(kind, dtype, bias, monkeypatch):
    whatever_comes(monkeypatch)
    options = {"num_layers": 2, "bidirectional": True, "bias": bias}
    lengths = [9, 1, 4, 9, 3, 8, 2] if bias else None
    given = {"given_state": True, "lengths": lengths, "rewritten": True}
    check_sequences(kind, dtype, (7, 9, 3, 13), options, **given)
    check_sequences(kind, dtype, (64, 28, 28, 128), {"bias": bias}, rewritten=True)


def whatever_comes(monkeypatch):
    """Enables native kernels for batches that are too small to benefit from them."""
    monkeypatch.setattr("jaxnets.kernels.recurrence._LEAST_STEPS", 1)
    monkeypatch.setattr("jaxnets.kernels.recurrence._LEAST_STEPS_OF_FEW", 1)
    assert native.ready("recurrence", jnp.zeros(1)) == native.check_switch()


def without_kernels(monkeypatch, large):
    monkeypatch.setattr("jaxnets.kernels.recurrence.supports", lambda *_: False)
    monkeypatch.setattr("jaxnets.kernels.patterns.LARGE", large)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 5]])
def test_projection_equals_torch_in_float64(lengths):
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 2}
    check_sequences("LSTM", np.float64, (4, 7, 3, 5), options, given_state=True, lengths=lengths)


@pytest.mark.parametrize("kind", KINDS)
def test_one_sequence_of_one_step_equals_torch_in_float64(kind):
    check_sequences(kind, np.float64, (1, 1, 3, 4), {"bidirectional": True}, given_state=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", tier.usually([np.float32, np.float64], [np.float32]))
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN-tanh"])
def test_200_steps_equal_torch(kind, dtype):
    check_sequences(kind, dtype, (2, 200, 4, 16), {}, given_state=True)


@pytest.mark.parametrize("large", tier.usually([2, 99, None], [2]))
@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_equal_torch_in_float64(kind, large, monkeypatch):
    """The hand-written gradient can itself be differentiated: a gradient penalty."""
    if large is None:
        whatever_comes(monkeypatch)
    else:
        without_kernels(monkeypatch, large)
    layer, theirs, own = KINDS[kind]
    torch.manual_seed(0)
    theirs = theirs(3, 4, batch_first=True, **own).double()
    ours = undrawn(layer, 3, 4, param_dtype=np.float64, **own)
    copy_weights(ours, theirs)
    x = np.random.default_rng(0).normal(size=(2, 5, 3))

    tensor = torch.tensor(x, requires_grad=True)
    (gradient,) = torch.autograd.grad((theirs(tensor)[0] ** 2).sum(), tensor, create_graph=True)
    (gradient**2).sum().backward()

    graphdef, parameters = nnx.split(ours)

    @jax.jit
    @jax.grad
    def penalty(parameters, x):
        layer = nnx.merge(graphdef, parameters)
        run = with_kernels(lambda x: (layer(x)[0] ** 2).sum())
        return (jax.grad(run)(x) ** 2).sum()

    check_parameter_gradients(nnx.merge(graphdef, penalty(parameters, x)), theirs)


@pytest.mark.parametrize(("bias", "given_state"), [(False, True), (True, False), (True, True)])
@DTYPES
@pytest.mark.parametrize("kind", CELLS)
def test_cells_equal_torch(kind, dtype, bias, given_state):
    cell, theirs, own = CELLS[kind]
    torch.manual_seed(0)
    theirs = theirs(3, 5, bias=bias, **own)
    theirs = theirs.to(torch.float64 if dtype == np.float64 else torch.float32)
    ours = undrawn(cell, 3, 5, bias=bias, param_dtype=dtype, **own)
    rng = np.random.default_rng(0)
    shapes = [(4, 3)] + [(4, 5)] * given_state * (2 if kind == "LSTM" else 1)
    inputs = [rng.normal(size=shape).astype(dtype) for shape in shapes]

    def run(cell, x, *state):
        new = cell(x, pack(state))
        return list(new) if kind == "LSTM" else [new]

    check(ours, theirs, run, run, inputs)


@pytest.mark.parametrize("kind", KINDS)
def test_cells_step_by_step_equal_the_layer_in_float64(kind):
    layer, _, own = KINDS[kind]
    layer = layer(3, 5, **own, rngs=nnx.Rngs(0), param_dtype=np.float64)
    cell = CELLS[kind][0](3, 5, **own, rngs=nnx.Rngs(1), param_dtype=np.float64)
    for name in ("kernel_ih", "kernel_hh", "bias_ih", "bias_hh"):
        getattr(cell, name)[...] = getattr(layer, name + "_l0")[...]
    x = np.random.default_rng(0).normal(size=(2, 4, 3))
    outputs, _ = layer(x)
    state = None
    for step in range(4):
        state = cell(x[:, step], state)
        assert_equal(state[0] if kind == "LSTM" else state, outputs[:, step], f"step {step}")


@pytest.mark.parametrize("by_kernels", [True, False])
@pytest.mark.parametrize("case", tier.one_in(2, ["infinite state", "weights of 1e30"]))
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        tier.slow("GRU", np.float32),
        ("LSTM", np.float32),
        ("GRU", np.float64),
    ],
)
def test_what_is_not_finite_is_so_in_the_same_places(kind, dtype, case, by_kernels):
    """A closed gate is zero, and zero times infinity is NaN, forward and backward."""
    ours, theirs, _ = KINDS[kind]
    with jax.enable_x64(dtype == np.float64):
        torch.manual_seed(0)
        theirs = theirs(5, 13, batch_first=True).to(torch.tensor(np.zeros(0, dtype)).dtype)
        if case == "weights of 1e30":
            for parameter in theirs.parameters():
                parameter.data *= 1e30 / parameter.abs().mean()
        rng = np.random.default_rng(0)
        inputs = [rng.normal(size=(9, 8, 5)).astype(dtype)]
        inputs += [rng.normal(size=(1, 9, 13)).astype(dtype) for _ in range(1 + (kind == "LSTM"))]
        if case == "infinite state":
            inputs[-1][0, 2, 3], inputs[1][0, 4, 1] = np.inf, -np.inf
        layer = ours(5, 13, rngs=nnx.Rngs(0), param_dtype=dtype)
        run = [partial(each, lengths=None) for each in (run_ours, run_theirs)]
        check(layer, theirs, *run, inputs, rewritten=by_kernels)

import inspect
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxnets import layers
from jaxnets.kernels.rewrite import with_kernels
from tests import tier

LAYERS = [layers.LSTM, layers.GRU, layers.RNN]
CELLS = [layers.LSTMCell, layers.GRUCell, layers.RNNCell]


def make(kind, *sizes, **options):
    return kind(*sizes, **options, rngs=nnx.Rngs(0))


def sequences(batch=2, time=5, features=3):
    return jax.random.normal(jax.random.key(0), (batch, time, features))


def run(layer, x, **options):
    """Outputs and final states under jit: (outputs, (h, c)) or (outputs, h)."""
    graphdef, state = nnx.split(layer)
    return jax.jit(lambda state, x: nnx.merge(graphdef, state)(x, **options))(state, x)


def assert_trees_close(ours, theirs, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), ours, theirs)


@pytest.mark.parametrize("kind", LAYERS)
def test_shapes_and_names(kind):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
    outputs, final = run(layer, sequences())
    assert outputs.shape == (2, 5, 8)
    assert [state.shape for state in jax.tree.leaves(final)] == [(4, 2, 4)] * (
        2 if kind is layers.LSTM else 1
    )
    gates = {layers.LSTM: 4, layers.GRU: 3, layers.RNN: 1}[kind]
    shapes = {path[0]: value.shape for path, value in nnx.to_flat_state(nnx.state(layer))}
    assert shapes == {
        name + suffix: shape
        for suffix, features in [("_l0", 3), ("_l0_reverse", 3), ("_l1", 8), ("_l1_reverse", 8)]
        for name, shape in [
            ("kernel_ih", (features, gates * 4)),
            ("kernel_hh", (4, gates * 4)),
            ("bias_ih", (gates * 4,)),
            ("bias_hh", (gates * 4,)),
        ]
    }


def test_shapes_with_a_projection():
    outputs, (h, c) = run(make(layers.LSTM, 3, 4, proj_size=2, bidirectional=True), sequences())
    assert (outputs.shape, h.shape, c.shape) == ((2, 5, 4), (2, 2, 2), (2, 2, 4))


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (layers.LSTM, "num_layers bias dropout bidirectional proj_size"),
        (layers.GRU, "num_layers bias dropout bidirectional"),
        (layers.RNN, "num_layers nonlinearity bias dropout bidirectional"),
        (layers.LSTMCell, "bias"),
        (layers.GRUCell, "bias"),
        (layers.RNNCell, "bias nonlinearity"),
    ],
)
def test_arguments_have_the_order_of_torch(kind, names):
    parameters = inspect.signature(kind.__init__).parameters.values()
    by_place = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    assert by_place == ["self", "input_size", "hidden_size", *names.split()]


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_initial_values_are_uniform_within_the_bound(kind):
    layer = make(kind, 50, 64)
    bound = 1 / math.sqrt(64)  # of the hidden size, whatever the fan-in
    values = [value[...] for _, value in nnx.to_flat_state(nnx.state(layer, nnx.Param))]
    assert len(values) == 4
    for array in values:
        assert np.abs(array).max() <= bound
    kernels = np.concatenate([np.ravel(array) for array in values if array.ndim == 2])
    counts, _ = np.histogram(kernels, bins=10, range=(-bound, bound))
    np.testing.assert_allclose(counts / kernels.size, 0.1, atol=0.01)
    assert len(np.unique(np.round(kernels, 6))) > 1000


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_dtype_is_that_of_inputs_and_parameters(kind, dtype):
    layer = make(kind, 3, 4, param_dtype=dtype)
    results = run(layer, sequences().astype(dtype), lengths=np.array([5, 2]))
    assert {array.dtype for array in jax.tree.leaves(results)} == {jnp.dtype(dtype)}


@cache
def gradients(kind, remat):
    many = 2 if kind is layers.LSTM else 1  # the code for several layers is shared
    layer = make(kind, 3, 4, num_layers=many, bidirectional=True, remat=remat)
    graphdef, parameters = nnx.split(layer)

    def run(parameters, x):
        outputs, final = nnx.merge(graphdef, parameters)(x, lengths=np.array([3, 5]))
        return jnp.sin(outputs).sum() + sum(jnp.cos(s).sum() for s in jax.tree.leaves(final))

    return jax.jit(jax.value_and_grad(run, (0, 1)))(parameters, sequences())


SEGMENTS = [2, 5, 9]  # of 5 steps: with a remainder, one segment, none


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("remat", SEGMENTS)
def test_segments_computed_again_are_the_same(kind, remat):
    assert_trees_close(gradients(kind, remat), gradients(kind, None), rtol=1e-5, atol=1e-6)


def test_segments_keep_less():
    def kept(remat):
        graphdef, parameters = nnx.split(make(layers.LSTM, 8, 8, remat=remat))
        x = jnp.ones((4, 400, 8))

        def pull_back(parameters):
            return jax.vjp(lambda p: nnx.merge(graphdef, p)(x)[0], parameters)[1]

        shapes = jax.eval_shape(pull_back, parameters)
        return sum(array.size for array in jax.tree.leaves(shapes))

    assert kept(20) < kept(None) / 6


@pytest.mark.parametrize("kind", tier.usually(LAYERS, [layers.LSTM]))
def test_padding_changes_nothing_even_nan(kind):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
    graphdef, parameters = nnx.split(layer)
    lengths = np.array([2, 5])
    x = sequences()

    @jax.jit
    def run(parameters, x, lengths):
        def loss(parameters, x):
            outputs, final = nnx.merge(graphdef, parameters)(x, lengths=lengths)
            return jnp.sin(outputs).sum(), (outputs, final)

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(parameters, x)

    clean, dirty = run(parameters, x, lengths), run(parameters, x.at[0, 2:].set(jnp.nan), lengths)
    jax.tree.map(np.testing.assert_array_equal, clean, dirty)
    (_, (outputs, final)), (_, gradient) = dirty
    assert not np.any(outputs[0, 2:])
    assert not np.any(gradient[0, 2:])
    alone = jax.jit(lambda p, x: nnx.merge(graphdef, p)(x))(parameters, x[:1, :2])
    ours = outputs[:1, :2], jax.tree.map(lambda state: state[:, :1], final)
    assert_trees_close(ours, alone, rtol=1e-6, atol=1e-6)


#: How a gradient is computed: automatically, or by hand-written rules, at once or step by step.
WAYS = [None, 99, 1]
SHARDED = [{"bidirectional": True}, {"bidirectional": True, "proj_size": 2}, {"num_layers": 2}]


def in_a_way(way, monkeypatch):
    """A transformation of a function that selects how its gradient is computed."""
    if way is None:
        return lambda function: function
    monkeypatch.setattr("jaxnets.kernels.recurrence.supports", lambda *_: False)
    monkeypatch.setattr("jaxnets.kernels.patterns.LARGE", way)
    return with_kernels


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", tier.usually(LAYERS, [layers.LSTM]))
def test_under_vmap(kind, way, monkeypatch):
    rewritten = in_a_way(way, monkeypatch)
    layer = make(kind, 3, 4, num_layers=2)
    graphdef, parameters = nnx.split(layer)
    x = sequences(batch=6)

    def gradient(x):
        return jax.grad(rewritten(lambda p: nnx.merge(graphdef, p)(x)[0].sum()))(parameters)

    each = jax.jit(jax.vmap(gradient))(x.reshape(3, 2, 5, 3))
    summed = jax.tree.map(lambda array: array.sum(0), each)
    assert_trees_close(summed, jax.jit(gradient)(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", tier.usually(SHARDED, SHARDED[:1]))
def test_gradients_under_shard_map(options, way, monkeypatch):
    """Replicated parameters and divided data pass shard_map's check of varying values."""
    rewritten = in_a_way(way, monkeypatch)
    graphdef, parameters = nnx.split(make(layers.LSTM, 3, 4, **options))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(parameters, x, lengths):
        def loss(parameters):
            return nnx.merge(graphdef, parameters)(x, lengths=lengths)[0].sum()

        return jax.grad(rewritten(loss))(parameters)

    arguments = parameters, sequences(), jnp.array([5, 3])
    divided = jax.shard_map(
        gradient, mesh=mesh, in_specs=(P(), P("data"), P("data")), out_specs=P()
    )
    assert_trees_close(jax.jit(divided)(*arguments), jax.jit(gradient)(*arguments), rtol=1e-6)


@pytest.mark.parametrize("kind", tier.usually(LAYERS, [layers.GRU]))
def test_forward_mode(kind):
    layer = make(kind, 3, 4, bidirectional=True)
    x, along = sequences(), jnp.cos(sequences())

    def outputs(x):
        return layer(x)[0]

    (_, tangent), (_, pull_back) = jax.jvp(outputs, (x,), (along,)), jax.vjp(outputs, x)
    weights = jnp.sin(tangent)
    expected = jnp.vdot(pull_back(weights)[0], along)
    np.testing.assert_allclose(jnp.vdot(weights, tangent), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAYERS)
def test_any_batch_can_be_exported(kind):
    layer = make(kind, 3, 4, num_layers=2, bidirectional=True)
    shape = jax.export.symbolic_shape("B, 5, 3")
    traced = jax.export.export(jax.jit(lambda x: layer(x)[0]))(
        jax.ShapeDtypeStruct(shape, jnp.float32)
    )
    x = sequences(batch=6)
    np.testing.assert_allclose(traced.call(x), layer(x)[0], rtol=1e-5, atol=1e-6)


def test_dropout_lies_between_the_layers():
    layer = make(layers.LSTM, 3, 4, num_layers=2, dropout=1.0)
    above = make(layers.LSTM, 4, 4)
    for name in ("kernel_ih", "kernel_hh", "bias_ih", "bias_hh"):
        getattr(above, f"{name}_l0")[...] = getattr(layer, f"{name}_l1")[...]
    outputs, (h, _) = run(layer, sequences())
    expected, (h_above, _) = run(above, jnp.zeros((2, 5, 4)))
    np.testing.assert_allclose(outputs, expected, rtol=1e-6)
    np.testing.assert_allclose(h[1], h_above[0], rtol=1e-6)
    layer.eval()
    assert np.abs(run(layer, sequences())[0] - expected).max() > 0.01


def test_dropout_draws_anew_for_each_value_step_and_call():
    """The layers do not change ones, so their outputs are the mask."""
    layer = make(layers.RNN, 1, 100, num_layers=2, nonlinearity="relu", dropout=0.25)
    for name in ("kernel_ih", "kernel_hh", "bias_ih", "bias_hh"):
        for k in (0, 1):
            parameter = getattr(layer, f"{name}_l{k}")
            parameter[...] = jnp.zeros_like(parameter[...])
    layer.bias_ih_l0[...] = jnp.ones(100)
    layer.kernel_ih_l1[...] = jnp.eye(100)
    x = sequences(4, 25, 1)
    first, _ = layer(x)
    dropped = np.asarray(first == 0)
    np.testing.assert_allclose(np.asarray(first)[~dropped], 1 / 0.75, rtol=1e-6)
    np.testing.assert_allclose(dropped.mean(), 0.25, atol=0.02)
    assert (dropped[:, 1:] != dropped[:, :-1]).mean() > 0.3  # 2 · 0.25 · 0.75 expected
    assert (dropped != np.asarray(layer(x)[0] == 0)).mean() > 0.3
    layer.eval()
    np.testing.assert_array_equal(layer(x)[0], 1)


def test_dropout_is_reproducible_by_reseeding():
    layer = make(layers.GRU, 3, 4, num_layers=3, dropout=0.5)
    x = sequences()
    nnx.reseed(layer, dropout=1)
    first, second = layer(x)[0], layer(x)[0]
    nnx.reseed(layer, dropout=1)
    np.testing.assert_array_equal(layer(x)[0], first)
    assert np.abs(first - second).max() > 0


def test_no_stream_of_keys_without_dropout():
    for options in ({"num_layers": 3}, {"dropout": 0.5}):  # one layer has nothing to drop
        layer = make(layers.LSTM, 3, 4, **options)
        assert not jax.tree.leaves(nnx.state(layer, nnx.RngState))
        training = run(layer, sequences())
        layer.eval()
        jax.tree.map(np.testing.assert_array_equal, training, run(layer, sequences()))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
@pytest.mark.parametrize("size", ["input_size", "hidden_size"])
def test_sizes_must_be_positive(kind, size):
    sizes = {"input_size": 3, "hidden_size": 4} | {size: 0}
    with pytest.raises(ValueError, match=f"{size}: expected a positive integer, got 0"):
        make(kind, **sizes)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (layers.GRU, {"num_layers": 0}, "num_layers: expected a positive integer, got 0"),
        (layers.RNN, {"dropout": 1.5}, r"dropout: expected a number in \[0, 1\], got 1.5"),
        (layers.RNN, {"dropout": -0.5}, r"dropout: expected a number in \[0, 1\], got -0.5"),
        (layers.LSTM, {"dropout": True}, r"dropout: expected a number in \[0, 1\], got True"),
        (layers.LSTM, {"proj_size": 4}, r"proj_size: expected an integer from 0 to 3, got 4"),
        (layers.LSTM, {"proj_size": -1}, "proj_size: expected .*, got -1"),
        (layers.RNN, {"nonlinearity": "elu"}, "nonlinearity: expected one of tanh, relu, got elu"),
        (layers.RNNCell, {"nonlinearity": "elu"}, "nonlinearity: expected one of tanh, relu, got"),
    ],
)
def test_bad_options(kind, options, message):
    with pytest.raises(ValueError, match=message):
        make(kind, 3, 4, **options)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3), np.float32), r"x: expected .*\[B, T, 3\], got float32\[2, 3\]"),
        (np.zeros((2, 5, 4), np.float32), r"x: expected .*\[B, T, 3\], got float32\[2, 5, 4\]"),
        (np.zeros((2, 5, 3), np.int32), r"x: expected a floating-point .*, got int32\[2, 5, 3\]"),
        (np.zeros((2, 0, 3), np.float32), "x: expected at least one time step, got float32"),
    ],
)
def test_bad_sequences(kind, x, message):
    with pytest.raises(ValueError, match=message):
        make(kind, 3, 4)(x)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([0, 5]), r"lengths: expected integers from 1 to 5, got \[0, 5\]"),
        (np.array([6, 5]), r"lengths: expected integers from 1 to 5, got \[6, 5\]"),
        (np.array([5, 5, 5]), r"lengths: expected 2 integers, .* got int64\[3\]"),
        (np.array([1.0, 2.0]), r"lengths: expected 2 integers, .* got float64\[2\]"),
        (np.ones((2, 5), bool), r"lengths: expected 2 integers, .* got bool\[2, 5\]"),
    ],
)
def test_bad_lengths(lengths, message):
    with pytest.raises(ValueError, match=message):
        make(layers.GRU, 3, 4)(sequences(), lengths=lengths)


def test_bad_initial_states():
    x, right, wrong = sequences(), jnp.zeros((1, 2, 4)), jnp.zeros((2, 4))
    gru, lstm = make(layers.GRU, 3, 4), make(layers.LSTM, 3, 4)
    with pytest.raises(ValueError, match=r"initial_state: expected .*\[1, 2, 4\], got float32"):
        gru(x, wrong)
    with pytest.raises(ValueError, match=r"initial_state: expected a pair \(h, c\), got Array"):
        lstm(x, right)
    with pytest.raises(ValueError, match=r"initial_state\[1\]: expected .*\[1, 2, 4\], got"):
        lstm(x, (right, wrong))
    with pytest.raises(ValueError, match=r"initial_state\[0\]: expected .*\[1, 2, 2\], got"):
        make(layers.LSTM, 3, 4, proj_size=2)(x, (right, right))


@pytest.mark.parametrize("kind", CELLS)
def test_bad_arguments_of_a_cell(kind):
    cell, right = make(kind, 3, 4), jnp.zeros((2, 4))
    with pytest.raises(ValueError, match=r"x: expected .*\[B, 3\], got float32\[3\]"):
        cell(jnp.zeros(3))
    with pytest.raises(ValueError, match=r"state(\[1\])?: expected .*\[2, 4\], got float32\[4\]"):
        cell(jnp.zeros((2, 3)), (right, right[0]) if kind is layers.LSTMCell else right[0])


@pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
def test_a_large_batch_keeps_nothing_of_its_inputs_share(kind, monkeypatch):
    rewritten = in_a_way(256, monkeypatch)
    layer = make(kind, 3, 4)

    def written(batch):
        program = jax.jit(rewritten(lambda x: layer(x)[0])).lower(jnp.zeros((batch, 5, 3)))
        shape = f"tensor<5x{batch}x{4 * layer.gate_count}xf32>"  # of all gates for all steps
        return shape in program.as_text()

    assert written(255)
    assert not written(256)


def test_gradients_are_by_hand_on_accelerators_too(monkeypatch):
    layer, x = make(layers.LSTM, 3, 4), sequences(batch=8, time=9)
    program = jax.make_jaxpr(with_kernels(lambda x: layer(x)[0]))
    assert "ffi_call" in str(program(x))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_another = str(program(jnp.concatenate([x, x])))
    assert "ffi_call" not in on_another
    assert "custom_vjp_call" in on_another

"""Linear layers with ReLU by one native kernel compared with separate layers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxnets import losses, optimizers, predictor
from jaxnets.kernels import linear as native_linear
from jaxnets.kernels import native
from jaxnets.kernels.rewrite import explain, with_kernels
from jaxnets.layers import Linear
from jaxnets.models import MLP
from jaxnets.training import initialize, minimize, supervised, train_step
from jaxnets.training.epoch import predicted
from tests import tier
from tests.kernels import assert_close, calls, precisions

#: Batch size, and sizes of inputs and layers: incomplete blocks and vectors.
SHAPES = [
    (24, (784, 128, 64, 10)),
    (131, (400, 120, 84, 10)),
    (16, (3, 5, 4)),
    (37, (17, 33, 1)),
    (200, (1, 1, 1)),
    (70, (49, 7, 16, 15, 31, 2)),
]


@pytest.fixture
def every(monkeypatch):
    """Uses kernels for all sizes that they support."""
    monkeypatch.setattr(native_linear, "_LEAST_EXAMPLES", 1)
    monkeypatch.setattr(native_linear, "_ONE_BY_ONE", ())


def make(sizes, dtype=jnp.float32):
    rngs, pairs = nnx.Rngs(0), itertools.pairwise(sizes)
    return nnx.List([Linear(*pair, rngs=rngs, param_dtype=dtype) for pair in pairs])


def examples(batch, size, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(batch, size)).astype(dtype)


def one_by_one(layers, x):
    *others, last = layers
    for layer in others:
        x = jax.nn.relu(layer(x))
    return last(x)


def linear_chain(layers, x):
    """``one_by_one`` with kernels."""
    graphdef, state = nnx.split(layers)
    return with_kernels(lambda state, x: one_by_one(nnx.merge(graphdef, state), x))(state, x)


def everything(function, layers, x):
    """The outputs, and the gradients with respect to all inputs."""
    graphdef, parameters = nnx.split(layers)

    def run(parameters, x):
        made = function(nnx.merge(graphdef, parameters), x)
        return jnp.sin(made).sum(), made

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))(parameters, x)


@precisions(3e-6, 1e-13)
@pytest.mark.parametrize(
    ("batch", "sizes"), tier.one_in(2, [pytest.param(*shape) for shape in SHAPES])
)
def test_equal_to_one_layer_after_the_other(batch, sizes, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        layers, x = make(sizes, dtype), examples(batch, sizes[0], dtype)
        assert calls(linear_chain, layers, x) == 1
        ours = everything(linear_chain, layers, x)
        assert_close(ours, everything(one_by_one, layers, x), tolerance)


def test_second_derivatives():
    """The gradient of a penalty on the gradient."""
    layers, x = make((6, 5, 4)), examples(20, 6)
    graphdef, parameters = nnx.split(layers)

    def penalty(function):
        def squares(x, parameters):
            return (function(nnx.merge(graphdef, parameters), x) ** 2).sum()

        def total(parameters, x):
            return (jax.grad(squares)(x, parameters) ** 2).sum()

        return jax.jit(jax.grad(total, argnums=(0, 1)))

    ours = penalty(linear_chain)(parameters, x)
    assert_close(ours, penalty(one_by_one)(parameters, x), 1e-5)


def test_what_is_not_finite_spoils_its_example_alone():
    layers = make((5, 24, 3))
    x = examples(40, 5)
    answer = jax.jit(lambda x: linear_chain(layers, x))
    clean = answer(x)
    x[7], x[9], x[11, 2] = np.nan, np.inf, -np.inf
    ours = answer(x)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(one_by_one(layers, x)))
    assert np.isnan(ours[7]).all()
    spoilt = [7, 9, 11]
    np.testing.assert_array_equal(np.delete(ours, spoilt, 0), np.delete(clean, spoilt, 0))


def test_relu_of_the_ends():
    """-inf becomes 0, and NaN stays NaN, as with `jax.nn.relu`; neither has a gradient."""
    layers = make((1, 2, 1))
    layers[0].kernel[...], layers[0].bias[...] = jnp.ones((1, 2)), jnp.zeros(2)
    x = np.array([[np.inf], [-np.inf], [np.nan], [0.0]] * 4, np.float32)
    np.testing.assert_array_equal(
        jax.jit(lambda x: linear_chain(layers, x))(x), one_by_one(layers, x)
    )
    gradient = jax.grad(lambda x: linear_chain(layers, x).sum())
    wanted = jax.grad(lambda x: one_by_one(layers, x).sum())
    np.testing.assert_array_equal(jax.jit(gradient)(x), wanted(x))


def test_an_example_has_the_same_bits_in_every_batch(every):
    """The block of rows, the part and the thread do not matter."""
    layers, x = make((300, 24, 7)), examples(150, 300)
    answer = jax.jit(lambda x: linear_chain(layers, x))
    whole = answer(x)
    for some in (slice(0, 1), slice(3, 14), slice(50, 127)):
        np.testing.assert_array_equal(answer(x[some]), whole[some])


def test_many_at_once_have_the_bits_of_one():
    layers, x = make((30, 24, 7)), examples(60, 30).reshape(3, 20, 30)
    answer = jax.jit(lambda x: linear_chain(layers, x))
    for one, alone in zip(jax.vmap(answer)(x), x, strict=True):
        np.testing.assert_array_equal(one, answer(alone))


def test_under_shard_map():
    """Replicated parameters and divided data pass shard_map's check of varying values."""
    graphdef, parameters = nnx.split(make((6, 5, 4)))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(parameters, x):
        return jax.grad(lambda p: linear_chain(nnx.merge(graphdef, p), x).sum())(parameters)

    divided = jax.shard_map(gradient, mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    x = examples(20, 6)
    assert calls(divided, parameters, x) == 2
    assert_close(jax.jit(divided)(parameters, x), jax.jit(gradient)(parameters, x), 1e-6)


def test_what_the_kernels_take():
    def by(batch=16, sizes=(6, 5), dtype=jnp.float32, other=None):
        x = jnp.zeros((batch, sizes[0]), dtype)
        kernels = [jnp.zeros(pair, other or dtype) for pair in itertools.pairwise(sizes)]
        return native_linear.supports(x, kernels, [kernel[0] for kernel in kernels])

    assert by()
    assert not by(batch=15)
    assert by(sizes=(2,) * 9)
    assert not by(sizes=(2,) * 10)
    assert by(sizes=(1024, 1024))
    assert not by(sizes=(1024, 1025))
    assert by(batch=2**20, sizes=(2, 3, 1))
    assert not by(batch=2**20 + 1, sizes=(2, 3, 1))
    assert not by(dtype=jnp.float16)
    with jax.enable_x64(True):
        assert by(dtype=jnp.float64)
        assert not by(dtype=jnp.float64, other=jnp.float32)
    with native.aside():
        assert not by()


class Doubled(Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


def test_what_is_no_chain_stays():
    layers, x = make((6, 5, 4)), examples(20, 6)

    def found(layers, x=x):
        return explain(lambda x: one_by_one(layers, x), x)

    assert found(layers) == ["linear 6 → 5 → 4"]
    assert found([layers[0], Doubled(5, 4, rngs=nnx.Rngs(0))]) == ["linear 6 → 5 → 4"]
    assert not found([layers[0], Linear(5, 4, bias=False, rngs=nnx.Rngs(0))])
    assert not found([Doubled(6, 5, rngs=nnx.Rngs(0)), layers[1]])
    assert not found(layers, x[None])  # [1, 20, 6]


@pytest.mark.slow
def test_one_by_one_gives_the_same_bits(monkeypatch):
    layers, x = make((784, 128, 10)), examples(40, 784)
    assert explain(lambda x: one_by_one(layers, x), x) == [
        "linear 784 → 128 and ReLU",
        "linear 128 → 10",
    ]

    def values(layers, x):
        made, (gradients, _) = everything(linear_chain, layers, x)
        return made, gradients

    apart = values(layers, x)
    monkeypatch.setattr(native_linear, "_ONE_BY_ONE", ())
    assert explain(lambda x: one_by_one(layers, x), x) == ["linear 784 → 128 → 10"]
    jax.tree.map(np.testing.assert_array_equal, apart, values(layers, x))


def test_inputs_of_another_size_are_named():
    with pytest.raises(ValueError, match=r"x: expected .*6.*, got float32\[20, 7\]"):
        jax.jit(lambda x: linear_chain(make((6, 5)), x))(examples(20, 7))


def test_an_answer_keeps_no_hidden_layer():
    layers, x = make((3, 40, 5)), jnp.zeros((16, 3))
    text = jax.jit(lambda x: linear_chain(layers, x)).lower(x).as_text()
    assert "16x40x" not in text
    assert calls(jax.grad(lambda x: linear_chain(layers, x).sum()), x) == 2


@pytest.mark.slow
def test_the_mlp_of_a_program_of_ones_own_is_differentiable_in_both_modes():
    model, x = MLP((6, 5, 4), rngs=nnx.Rngs(0)), examples(20, 6)
    assert not calls(model, x)
    ours = jax.jit(jax.jacfwd(lambda x: losses.cross_entropy(model(x), jnp.zeros(20, int))))(x)
    wanted = jax.jacrev(lambda x: losses.cross_entropy(model(x), jnp.zeros(20, int)))(x)
    np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-8)


def test_a_predictor_is_differentiable_in_both_modes():
    model, x = MLP((6, 5, 4), rngs=nnx.Rngs(0)), examples(20, 6)
    answer = predictor(model)
    np.testing.assert_allclose(answer(x), model(x), rtol=1e-5, atol=1e-7)
    ones = np.ones_like(x)
    made, change = jax.jvp(answer, (x,), (ones,))
    np.testing.assert_allclose(made, model(x), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(change, jax.jvp(model, (x,), (ones,))[1], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(jax.jit(answer)(x), model(x), rtol=1e-5, atol=1e-7)


def test_training_and_answers_call_the_kernels():
    model, x = MLP((6, 5, 4), rngs=nnx.Rngs(0)), examples(20, 6)
    sgd = optimizers.sgd(0.1)
    step = minimize(supervised(losses.cross_entropy), sgd)
    state = initialize(model, step)
    batch = {"inputs": x, "labels": jnp.zeros(20, jnp.int32)}
    assert calls(lambda x: with_kernels(predicted)(None, state, x), x) == 1
    # forward and backward: of the layers, and of the cross entropy
    assert calls(lambda x: train_step(step, state, {**batch, "inputs": x}), x) == 4

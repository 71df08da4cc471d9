"""A linear layer by native kernels compared with XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxnets.kernels import linear_layer, native
from jaxnets.kernels.linear_layer import layer, supports
from tests import tier
from tests.kernels import assert_close, calls, precisions

#: Rows, inputs and outputs: incomplete blocks, panels and vectors; few rows and many, more than
#: are packed at a time, and enough for separate sums of groups.
SHAPES = [
    ((1,), 150, 37),
    ((2,), 70, 5),
    ((3, 7), 5, 3),
    ((64,), 197, 49),
    ((300,), 50, 310),
    ((600,), 33, 17),
    ((2, 570), 33, 17),
    ((257,), 1, 1),
]


@pytest.fixture(autouse=True)
def every(monkeypatch):
    """Uses kernels for all sizes that they support."""
    monkeypatch.setattr(linear_layer, "_LEAST_ROWS", 1)
    monkeypatch.setattr(linear_layer, "_LEAST_PRODUCTS", 1)
    monkeypatch.setattr(linear_layer, "_LEAST_COLUMNS", 1)


def plainly(relu):
    def run(x, kernel, *bias):
        z = x @ kernel
        for vector in bias:
            z = z + jnp.broadcast_to(vector, z.shape)
        return jax.nn.relu(z) if relu else z

    return run


def kernels(relu):
    return layer(relu, plainly(relu))


def arrays(shape, dtype=np.float32, bias=True):
    rows, inputs, outputs = shape
    draw = np.random.default_rng(0)
    shapes = (*rows, inputs), (inputs, outputs), *[(outputs,)] * bias
    return tuple(jnp.asarray(draw.normal(size=sizes), dtype) for sizes in shapes)


def everything(function, *inputs):
    """The outputs, and the gradients with respect to all inputs."""

    def run(*inputs):
        made = function(*inputs)
        return jnp.sin(made).sum(), made

    numbers = tuple(range(len(inputs)))
    return jax.jit(jax.value_and_grad(run, argnums=numbers, has_aux=True))(*inputs)


@precisions(1e-5, 1e-12)
@pytest.mark.parametrize("shape", tier.one_in(2, SHAPES))
def test_equal_to_xla(shape, dtype, tolerance):
    with jax.enable_x64(dtype == np.float64):
        relu = len(shape[0]) == 1
        inputs = arrays(shape, dtype, bias=shape[1] != 50)
        assert supports(*inputs)
        ours = everything(kernels(relu), *inputs)
        assert_close(ours, everything(plainly(relu), *inputs), tolerance)


def test_second_derivatives():
    x, kernel, bias = arrays(((20,), 6, 5))

    def penalty(function):
        def squares(x, kernel):
            return (function(x, kernel, bias) ** 2).sum()

        def total(x, kernel):
            return (jax.grad(squares)(x, kernel) ** 2).sum()

        return jax.jit(jax.grad(total, argnums=(0, 1)))

    assert_close(penalty(kernels(True))(x, kernel), penalty(plainly(True))(x, kernel), 1e-5)


def test_what_is_not_finite_is_where_xla_has_it():
    """It stays in its row, and in the gradients; NaN passes ReLU, which has no gradient there."""
    x, kernel, bias = arrays(((300,), 5, 40))
    clean = kernels(True)(x, kernel, bias)
    spoilt = x.at[7].set(jnp.nan).at[9, 2].set(jnp.inf).at[11, 1].set(-jnp.inf)
    ours, theirs = (everything(f(True), spoilt, kernel, bias) for f in (kernels, plainly))
    assert_close(ours[0][1], theirs[0][1], 1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.isnan(a), np.isnan(b)), ours, theirs)
    others = [n for n in range(300) if n not in (7, 9, 11)]
    np.testing.assert_array_equal(ours[0][1][np.array(others)], clean[np.array(others)])


def test_a_row_has_the_same_bits_in_every_batch():
    """The block, the thread and the division into parts of rows or columns do not matter."""
    x, kernel, bias = arrays(((700,), 300, 290))
    function = jax.jit(lambda x: kernels(True)(x, kernel, bias))
    gradient = jax.jit(jax.grad(lambda x: jnp.sin(kernels(True)(x, kernel, bias)).sum()))
    whole, slopes = function(x), gradient(x)
    for some in (slice(0, 1), slice(3, 70), slice(50, 527)):
        np.testing.assert_array_equal(function(x[some]), whole[some])
        np.testing.assert_array_equal(gradient(x[some]), slopes[some])


def test_many_at_once_have_the_bits_of_one():
    x, kernel, bias = arrays(((3, 20), 30, 7))
    answer = jax.jit(lambda x: kernels(True)(x, kernel, bias))
    for one, alone in zip(jax.vmap(answer)(x), x, strict=True):
        np.testing.assert_array_equal(one, answer(alone))


def test_under_shard_map():
    """Replicated parameters and divided data pass shard_map's check of varying values."""
    x, *parameters = arrays(((20,), 6, 5))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(parameters, x):
        return jax.grad(lambda p: kernels(True)(x, *p).sum())(parameters)

    def varying(parameters, x):
        return gradient(jax.lax.pcast(parameters, "data", to="varying"), x)

    divided = jax.shard_map(varying, mesh=mesh, in_specs=(P(), P("data")), out_specs=P("data"))
    assert_close(jax.jit(divided)(parameters, x), jax.jit(gradient)(parameters, x), 0)


def test_what_the_kernels_take(monkeypatch):
    monkeypatch.undo()

    def by(rows=(16,), inputs=32, outputs=32, dtype=jnp.float32, other=None):
        shapes = (*rows, inputs), (inputs, outputs), (outputs,)
        x, *parameters = (jax.ShapeDtypeStruct(shape, other or dtype) for shape in shapes)
        return supports(jax.ShapeDtypeStruct(x.shape, dtype), *parameters)

    assert by()
    assert by((4, 4))
    assert not by((15,))
    assert not by(inputs=31)
    assert by((64,), 2**13, 2**13)
    assert not by((0,))
    assert by((4096,), outputs=8)
    assert not by((4096,), outputs=7)
    assert not by((4096,), inputs=7)
    assert not by(dtype=jnp.float16)
    with jax.enable_x64(True):
        assert by(dtype=jnp.float64)
        assert not by(dtype=jnp.float64, other=jnp.float32)
    with native.aside():
        assert not by()


def test_unused_outputs_are_not_computed():
    x, kernel, bias = arrays(((20,), 6, 5))

    def answer(x, kernel):
        return kernels(True)(x, kernel, bias).sum()

    def compiled(argnums):
        program = jax.jit(jax.grad(answer, argnums=argnums)).lower(x, kernel).compile()
        return program.as_text().count('custom_call_target="jaxnets')

    assert calls(answer, x, kernel) == 1
    assert compiled(0) == compiled(1) == 2
    assert compiled((0, 1)) == 3


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for dtype, tolerance in (np.float32, 1e-5), (np.float64, 1e-12):
        for shape in SHAPES[1:4]:
            test_equal_to_xla(shape, dtype, tolerance)

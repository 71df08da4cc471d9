"""Batch, group and layer normalization by native kernels compared with XLA's operations."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxnets.kernels import native
from jaxnets.kernels.normalization import (
    batch_norm,
    group_norm,
    layer_norm,
    supports,
)
from jaxnets.layers import normalization as layers
from tests import quick_compilation
from tests.kernels import assert_close, calls

EPS = 1e-5
#: Shapes of images: channels that fill less than one vector or several, rows shorter and longer
#: than a line, several chunks; with and without an activation and a residual.
IMAGES = {
    "one value": ((1, 2), "", False),
    "few": ((5, 3), "relu", False),
    "odd channels": ((7, 4, 4, 6), "relu", True),
    "a part of a line": ((33, 17), "", True),
    "no period": ((9, 5, 129), "silu", False),
    "several chunks": ((40, 9, 8, 64), "relu", True),
    "several lines": ((37, 192), "", False),
    "long rows": ((3, 2065), "relu", True),
}
#: Shapes of examples, numbers of groups, and the activation.
GROUPS = {
    "one group": ((3, 4, 5, 6), 1, ""),
    "of one row": ((7, 24), 4, "relu"),
    "of one channel": ((2, 9, 7, 5), 5, "silu"),
    "several chunks": ((2, 33, 32, 48), 4, "silu"),
}
ACTIVATIONS = {"": lambda x: x, "relu": jax.nn.relu, "silu": jax.nn.silu}
#: Shapes, the number of last axes to normalize over, and whether there is a residual.
ROWS = {
    "one row": ((1, 2, 7), 1, False),
    "short": ((5, 13), 1, True),
    "long": ((3, 2, 300), 1, True),
    "images": ((7, 4, 3, 5), 3, False),
    "several chunks": ((400, 100), 1, False),
}


def plain_batch_norm(activation, residual=False):
    def run(x, scale, bias, *added):
        y, mean, var = layers.batch_norm(x, scale, bias, eps=EPS)
        return ACTIVATIONS[activation](y + added[0] if residual else y), mean, var

    return run


def kernel_batch_norm(activation="", residual=False):
    plain = plain_batch_norm(activation, residual)
    return batch_norm(EPS, plain, activation=activation, residual=residual)


def plain_group_norm(groups, activation):
    def run(x, scale, bias):
        y, mean, var = layers.group_norm(x, scale, bias, eps=EPS, groups=groups)
        return ACTIVATIONS[activation](y), mean, var

    return run


def kernel_group_norm(groups, activation=""):
    return group_norm(
        EPS, plain_group_norm(groups, activation), groups=groups, activation=activation
    )


def plain_layer_norm(axes, residual):
    def run(x, scale, bias, *added):
        x = x + added[0] if residual else x
        y = layers.layer_norm(x, scale, bias, eps=EPS, axes=axes)
        return (y, x) if residual else y

    return run


def kernel_layer_norm(axes=1, residual=False):
    return layer_norm(EPS, plain_layer_norm(axes, residual), axes=axes, residual=residual)


def arrays(*shapes, dtype=np.float64):
    draw = np.random.default_rng(0)
    return tuple(jnp.asarray(draw.normal(1.0, 2.0, shape), dtype) for shape in shapes)


def everything(function, inputs):
    """The outputs, and the gradients of a function of all outputs with respect to all inputs."""

    def run(*inputs):
        made = function(*inputs)
        return sum(jnp.sin(one).sum() for one in jax.tree.leaves(made)), made

    wanted = tuple(n for n, one in enumerate(inputs) if one is not None)
    return jax.value_and_grad(run, argnums=wanted, has_aux=True)(*inputs)


def check(ours, theirs, inputs, tolerance):
    both = jax.jit(lambda *given: [everything(one, given) for one in (ours, theirs)])
    assert_close(*both(*inputs), tolerance)


@pytest.fixture(scope="module", autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def check_batch_norm(case, dtype=np.float64, tolerance=1e-12, parameters=True):
    shape, activation, residual = IMAGES[case]
    x, *added = arrays(shape, *[shape] * residual, dtype=dtype)
    scale, bias = arrays(*[shape[-1:]] * 2, dtype=dtype) if parameters else (None, None)
    assert supports(x, scale, bias, *added)
    ours, theirs = kernel_batch_norm(activation, residual), plain_batch_norm(activation, residual)
    check(ours, theirs, (x, scale, bias, *added), tolerance)


def check_group_norm(case, dtype=np.float64, tolerance=1e-12, parameters=True):
    shape, groups, activation = GROUPS[case]
    (x,) = arrays(shape, dtype=dtype)
    scale, bias = arrays(*[shape[-1:]] * 2, dtype=dtype) if parameters else (None, None)
    assert supports(x, scale, bias)
    ours, theirs = kernel_group_norm(groups, activation), plain_group_norm(groups, activation)
    check(ours, theirs, (x, scale, bias), tolerance)


def check_layer_norm(case, dtype=np.float64, tolerance=1e-12, parameters=True):
    shape, axes, residual = ROWS[case]
    x, *added = arrays(shape, *[shape] * residual, dtype=dtype)
    scale, bias = arrays(*[shape[-axes:]] * 2, dtype=dtype) if parameters else (None, None)
    assert supports(x, scale, bias, *added)
    ours, theirs = kernel_layer_norm(axes, residual), plain_layer_norm(axes, residual)
    check(ours, theirs, (x, scale, bias, *added), tolerance)


@pytest.mark.parametrize("case", IMAGES)
def test_batch_norm_equal_to_xla(case):
    check_batch_norm(case, parameters=case != "few")


@pytest.mark.parametrize("case", ["odd channels", "several lines"])
def test_batch_norm_equal_to_xla_in_single_precision(case):
    check_batch_norm(case, np.float32, 1e-5)


@pytest.mark.parametrize("case", GROUPS)
def test_group_norm_equal_to_xla(case):
    check_group_norm(case, parameters=case != "of one channel")


def test_group_norm_equal_to_xla_in_single_precision():
    check_group_norm("several chunks", np.float32, 1e-5)


@pytest.mark.parametrize("case", ROWS)
def test_layer_norm_equal_to_xla(case):
    check_layer_norm(case, parameters=case != "images")


def test_layer_norm_equal_to_xla_in_single_precision():
    check_layer_norm("long", np.float32, 1e-5)


def test_a_large_mean_costs_no_digits():
    """The variance is precise even if the mean is a thousand standard deviations."""
    (x,) = arrays((40, 9, 8, 64))
    x = (x / 2 + 1e3).astype(np.float32)
    _, mean, var = kernel_batch_norm()(x, None, None)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean((0, 1, 2)), rtol=1e-7)
    np.testing.assert_allclose(var, wide.var((0, 1, 2)), rtol=1e-6)


@pytest.mark.slow
def test_second_derivatives():
    def penalty(function, x, *others):
        def value(x):
            return sum((one**2).sum() for one in jax.tree.leaves(function(x, *others)))

        return (jax.grad(value)(x) ** 3).sum()

    @jax.jit
    def gradients(*given):
        functions = (
            (kernel_batch_norm("relu"), plain_batch_norm("relu")),
            (kernel_group_norm(1, "silu"), plain_group_norm(1, "silu")),
            (kernel_layer_norm(), plain_layer_norm(1, False)),
        )
        return [[jax.grad(penalty, (1, 2, 3))(one, *given) for one in pair] for pair in functions]

    for ours, theirs in gradients(*arrays((6, 5), (5,), (5,))):
        assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_channel_or_row_alone(bad):
    (x,) = arrays((70, 6))
    x = x.at[3, 2].set(bad)
    y, mean, var = kernel_batch_norm("relu")(x, None, None)
    assert np.isnan(y[:, 2]).all()
    np.testing.assert_array_equal(mean[2], bad)
    assert np.isnan(var[2])
    for array in (y, mean, var):
        assert np.isfinite(np.delete(array, 2, -1)).all()
    for function in (kernel_layer_norm(), lambda *given: kernel_group_norm(1)(*given)[0]):
        y = function(x, None, None)
        assert np.isnan(y[3]).all()
        assert np.isfinite(np.delete(y, 3, 0)).all()


@pytest.mark.parametrize("residual", [False, True])
def test_relu_has_no_gradient_at_zero(residual):
    x, scale, bias = jnp.ones((4, 3)), jnp.zeros(3), jnp.zeros(3)
    run = kernel_batch_norm("relu", residual=residual)
    added = [jnp.zeros_like(x)] * residual
    for gradient in everything(run, (x, scale, bias, *added))[1][1:]:
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda *given: kernel_layer_norm()(*given),
        lambda *given: kernel_group_norm(2, "silu")(*given)[0],
    ],
)
@pytest.mark.parametrize("size", [14, 300])
def test_an_example_has_the_same_bits_in_every_batch(function, size):
    """The outputs and gradients do not depend on the other examples."""
    x, scale, bias = arrays((41, size), (size,), (size,), dtype=np.float32)

    @jax.jit
    def run(x):
        made, pull_back = jax.vjp(lambda x: function(x, scale, bias), x)
        return made, *pull_back(jnp.sin(made))

    whole = run(x)
    for some in (slice(0, 1), slice(3, 14)):
        for one, all_of_it in zip(run(x[some]), whole, strict=True):
            np.testing.assert_array_equal(one, all_of_it[some])


def test_many_at_once_have_the_bits_of_one():
    (x,) = arrays((3, 8, 5))
    for run in (kernel_batch_norm("relu"), kernel_group_norm(5), kernel_layer_norm()):
        many = jax.vmap(lambda x: run(x, None, None))(x)  # noqa: B023
        for number, one in enumerate(x):
            jax.tree.map(
                lambda of_all, alone: np.testing.assert_array_equal(of_all[number], alone),  # noqa: B023
                many,
                run(one, None, None),
            )


def numbers():
    """The exact results for arrays of several chunks."""
    x, added, scale, bias = arrays((700, 100), (700, 100), (100,), (100,), dtype=np.float32)
    found = [
        everything(kernel_batch_norm("relu", residual=True), (x, scale, bias, added)),
        everything(kernel_group_norm(4, "silu"), (x.reshape(2, 350, 100), scale, bias)),
        everything(kernel_layer_norm(), (x, scale, bias)),
    ]
    made = [(outputs, gradients) for (_, outputs), gradients in found]
    return [np.asarray(array).tobytes().hex() for array in jax.tree.leaves(made)]


@pytest.mark.slow
def test_the_same_bits_on_one_core():
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests import test_kernels_normalization
print(*test_kernels_normalization.numbers())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**quick_compilation.environment(), "JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == numbers()


def test_under_shard_map():
    x, scale, bias = arrays((6, 5), (5,), (5,))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(x):
        return jax.grad(lambda x: jnp.sin(kernel_layer_norm()(x, scale, bias)).sum())(x)

    divided = jax.shard_map(gradient, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    np.testing.assert_array_equal(jax.jit(divided)(x), gradient(x))


def test_inference_stores_no_intermediates():
    x, scale, bias = arrays((6, 5), (5,), (5,))

    def answer(x):
        return kernel_layer_norm()(x, scale, bias).sum()

    assert calls(answer, x) == 1
    assert calls(jax.grad(answer), x) == 2
    assert "tensor<6xf64>" not in jax.jit(answer).lower(x).as_text()
    assert "tensor<6xf64>" in jax.jit(jax.grad(answer)).lower(x).as_text()


def test_what_the_kernels_take():
    def by(shape=(4, 3), dtype=np.float32, scale=np.float32):
        return supports(jnp.zeros(shape, dtype), jnp.zeros(3, scale), None)

    assert by()
    assert by(dtype=np.float64, scale=np.float64)
    assert not by(scale=np.float64)
    assert not by(dtype=jnp.float16, scale=jnp.float16)
    assert not by((0, 3))
    with native.aside():
        assert not by()


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for case in ("a part of a line", "several chunks"):
        check_batch_norm(case)
    check_batch_norm("odd channels", np.float32, 1e-5)
    check_group_norm("several chunks")
    check_group_norm("of one row", np.float32, 1e-5)
    check_layer_norm("short")
    check_layer_norm("long", np.float32, 1e-5)

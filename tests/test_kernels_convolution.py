"""Convolutions by a native kernel compared with XLA's."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.kernels import native
from jaxnets.kernels.convolution import convolution, supports
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import by_xla
from tests import quick_compilation
from tests.kernels import assert_close, calls

ONE, NONE = (1, 1), ((0, 0), (0, 0))


def geometry(stride=ONE, padding=((1, 1), (1, 1)), dilation=ONE, spread=ONE, groups=1):
    return Geometry(stride, padding, dilation, spread, groups)


SEQUENCE = Geometry((2,), ((2, 1),), (1,), (1,))
#: Shapes of x and the kernel: channels that fill less than one vector or several, few and many
#: examples, padding on one side, negative padding, kernels larger than images.
CASES = {
    "image": ((3, 5, 7, 3), (3, 3, 3, 17), geometry()),
    "many channels": ((5, 4, 4, 20), (3, 3, 20, 40), geometry()),
    "strides": ((2, 9, 8, 5), (3, 2, 5, 7), geometry((2, 3), ((1, 0), (2, 1)), (1, 2))),
    "dilation": ((2, 8, 8, 6), (3, 3, 2, 12), geometry(ONE, ((2, 2), (2, 2)), (2, 2), groups=3)),
    "sequence": ((1, 7, 4), (5, 4, 9), SEQUENCE),
    # Few channels, which fill vectors of 32 bytes.
    "four channels and one output": ((8, 4, 4, 4), (4, 4, 4, 1), geometry()),
    "transposed": ((2, 4, 5, 6), (4, 4, 6, 8), geometry(ONE, ((2, 2), (2, 2)), ONE, (2, 2))),
    "all": ((2, 4, 5, 6), (3, 4, 3, 8), geometry((2, 1), ((2, 3), (-1, 2)), (2, 1), (3, 2), 2)),
    "alone": ((2, 6, 6, 32), (1, 1, 32, 64), geometry(ONE, NONE)),
    "small images": ((33, 3, 3, 19), (2, 2, 19, 2), geometry(ONE, ((1, 0), (0, 1)))),
    "few outputs": ((3, 9, 9, 64), (2, 3, 32, 4), geometry(groups=2)),
    "few outputs, transposed": (
        (2, 6, 9, 16),
        (4, 4, 16, 3),
        geometry(ONE, ((2, 2), (2, 2)), ONE, (2, 2)),
    ),
    "large kernel": ((2, 3, 3, 2), (7, 7, 2, 3), geometry(ONE, ((3, 3), (3, 3)))),
    "as wide as the image": ((3, 7, 9, 2), (3, 9, 2, 5), geometry((2, 1), ((1, 2), (0, 0)))),
    "as long as the sequence": ((3, 9, 1), (9, 1, 5), Geometry((3,), ((0, 0),), (1,), (1,))),
    "large image": ((1, 40, 66, 1), (3, 3, 1, 2), geometry()),
}
WITH_RELU = ("image", "many channels", "strides", "few outputs", "all", "as wide as the image")


def plainly(where, relu):
    def run(x, kernel, bias):
        y = by_xla(x, kernel, where)
        y = y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
        return jax.nn.relu(y) if relu else y

    return run


def by_kernel(where, relu=False):
    return convolution(where, plainly(where, relu), relu=relu)


def arrays(*shapes, dtype=np.float64):
    draw = np.random.default_rng(0)
    return tuple(jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes)


def everything(function, x, kernel, bias):
    """The outputs, and the gradients with respect to all inputs."""

    def run(*given):
        made = function(*given)
        return jnp.sin(made).sum(), made

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1, 2), has_aux=True))(x, kernel, bias)


@pytest.fixture(scope="module", autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def check(case, relu, dtype=np.float64, tolerance=1e-12):
    x, kernel, where = CASES[case]
    x, kernel, bias = arrays(x, kernel, kernel[-1:], dtype=dtype)
    bias = None if case == "all" else bias
    assert supports(x, kernel, where)
    (_, made), gradients = everything(by_kernel(where, relu), x, kernel, bias)
    (_, expected), theirs = everything(plainly(where, relu), x, kernel, bias)
    assert_close((made, gradients), (expected, theirs), tolerance)


@pytest.mark.parametrize("case", CASES)
def test_equal_to_xla(case):
    check(case, relu=case in WITH_RELU)


@pytest.mark.parametrize("case", ["image", "many channels", "few outputs"])
def test_equal_to_xla_in_single_precision(case):
    check(case, relu=False, dtype=np.float32, tolerance=1e-5)


@pytest.mark.parametrize("case", ["image", "many channels", "transposed"])
def test_an_example_has_the_same_bits_in_every_batch(case):
    shape, kernel, where = CASES[case]
    x, kernel, bias = arrays((37, *shape[1:]), kernel, kernel[-1:], dtype=np.float32)

    def outputs_and_gradient(x):
        made, pull_back = jax.vjp(lambda x: by_kernel(where)(x, kernel, bias), x)
        return made, *pull_back(made)

    run = jax.jit(outputs_and_gradient)
    whole = run(x)
    for some in (slice(0, 1), slice(3, 14)):
        for one, all_of_it in zip(run(x[some]), whole, strict=True):
            np.testing.assert_array_equal(one, all_of_it[some])


def test_many_at_once_have_the_bits_of_one():
    x, kernel = arrays((3, 2, 5, 5, 3), (3, 3, 3, 4))
    run = jax.jit(lambda x: by_kernel(geometry())(x, kernel, None))
    for one, alone in zip(jax.vmap(run)(x), x, strict=True):
        np.testing.assert_array_equal(one, run(alone))


def numbers():
    """The exact results of a program that is large enough for all threads."""
    x, kernel, bias = arrays((19, 12, 12, 18), (3, 3, 18, 20), (20,), dtype=np.float32)
    found = everything(by_kernel(geometry(), relu=True), x, kernel, bias)
    return [np.asarray(array).tobytes().hex() for array in jax.tree.leaves(found[0][1:] + found[1])]


@pytest.mark.slow
def test_the_same_bits_on_one_core():
    script = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests import test_kernels_convolution
print(*test_kernels_convolution.numbers())
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


def test_a_second_derivative():
    x, kernel, bias = arrays((2, 4, 4, 3), (3, 3, 3, 5), (5,))

    def penalty(function):
        def run(x, kernel, bias):
            return (jax.grad(lambda x: jnp.sin(function(x, kernel, bias)).sum())(x) ** 2).sum()

        return jax.jit(jax.grad(run, argnums=(0, 1, 2)))(x, kernel, bias)

    assert_close(penalty(by_kernel(geometry())), penalty(plainly(geometry(), False)), 1e-11)


def test_relu_has_no_gradient_at_zero():
    x, kernel = jnp.ones((1, 2, 2, 2)), jnp.zeros((1, 1, 2, 3))
    where = geometry(ONE, NONE)
    gradients = jax.grad(
        lambda *given: by_kernel(where, relu=True)(*given).sum(), argnums=(0, 1, 2)
    )
    for gradient in gradients(x, kernel, jnp.zeros(3)):
        np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_places(bad):
    """Padding is not multiplied, as in PyTorch."""
    x, kernel, g = arrays((2, 5, 5, 3), (3, 3, 3, 4), (2, 5, 5, 4))

    def outputs_and_gradients(function, x, kernel, g):
        made, pull_back = jax.vjp(lambda *given: function(*given, None), x, kernel)
        return made, *pull_back(g)

    def seeing(x, kernel, g):
        """Which outputs and gradients depend on nonzero elements."""
        return [a > 0 for a in outputs_and_gradients(plainly(geometry(), False), x, kernel, g)]

    places = jnp.zeros_like(x).at[0, 0, 0, 1].set(1), jnp.zeros_like(g).at[1, 4, 2, 3].set(1)
    by_x = seeing(places[0], jnp.ones_like(kernel), jnp.ones_like(g))
    by_g = seeing(jnp.ones_like(x), jnp.ones_like(kernel), places[1])
    expected = by_x[0], by_g[1], by_x[2] | by_g[2]
    x, g = (jnp.where(place > 0, bad, a) for place, a in zip(places, (x, g), strict=True))
    for made, where in zip(
        outputs_and_gradients(by_kernel(geometry()), x, kernel, g), expected, strict=True
    ):
        np.testing.assert_array_equal(~np.isfinite(made), where)


def test_unused_outputs_are_not_computed():
    x, kernel, bias = arrays((2, 4, 4, 3), (3, 3, 3, 5), (5,))
    loss = lambda *given: by_kernel(geometry())(*given).sum()  # noqa: E731
    assert calls(loss, x, kernel, bias) == 1
    text = jax.jit(jax.grad(loss, argnums=(1, 2))).lower(x, kernel, bias).compile().as_text()
    assert text.count("custom_call_target") == 1  # neither the outputs nor the gradient of x
    assert "backward_kernel" in text


def test_what_the_kernels_take():
    def by(x=(2, 4, 4, 3), kernel=(3, 3, 3, 5), where=None, dtype=np.float32):
        where = where or geometry()
        return supports(jnp.zeros(x, dtype), jnp.zeros(kernel, dtype), where)

    assert by()
    assert by(dtype=np.float64)
    assert not by(dtype=jnp.float16)
    assert not by((0, 4, 4, 3))
    assert not by((2, 4, 4, 4, 3), (3, 3, 3, 3, 5))
    assert not by(where=geometry(padding=NONE), x=(2, 2, 2, 3))  # no output
    assert by((2, 4, 4, 4), (3, 3, 2, 4), geometry(groups=2))
    assert not by((2, 4, 4, 4), (3, 3, 1, 4), geometry(groups=4))  # depthwise
    with native.aside():
        assert not by()


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for case in ("many channels", "few outputs", "four channels and one output", "strides"):
        check(case, relu=False)
    check("many channels", relu=True, dtype=np.float32, tolerance=1e-5)

"""The gates of LSTM cells that networks write themselves, by a native kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.kernels import explain, native, with_kernels
from jaxnets.kernels.gates import supports
from tests.kernels import assert_close, precisions


@pytest.fixture(scope="module", autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


def cell(order, sums, c):
    """An LSTM cell whose gates are in any order."""
    parts = jnp.split(sums, 4, axis=-1)
    i, f, g, o = (parts[order.index(name)] for name in "ifgo")
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def arrays(shape, dtype):
    random = np.random.default_rng(0)
    sizes = [(*shape[:-1], 4 * shape[-1]), shape, shape, shape]
    return [jnp.asarray(3 * random.normal(size=size), dtype) for size in sizes]


@functools.partial(jax.jit, static_argnums=0)
def everything(function, sums, c, *d):
    made, pull_back = jax.vjp(function, sums, c)
    return made, pull_back(d)


def check(order, shape, dtype, tolerance):
    plain, given = functools.partial(cell, order), arrays(shape, dtype)
    assert len(explain(plain, *given[:2])) == 1
    assert_close(everything(with_kernels(plain), *given), everything(plain, *given), tolerance)


@pytest.mark.parametrize(
    ("order", "shape"), [("ifgo", (40, 13)), ("ifog", (3, 5, 7, 16)), ("ofgi", (1, 600))]
)
@precisions(1e-6, 1e-15)
def test_equal_to_xla(order, shape, dtype, tolerance):
    check(order, shape, dtype, tolerance)


def test_gates_cut_by_indices():
    def sliced(sums, c):
        i, f, o, g = (sums[..., 40 * part : 40 * (part + 1)] for part in range(4))
        c = c * jax.nn.sigmoid(f) + jnp.tanh(g) * jax.nn.sigmoid(i)
        return jnp.tanh(c) * jax.nn.sigmoid(o), c

    given = arrays((15, 40), np.float64)
    assert explain(sliced, *given[:2]) == ["gates of an LSTM cell, 15 × 40"]
    assert_close(with_kernels(sliced)(*given[:2]), cell("ifog", *given[:2]), 1e-15)


def test_second_derivatives():
    def penalty(function, sums, c):
        first = jax.grad(lambda sums: sum(each.sum() for each in function(sums, c)))
        return jax.grad(lambda sums: (first(sums) ** 2).sum())(sums)

    plain, given = functools.partial(cell, "ifgo"), arrays((40, 13), np.float64)[:2]
    assert_close(penalty(with_kernels(plain), *given), penalty(plain, *given), 1e-13)


def test_a_loop_over_time():
    def network(sums, c):
        h = c
        for _ in range(3):
            h, c = cell("ifgo", sums + jnp.concatenate([h] * 4, axis=-1), c)
        return h.sum()

    given = arrays((40, 13), np.float64)[:2]
    assert len(explain(network, *given)) == 3
    ours = jax.grad(with_kernels(network), (0, 1))(*given)
    assert_close(ours, jax.grad(network, (0, 1))(*given), 1e-14)


def test_an_example_has_the_same_bits_in_every_batch():
    plain = functools.partial(cell, "ifgo")
    sums, c, *_ = arrays((200, 13), np.float32)
    whole, some = with_kernels(plain)(sums, c), with_kernels(plain)(sums[3:70], c[3:70])
    np.testing.assert_array_equal(some[0], whole[0][3:70])


def test_extreme_values():
    ends = jnp.asarray([0, 200, -200, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    c = jnp.tile(ends, 64).reshape(64, 8)
    sums = jnp.tile(jnp.asarray([200.0, -200, 200, -1e30], np.float32).repeat(8), 64).reshape(
        64, 32
    )
    plain = functools.partial(cell, "ifgo")
    assert_close(with_kernels(plain)(sums, c), plain(sums, c), 1e-6)


def test_other_cells_stay_with_xla():
    def other(sums, c, squash):
        i, f, g, o = jnp.split(sums, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + squash(i) * jnp.tanh(g)
        return jax.nn.sigmoid(o) * jnp.tanh(c), c

    sums, c, *_ = arrays((40, 13), np.float64)
    assert explain(functools.partial(other, squash=jnp.tanh), sums, c) == []
    assert len(explain(functools.partial(other, squash=jax.nn.sigmoid), sums, c)) == 1
    row = jnp.zeros((1, 13))
    with jax.numpy_rank_promotion("allow"):
        assert explain(functools.partial(cell, "ifgo"), sums, row) == []


def test_what_the_kernel_takes():
    assert supports(jnp.zeros(512))
    assert supports(jnp.zeros((8, 64), np.float32))
    assert not supports(jnp.zeros((8, 63)))
    assert not supports(jnp.zeros(512, np.float16))
    with native.aside():
        assert not supports(jnp.zeros(512))


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    check("ifgo", (40, 13), np.float32, 1e-6)
    check("ifgo", (40, 13), np.float64, 1e-15)

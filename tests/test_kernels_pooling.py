"""Pools by native kernels compared with PyTorch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import kernels, layers
from jaxnets.kernels import native
from jaxnets.kernels.geometry import Window
from jaxnets.kernels.pooling import avg_pool, max_pool, supports
from tests.kernels import assert_close, calls
from tests.parity.oracle import images_first, images_last

#: The shape of an image, channels last, and a pool's options: channels that fill less than one
#: vector, one or several; windows that overlap, leave gaps, exceed the edge or cover an axis.
CASES = {
    "two": ((3, 6, 8, 16), {"kernel_size": 2}),
    "ragged": ((2, 7, 5, 37), {"kernel_size": 2}),
    "few channels": ((2, 6, 9, 3), {"kernel_size": 3, "stride": 1, "padding": 1}),
    "overlap": ((2, 9, 7, 20), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "gaps": ((1, 9, 8, 5), {"kernel_size": (2, 1), "stride": (3, 4)}),
    "hangs over": ((2, 6, 8, 17), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "all": ((2, 5, 4, 18), {"kernel_size": (5, 4)}),
    "sequence": ((2, 11, 24), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "large": ((2, 40, 33, 34), {"kernel_size": 3, "stride": 2, "padding": 1}),
}
#: Windows of more than 255 places, whose positions do not fit into a byte.
WIDE = {
    "wide": ((2, 650, 5), {"kernel_size": 300, "stride": 100}),
    "wide, padded": ((1, 320, 17), {"kernel_size": 300, "stride": 60, "padding": 140}),
    "wide image": ((2, 20, 18, 9), {"kernel_size": (17, 16), "stride": 1}),
}
DILATED = ((2, 9, 10, 9), {"kernel_size": (3, 4), "stride": 1, "padding": 1, "dilation": 2})
AVERAGES = {
    **CASES,
    "padding left out": (
        *CASES["overlap"][:1],
        {**CASES["overlap"][1], "count_include_pad": False},
    ),
    "divisor": (*CASES["two"][:1], {**CASES["two"][1], "divisor_override": 3}),
}


def values(shape, kind, dtype=np.float64):
    """Random numbers, or few different ones for ties, including infinity."""
    draw = np.random.default_rng(0)
    few = np.array([-np.inf, -1.0, 0.0, 0.0, 1.0, 2.0])
    x = draw.normal(size=shape) if kind == "normal" else draw.choice(few, size=shape)
    if kind == "nan":
        x[draw.random(shape) < 0.1] = np.nan
    return x.astype(dtype)


def kernel(name, shape, options):
    """The layer, and the kernel function that replaces it."""
    layer = getattr(layers, f"{name}Pool{len(shape) - 2}d")(**options)
    windows = layer._windows(jnp.zeros(shape))
    assert supports(jax.ShapeDtypeStruct(shape, np.float32), windows)
    if name == "Max":
        return layer, max_pool(windows, layer)
    given = {"count_include_pad": layer.count_include_pad, "divisor": layer.divisor_override}
    return layer, avg_pool(windows, layer, **given)


def both(function, x, seed=1):
    """The outputs, and the gradient of a sum of them with random weights."""

    @jax.jit
    def run(x):
        y, pull_back = jax.vjp(function, x)
        weights = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
        return y, *pull_back(weights)

    return run(x)


def by_torch(name, shape, options, x, seed=1):
    pool = getattr(torch.nn, f"{name}Pool{len(shape) - 2}d")(**options)
    given = torch.tensor(images_first(x), requires_grad=True)
    y = pool(given)
    weights = np.random.default_rng(seed).normal(size=images_last(y.detach().numpy()).shape)
    y.backward(torch.tensor(images_first(weights.astype(x.dtype))))
    return images_last(y.detach().numpy()), images_last(given.grad.numpy())


@pytest.mark.parametrize("kind", ["ties", "nan"])
@pytest.mark.parametrize("case", [*CASES.values(), DILATED], ids=[*CASES, "dilated"])
def test_max_pool_equals_torch(case, kind):
    with jax.enable_x64(True):
        x = values(case[0], kind)
        ours = both(kernel("Max", *case)[1], x)
        assert_close(ours, by_torch("Max", *case, x), 1e-12)


@pytest.mark.parametrize("case", AVERAGES.values(), ids=AVERAGES)
def test_avg_pool_equals_torch(case):
    with jax.enable_x64(True):
        x = values(case[0], "normal")
        assert_close(both(kernel("Avg", *case)[1], x), by_torch("Avg", *case, x), 1e-12)


@pytest.mark.parametrize("case", WIDE.values(), ids=WIDE)
def test_wide_windows_equal_torch(case):
    with jax.enable_x64(True):
        for kind in ("ties", "nan"):
            x = values(case[0], kind)
            assert_close(both(kernel("Max", *case)[1], x), by_torch("Max", *case, x), 1e-12)
        x = values(case[0], "normal")
        assert_close(both(kernel("Avg", *case)[1], x), by_torch("Avg", *case, x), 1e-12)
    for name in ("Max", "Avg"):
        x = values(case[0], "normal", np.float32)
        assert_close(both(kernel(name, *case)[1], x), by_torch(name, *case, x), 1e-5)


@pytest.mark.parametrize("name", ["Max", "Avg"])
@pytest.mark.parametrize("case", ["ragged", "few channels", "overlap"])
def test_in_single_precision(name, case):
    x = values(CASES[case][0], "normal", np.float32)
    ours = both(kernel(name, *CASES[case])[1], x)
    assert_close(ours, by_torch(name, *CASES[case], x), 1e-5)


@pytest.mark.parametrize("name", ["Max", "Avg"])
def test_second_derivatives(name):
    plain, function = kernel(name, *CASES["overlap"])
    x = values(CASES["overlap"][0], "normal", np.float32)

    def steepness(function):
        squares = lambda x: (jax.grad(lambda x: (function(x) ** 3).sum())(x) ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(squares))(x)

    assert_close(steepness(function), steepness(plain), 1e-5)


@pytest.mark.parametrize("name", ["Max", "Avg"])
def test_an_example_has_the_same_bits_in_every_batch(name):
    _, function = kernel(name, *CASES["overlap"])
    run = jax.jit(lambda x: jax.value_and_grad(lambda x: jnp.sin(function(x)).sum())(x)[1])
    x = values((40, *CASES["overlap"][0][1:]), "normal", np.float32)
    whole = run(x)
    for some in slice(1), slice(3, 28):
        np.testing.assert_array_equal(run(x[some]), whole[some])


def test_unused_outputs_are_not_computed():
    """Inference stores no indices."""
    _, function = kernel("Max", *CASES["two"])
    x = values(CASES["two"][0], "normal", np.float32)
    assert "ui8" not in jax.jit(function).lower(x).as_text()
    gradient = jax.grad(lambda x: function(x).sum())
    assert "ui8" in jax.jit(gradient).lower(x).as_text()
    assert (calls(function, x), calls(gradient, x)) == (1, 2)


def test_what_the_kernels_take():
    by_two = (Window(2, 2),) * 2

    def by(shape=(2, 6, 6, 4), windows=by_two, dtype=jnp.float32):
        return supports(jax.ShapeDtypeStruct(shape, dtype), windows)

    assert by()
    assert by((2, 6, 4), (Window(2, 2),))
    assert by((1, 15, 17, 1), (Window(15, 1), Window(17, 1)))
    assert not by((1, 16, 16, 1), (Window(16, 1),) * 2)
    assert not by((2, 6, 6, 6, 4), (Window(2, 2),) * 3)
    assert not by((0, 6, 6, 4))
    assert not by((2, 1, 6, 4))
    assert not by(dtype=jnp.float16)
    with native.aside():
        assert not by()


@pytest.mark.parametrize(
    ("pool", "about"),
    [
        (layers.MaxPool2d(3, 2, 1), "max pool of"),
        (layers.AvgPool2d(3, 2, 1, count_include_pad=False), "avg pool of"),
        (lambda x: nnx.max_pool(x, (2, 2), (2, 2)), "max pooling of"),
        (
            lambda x: nnx.pool(x, 0.0, jax.lax.add, (2,) * 2, (2,) * 2, "VALID"),
            "sums over windows of",
        ),
    ],
)
def test_pools_of_layers_and_of_flax_reach_the_kernels(pool, about):
    x = values((2, 6, 6, 5), "normal", np.float32)
    assert kernels.explain(pool, x) == [f"{about} 2 × 6 × 6 × 5"]
    assert_close(both(kernels.with_kernels(pool), x), both(pool, x), 1e-5)


def test_long_axes_are_reduced_by_xla():
    x = values((2, 300, 5), "normal", np.float32)
    for pool in layers.MaxPool1d(300), layers.AvgPool1d(300):
        assert kernels.explain(pool, x) == []
    assert kernels.explain(layers.MaxPool1d(299), x) == ["max pool of 2 × 300 × 5"]


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    test_wide_windows_equal_torch(WIDE["wide image"])
    for case in "ragged", "few channels", "overlap":
        test_max_pool_equals_torch(CASES[case], "nan")
        test_avg_pool_equals_torch(CASES[case])
        test_in_single_precision("Max", case)

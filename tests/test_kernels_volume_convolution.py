"""Convolutions of volumes by native kernels compared with XLA's."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import kernels, layers
from jaxnets.kernels import native
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.patterns import _convolve
from jaxnets.kernels.volume_convolution import supports, volume_convolution
from jaxnets.kernels.xla_convolution import by_xla_operations
from tests.kernels import assert_close, calls


def geometry(stride=1, padding=1, dilation=1, spread=1, groups=1):
    def each(value):
        return value if isinstance(value, tuple) else (value,) * 3

    pads = tuple(pad if isinstance(pad, tuple) else (pad, pad) for pad in each(padding))
    return Geometry(each(stride), pads, each(dilation), each(spread), groups)


#: Shapes of x and the kernel, and the geometry: each way to compute a convolution, with groups,
#: padding on one side and negative padding.
CASES = {
    "few channels": ((2, 4, 5, 6, 2), (3, 3, 3, 2, 5), geometry()),
    "few of a group": (
        (2, 5, 6, 5, 6),
        (3, 2, 3, 3, 8),
        geometry((2, 1, 2), ((-1, 2), 0, (1, 0)), (1, 2, 1), 1, 2),
    ),
    "many channels": ((2, 5, 4, 4, 9), (2, 3, 3, 9, 10), geometry((2, 1, 1), ((0, 1), 1, 1))),
    "groups": ((1, 5, 4, 4, 8), (3, 3, 3, 4, 6), geometry(2, groups=2)),
    "dilation": ((1, 7, 7, 6, 5), (3, 3, 2, 5, 4), geometry(1, 2, (3, 2, 1))),
    "few outputs": ((2, 4, 3, 4, 20), (3, 3, 3, 10, 6), geometry(groups=2)),
    "transposed": ((2, 3, 4, 3, 6), (4, 4, 4, 6, 8), geometry(1, 2, 1, 2)),
    "all": (
        (2, 4, 3, 4, 8),
        (3, 2, 3, 4, 6),
        geometry((2, 1, 3), ((3, 1), (-1, 2), 1), (2, 1, 1), (3, 2, 1), 2),
    ),
    "depthwise": ((2, 4, 5, 4, 6), (3, 3, 3, 1, 12), geometry((2, 1, 1), groups=6)),
    "depthwise, transposed": ((1, 3, 3, 4, 5), (3, 4, 4, 1, 5), geometry(1, 2, 1, 2, 5)),
    "along depth": ((2, 6, 3, 4, 5), (3, 1, 1, 5, 7), geometry((2, 1, 1), ((1, 2), 0, 0))),
    "frames": ((2, 3, 5, 6, 5), (1, 3, 3, 5, 4), geometry(1, (0, 1, 1))),
}


def plainly(where, relu=False):
    return partial(by_xla_operations, where, relu)


def by_kernels(where, relu=False):
    return volume_convolution(where, plainly(where, relu), _convolve, relu=relu)


def arrays(*shapes, dtype=np.float64):
    draw = np.random.default_rng(0)
    return tuple(jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes)


def everything(function, *given):
    """The outputs, and the gradients with respect to all inputs."""

    def run(*given):
        made = function(*given)
        return jnp.sin(made).sum(), made

    which = tuple(range(len(given)))
    return jax.jit(jax.value_and_grad(run, argnums=which, has_aux=True))(*given)


def of_case(case, dtype=np.float64):
    x, kernel, where = CASES[case]
    given = arrays(x, kernel, kernel[-1:], dtype=dtype)
    assert supports(*given[:2], where)
    return where, given


@pytest.fixture(autouse=True)
def wide():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("case", CASES)
def test_equal_to_xla(case):
    where, given = of_case(case)
    relu = case in ("few channels", "groups", "transposed", "depthwise", "along depth")
    (_, made), gradients = everything(by_kernels(where, relu), *given)
    (_, expected), theirs = everything(plainly(where, relu), *given)
    assert_close((made, gradients), (expected, theirs), 1e-12)


@pytest.mark.parametrize("case", ["few channels", "many channels", "few outputs"])
def test_equal_to_xla_in_single_precision_and_without_bias(case):
    where, (x, kernel, _) = of_case(case, np.float32)
    function, theirs = (
        lambda *given, way=way: way(where)(*given, None) for way in (by_kernels, plainly)
    )
    found = everything(function, x, kernel)
    assert found[0][1].dtype == jnp.float32
    assert_close(found, everything(theirs, x, kernel), 1e-5)


def test_bfloat16_is_added_in_float32():
    where, given = of_case("many channels", jnp.bfloat16)
    wide = tuple(array.astype(jnp.float32) for array in given)
    function = jax.jit(by_kernels(where))
    made = function(*given)
    np.testing.assert_array_equal(made, function(*wide).astype(jnp.bfloat16))


@pytest.mark.parametrize("case", ["few channels", "many channels", "transposed", "depthwise"])
def test_an_example_has_the_same_bits_in_every_batch(case):
    shape, kernel, where = CASES[case]
    x, kernel, bias = arrays((9, *shape[1:]), kernel, kernel[-1:], dtype=np.float32)

    @jax.jit
    def run(x):
        made, pull_back = jax.vjp(lambda x: by_kernels(where, relu=True)(x, kernel, bias), x)
        return made, *pull_back(jnp.sin(made))

    whole = run(x)
    for some in (slice(0, 1), slice(3, 8)):
        for one, all_of_it in zip(run(x[some]), whole, strict=True):
            np.testing.assert_array_equal(one, all_of_it[some])


def test_many_at_once_have_the_bits_of_one():
    where, (x, kernel, _) = of_case("few channels")
    run = jax.jit(jax.grad(lambda x: jnp.sin(by_kernels(where)(x, kernel, None)).sum()))
    many = jnp.stack([x, 2 * x])
    for one, alone in zip(jax.vmap(run)(many), many, strict=True):
        np.testing.assert_array_equal(one, run(alone))


def test_a_second_derivative():
    where, given = of_case("few channels")

    def penalty(function):
        def run(x, kernel, bias):
            return (jax.grad(lambda x: jnp.sin(function(x, kernel, bias)).sum())(x) ** 2).sum()

        return jax.jit(jax.grad(run, argnums=(0, 1, 2)))(*given)

    assert_close(penalty(by_kernels(where)), penalty(plainly(where)), 1e-11)


def test_relu_has_no_gradient_at_zero():
    x, kernel = jnp.ones((1, 2, 2, 2, 2)), jnp.zeros((1, 1, 1, 2, 3))
    function = by_kernels(geometry(padding=0), relu=True)
    gradients = jax.grad(lambda *given: function(*given).sum(), argnums=(0, 1, 2))
    for gradient in gradients(x, kernel, jnp.zeros(3)):
        np.testing.assert_array_equal(gradient, 0)


def test_unused_outputs_are_not_computed():
    where, given = of_case("few channels")
    loss = lambda *given: by_kernels(where)(*given).sum()  # noqa: E731
    assert calls(loss, *given) == 1
    text = jax.jit(jax.grad(loss, argnums=(1, 2))).lower(*given).compile().as_text()
    assert text.count('custom_call_target="jaxnets') == 1  # no outputs and no gradient of x


def test_the_residuals_are_the_inputs():
    """They are not the copies of x for the taps, which take several times its memory."""
    where, given = of_case("few channels")
    _, kept = jax.eval_shape(lambda *given: jax.vjp(by_kernels(where), *given), *given)
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(kept))
    assert shapes == sorted(array.shape for array in given)


@pytest.mark.parametrize(
    "make",
    [
        partial(layers.Conv3d, 3, 4, (3, 1, 3), padding=1),
        partial(layers.ConvTranspose3d, 3, 4, 4, 2, 1),
        partial(layers.Conv3d, 3, 6, 3, groups=3, padding="same"),
    ],
)
def test_layers_reach_the_kernels(make):
    layer = make(rngs=nnx.Rngs(0))
    (x,) = arrays((2, 4, 4, 4, 3), dtype=np.float32)
    (line,) = kernels.explain(layer, x)
    assert line.startswith("convolution ")
    assert calls(kernels.with_kernels(layer), x)
    assert_close(jax.jit(kernels.with_kernels(layer))(x), jax.jit(layer)(x), 1e-5)


def test_what_the_kernels_take():
    def by(x=(2, 4, 4, 4, 3), kernel=(3, 3, 3, 3, 5), where=None, dtype=np.float32):
        where = where or geometry()
        return supports(jnp.zeros(x, dtype), jnp.zeros(kernel, dtype), where)

    assert by()
    assert by(dtype=np.float64)
    assert not by(dtype=jnp.float16)
    assert not by((0, 4, 4, 4, 3))
    assert not by((2, 4, 4, 3), (3, 3, 3, 5))
    assert not by((2, 2, 4, 4, 3), where=geometry(padding=0))  # no output
    assert not by((2, 4, 4, 2, 3), where=geometry(padding=0))
    with native.aside():
        assert not by()

"""Depthwise convolutions by a native kernel compared with sums over all taps."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.kernels import native
from jaxnets.kernels.depthwise import depthwise, supports
from jaxnets.kernels.geometry import Geometry
from jaxnets.kernels.xla_convolution import by_xla_operations
from tests.kernels import assert_close, calls


def geometry(groups, stride=1, padding=1, dilation=1, input_dilation=1, axes=2):
    def each(value):
        return value if isinstance(value, tuple) else (value,) * axes

    pads = tuple(pad if isinstance(pad, tuple) else (pad, pad) for pad in each(padding))
    return Geometry(each(stride), pads, each(dilation), each(input_dilation), groups)


#: Shapes of x and the kernel, and the geometry: channels that fill less than one vector, one or
#: several; strides, dilations and asymmetric paddings; windows larger than x.
CASES = {
    "three": ((3, 7, 9, 16), (3, 3, 1, 16), geometry(16)),
    "ragged": ((2, 5, 6, 37), (3, 3, 1, 37), geometry(37)),
    "few channels": ((2, 6, 11, 3), (3, 3, 1, 3), geometry(3)),
    "one channel": ((2, 4, 19, 1), (2, 4, 1, 1), geometry(1, padding=((1, 0), (2, 1)))),
    "stride": ((2, 9, 8, 20), (3, 3, 1, 20), geometry(20, stride=(2, 3))),
    "five": ((2, 7, 8, 17), (5, 5, 1, 17), geometry(17, padding=2)),
    "seven": ((1, 5, 4, 16), (7, 7, 1, 16), geometry(16, padding=3)),
    "wide": ((2, 6, 14, 8), (1, 11, 1, 8), geometry(8, padding=((0, 0), (4, 5)))),
    "dilation": ((2, 8, 9, 18), (3, 2, 1, 18), geometry(18, dilation=(2, 3))),
    "uneven": ((2, 6, 7, 16), (3, 3, 1, 16), geometry(16, padding=((-1, 2), (0, 3)))),
    "transposed": ((2, 4, 5, 5), (3, 4, 1, 5), geometry(5, 1, 2, 1, (2, 3))),
    "several": ((2, 5, 5, 6), (3, 3, 1, 18), geometry(6, stride=2)),
    "sequence": ((3, 12, 24), (3, 1, 24), geometry(24, axes=1)),
    "large": ((2, 20, 24, 40), (3, 3, 1, 40), geometry(40)),
}


def arrays(*shapes, dtype=np.float64):
    draw = np.random.default_rng(0)
    return [draw.normal(size=shape).astype(dtype) for shape in shapes]


def of_case(name, dtype=np.float64):
    """The geometry, and x, kernel, bias and a gradient of the outputs."""
    x, kernel, where = CASES[name]
    y = jax.eval_shape(
        functools.partial(by_xla_operations, where, False),
        *(jax.ShapeDtypeStruct(shape, np.float32) for shape in (x, kernel)),
    )
    return where, arrays(x, kernel, kernel[-1:], y.shape, dtype=dtype)


def expected(where, relu, x, kernel, bias, d):
    """The outputs, and the gradients of x, kernel and bias."""
    given, each = x.shape, kernel.shape[-1] // x.shape[-1]
    x = np.repeat(x, each, axis=-1)
    y, d_x, d_kernel = np.zeros_like(d) + bias, np.zeros_like(x), np.zeros_like(kernel)
    met = []  # positions of matching outputs, taps and inputs
    for out in itertools.product(*map(range, d.shape[1:-1])):
        for tap in itertools.product(*map(range, kernel.shape[:-2])):
            steps = zip(
                out,
                where.stride,
                tap,
                where.dilation,
                where.padding,
                where.input_dilation,
                strict=True,
            )
            places = [divmod(o * s + t * d - low, e) for o, s, t, d, (low, _), e in steps]
            inside = zip(places, x.shape[1:-1], strict=True)
            if all(not rest and 0 <= place < size for (place, rest), size in inside):
                met.append(((slice(None), *out), tap, (slice(None), *(p for p, _ in places))))
    for out, tap, place in met:
        y[out] += x[place] * kernel[tap][0]
    if relu:
        d, y = np.where(y > 0, d, 0), np.maximum(y, 0)
    for out, tap, place in met:
        d_x[place] += d[out] * kernel[tap][0]
        d_kernel[tap][0] += (d[out] * x[place]).sum(0)
    d_x = d_x.reshape(*given, each).sum(-1)
    return y, d_x, d_kernel, d.reshape(-1, d.shape[-1]).sum(0)


def found(where, relu, x, kernel, bias, d):
    plain = functools.partial(by_xla_operations, where, relu)

    @jax.jit
    def run(x, kernel, bias, d):
        y, pull_back = jax.vjp(depthwise(where, plain, relu=relu), x, kernel, bias)
        return y, *pull_back(d)

    return run(x, kernel, bias, d)


@pytest.mark.parametrize("name", CASES)
def test_sums_over_all_taps(name):
    with jax.enable_x64(True):
        where, given = of_case(name)
        relu = name in ("ragged", "few channels", "stride", "seven", "sequence")
        assert supports(given[0], given[1], where)
        assert_close(found(where, relu, *given), expected(where, relu, *given), 1e-12)


@pytest.mark.parametrize("name", ["ragged", "few channels", "stride", "five"])
def test_in_single_precision(name):
    where, given = of_case(name, np.float32)
    wide = [array.astype(np.float64) for array in given]
    assert_close(found(where, True, *given), expected(where, True, *wide), 1e-5)


@pytest.mark.parametrize("name", ["three", "few channels", "stride", "seven"])
def test_padding_meets_no_infinity(name):
    """A product of zero and infinity would be NaN."""
    with jax.enable_x64(True):
        where, (x, kernel, bias, d) = of_case(name)
        kernel[0, 0] = kernel[-1, -1] = d[:, 0, 0] = x[:, -1, -1] = np.inf
        with np.errstate(invalid="ignore"):
            wanted = expected(where, False, x, kernel, bias, d)
        for ours, theirs in zip(found(where, False, x, kernel, bias, d), wanted, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_without_a_bias():
    where, (x, kernel, _, _) = of_case("ragged", np.float32)
    plain = functools.partial(by_xla_operations, where, False)
    y, pull_back = jax.vjp(jax.jit(depthwise(where, plain)), x, kernel, None)
    assert_close(y, plain(x, kernel), 1e-5)
    assert pull_back(y)[2] is None


def test_second_derivatives():
    where, (x, kernel, bias, _) = of_case("several", np.float32)
    plain = functools.partial(by_xla_operations, where, True)

    def steepness(function):
        def squares(x, kernel):
            slope = jax.grad(lambda x: (function(x, kernel, bias) ** 2).sum())(x)
            return (slope**2).sum()

        return jax.jit(jax.grad(squares, argnums=(0, 1)))(x, kernel)

    assert_close(steepness(depthwise(where, plain, relu=True)), steepness(plain), 1e-5)


@pytest.mark.parametrize("name", ["three", "few channels", "stride"])
def test_an_example_has_the_same_bits_in_every_batch(name):
    where, given = of_case(name, np.float32)
    x, kernel, bias, d = given
    x, d = (np.concatenate([array] * 9) * np.float32(1.5) for array in (x, d))
    whole = found(where, True, x, kernel, bias, d)
    for some in slice(1), slice(3, 8):
        part = found(where, True, x[some], kernel, bias, d[some])
        for ours, all_of_them in zip(part[:2], whole[:2], strict=True):
            np.testing.assert_array_equal(ours, all_of_them[some])
    again = found(where, True, x, kernel, bias, d)
    jax.tree.map(np.testing.assert_array_equal, again, whole)


def test_unused_outputs_are_not_computed():
    where, (x, kernel, bias, _) = of_case("three", np.float32)
    function = depthwise(where, functools.partial(by_xla_operations, where, False))

    def total(x, kernel):
        return function(x, kernel, bias).sum()

    def compiled(argnums):
        program = jax.jit(jax.grad(total, argnums)).lower(x, kernel).compile().as_text()
        return program.count('custom_call_target="jaxnets_depthwise_')

    assert calls(total, x, kernel) == 1
    assert (compiled(0), compiled(1), compiled((0, 1))) == (1, 1, 2)


def test_what_the_kernel_takes():
    def by(x=(2, 5, 5, 4), kernel=(3, 3, 1, 4), dtype=jnp.float32, **options):
        given = (jax.ShapeDtypeStruct(shape, dtype) for shape in (x, kernel))
        return supports(*given, geometry(options.pop("groups", 4), axes=len(x) - 2, **options))

    assert by()
    assert by(kernel=(3, 3, 1, 8))
    assert by((2, 5, 4), (3, 1, 4))
    assert by((2, 5, 5, 1), (3, 3, 1, 1), groups=1)
    assert not by((2, 5, 5, 1), (3, 3, 1, 2), groups=1)
    assert not by(kernel=(3, 3, 2, 4), groups=2)
    assert not by((2, 5, 5, 5, 4), (3, 3, 3, 1, 4))
    assert not by((0, 5, 5, 4))
    assert not by((2, 2, 2, 4), padding=0)
    assert not by(dtype=jnp.float16)
    with native.aside():
        assert not by()


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for name in "ragged", "few channels", "stride", "five":
        test_sums_over_all_taps(name)
    test_in_single_precision("ragged")

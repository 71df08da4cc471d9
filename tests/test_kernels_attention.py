"""Attention by a native kernel compared with XLA's operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxnets.kernels import native
from jaxnets.kernels.attention import Settings, attention, supports
from jaxnets.kernels.rewrite import explain
from jaxnets.layers.attention import attend
from jaxnets.layers.scaled_dot_product import scaled_dot_product_attention
from tests.kernels import assert_close, calls, precisions

#: Examples, queries, keys, heads and the size of a head: incomplete blocks and vectors, one key,
#: more rows than a block.
SHAPES = [
    (2, 5, 5, 3, 7),
    (1, 1, 1, 1, 1),
    (3, 70, 37, 2, 40),
    (9, 4, 17, 1, 16),
    (1, 130, 200, 1, 3),
]


def plainly(settings):
    def run(inputs, masks, key=None):
        given = {"heads": settings.heads, "causal": settings.causal, "rate": settings.rate}
        return attend(inputs, masks, key, **given)

    return run


def kernel(settings):
    return attention(settings, plainly(settings))


def arrays(*shapes, dtype=np.float32):
    draw = np.random.default_rng(0)
    return tuple(jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes)


def by_shape(shape, dtype=np.float32, masks=True):
    """The inputs and masks; inputs are packed if there are as many queries as keys."""
    batch, length, source, heads, size = shape
    width = heads * size
    if length == source:
        inputs = arrays((batch, length, 3 * width), dtype=dtype)
    else:
        inputs = arrays((batch, length, width), *[(batch, source, width)] * 2, dtype=dtype)
    if not masks:
        return inputs, ()
    full, keys, pairs = arrays(
        (batch, heads, length, source), (batch, 1, 1, source), (length, source), dtype=dtype
    )
    return inputs, (full, jnp.where(keys > 1, -jnp.inf, 0.0), pairs[None, None])


def everything(function, inputs, masks):
    """The outputs, and the gradients with respect to all inputs."""

    def run(inputs, masks):
        made = function(inputs, masks)
        return jnp.sin(made).sum(), made

    return jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))(inputs, masks)


@pytest.mark.parametrize("causal", [False, True])
@precisions(1e-5, 1e-12)
@pytest.mark.parametrize("shape", SHAPES)
def test_equal_to_xla(shape, dtype, tolerance, causal):
    with jax.enable_x64(dtype == np.float64):
        settings = Settings(shape[3], causal=causal, safe=True)
        inputs, masks = by_shape(shape, dtype, masks=not causal or shape[0] == 9)
        assert supports(inputs, masks, None, settings)
        ours = everything(kernel(settings), inputs, masks)
        assert_close(ours, everything(plainly(settings), inputs, masks), tolerance)


@pytest.mark.parametrize("safe", [False, True])
def test_a_query_that_sees_no_key(safe):
    """Its outputs are zeros without a gradient, or NaN if not ``safe``; others are unaffected."""
    settings = Settings(2, safe=safe)
    inputs, _ = by_shape((2, 5, 9, 2, 4), masks=False)
    mask = jnp.zeros((1, 1, 5, 9)).at[:, :, 3].set(-jnp.inf)
    (_, ours), gradients = everything(kernel(settings), inputs, (mask,))
    assert np.isnan(ours[:, 3]).all() if not safe else not ours[:, 3].any()
    assert np.isfinite(np.delete(ours, 3, 1)).all()
    if safe:
        assert_close(gradients, everything(plainly(settings), inputs, (mask,))[1], 1e-5)


def test_what_is_not_finite_is_where_xla_has_it():
    settings, (inputs, _) = Settings(2, safe=True), by_shape((4, 6, 21, 2, 4), masks=False)
    q, k, v = inputs
    q = q.at[0, 2, 1].set(jnp.nan)
    k = k.at[1, 20, 5].set(jnp.inf).at[2, 3, 0].set(1e30)
    v = v.at[3, 7, 2].set(-jnp.inf)
    mask = jnp.zeros((4, 1, 1, 21)).at[1, ..., 5].set(-jnp.inf).at[2, ..., 1].set(-1e30)
    ours, theirs = (
        everything(function(settings), (q, k, v), (mask,)) for function in (kernel, plainly)
    )
    assert_close(ours, theirs, 1e-5)
    assert 0 < np.isnan(ours[0][1]).sum() < ours[0][1].size


def test_small_weights_and_large_scores():
    """The maximum is subtracted, however large; scores far below it have no weight."""
    settings, (inputs, _) = Settings(1, safe=True), by_shape((1, 3, 40, 1, 4), masks=False)
    q, k, v = inputs
    for factor in (1e-3, 50.0, 1e4):
        given = factor * q, k, v
        assert_close(kernel(settings)(given, ()), plainly(settings)(given, ()), 1e-5)


def test_dropout_of_weights():
    """Drops the same weights as JAX's generator, also in the backward pass."""
    settings, key = Settings(2, causal=True, rate=0.3), jax.random.key(5)
    (x,), _ = by_shape((3, 37, 37, 2, 5), masks=False)

    def run(function):
        return everything(lambda inputs, masks: function(inputs, masks, key), (x,), ())

    assert supports((x,), (), key, settings)
    ours = run(kernel(settings))
    assert_close(ours, run(plainly(settings)), 1e-5)
    others = everything(kernel(Settings(2, causal=True)), (x,), ())
    assert not np.allclose(ours[0][1], others[0][1])


def test_second_derivatives():
    settings, (inputs, masks) = Settings(2, safe=True), by_shape((2, 5, 5, 2, 3))

    def penalty(function):
        def squares(inputs):
            return (function(inputs, masks) ** 2).sum()

        return jax.jit(jax.grad(lambda inputs: (jax.grad(squares)(inputs)[0] ** 2).sum()))

    ours, theirs = penalty(kernel(settings))(inputs), penalty(plainly(settings))(inputs)
    assert_close(ours, theirs, 1e-5)


def test_an_example_has_the_same_bits_in_every_batch():
    settings, (inputs, _) = Settings(2, causal=True, safe=True), by_shape((40, 70, 70, 2, 5))
    answer = jax.jit(lambda inputs: everything(kernel(settings), inputs, ())[0][1])
    gradient = jax.jit(lambda inputs: everything(kernel(settings), inputs, ())[1])
    whole, slope = answer(inputs), gradient(inputs)[0][0]
    for some in (slice(0, 1), slice(7, 25)):
        part = (inputs[0][some],)
        np.testing.assert_array_equal(answer(part), whole[some])
        np.testing.assert_array_equal(gradient(part)[0][0], slope[some])


def test_many_at_once_have_the_bits_of_one():
    settings, (inputs, _) = Settings(2, safe=True), by_shape((6, 5, 5, 2, 4), masks=False)
    answer = jax.jit(lambda x: kernel(settings)((x,), ()))
    x = inputs[0].reshape(3, 2, 5, 24)
    for one, alone in zip(jax.vmap(answer)(x), x, strict=True):
        np.testing.assert_array_equal(one, answer(alone))


def test_under_shard_map():
    settings, (inputs, masks) = Settings(2, safe=True), by_shape((4, 5, 5, 2, 4))
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(x):
        return jax.grad(lambda x: kernel(settings)((x,), masks[2:]).sum())(x)

    divided = jax.shard_map(gradient, mesh=mesh, in_specs=P("data"), out_specs=P("data"))
    np.testing.assert_array_equal(jax.jit(divided)(inputs[0]), jax.jit(gradient)(inputs[0]))


def test_what_the_kernel_takes():
    def by(shape=(2, 5, 6, 2, 4), dtype=jnp.float32, masks=()):
        batch, length, source, heads, size = shape
        widths = ((batch, n, heads * size) for n in (length, source, source))
        inputs = tuple(jax.ShapeDtypeStruct(sizes, dtype) for sizes in widths)
        return supports(inputs, masks, None, Settings(heads))

    assert by()
    assert by((1, 1, 1, 1, 1))
    assert not by((0, 5, 6, 2, 4))
    assert by((1, 5, 2**14, 2, 64))
    assert not by((1, 5, 2**14 + 1, 2, 64))
    assert by(masks=(jnp.zeros((1, 1, 5, 6)),) * 4)
    assert not by(masks=(jnp.zeros((1, 1, 5, 6)),) * 5)
    assert not by(masks=(jnp.zeros((5, 6)),))
    assert not by(masks=(jnp.zeros((1, 1, 5, 6), bool),))
    assert not by(dtype=jnp.float16)
    with native.aside():
        assert not by()


def test_unused_outputs_are_not_computed():
    """Inference stores nothing, and the gradient of a mask is computed only if requested."""
    settings, (inputs, masks) = Settings(2, safe=True), by_shape((2, 5, 5, 2, 4))

    def answer(inputs):
        return kernel(settings)(inputs, masks).sum()

    assert calls(answer, inputs) == 1
    assert calls(jax.grad(answer), inputs) == 2
    assert "2x2x5x2x" not in jax.jit(answer).lower(inputs).as_text()
    assert "dot" not in jax.jit(jax.grad(answer)).lower(inputs).compile().as_text()


@pytest.mark.slow
def test_without_avx_512(vectors_of_32_bytes):
    for dtype, tolerance in (np.float32, 1e-5), (np.float64, 1e-12):
        for shape in SHAPES[::2]:
            test_equal_to_xla(shape, dtype, tolerance, shape[0] > 1)


def test_threads_make_no_difference():
    """One thread or several compute the heads of an example."""
    settings, (inputs, _) = Settings(4, safe=True), by_shape((9, 20, 20, 4, 8), masks=False)
    many = everything(kernel(settings), inputs, ())
    one_by_one = [everything(kernel(settings), (inputs[0][n : n + 1],), ()) for n in range(9)]
    for n, one in enumerate(one_by_one):
        np.testing.assert_array_equal(many[0][1][n : n + 1], one[0][1])
        np.testing.assert_array_equal(many[1][0][0][n : n + 1], one[1][0][0])


def test_the_function_reaches_the_kernel_where_values_have_the_size_of_keys():
    q, k, v = (jnp.zeros((2, 4, length, 8)) for length in (3, 5, 5))
    mask, key = jnp.ones((3, 5), bool), jax.random.key(0)

    def run(q, k, v):
        return scaled_dot_product_attention(q, k, v, mask, 0.1, scale=0.2, rngs=key)

    assert explain(run, q, k, v) == ["attend of 2 × 3 × 32"]
    assert explain(run, q, k, v[..., :4]) == []


def test_dropout_of_the_function_drops_and_divides():
    q, k, v = (jnp.ones((1, 1, length, 1)) for length in (1, 4000, 4000))
    means = [
        scaled_dot_product_attention(q, k, v, dropout_p=0.25, rngs=rngs).item()
        for rngs in (jax.random.key(0), nnx.Rngs(0), nnx.Rngs(dropout=1).dropout)
    ]
    np.testing.assert_allclose(means, 1, atol=0.03)
    assert len(set(means)) > 1

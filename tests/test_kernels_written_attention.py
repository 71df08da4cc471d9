"""Attention that a network, Flax or JAX writes as several operations is computed by a kernel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import kernels, layers
from jaxnets.kernels.rewrite import with_kernels
from tests import tier
from tests.kernels import assert_close, calls

CAUSAL = jnp.tril(jnp.ones((5, 5), bool))
NARROW = jnp.tril(jnp.ones((5, 5), bool), 1) & ~jnp.tril(jnp.ones((5, 5), bool), -3)
FLAX = nnx.MultiHeadAttention(2, 8, decode=False, rngs=nnx.Rngs(0))


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def heads(seed=0):
    """Queries, keys and values [N, heads, L, d]."""
    return [normal(3, 2, 5, 4, seed=seed + number) for number in range(3)]


def attention(q, k, v, mask=lambda scores: scores, scale=0.5):
    scores = mask(q @ jnp.swapaxes(k, -2, -1) * scale)
    return jax.nn.softmax(scores, axis=-1) @ v


def replaced(mask, by):
    return lambda scores: jnp.where(mask, scores, by)


def by_a_key_mask(q, k, v):
    known = (v[:, :1, :, 0] > -0.5)[:, :, None]
    return attention(q, k, v, replaced(known, -jnp.inf))


def by_a_learned_bias(q, k, v):
    return attention(
        q, k, v, lambda scores: scores + jnp.sin(q[:1, :, :, :1] + k[:1, :, None, :, 1])
    )


def heads_last(q, k, v):
    q, k, v = (jnp.moveaxis(x, 1, 2) for x in (q, k, v))
    weights = jax.nn.softmax(jnp.einsum("nlhd,nshd->nhls", q, k))
    return jnp.einsum("nhls,nshd->nlhd", weights, v).reshape(3, 5, 8)


def keys_first(q, k, v):
    weights = jax.nn.softmax(jnp.einsum("nhsd,nhld->nhls", k, q))
    return jnp.einsum("nhsd,nhls->nhdl", v, weights)


def of_one_batch_axis(q, k, v):
    q, k, v = (x.reshape(6, 5, 4) for x in (q, k, v))
    return attention(q / 2, k, v, replaced(CAUSAL, -jnp.inf), scale=1.0)


def of_one_head(q, k, v):
    return attention(*(x[:, :1] for x in (q, k, v)))


def of_one_example_and_head(q, k, v):
    return attention(*(x[:1, :1] for x in (q, k, v)))


def by_windows(q, k, v):
    """A mask that differs between the windows of an image, and a bias of the heads."""
    q, k, v = (jnp.concatenate([x, x[:1] - 1]) for x in (q, k, v))
    mask = jnp.sin(q[0, :, :, :1] + k[1, :, None, :, 0])  # [windows, L, S]
    bias = jnp.cos(v[0, :, :, :1] - v[1, :, None, :, 0])  # [heads, L, S]
    scores = q @ jnp.swapaxes(k, -2, -1) + bias[None]
    scores = scores.reshape(2, 2, 2, 5, 5) + mask[:, None][None]
    return jax.nn.softmax(scores.reshape(-1, 2, 5, 5)) @ v


def of_jax(q, k, v, **options):
    return jax.nn.dot_product_attention(*(jnp.moveaxis(x, 1, 2) for x in (q, k, v)), **options)


def of_flax(q, k, v, mask=None):
    x, y = (z.reshape(3, 5, 8) for z in (q, k))
    return FLAX(x, y, mask=mask)


MATCHED = {
    "of any two": attention,
    "with a causal mask": functools.partial(attention, mask=replaced(CAUSAL, -jnp.inf)),
    "with a causal mask by a large number": functools.partial(
        attention, mask=replaced(CAUSAL, -1e9)
    ),
    "with another constant mask": functools.partial(attention, mask=replaced(NARROW, -jnp.inf)),
    "with a mask of keys": by_a_key_mask,
    "with a bias that depends on inputs": by_a_learned_bias,
    "with heads after positions": heads_last,
    "with products in another order": keys_first,
    "with one batch axis": of_one_batch_axis,
    "with one head": of_one_head,
    "with one example and one head": of_one_example_and_head,
    "with windows": by_windows,
    "of JAX": of_jax,
    "of JAX, causal": functools.partial(of_jax, is_causal=True),
    "of Flax": of_flax,
    "of Flax, causal": functools.partial(of_flax, mask=nnx.make_causal_mask(jnp.ones((3, 5)))),
}


@pytest.mark.parametrize("name", tier.one_in(2, MATCHED))
def test_outputs_and_gradients_are_those_of_xla(name):
    function, given = MATCHED[name], heads()
    assert [line for line in kernels.explain(function, *given) if "attention" in line]

    def both(function):
        def loss(*given):
            y = function(*given)
            return jnp.sum(jnp.sin(y)), y

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*given)

    assert_close(both(with_kernels(function)), both(function), 1e-5)


def weights_too(q, k, v):
    weights = jax.nn.softmax(q @ jnp.swapaxes(k, -2, -1))
    return weights @ v, weights


def over_the_queries(q, k, v):
    return jnp.swapaxes(jax.nn.softmax(q @ jnp.swapaxes(k, -2, -1), axis=-2), -2, -1) @ v


def of_grouped_heads(q, k, v):
    return of_jax(q, k[:, :1], v[:, :1])


def by_a_large_number(q, k, v):
    return attention(q, k, v, replaced((v[:, :1, :, 0] > 0)[:, :, None], -1e9))


def by_two_masks(q, k, v):
    known = (v[:, :1, :, 0] > -0.5)[:, :, None]
    return attention(q, k, v, lambda s: replaced(known, -jnp.inf)(replaced(CAUSAL, -1e9)(s)))


def without_keys(q, k, v):
    return attention(q, k, v, replaced(CAUSAL.at[0].set(False), -1e9))


def of_wider_values(q, k, v):
    return attention(q, k, jnp.concatenate([v, v], -1))


def of_joined_axes(q, k, v):
    scores = (q @ jnp.swapaxes(k, -2, -1)).reshape(6, 5, 5)
    return jax.nn.softmax(scores) @ v.reshape(6, 5, 4)


def by_a_bias_of_more_heads(q, k, v):
    return attention(q[:, :1], k[:, :1], v, lambda scores: scores + jnp.sin(v[:, :, :1, :1]))


def by_one_condition(q, k, v):
    def masked(scores):
        return jax.lax.select(v[0, 0, 0, 0] > 9, jnp.full_like(scores, -jnp.inf), scores)

    return attention(q, k, v, masked)


def of_values_for_each_query(q, k, v):
    weights = jax.nn.softmax(q @ jnp.swapaxes(k, -2, -1))
    return jnp.einsum("nhls,nhlse->nhle", weights, v[:, :, None] + q[:, :, :, None])


def of_the_largest_weights(q, k, v):
    weights = jax.nn.softmax(q @ jnp.swapaxes(k, -2, -1))
    return jax.lax.top_k(weights, 2)[0] @ v[..., :2, :]


LEFT = [
    *(by_a_bias_of_more_heads, by_one_condition, of_joined_axes, of_values_for_each_query),
    *(weights_too, over_the_queries, of_grouped_heads, by_a_large_number, by_two_masks),
    *(without_keys, of_wider_values, of_the_largest_weights),
]


@pytest.mark.parametrize("function", LEFT)
def test_other_operations_are_left_to_xla(function):
    assert calls(with_kernels(function), *heads()) == 0


def test_a_query_without_keys_is_nan_as_in_jax():
    mask = jnp.ones((3, 1, 1, 5), bool).at[1].set(False)

    def function(q, k, v, mask):
        return attention(q, k, v, replaced(mask, -jnp.inf))

    ours, theirs = with_kernels(function)(*heads(), mask), function(*heads(), mask)
    assert calls(with_kernels(function), *heads(), mask) == 1
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    assert np.isnan(ours[1]).all()
    assert np.isfinite(ours[0]).all()


def test_dropout_of_the_weights_draws_the_same_numbers():
    def function(q, k, v, key):
        weights = jax.nn.softmax(q @ jnp.swapaxes(k, -2, -1))
        return layers.dropout.drop(weights, key, rate=0.5, alike=()) @ v

    given = (*heads(), jax.random.key(3))
    assert len(kernels.explain(function, *given)) == 1
    assert_close(jax.jit(with_kernels(function))(*given), jax.jit(function)(*given), 1e-5)


def test_second_derivatives_are_those_of_xla():
    def product(function):
        def along(q, k, v):
            slope = jax.grad(lambda q: jnp.sum(jnp.sin(function(q, k, v))))(q)
            return jnp.sum(slope * jnp.cos(q))

        return jax.jit(jax.grad(along, argnums=1))(*heads())

    function = MATCHED["with a causal mask"]
    assert_close(product(with_kernels(function)), product(function), 1e-5)


def test_projections_to_heads_are_linear_layers():
    layer = nnx.MultiHeadAttention(4, 64, decode=False, rngs=nnx.Rngs(0))
    x = normal(32, 8, 64)
    layer.query.bias[...] = normal(4, 16)
    found = kernels.explain(layer, x)
    assert found[:3] + found[4:] == ["linear 64 → 64"] * 4
    assert found[3] == "attention of 8 queries to 8 keys, 4 heads"
    assert_close(with_kernels(layer)(x), layer(x), 1e-5)

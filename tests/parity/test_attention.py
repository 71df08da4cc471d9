import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn import functional as torch_functional

from jaxnets import functional, layers
from jaxnets.interop import to_numpy
from tests import tier
from tests.parity.oracle import assert_equal, check_function, check_layer, copy_weights

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
MASKS = st.sampled_from([None, "boolean", "float"])


class Called(nnx.Module):
    """A layer of ours, called as ``call(layer, x)``."""

    def __init__(self, layer, call):
        self.layer, self.call = layer, call

    def __call__(self, x):
        return self.call(self.layer, x)


class TorchCalled(torch.nn.Module):
    """A layer of torch's, called as ``call(layer, x)``."""

    def __init__(self, layer, call):
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x):
        return self.call(self.layer, x)


def draw(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def randomized(layer, dtype):
    """Draws the vectors anew: biases of zero and scales of one would hide where they belong."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return layer.to(torch.tensor(dtype(0)).dtype)


def draw_mask(kind, shape, dtype):
    """A mask that leaves each query its first key, or None."""
    if kind is None:
        return None
    forbidden = draw(shape, dtype, seed=1) > 0.3
    forbidden[..., 0] = False
    if kind == "boolean":
        return forbidden
    return np.where(forbidden, dtype(-np.inf), draw(shape, dtype, seed=2))


def both(masks):
    """The same keyword arguments for us and for torch."""
    given = {name: mask for name, mask in masks.items() if mask is not None}
    return (
        {name: jnp.asarray(mask) for name, mask in given.items()},
        {name: torch.tensor(mask) for name, mask in given.items()},
    )


def joined(outputs, weights, concatenate):
    """Outputs and weights as one array [N, ...], so that the gradients of both are compared."""
    flat = [array.reshape(array.shape[0], -1) for array in (outputs, weights) if array is not None]
    return concatenate(flat, 1)


@DTYPES
@example((2, 3, 4), 2, 2, True, None, None, "float", True, True, "per head")
@example((2, 3, 4), 2, 3, True, 5, 3, "boolean", False, True, "averaged")
@example((2, 3, 4), 2, 3, True, None, 3, "float", False, False, "none")
@tier.examples(2)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 5)),
    heads=st.integers(1, 3),
    head_dim=st.integers(2, 4),
    bias=st.booleans(),
    kdim=st.none() | st.integers(1, 5),
    vdim=st.none() | st.integers(1, 5),
    kind=MASKS,
    per_head=st.booleans(),
    padding=st.booleans(),
    weights=st.sampled_from(["averaged", "per head", "none"]),
)
def test_attention_equals_torch(
    dtype, sizes, heads, head_dim, bias, kdim, vdim, kind, per_head, padding, weights
):
    batch, length, source = sizes
    dim = heads * head_dim
    ours = layers.MultiheadAttention(
        dim, heads, 0.0, bias, kdim=kdim, vdim=vdim, rngs=nnx.Rngs(0), param_dtype=dtype
    )
    theirs = torch.nn.MultiheadAttention(
        dim, heads, bias=bias, kdim=kdim, vdim=vdim, batch_first=True
    )
    shape = (batch * heads, length, source) if per_head else (length, source)
    padding_kind = (kind or "boolean") if padding else None
    our_masks, torch_masks = both(
        {
            "attn_mask": draw_mask(kind, shape, dtype),
            "key_padding_mask": draw_mask(padding_kind, (batch, source), dtype),
        }
    )
    options = {
        "need_weights": weights != "none",
        "average_attn_weights": weights == "averaged",
    }
    kdim, vdim = kdim or dim, vdim or dim

    def split(x):  # the query before, key and value side by side after
        return x[:, :length, :dim], x[:, length:, :kdim], x[:, length:, -vdim:]

    inputs = draw((batch, length + source, max(dim, kdim + vdim)), dtype)
    check_layer(
        Called(ours, lambda m, x: joined(*m(*split(x), **our_masks, **options), jnp.concatenate)),
        TorchCalled(
            randomized(theirs, dtype),
            lambda m, x: joined(*m(*split(x), **torch_masks, **options), torch.cat),
        ),
        inputs,
    )


@DTYPES
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("mask", ["attn_mask", "key_padding_mask"])
def test_query_without_a_key_equals_torch(dtype, need_weights, mask):
    forbidden = np.zeros((3, 3), bool)
    forbidden[1] = True  # a query, or all keys of a sample
    ours = layers.MultiheadAttention(4, 2, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = randomized(torch.nn.MultiheadAttention(4, 2, batch_first=True), dtype)

    def call(mask_array):
        return lambda m, x: m(x, x, x, need_weights=need_weights, **{mask: mask_array})[0]

    check_layer(
        Called(ours, call(jnp.asarray(forbidden))),
        TorchCalled(theirs, call(torch.tensor(forbidden))),
        draw((3, 3, 4), dtype),
    )


@DTYPES
@pytest.mark.parametrize("need_weights", [True, False])
def test_causal_attention_equals_torch(dtype, need_weights):
    ours = layers.MultiheadAttention(4, 2, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = randomized(torch.nn.MultiheadAttention(4, 2, batch_first=True), dtype)
    options = {"need_weights": need_weights, "is_causal": True}
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=theirs.out_proj.bias.dtype)
    check_layer(
        Called(ours, lambda m, x: m(x, x, x, **options)[0]),
        TorchCalled(theirs, lambda m, x: m(x, x, x, attn_mask=mask, **options)[0]),
        draw((2, 5, 4), dtype),
    )


@pytest.mark.parametrize("kdim", [None, 7])
def test_attention_starts_as_torch_does(kdim):
    ours = layers.MultiheadAttention(64, 4, kdim=kdim, rngs=nnx.Rngs(0))
    theirs = torch.nn.MultiheadAttention(64, 4, kdim=kdim).state_dict()
    for name, value in to_numpy(ours).items():
        expected = theirs[name].numpy()
        bound = np.abs(expected).max()  # of a uniform distribution, or zeros
        np.testing.assert_allclose(np.abs(value).max(), bound, rtol=0.02)
        np.testing.assert_allclose(value.std(), expected.std(), rtol=0.06)


def encoder_layers(dtype, *sizes, activation="relu", **options):
    ours = layers.TransformerEncoderLayer(
        *sizes, 0.0, activation, **options, rngs=nnx.Rngs(0), param_dtype=dtype
    )
    theirs = torch.nn.TransformerEncoderLayer(*sizes, 0.0, activation, **options, batch_first=True)
    return ours, theirs


@DTYPES
@example((2, 3), 2, 4, "gelu", False, True, "boolean", True)
@example((2, 3), 2, 4, "relu", True, True, "float", True)
@tier.examples(1)
@given(
    sizes=st.tuples(st.integers(1, 2), st.integers(1, 4)),
    heads=st.integers(1, 3),
    hidden=st.integers(4, 6),
    activation=st.sampled_from(["relu", "gelu"]),
    norm_first=st.booleans(),
    bias=st.booleans(),
    kind=MASKS,
    padding=st.booleans(),
)
def test_encoder_layer_equals_torch(
    dtype, sizes, heads, hidden, activation, norm_first, bias, kind, padding
):
    batch, length = sizes
    options = {"activation": activation, "norm_first": norm_first, "bias": bias}
    ours, theirs = encoder_layers(dtype, 4 * heads, heads, hidden, layer_norm_eps=1e-3, **options)
    our_masks, torch_masks = both(
        {
            "src_mask": draw_mask(kind, (length, length), dtype),
            "src_key_padding_mask": draw_mask(
                (kind or "boolean") if padding else None, (batch, length), dtype
            ),
        }
    )
    check_layer(
        Called(ours, lambda m, x: m(x, **our_masks)),
        TorchCalled(randomized(theirs, dtype), lambda m, x: m(x, **torch_masks)),
        draw((batch, length, 4 * heads), dtype),
    )


@DTYPES
@pytest.mark.parametrize("normed", [False, True])
def test_encoder_equals_torch(dtype, normed):
    ours, theirs = encoder_layers(dtype, 8, 2, 6)
    our_norm = layers.LayerNorm(8, param_dtype=dtype) if normed else None
    ours = layers.TransformerEncoder(ours, 2, our_norm)
    theirs = torch.nn.TransformerEncoder(theirs, 2, torch.nn.LayerNorm(8) if normed else None)
    padding = np.array([[False] * 4, [False, False, True, True]])
    check_layer(
        Called(ours, lambda m, x: m(x, None, jnp.asarray(padding))),
        TorchCalled(randomized(theirs, dtype), lambda m, x: m(x, None, torch.tensor(padding))),
        draw((2, 4, 8), dtype),
    )


def test_causal_encoder_equals_torch():
    ours, theirs = encoder_layers(np.float64, 8, 2, 6)
    ours = layers.TransformerEncoder(ours, 2)
    theirs = randomized(torch.nn.TransformerEncoder(theirs, 2), np.float64)
    copy_weights(ours, theirs)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    inputs = draw((2, 5, 8), np.float64)
    outputs = jax.jit(lambda x: ours(x, is_causal=True))(jnp.asarray(inputs))
    assert_equal(outputs, theirs(torch.tensor(inputs), mask, is_causal=True), "outputs")


def forbidding(allowed):
    """The mask as numbers, which hold both of nothing and of everything."""
    return np.where(allowed, 0.5, -np.inf)


ALLOWED = draw((3, 5), np.float64, seed=1) < 0.4
ALLOWED[1] = False  # a query without a key
#: The shapes of queries, keys and values, and the options of both.
DOT_PRODUCTS = {
    "four axes": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {}),
    "values of another size": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 2)], {}),
    "boolean mask": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {"attn_mask": ALLOWED}),
    "two axes": ([(3, 4), (5, 4), (5, 2)], {"attn_mask": ALLOWED}),
    "three axes": ([(2, 3, 4), (2, 5, 4), (2, 5, 4)], {"attn_mask": forbidding(ALLOWED)}),
    "five axes": (
        [(2, 3, 4, 3, 4), (1, 3, 4, 5, 4), (2, 1, 4, 5, 2)],
        {"attn_mask": draw((2, 1, 4, 3, 5), np.float64) < 0.4},
    ),
    "causal and scaled": (
        [(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)],
        {"is_causal": True, "scale": 0.3},
    ),
    "grouped": ([(2, 4, 3, 4), (2, 2, 5, 4), (2, 2, 5, 4)], {"enable_gqa": True}),
    "all dropped": ([(2, 4, 3, 4), (2, 4, 5, 4), (2, 4, 5, 4)], {"dropout_p": 1.0}),
    "no keys": ([(1, 2, 3, 4), (1, 2, 0, 4), (1, 2, 0, 4)], {}),
}


@DTYPES
@pytest.mark.parametrize("name", DOT_PRODUCTS)
def test_dot_product_attention_equals_torch(name, dtype):
    shapes, options = DOT_PRODUCTS[name]
    masks = {}
    if (mask := options.get("attn_mask")) is not None:
        masks = {"attn_mask": mask if mask.dtype == bool else mask.astype(dtype)}
    ours, theirs = both(masks)
    check_function(
        lambda *x: functional.scaled_dot_product_attention(*x, **{**options, **ours}),
        lambda *x: torch_functional.scaled_dot_product_attention(*x, **{**options, **theirs}),
        *(draw(shape, dtype, seed) for seed, shape in enumerate(shapes)),
    )


@pytest.mark.parametrize("shape", [(3, 5), (2, 1, 3, 5), (2, 4, 1, 5)])
def test_the_gradient_of_a_mask_equals_torchs_in_float64(shape):
    mask = draw(shape, np.float64)
    mask[..., 2] = -np.inf
    check_function(
        functional.scaled_dot_product_attention,
        torch_functional.scaled_dot_product_attention,
        *(draw((2, 4, length, 4), np.float64) for length in (3, 5, 5)),
        mask,
    )

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from hypothesis import example, given
from hypothesis import strategies as st

from jaxnets import layers
from jaxnets.interop import to_numpy
from tests import tier
from tests.parity.oracle import DTYPES, assert_equal, check_layer, copy_weights

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
    """Draws the vectors, because biases of zero and scales of one would hide errors."""
    torch.manual_seed(0)
    for parameter in layer.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return layer.to(torch.tensor(dtype(0)).dtype)


def draw_mask(kind, shape, dtype):
    """A mask that never excludes the first key, or None."""
    if kind is None:
        return None
    forbidden = draw(shape, dtype, seed=1) > 0.3
    forbidden[..., 0] = False
    if kind == "boolean":
        return forbidden
    return np.where(forbidden, dtype(-np.inf), draw(shape, dtype, seed=2))


def both(masks):
    """The same keyword arguments for our layer and for torch's."""
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

    def split(x):  # the query first, then key and value side by side
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
@pytest.mark.parametrize("normed", [tier.slow(False), True])
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


def padding(batch, length):
    """A mask that excludes the last position of every other sample."""
    mask = np.zeros((batch, length), bool)
    mask[::2, -1] = True
    return mask


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [tier.slow(np.float32, "boolean"), (np.float64, "float")],
)
def test_masks_of_a_decoder_layer_equal_torch(dtype, kind):
    ours = layers.TransformerDecoderLayer(8, 2, 6, 0.0, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = torch.nn.TransformerDecoderLayer(8, 2, 6, 0.0, batch_first=True)
    our_masks, torch_masks = both(
        {
            "tgt_mask": draw_mask(kind, (2 * 2, 3, 3), dtype),
            "memory_mask": draw_mask(kind, (3, 4), dtype),
            "tgt_key_padding_mask": draw_mask(kind, (2, 3), dtype),
            "memory_key_padding_mask": draw_mask(kind, (2, 4), dtype),
        }
    )
    check_layer(  # the target first, then the memory
        Called(ours, lambda m, x: m(x[:, :3], x[:, 3:], **our_masks)),
        TorchCalled(randomized(theirs, dtype), lambda m, x: m(x[:, :3], x[:, 3:], **torch_masks)),
        draw((2, 7, 8), dtype),
    )


@pytest.mark.parametrize(
    ("dtype", "hints"),
    [tier.slow(np.float32, True), (np.float64, False)],
)
def test_transformer_with_masks_equals_torch(dtype, hints):
    """With masks, as PyTorch requires, and with hints alone."""
    ours = layers.Transformer(8, 2, 1, 1, 6, 0.0, rngs=nnx.Rngs(0), param_dtype=dtype)
    theirs = torch.nn.Transformer(8, 2, 1, 1, 6, 0.0, batch_first=True)
    masks = {
        "src_key_padding_mask": padding(2, 4),
        "memory_key_padding_mask": padding(2, 4),
        "tgt_key_padding_mask": padding(2, 3),
    }
    our_masks, torch_masks = both(masks)
    square = torch.nn.Transformer.generate_square_subsequent_mask
    torch_masks |= {"src_mask": square(4).isinf(), "tgt_mask": square(3).isinf()}
    if hints:
        our_masks |= {"src_is_causal": True, "tgt_is_causal": True}
    else:
        square = layers.Transformer.generate_square_subsequent_mask
        our_masks |= {"src_mask": square(4), "tgt_mask": square(3)}
    check_layer(
        Called(ours, lambda m, x: m(x[:, 3:], x[:, :3], **our_masks)),
        TorchCalled(randomized(theirs, dtype), lambda m, x: m(x[:, 3:], x[:, :3], **torch_masks)),
        draw((2, 7, 8), dtype),
    )


def test_the_mask_of_a_causal_sequence_equals_torch():
    for dtype, theirs in [(None, None), (jnp.float64, torch.float64)]:
        assert_equal(
            layers.Transformer.generate_square_subsequent_mask(4, dtype=dtype),
            torch.nn.Transformer.generate_square_subsequent_mask(4, dtype=theirs),
            "mask",
        )


def test_a_custom_encoder_takes_the_encoders_place():
    encoder = layers.TransformerEncoder(
        layers.TransformerEncoderLayer(4, 2, 6, 0.0, rngs=nnx.Rngs(0)), 1
    )
    before = encoder.layers[0].linear1.kernel[...].copy()
    model = layers.Transformer(4, 2, 1, 1, 6, 0.0, custom_encoder=encoder, rngs=nnx.Rngs(1))
    assert model.encoder is encoder
    assert not np.allclose(before, encoder.layers[0].linear1.kernel[...])  # as in PyTorch
    outputs = jax.eval_shape(lambda: model(SEQUENCE[:, :2], SEQUENCE))
    assert outputs.shape == (2, 3, 4)


def test_each_layer_of_a_transformer_starts_by_itself():
    model = layers.Transformer(4, 2, 2, 2, 6, 0.0, rngs=nnx.Rngs(0))
    for stack in (model.encoder, model.decoder):
        first, second = stack.layers
        assert not np.allclose(first.linear1.kernel[...], second.linear1.kernel[...])
        np.testing.assert_array_equal(first.linear1.bias[...], second.linear1.bias[...])


SEQUENCE = jnp.ones((2, 3, 4), jnp.float32)
BAD_CALLS = [
    (
        {"tgt": SEQUENCE[0]},
        r"tgt: expected a .* array \[N, T, 4\], got float32\[3, 4\]",
    ),
    ({"memory": SEQUENCE[:1]}, r"memory: expected a floating-point array \[2, S, 4\], got float"),
    ({"tgt_mask": np.ones((3, 4), bool)}, r"tgt_mask: expected a boolean or .*\[3, 3\] or \[4, 3"),
    ({"memory_mask": np.ones((3, 2))}, r"memory_mask: expected a boolean or floating-point mask"),
    ({"tgt_key_padding_mask": np.ones(3)}, r"tgt_key_padding_mask: expected .* \[2, 3\], got"),
    ({"memory_key_padding_mask": np.ones(3)}, "memory_key_padding_mask: expected a boolean or"),
    ({"tgt_is_causal": 1}, "tgt_is_causal: expected True or False, got 1"),
    ({"memory_is_causal": None}, "memory_is_causal: expected True or False, got None"),
]


@pytest.mark.parametrize(("given", "message"), BAD_CALLS)
def test_bad_arguments_of_a_decoder_layer_are_named(given, message):
    layer = layers.TransformerDecoderLayer(4, 2, 6, rngs=nnx.Rngs(0), batch_first=True)
    with pytest.raises(ValueError, match=message):
        layer(**{"tgt": SEQUENCE, "memory": SEQUENCE, **given})


def test_the_batches_of_a_transformer_are_one():
    model = layers.Transformer(4, 2, 1, 1, 6, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"tgt: expected .* \[2, T, 4\], got float32\[1, 3, 4\]"):
        model(SEQUENCE, SEQUENCE[:1])
    with pytest.raises(ValueError, match="src_mask: expected a boolean or floating-point mask"):
        model(SEQUENCE, SEQUENCE, src_mask=np.ones((3, 4)))
    with pytest.raises(ValueError, match="custom_decoder: expected a module or None, got 3"):
        layers.Transformer(4, 2, custom_decoder=3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="decoder_layer: expected a layer, got decoder"):
        layers.TransformerDecoder("decoder", 2)
    with pytest.raises(ValueError, match="batch_first: expected True; .*, got False"):
        layers.Transformer(4, 2, batch_first=False, rngs=nnx.Rngs(0))

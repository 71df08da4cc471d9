"""Error messages of the functions of shapes, distances and categories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import functional, layers
from jaxnets.arrays import InputError
from jaxnets.layers.embedding import noted_lookups

IMAGE = jnp.zeros((2, 4, 5, 6))
VOLUME = jnp.zeros((2, 1, 1, 1, 1))
SIGNAL = jnp.zeros((2, 5, 3))
ROWS = jnp.zeros((3, 4))
GRID = jnp.zeros((2, 3, 3, 2))


def attend(q=IMAGE, k=IMAGE, v=IMAGE, **options):
    return functional.scaled_dot_product_attention(q, k, v, **options)


REFUSED = [
    # padding
    (lambda: functional.pad(IMAGE, 1), "pad: expected a tuple with two integers .* got 1"),
    (lambda: functional.pad(IMAGE, (1, 2, 3)), r"pad: expected a tuple .* got \(1, 2, 3\)"),
    (lambda: functional.pad(ROWS, (1,) * 6), r"pad: expected at most a pair .* float32\[3, 4\]"),
    (lambda: functional.pad(ROWS, (1, 1), "same"), "mode: expected one of constant, reflect, repl"),
    (lambda: functional.pad(ROWS, (1, 1), "reflect", 1), "value: expected None for mode refl"),
    (
        lambda: functional.pad(ROWS, (4, 0), "reflect"),
        r"input: expected enough positions for reflect padding of \(4, 0\) along axis 1, got",
    ),
    (lambda: functional.pad(ROWS, (-2, -3)), r"input: .* positions for constant .* \(-2, -3\)"),
    (lambda: functional.pad(ROWS, (3, -2), "circular"), "input: .* positions for circular"),
    (lambda: functional.pad(ROWS, (-4, 1), "replicate"), "input: .* positions for replicate"),
    (lambda: layers.ZeroPad2d((1, 2)), r"padding: expected an integer, or 4 of them, got \(1, 2\)"),
    (lambda: layers.ZeroPad1d(1)(IMAGE), r"x: expected .* \[N, L, C\], got float32\[2, 4, 5, 6\]"),
    # other sizes
    (lambda: functional.interpolate(ROWS, 3), r"input: expected .* \[N, H, W, C\], got float32"),
    (lambda: functional.interpolate(IMAGE), "size: expected a size or a scale_factor, got neither"),
    (lambda: functional.interpolate(IMAGE, 3, 2), "scale_factor: expected None, as size is 3"),
    (lambda: functional.interpolate(IMAGE, (3,)), r"size: expected .*, or 2 of them, got \(3,\)"),
    (
        lambda: functional.interpolate(IMAGE, scale_factor=(2, 2, 2)),
        r"scale_factor: expected a number, or 2 of them, got \(2, 2, 2\)",
    ),
    (
        lambda: functional.interpolate(IMAGE, scale_factor=0.2),
        r"scale_factor: .* leaves at least one output of float32\[2, 4, 5, 6\], got 0.2",
    ),
    (
        lambda: functional.interpolate(SIGNAL, 3, mode="bilinear"),
        r"mode: expected one of nearest, nearest-exact, area, linear for float32\[2, 5, 3\], got",
    ),
    (
        lambda: functional.interpolate(IMAGE, 3, align_corners=True),
        "align_corners: expected None for mode nearest, got True",
    ),
    (
        lambda: functional.interpolate(IMAGE, 3, recompute_scale_factor=True),
        "recompute_scale_factor: expected False, as size is given, got True",
    ),
    (
        lambda: functional.interpolate(IMAGE, 3, antialias=True),
        "antialias: expected False unless mode is bilinear or bicubic, got True",
    ),
    (lambda: layers.Upsample(), "size: expected a size or a scale_factor, got neither"),
    # grids
    (lambda: functional.grid_sample(SIGNAL, GRID), r"input: expected .* \[N, H, W, C\], got"),
    (
        lambda: functional.grid_sample(IMAGE, GRID[:1]),
        r"grid: expected a floating-point array \[2, H', W', 2\], got float32\[1, 3, 3, 2\]",
    ),
    (
        lambda: functional.grid_sample(
            jnp.zeros((2, 1, 1, 1, 1)), jnp.zeros((2, 1, 1, 1, 3)), "bicubic"
        ),
        "mode: expected one of bilinear, nearest, got bicubic",
    ),
    (
        lambda: functional.grid_sample(IMAGE, GRID, padding_mode="zero"),
        "padding_mode: expected one of zeros, border, reflection, got zero",
    ),
    (lambda: functional.affine_grid(ROWS, (1, 2)), r"size: expected a shape \(N, H, W, C\) or"),
    (
        lambda: functional.affine_grid(jnp.zeros((1, 3, 4)), (1, 2, 2, 1)),
        r"theta: expected a floating-point array \[1, 2, 3\], got float32\[1, 3, 4\]",
    ),
    # folds, shuffles and vectors
    (
        lambda: functional.unfold(IMAGE, 5),
        r"input: expected at least one window of \(5, 5\), got",
    ),
    (lambda: layers.Fold(2, 3), r"output_size: expected at least one window of \(3, 3\), got"),
    (lambda: layers.Fold(4, 2)(SIGNAL), r"x: expected .* \[N, 9, C · 4\], got float32\[2, 5, 3\]"),
    (
        lambda: layers.Fold(4, 2)(jnp.zeros((2, 9, 6))),
        r"x: expected \[N, 9, C · 4\], got float32\[2, 9, 6\]",
    ),
    (lambda: functional.pixel_shuffle(IMAGE, 2), r"input: expected an array .* C · 4\], got float"),
    (lambda: functional.pixel_unshuffle(IMAGE, 2), r"input: expected .* H · 2, W · 2, C\], got"),
    (
        lambda: functional.channel_shuffle(IMAGE, 4),
        r"input: expected .* multiple of 4, got float32",
    ),
    (lambda: layers.Unflatten(2, (2, 2)), "dim: expected 1, the features, unless channels_last"),
    (lambda: layers.Unflatten(1, ()), r"unflattened_size: expected a tuple of sizes, got \(\)"),
    (lambda: layers.Unflatten(1, (-1, -1)), r"unflattened_size: expected positive sizes, at mo"),
    (lambda: layers.Unflatten(1, (0, 2)), r"unflattened_size: expected positive sizes, at mo"),
    (lambda: layers.Unflatten(1, (4,))(SIGNAL), r"x: expected \[N, features\], unless channels_l"),
    (lambda: layers.Unflatten(1, (2, 3))(ROWS), "x: expected 6 values along axis 1, got float32"),
    (lambda: layers.Unflatten(1, (3, -1))(ROWS), "x: expected a multiple of 3 values along axis 1"),
    (
        lambda: layers.Unflatten(2, (2, 2), channels_last=False)(ROWS),
        "x: expected an array with an axis 2, got",
    ),
    # distances
    (lambda: functional.normalize(IMAGE), "dim: expected 0, or -1 for the channels .* got 1"),
    (lambda: functional.normalize(ROWS, dim=2), "dim: expected an axis of float32.3, 4., got 2"),
    (
        lambda: functional.cosine_similarity(ROWS, jnp.zeros((2, 4))),
        r"x2: expected a shape that broadcasts with float32\[3, 4\], got float32\[2, 4\]",
    ),
    (lambda: functional.pdist(ROWS, -1), "p: expected a number >= 0, got -1"),
    (lambda: functional.pdist(SIGNAL), r"input: expected .* \[N, M\], got float32\[2, 5, 3\]"),
    (lambda: layers.cdist(ROWS, SIGNAL), r"x2: expected .* \[..., R, 4\], got float32\[2, 5, 3\]"),
    (lambda: layers.cdist(ROWS, ROWS, compute_mode="mm"), "compute_mode: expected one of use_mm_"),
    # categories
    (lambda: functional.one_hot(ROWS), "input: expected an array of integers, got float32"),
    (
        lambda: functional.one_hot(np.array([0, 3]), 3),
        r"input: expected indices in \[0, 3\), got 0",
    ),
    (lambda: functional.one_hot(np.array([-1])), r"input: expected indices in \[0, 0\), got -1"),
    (
        lambda: functional.one_hot(np.zeros(0, int)),
        r"num_classes: expected the number of classes, for int64\[0\], got -1",
    ),
    (
        lambda: jax.jit(functional.one_hot)(np.array([1])),
        "num_classes: expected the number of classes, under jax.jit, got -1",
    ),
    (
        lambda: functional.gumbel_softmax(ROWS, 0, rngs=jax.random.key(0)),
        "tau: expected a finite number > 0, got 0",
    ),
    (
        lambda: functional.gumbel_softmax(ROWS, rngs=0),
        r"rngs: expected a random key, such as jax.random.key\(0\), or streams, got 0",
    ),
    # attention
    (lambda: attend(k=SIGNAL), r"key: expected a floating-point array \[..., S, 6\], got float32"),
    (lambda: attend(v=ROWS), r"value: expected .* \[..., 5, V\], got float32\[3, 4\]"),
    (lambda: attend(v=SIGNAL), r"value: expected leading axes that broadcast to \[2, 4\], got"),
    (
        lambda: attend(k=IMAGE[:, :3], v=IMAGE[:, :3]),
        r"key: expected leading axes that broadcast to \[2, 4\], got float32\[2, 3, 5, 6\]",
    ),
    (
        lambda: attend(k=IMAGE[:, :3], v=IMAGE[:, :3], enable_gqa=True),
        r"key: expected \[..., H, S, E\] with H a divisor of 4, got float32\[2, 3, 5, 6\]",
    ),
    (
        lambda: attend(attn_mask=jnp.zeros((3, 5))),
        r"attn_mask: expected a boolean or .* broadcasts to \[2, 4, 5, 5\], got float32\[3, 5\]",
    ),
    (lambda: attend(attn_mask=jnp.zeros((5, 5), int)), "attn_mask: expected a boolean or floating"),
    (
        lambda: attend(attn_mask=jnp.zeros((5, 5)), is_causal=True),
        "is_causal: expected False together with attn_mask, got True",
    ),
    (
        lambda: attend(IMAGE[..., :0]),
        "query: expected vectors of at least one element, got float32",
    ),
    (lambda: attend(dropout_p=0.5), "rngs: expected a random key, .* got None"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_gumbel_softmax_draws_by_keys_and_streams():
    logits = jnp.broadcast_to(jnp.log(jnp.array([0.2, 0.3, 0.5])), (4000, 3))
    for rngs in (jax.random.key(0), nnx.Rngs(0), nnx.Rngs(dropout=0).dropout):
        drawn = functional.gumbel_softmax(logits, hard=True, rngs=rngs)
        assert set(np.unique(drawn)) == {0.0, 1.0}
        np.testing.assert_allclose(drawn.mean(0), [0.2, 0.3, 0.5], atol=0.03)


def test_categories_under_jit_are_noted_to_be_checked():
    with noted_lookups() as found:
        jax.make_jaxpr(lambda x: functional.one_hot(x, 3))(np.array([0, 7]))
    assert [lookup.rows for lookup in found] == [3]

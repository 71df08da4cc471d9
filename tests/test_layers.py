import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets import layers
from jaxnets.arrays import InputError
from jaxnets.interop import to_numpy


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


def attention(**options):
    return layers.MultiheadAttention(4, 2, **options, rngs=nnx.Rngs(0))


def bilinear():
    return layers.Bilinear(3, 4, 2, rngs=nnx.Rngs(0))


def bag(**options):
    return layers.EmbeddingBag(5, 2, **options, rngs=nnx.Rngs(0))


def adaptive(cutoffs, **options):
    return layers.AdaptiveLogSoftmaxWithLoss(4, 6, cutoffs, **options, rngs=nnx.Rngs(0))


def spectral(**options):
    return layers.SpectralNorm(bilinear(), **options, rngs=nnx.Rngs(0))


BAD_OPTIONS = [
    (lambda: layers.RMSNorm(3, -1.0), "eps: expected a finite number >= 0, got -1"),
    (
        lambda: layers.InstanceNorm1d(3, momentum=2),
        r"momentum: expected a number in \[0, 1\], got 2",
    ),
    (lambda: layers.LocalResponseNorm(0), "size: expected a positive integer, got 0"),
    (lambda: layers.Softshrink(-1.0), "lambd: expected a finite number >= 0, got -1"),
    (
        lambda: layers.RReLU(0.5, 0.25, rngs=nnx.Rngs(0)),
        "upper: expected a finite number >= 0.5, got 0.25",
    ),
    (lambda: bag(mode="min"), "mode: expected one of sum, mean, max, got min"),
    (lambda: adaptive([]), r"cutoffs: expected increasing integers from 1 to 5, got \[\]"),
    (lambda: adaptive([3, 3]), "cutoffs: expected increasing integers from 1 to 5, got"),
    (lambda: adaptive([6]), "cutoffs: expected increasing integers from 1 to 5, got"),
    (
        lambda: adaptive([1, 2, 3], div_value=2.0),
        "div_value: expected a number that leaves a feature in each of 3 clusters, got 2.0",
    ),
    (lambda: layers.WeightNorm("layer"), "layer: expected a layer, got layer"),
    (lambda: layers.WeightNorm(bilinear(), "scale"), "name: expected a parameter of Bilinear, got"),
    (
        lambda: layers.WeightNorm(layers.WeightNorm(bilinear())),
        "name: expected a parameter of WeightNorm, got weight",
    ),
    (lambda: layers.WeightNorm(bilinear(), dim=3), "dim: expected an integer from 0 to 2, got 3"),
    (lambda: spectral(dim=3), "dim: expected an integer from -3 to 2, got 3"),
    (lambda: spectral(n_power_iterations=0), "n_power_iterations: expected a positive integer"),
    (
        lambda: spectral(name="bias"),
        r"name: expected a weight of two axes or more, got float32\[2\]",
    ),
    (lambda: layers.BatchNorm1d(0), "num_features: expected a positive integer, got 0"),
    (lambda: layers.InstanceNorm2d(-1), "num_features: expected a positive integer, got -1"),
    (lambda: layers.LayerNorm((3, 0)), "normalized_shape: expected a positive integer, got 0"),
    (lambda: layers.LayerNorm(()), "normalized_shape: expected at least one axis"),
    (
        lambda: layers.LayerNorm((8, 8)),
        r"channels_last: expected True if .* in PyTorch, or False if it is \(T, F\), got None",
    ),
    (lambda: layers.GroupNorm(0, 4), "num_groups: expected a positive integer"),
    (lambda: layers.GroupNorm(1, 0), "num_channels: expected a positive integer"),
    (lambda: layers.GroupNorm(2, 5), "num_channels: expected a multiple of 2 groups, got 5"),
    (lambda: layers.Embedding(0, 1, rngs=nnx.Rngs(0)), "num_embeddings: expected a positive"),
    (lambda: layers.Embedding(1, 0, rngs=nnx.Rngs(0)), "embedding_dim: expected a positive"),
    (
        lambda: layers.Embedding(3, 1, 3, rngs=nnx.Rngs(0)),
        r"padding_idx: expected an integer from -3 to 2, got 3",
    ),
    (lambda: layers.PReLU(0), "num_parameters: expected a positive integer, got 0"),
    (lambda: layers.GELU("erf"), "approximate: expected one of none, tanh, got erf"),
    (lambda: layers.CELU(0), "alpha: expected a number other than 0, got 0"),
    (lambda: layers.Softplus(0), "beta: expected a number other than 0, got 0"),
    (lambda: layers.Linear(0, 1, rngs=nnx.Rngs(0)), "in_features: expected a positive integer"),
    (lambda: layers.Linear(1, 1, rngs=0), r"rngs: expected random streams, such as .*, got 0"),
    (lambda: layers.BatchNorm1d(1, rngs=0), r"rngs: expected random streams, such as .*, got 0"),
    (
        lambda: layers.Linear(1, 1, rngs=nnx.Rngs(0), param_dtype=jnp.int32),
        "param_dtype: expected a floating-point dtype, got <class",
    ),
    (
        lambda: layers.TransformerEncoder("layer", 2),
        "encoder_layer: expected a layer, got layer",
    ),
    (lambda: layers.Hardtanh(1.0, 1.0), "max_val: expected a number above min_val = 1.0, got 1.0"),
    (lambda: layers.Dropout(1.5, rngs=nnx.Rngs(0)), r"p: expected a number in \[0, 1\]"),
    (lambda: layers.Dropout2d(-0.1, rngs=nnx.Rngs(0)), "p: expected a number .* got -0.1"),
    (lambda: layers.MultiheadAttention(0, 1, rngs=nnx.Rngs(0)), "embed_dim: expected a positive"),
    (lambda: layers.MultiheadAttention(4, 0, rngs=nnx.Rngs(0)), "num_heads: expected a positive"),
    (lambda: attention(kdim=0), "kdim: expected a positive integer, got 0"),
    (lambda: attention(vdim=0), "vdim: expected a positive integer, got 0"),
    (
        lambda: layers.MultiheadAttention(5, 2, rngs=nnx.Rngs(0)),
        "embed_dim: expected a multiple of 2 heads, got 5",
    ),
    (
        lambda: layers.TransformerEncoderLayer(4, 2, 0, rngs=nnx.Rngs(0)),
        "dim_feedforward: expected a positive integer, got 0",
    ),
    (
        lambda: layers.TransformerEncoderLayer(4, 2, 8, activation="tanh", rngs=nnx.Rngs(0)),
        "activation: expected relu, gelu or a function, got tanh",
    ),
    (
        lambda: layers.TransformerEncoder(nnx.Module(), 0),
        "num_layers: expected a positive integer, got 0",
    ),
    (lambda: layers.ModuleDict(["relu"]), "modules: expected a mapping, or pairs, of names and la"),
    (lambda: layers.ModuleDict({"a.b": layers.ReLU()}), "modules: expected names that are strin"),
    (lambda: layers.Sequential({0: layers.ReLU()}), "layers: expected names that are strin.* 0"),
]


BAD_INPUTS = [
    (lambda: layers.Linear(3, 2, rngs=nnx.Rngs(0)), r"\[\.\.\., 3\]"),
    (lambda: layers.Dropout(0.5, rngs=nnx.Rngs(0)), r"\[\.\.\.\]"),
    (lambda: layers.LayerNorm((2, 3)), r"\[\.\.\., 2, 3\]"),
    (lambda: layers.BatchNorm1d(3), r"\[\.\.\.\]"),
    (lambda: layers.GroupNorm(1, 3), r"\[\.\.\.\]"),
    (lambda: layers.GLU(), r"\[\.\.\.\]"),
    (lambda: layers.PReLU(), r"\[\.\.\.\]"),
    (lambda: layers.MaxPool2d(2), r"\[N, H, W, C\]"),
    (lambda: layers.AvgPool1d(2), r"\[N, L, C\]"),
]


@pytest.mark.parametrize(("make", "shape"), BAD_INPUTS)
def test_an_input_is_a_floating_array(make, shape):
    for x, got in ((None, "NoneType"), ([1.0], "list"), (np.ones((2, 3), int), "int64")):
        with pytest.raises(
            ValueError, match=f"x: expected a floating-point array {shape}, got {got}"
        ):
            make()(x)


def test_sizes_may_be_those_of_numpy():
    linear = layers.Linear(np.int64(3), np.int32(2), rngs=nnx.Rngs(0))
    assert linear.kernel.shape == (3, 2)
    assert layers.LayerNorm(np.array([2, 3])).normalized_shape == (2, 3)
    assert layers.LeakyReLU(jnp.float32(0.5)).negative_slope == 0.5
    assert layers.AdaptiveAvgPool2d((None, np.int64(2))).output_size == (None, 2)


def test_linear_refuses_another_size():
    with pytest.raises(ValueError, match=r"x: expected .* \[\.\.\., 3\], got float32\[5, 4\]"):
        layers.Linear(3, 2, rngs=nnx.Rngs(0))(jnp.ones((5, 4)))


def test_a_gate_needs_an_axis():
    with pytest.raises(ValueError, match=r"x: expected an even size along axis 2, got float32\[4"):
        layers.GLU(2)(jnp.ones((4, 4)))


@pytest.mark.parametrize(("make", "message"), BAD_OPTIONS)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


BAD_INPUTS = [
    (
        lambda: layers.BatchNorm1d(3)(zeros(2, 4)),
        r"x: expected a floating-point array \[N, 3\] or \[N, L, 3\], got float32\[2, 4\]",
    ),
    (lambda: layers.BatchNorm1d(3)(zeros(2, 1, 1, 3)), r"got float32\[2, 1, 1, 3\]"),
    (lambda: layers.BatchNorm1d(3)(zeros(2, 3, dtype=jnp.int32)), r"got int32\[2, 3\]"),
    (lambda: layers.BatchNorm2d(3)(zeros(2, 3)), r"x: expected .* \[N, H, W, 3\], got"),
    (lambda: layers.BatchNorm1d(3)(zeros(1, 3)), "x: expected more than one value per channel"),
    (lambda: layers.BatchNorm2d(3)(zeros(1, 1, 1, 3)), "x: expected more than one value per chan"),
    (lambda: layers.LayerNorm((2, 3))(zeros(3)), r"x: expected .* \[..., 2, 3\], got float32\[3\]"),
    (
        lambda: layers.LayerNorm((3, 5))(zeros(2, 5, 3)),
        r"x: .* \[..., 3, 5\], or a layer with normalized_shape \(5, 3\) and channels_last=True",
    ),
    (
        lambda: layers.LayerNorm((3, 5, 6))(zeros(2, 5, 6, 3)),
        r"x: expected \[..., 3, 5, 6\], or a layer with normalized_shape \(5, 6, 3\)",
    ),
    *(
        (lambda make=make, dim=dim: make(dim)(zeros(2, 4, 4, 4)), rf"dim: .* -1 for the .* {dim}")
        for make in (layers.Softmax, layers.LogSoftmax, layers.GLU)
        for dim in (1, 2, 3, -2, -3)
    ),
    *(
        (lambda make=make, dim=dim: make(dim)(zeros(2, 4, 4)), rf"dim: .* -1 for .* -2 .*got {dim}")
        for make in (layers.Softmax, layers.LogSoftmax, layers.GLU)
        for dim in (1, 2)
    ),
    (lambda: layers.Softmax(2)(zeros(2, 4)), r"dim: expected an axis of float32\[2, 4\], got 2"),
    (lambda: layers.GroupNorm(2, 4)(zeros(4)), r"x: expected .* \[N, ..., 4\], got float32\[4\]"),
    (lambda: layers.GroupNorm(4, 4)(zeros(1, 4)), "x: expected more than one value per group"),
    (
        lambda: layers.InstanceNorm2d(4)(zeros(2, 4)),
        r"x: expected .* \[N, H, W, 4\] or \[H, W, 4\]",
    ),
    (lambda: layers.InstanceNorm2d(4)(zeros(1, 1, 4)), "x: expected more than one position"),
    (lambda: layers.InstanceNorm2d(4)(zeros(3, 1, 1, 4)), "x: expected more than one position"),
    (
        lambda: layers.InstanceNorm1d(4)(zeros(2, 3, 5)),
        r"x: expected a floating-point array \[N, L, 4\] or \[L, 4\], got float32\[2, 3, 5\]",
    ),
    (lambda: layers.BatchNorm3d(3)(zeros(2, 4, 4, 3)), r"x: expected .* \[N, D, H, W, 3\], got"),
    (lambda: layers.RMSNorm((2, 3))(zeros(3)), r"x: expected .* \[..., 2, 3\], got float32\[3\]"),
    (lambda: layers.LocalResponseNorm(2)(zeros(3, 3)), r"x: expected .* \[..., N, L, C\], got"),
    (lambda: layers.CrossMapLRN2d(2)(zeros(3, 3, 3)), r"x: expected .* \[N, H, W, C\], got"),
    (lambda: layers.Softmax2d()(zeros(1, 2, 4, 4, 3)), r"x: expected .* \[N, H, W, C\] or \[H"),
    (
        lambda: bilinear()(zeros(2, 3), zeros(4, 4)),
        r"x2: expected .* \[2, 4\], got float32\[4, 4\]",
    ),
    (
        lambda: layers.Dropout1d(0.5, rngs=nnx.Rngs(0))(zeros(2, 2, 3, 3)),
        r"x: expected a floating-point array \[N, L, C\] or \[L, C\], got float32\[2, 2, 3, 3\]",
    ),
    (
        lambda: layers.Dropout3d(0.5, rngs=nnx.Rngs(0))(zeros(2, 2, 3)),
        r"x: expected .* \[N, D, H, W, C\] or \[D, H, W, C\], got float32\[2, 2, 3\]",
    ),
    (lambda: bag()(jnp.ones((2, 2), int), jnp.array([0])), r"offsets: expected None with indices"),
    (lambda: bag()(jnp.ones((2, 2, 2), int)), r"indices: expected .* \[B, L\] or \[n\], got int32"),
    (lambda: bag()(jnp.ones(2, int)), r"offsets: expected .* integers \[B\] .*, got NoneType"),
    (lambda: bag()(jnp.ones(2, int), jnp.array([1])), r"offsets: .* start with 0, .* got \[1\]"),
    (lambda: bag()(jnp.ones(2, int), jnp.array([0, 2, 1])), r"offsets: .*, got \[0, 2, 1\]"),
    (lambda: bag()(jnp.ones(2, int), jnp.array([0, 3])), "offsets: .* last entry of at most 2, th"),
    (
        lambda: bag(include_last_offset=True)(jnp.ones(2, int), jnp.array([0, 1])),
        "offsets: expected a last entry of 2, the number of indices, got 1",
    ),
    (
        lambda: bag()(jnp.ones((1, 2), int), per_sample_weights=zeros(1, 2)),
        'per_sample_weights: expected None with mode "mean", got ',
    ),
    (
        lambda: bag(mode="sum")(jnp.ones((1, 2), int), per_sample_weights=zeros(2)),
        r"per_sample_weights: expected a floating-point array \[1, 2\], got float32\[2\]",
    ),
    (
        lambda: adaptive([2])(zeros(3, 4), jnp.array([0, 1, 6])),
        r"target: expected integers \[3\] in \[0, 6\), got 0 to 6",
    ),
    (
        lambda: adaptive([2])(zeros(3, 4), jnp.array(1)),
        r"target: expected integers \[3\] in \[0, 6\), got int32\[\]",
    ),
    (lambda: layers.PReLU(3)(zeros(2, 4)), r"x: expected \[N, ..., 3\], a slope per channel"),
    (lambda: layers.GLU()(zeros(2, 3)), r"x: expected an even size along axis -1, got float32"),
    (
        lambda: layers.Dropout2d(0.5, rngs=nnx.Rngs(0))(zeros(3)),
        r"x: expected a floating-point array \[N, ..., C\], got float32\[3\]",
    ),
    (
        lambda: layers.Embedding(3, 2, rngs=nnx.Rngs(0))(zeros(2)),
        r"indices: expected an array of integers, got float32\[2\]",
    ),
    (
        lambda: layers.Embedding(3, 2, rngs=nnx.Rngs(0))(jnp.array([0, 3])),
        r"indices: expected indices in \[0, 3\), got 0 to 3",
    ),
    (
        lambda: layers.Embedding(3, 2, rngs=nnx.Rngs(0))(np.array([-1, 0])),
        r"indices: expected indices in \[0, 3\), got -1 to 0",
    ),
    (
        lambda: attention()(zeros(3, 4), zeros(3, 4), zeros(3, 4)),
        r"query: expected a floating-point array \[N, L, 4\], got float32\[3, 4\]",
    ),
    (
        lambda: attention(kdim=5)(zeros(2, 3, 4), zeros(2, 3, 4), zeros(2, 3, 4)),
        r"key: expected a floating-point array \[2, S, 5\], got float32\[2, 3, 4\]",
    ),
    (
        lambda: attention()(zeros(2, 3, 4), zeros(2, 5, 4), zeros(2, 6, 4)),
        r"value: expected a floating-point array \[2, 5, 4\], got float32\[2, 6, 4\]",
    ),
    (
        lambda: attention()(*[zeros(2, 3, 4)] * 3, attn_mask=zeros(2, 3, 3)),
        r"attn_mask: expected .* \[3, 3\] or \[4, 3, 3\], got float32\[2, 3, 3\]",
    ),
    (
        lambda: attention()(*[zeros(2, 3, 4)] * 3, key_padding_mask=zeros(2, 3, dtype=jnp.int32)),
        r"key_padding_mask: expected a boolean or floating-point mask \[2, 3\], got int32\[2, 3\]",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD_INPUTS)
def test_bad_inputs_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_one_value_per_channel_is_enough_in_evaluation():
    layer = layers.BatchNorm1d(3)
    layer.eval()
    assert layer(zeros(1, 3)).shape == (1, 3)
    untracked = layers.BatchNorm1d(3, track_running_stats=False)
    untracked.eval()
    with pytest.raises(ValueError, match="x: expected more than one value per channel"):
        untracked(zeros(1, 3))


def test_view_sets_the_mode_of_batch_norm():
    layer = nnx.Sequential(layers.BatchNorm1d(3))
    evaluated = nnx.view(layer, use_running_average=True)
    x = jnp.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    np.testing.assert_allclose(evaluated(x), x, rtol=1e-4)  # mean 0 and variance 1 at first
    np.testing.assert_allclose(layer(x), np.sign(x - x.mean(0, keepdims=True)), rtol=1e-4)


@pytest.mark.parametrize(
    ("layer", "axes"),
    [
        (layers.LayerNorm(256), -1),
        (layers.GroupNorm(1, 256), (1, 2)),
        (layers.BatchNorm1d(4), (0, 1)),
    ],
)
def test_a_large_mean_costs_no_precision(layer, axes):
    # E[x²] - E[x]² would be off by 6% here, and E[(x - E[x])²] by less than 1e-4.
    channels = 4 if isinstance(layer, layers.BatchNorm1d) else 256
    x = 1000 + jax.random.normal(jax.random.key(0), (16, 64, channels))
    np.testing.assert_allclose(np.std(np.asarray(layer(x), np.float64), axes), 1.0, rtol=5e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize(
    "layer", [layers.BatchNorm1d(8), layers.LayerNorm(8), layers.GroupNorm(2, 8)]
)
def test_halves_are_normalized_in_single_precision(layer, dtype):
    x = jax.random.normal(jax.random.key(0), (16, 8)).astype(dtype)
    expected = layer(x.astype(jnp.float32))
    outputs = layer(x)
    assert outputs.dtype == dtype
    np.testing.assert_array_equal(outputs, expected.astype(dtype))


def test_embedding_out_of_range_is_nan_under_jit():
    layer = layers.Embedding(3, 2, rngs=nnx.Rngs(0))
    rows = jax.jit(layer)(jnp.array([0, -1, 3, 2]))
    np.testing.assert_array_equal(np.isnan(rows).all(axis=1), [False, True, True, False])
    np.testing.assert_array_equal(np.isnan(rows).any(axis=1), [False, True, True, False])


def test_embedding_starts_normal_with_a_zero_padding_row():
    table = layers.Embedding(1000, 20, -2, rngs=nnx.Rngs(0)).embedding.get_value()
    np.testing.assert_array_equal(table[998], np.zeros(20))
    assert (jnp.abs(table).max(axis=1) > 0).sum() == 999
    np.testing.assert_allclose([table.mean(), table.std()], [0.0, 1.0], atol=0.02)


def dropped(layer, shape=(64, 8, 8, 32)):
    """Ones, passed through a dropout layer."""
    return np.asarray(layer(jnp.ones(shape)))


@pytest.mark.parametrize("p", [0.2, 0.5, 0.9])
def test_dropout_drops_with_probability_p_and_keeps_the_mean(p):
    outputs = dropped(layers.Dropout(p, rngs=nnx.Rngs(0)))
    kept = outputs != 0
    np.testing.assert_allclose(outputs[kept], 1 / (1 - p), rtol=1e-6)
    np.testing.assert_allclose(kept.mean(), 1 - p, atol=0.005)


@pytest.mark.parametrize("kind", [layers.Dropout, layers.Dropout2d])
def test_dropout_has_the_name_for_its_rate_of_pytorch(kind):
    layer = kind(0.25, rngs=nnx.Rngs(0))
    assert layer.p == layer.rate == 0.25
    layer.p = 1
    assert layer.rate == 1.0
    assert not dropped(layer).any()
    with pytest.raises(ValueError, match=r"p: expected a number in \[0, 1\], got 1\.5"):
        layer.p = 1.5
    layer = kind(0.0, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"p: expected 0 or 1, as the layer .* got 0\.5"):
        layer.p = 0.5
    assert layer.p == 0.0


def test_dropout2d_drops_whole_channels():
    outputs = dropped(layers.Dropout2d(0.25, rngs=nnx.Rngs(0)))
    channels = outputs[:, 0, 0, :]
    np.testing.assert_array_equal(outputs, np.broadcast_to(channels[:, None, None], outputs.shape))
    np.testing.assert_allclose((channels != 0).mean(), 0.75, atol=0.03)


def test_dropout2d_drops_channels_of_sequences_and_values_of_vectors():
    layer = layers.Dropout2d(0.5, rngs=nnx.Rngs(0))
    outputs = dropped(layer, (64, 8, 32))
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:, :1], outputs.shape))
    values = dropped(layer, (64, 32))
    for channels in (outputs[:, 0], values):
        assert set(np.unique(channels)) == {0.0, 2.0}
        np.testing.assert_allclose((channels != 0).mean(), 0.5, atol=0.04)


@pytest.mark.parametrize("kind", [layers.Dropout, layers.Dropout2d])
def test_dropout_follows_the_mode(kind):
    model = nnx.Sequential(kind(0.5, rngs=nnx.Rngs(0)))
    model.eval()
    np.testing.assert_array_equal(dropped(model), 1.0)
    model.train()
    assert (dropped(model) == 0).any()


@pytest.mark.parametrize("p", [0, 1])
def test_certain_dropout_draws_nothing(p):
    layer = layers.Dropout(p, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(dropped(layer), 1.0 - p)
    assert not jax.tree.leaves(nnx.state(layer))
    gradient = jax.grad(lambda x: layer(x).sum())(jnp.ones(3))
    np.testing.assert_array_equal(gradient, 1.0 - p)


def test_every_dropout_draws_masks_of_its_own():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(layers.Dropout(0.5, rngs=rngs), layers.Dropout(0.5, rngs=rngs))
    first, second = model.layers
    assert (dropped(first) != dropped(second)).any()
    assert (dropped(first) != dropped(first)).any()


def test_reseeding_repeats_the_masks():
    rngs = nnx.Rngs(0)  # a single stream for all; the layers' own ones are called dropout
    model = nnx.Sequential(layers.Dropout(0.5, rngs=rngs), layers.Dropout(0.5, rngs=rngs))
    nnx.reseed(model, dropout=jax.random.key(3))
    before = dropped(model)
    nnx.reseed(model, dropout=jax.random.key(3))
    np.testing.assert_array_equal(dropped(model), before)
    nnx.reseed(model, dropout=jax.random.key(4))
    assert (dropped(model) != before).any()
    first, second = model.layers
    assert (dropped(first) != dropped(second)).any()


def encoder_layer(**options):
    return layers.TransformerEncoderLayer(8, 2, 16, 0.5, **options, rngs=nnx.Rngs(0))


def encoder():
    return layers.TransformerEncoder(encoder_layer(), 3, layers.LayerNorm(8))


def test_encoder_layers_start_alike_and_share_nothing():
    model = encoder()
    kernels = [layer.linear1.kernel.get_value() for layer in model.layers]
    np.testing.assert_array_equal(kernels[0], kernels[2])
    keys = [jax.random.key_data(key) for key in jax.tree.leaves(nnx.state(model, nnx.RngKey))]
    assert len(np.unique(np.stack(keys), axis=0)) == len(keys) == 3 * 4
    state = nnx.state(model)
    doubled = jax.jit(lambda s: jax.tree.map(jnp.copy, s), donate_argnums=0)(state)
    assert len(jax.tree.leaves(doubled)) == len(jax.tree.leaves(nnx.state(encoder())))


def test_attention_and_encoder_layer_drop_in_training_only():
    model, x = encoder_layer(), jax.random.normal(jax.random.key(0), (2, 5, 8))
    run = nnx.jit(lambda model: model(x))
    assert (run(model) != run(model)).any()
    model.eval()
    np.testing.assert_array_equal(run(model), run(model))
    layer = attention(dropout=0.5)
    _, weights = layer(*[x[..., :4]] * 3, average_attn_weights=False)
    assert (weights == 0).any()
    layer.eval()
    _, weights = layer(*[x[..., :4]] * 3)
    np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-5)


def test_encoder_takes_any_activation():
    x = jax.random.normal(jax.random.key(0), (2, 5, 8))
    by_name = encoder_layer(activation="relu")
    by_function = encoder_layer(activation=jax.nn.relu)
    by_name.eval()
    by_function.eval()
    np.testing.assert_array_equal(by_name(x), by_function(x))


def test_only_the_layers_of_a_sequential_are_left_out_of_torch_names():
    inner = nnx.Sequential(jax.nn.relu, layers.Linear(1, 1, rngs=nnx.Rngs(0)))
    model = nnx.Sequential(layers.TransformerEncoder(inner, 2))
    assert "0.layers.0.1.weight" in to_numpy(model)
    assert "0.layers.1.1.bias" in to_numpy(model)


@pytest.mark.parametrize(
    ("name", "sizes", "options"),
    [
        ("ReLU", (True,), {}),
        *[(name, (), {"inplace": True}) for name in ["ReLU", "ReLU6", "SELU", "SiLU", "Mish"]],
        *[(name, (), {"inplace": np.True_}) for name in ["Hardswish", "Hardsigmoid", "Hardtanh"]],
        *[(name, (0.2, True), {}) for name in ["LeakyReLU", "ELU", "CELU", "Dropout", "Dropout2d"]],
        ("Flatten", (1,), {"end_dim": -1}),
        ("Linear", (2, 3), {"device": None, "dtype": None}),
        ("Conv2d", (2, 3, 3), {"device": None}),
        ("ConvTranspose2d", (2, 3, 3), {"padding_mode": "zeros"}),
        ("BatchNorm2d", (2,), {"device": None}),
        ("InstanceNorm2d", (2,), {"momentum": 0.1, "track_running_stats": False}),
        ("Embedding", (2, 3), {"max_norm": None, "norm_type": 2.0, "sparse": False}),
        *[(name, (2, 3), {"batch_first": True}) for name in ["LSTM", "GRU", "RNN"]],
        ("MultiheadAttention", (4, 2), {"batch_first": True, "add_bias_kv": False}),
        ("TransformerEncoderLayer", (4, 2), {"batch_first": np.True_}),
    ],
)
def test_arguments_of_pytorch_without_effect_are_accepted(name, sizes, options):
    kind = getattr(layers, name)
    drawn = "rngs" in inspect.signature(kind.__init__).parameters
    kind(*sizes, **options, **({"rngs": nnx.Rngs(0)} if drawn else {}))


@pytest.mark.parametrize(
    ("name", "sizes", "options", "message"),
    [
        (
            "LSTM",
            (2, 3),
            {"batch_first": False},
            r"True; use jnp.swapaxes\(x, 0, 1\) .*, got False",
        ),
        ("GRU", (2, 3), {"batch_first": 1}, "batch_first: expected True; .*, got 1"),
        (
            "Linear",
            (2, 3),
            {"device": "cpu"},
            "device: expected None; use jax.device_put .*, got cpu",
        ),
        ("Linear", (2, 3), {"dtype": float}, "dtype: expected None; use param_dtype=jnp.float32"),
        (
            "Flatten",
            (),
            {"start_dim": 2},
            "start_dim: expected 1, as all axes .*, got 2",
        ),
        ("Embedding", (2, 3), {"max_norm": 1.0}, "max_norm: expected None, the only supported"),
        ("MultiheadAttention", (4, 2), {"add_bias_kv": True}, "add_bias_kv: expected False, th"),
        (
            "EmbeddingBag",
            (2, 3),
            {"sparse": True},
            "sparse: expected False, the only supported value, as gradients are dense",
        ),
        ("ReLU", (), {"inplace": 1}, "inplace: expected True or False, got 1"),
    ],
)
def test_other_arguments_of_pytorch_are_refused_with_the_remedy(name, sizes, options, message):
    kind = getattr(layers, name)
    drawn = "rngs" in inspect.signature(kind.__init__).parameters
    with pytest.raises(InputError, match=message):
        kind(*sizes, **options, **({"rngs": nnx.Rngs(0)} if drawn else {}))


@pytest.mark.parametrize("make", [lambda: layers.Linear(2, 3), layers.Dropout, jaxnets.MLP])
def test_missing_streams_are_named_with_the_remedy(make):
    with pytest.raises(InputError, match=r"rngs: expected .* rngs=nnx.Rngs\(0\), got None"):
        make()


def test_an_argument_that_no_layer_has_is_an_error_of_type():
    with pytest.raises(TypeError, match="Linear.*unexpected keyword argument 'bais'"):
        layers.Linear(2, 3, bais=False, rngs=nnx.Rngs(0))

"""Layers that draw random numbers in training, and the corresponding functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import functional, layers

SHAPES = {
    "Dropout": (8, 9, 16),
    "Dropout1d": (8, 9, 16),
    "Dropout2d": (8, 3, 3, 16),
    "Dropout3d": (8, 3, 3, 2, 16),
    "AlphaDropout": (8, 9, 16),
    "FeatureAlphaDropout": (8, 3, 3, 16),
}
FUNCTIONS = {
    "Dropout": functional.dropout,
    "Dropout1d": functional.dropout1d,
    "Dropout2d": functional.dropout2d,
    "Dropout3d": functional.dropout3d,
    "AlphaDropout": functional.alpha_dropout,
    "FeatureAlphaDropout": functional.feature_alpha_dropout,
}


def made(name, p=0.25):
    return getattr(layers, name)(p, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["Dropout1d", "Dropout3d", "FeatureAlphaDropout"])
def test_whole_channels_are_dropped(name):
    shape = (64, *SHAPES[name][1:])
    outputs = np.asarray(made(name)(jnp.ones(shape))).reshape(64, -1, 16)
    channels = outputs[:, :1]
    np.testing.assert_array_equal(outputs, np.broadcast_to(channels, outputs.shape))
    kept, dropped = np.unique(channels)[::-1]
    np.testing.assert_allclose((channels == kept).mean(), 0.75, atol=0.05)
    assert dropped == 0 or "Alpha" in name


@pytest.mark.parametrize(("name", "shape"), [("Dropout1d", (30, 16)), ("Dropout3d", (3, 5, 2, 16))])
def test_a_single_example_drops_its_channels(name, shape):
    outputs = np.asarray(made(name, 0.5)(jnp.ones(shape))).reshape(30, 16)
    np.testing.assert_array_equal(outputs, np.broadcast_to(outputs[:1], outputs.shape))
    assert set(np.unique(outputs)) == {0.0, 2.0}


@pytest.mark.parametrize("p", [0.2, 0.7])
def test_alpha_dropout_keeps_mean_and_variance(p):
    x = jax.random.normal(jax.random.key(1), (300, 300))
    y = np.asarray(made("AlphaDropout", p)(x))
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=0.02)
    # y = a x + b where x is kept, and a constant elsewhere
    alpha = 1.7580993408473766
    a = 1 / np.sqrt((alpha**2 * p + 1) * (1 - p))
    kept = np.isclose(y, a * x + a * alpha * p, atol=1e-5)
    np.testing.assert_allclose(kept.mean(), 1 - p, atol=0.01)
    np.testing.assert_allclose(y[~kept], a * alpha * (p - 1), rtol=1e-5)


@pytest.mark.parametrize("name", ["AlphaDropout", "FeatureAlphaDropout", "Dropout1d", "Dropout3d"])
def test_nothing_changes_in_evaluation_or_without_probability(name):
    x = jax.random.normal(jax.random.key(1), SHAPES[name])
    layer = made(name)
    layer.eval()
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(made(name, 0)(x), x)
    np.testing.assert_array_equal(made(name, 1)(x), jnp.zeros_like(x))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_draw_what_layers_draw(name):
    function, x = FUNCTIONS[name], jax.random.normal(jax.random.key(1), SHAPES[name])
    layer = made(name)
    key = nnx.clone(layer).draw_key()
    np.testing.assert_array_equal(function(x, 0.25, True, rngs=key), layer(x))
    np.testing.assert_array_equal(function(x, 0.25, False), x)
    np.testing.assert_array_equal(function(x, 0.0, True), x)
    infinite = x.at[0].set(jnp.inf)
    np.testing.assert_array_equal(function(infinite, 1.0, True), made(name, 1.0)(infinite))
    with pytest.raises(ValueError, match="rngs: expected a random key, .*, got None"):
        function(x, 0.25, True)


def test_rrelu_draws_a_slope_for_each_element_in_training():
    layer = layers.RReLU(0.1, 0.5, rngs=nnx.Rngs(0))
    x = jnp.concatenate([jnp.full(5000, -2.0), jnp.array([0.0, 3.0, jnp.nan])])
    gradient = jax.grad(lambda x: nnx.clone(layer)(x).sum())(x[:-1])
    slopes = np.asarray(layer(x)[:5000]) / -2
    assert 0.1 <= slopes.min() < 0.101
    assert 0.499 < slopes.max() <= 0.5
    np.testing.assert_allclose([slopes.mean(), slopes.std()], [0.3, 0.4 / 12**0.5], rtol=0.03)
    np.testing.assert_allclose(gradient[:5000], slopes, rtol=1e-6)
    assert 0.1 <= gradient[5000] <= 0.5  # at 0, as in PyTorch
    assert gradient[5001] == 1
    assert (layer(x)[:5000] != -2 * slopes).any()  # drawn anew
    assert jnp.isnan(layer(x)[-1])
    viewed = nnx.view(layer, deterministic=True)
    np.testing.assert_allclose(viewed(x)[:5000], -0.6, rtol=1e-6)


def test_rrelu_as_a_function_draws_by_its_key():
    x = jnp.array([-1.0, 2.0])
    np.testing.assert_allclose(functional.rrelu(x, 0.1, 0.5), [-0.3, 2.0], rtol=1e-6)
    drawn = functional.rrelu(x, 0.1, 0.5, True, rngs=jax.random.key(0))
    assert -0.5 <= drawn[0] <= -0.1
    with pytest.raises(ValueError, match="rngs: expected a random key"):
        functional.rrelu(x, training=True)


def test_reseeding_repeats_the_slopes():
    layer, x = layers.RReLU(rngs=nnx.Rngs(0)), -jnp.ones(9)
    nnx.reseed(layer, dropout=jax.random.key(3))
    first = layer(x)
    assert (layer(x) != first).any()
    nnx.reseed(layer, dropout=jax.random.key(3))
    np.testing.assert_array_equal(layer(x), first)

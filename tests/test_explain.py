"""Properties of attributions for any model, and errors for bad arguments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import explain, layers
from jaxnets.data import Compose, Normalize, ToFloat
from jaxnets.explain import drawing

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(3, 4)).astype(np.float32)
IMAGES = DRAW.integers(0, 256, (2, 8, 6, 1), np.uint8)
HALF = Normalize(0.5, 0.5)


class Net(nnx.Module):
    """Flax's layers, one of them shared, with dropout and batch statistics."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.mix = nnx.Conv(3, 3, (1, 1), rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(3, 4, rngs=rngs)
        self.unused = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        x = nnx.tanh(self.mix(self.mix(x)))
        return self.head(self.drop(x).mean(axis=(1, 2)))


@pytest.fixture(scope="module")
def net():
    return Net(nnx.Rngs(0))


@pytest.fixture(scope="module")
def mlp():
    rngs = nnx.Rngs(1)
    return nnx.Sequential(
        layers.Linear(4, 5, rngs=rngs), jax.nn.tanh, layers.Linear(5, 3, rngs=rngs)
    )


def test_a_model_is_left_as_it_is_and_computes_in_evaluation_mode(net):
    net.train()
    before = jax.tree.leaves(nnx.split(net)[1])
    one, two = (explain.saliency(net, IMAGES, transform=Compose(ToFloat(), HALF)) for _ in range(2))
    assert one.shape == IMAGES.shape
    np.testing.assert_array_equal(one, two)
    after = jax.tree.leaves(nnx.split(net)[1])
    assert len(before) == len(after)
    assert not net.drop.deterministic
    assert not net.norm.use_running_average
    for old, new in zip(before, after, strict=True):
        old, new = (jax.random.key_data(x) if x.dtype.name[:3] == "key" else x for x in (old, new))
        np.testing.assert_array_equal(old, new)


def test_smooth_grad_is_the_mean_saliency_of_noisy_inputs(mlp):
    found = explain.smooth_grad(mlp, ROWS, nt_samples=3, stdevs=0.5, seed=7)
    target = np.asarray(mlp(ROWS)).argmax(-1)  # of the inputs without noise
    keys = [jax.random.fold_in(jax.random.key(7), k) for k in range(3)]
    noisy = [ROWS + np.float32(0.5) * jax.random.normal(key, ROWS.shape) for key in keys]
    expected = np.mean([explain.saliency(mlp, x, target) for x in noisy], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_integrated_gradients_add_up_to_the_difference_of_outputs(mlp):
    found = explain.integrated_gradients(mlp, ROWS, 1, baselines=ROWS[0])
    difference = mlp(ROWS)[:, 1] - mlp(ROWS[:1])[:, 1]
    np.testing.assert_allclose(found.attributions.sum(-1), difference, atol=1e-5)
    np.testing.assert_allclose(found.delta, np.zeros(3), atol=1e-5)


def test_attributions_are_of_what_the_transform_makes(mlp):
    other = explain.input_x_gradient(mlp, (ROWS - 0.5) / 0.5, 2)
    np.testing.assert_allclose(
        explain.input_x_gradient(mlp, ROWS, 2, transform=HALF), other, rtol=1e-5
    )


def test_targets_are_classes_functions_or_the_prediction(mlp):
    classes = np.asarray(mlp(ROWS)).argmax(-1)
    predicted = explain.saliency(mlp, ROWS)
    np.testing.assert_array_equal(predicted, explain.saliency(mlp, ROWS, classes))

    def margin(outputs):
        return outputs[:, 0] - outputs[:, 1]

    signed = [explain.saliency(mlp, ROWS, target, abs=False) for target in (0, 1, margin)]
    np.testing.assert_allclose(signed[2], signed[0] - signed[1], rtol=1e-5, atol=1e-7)


def test_one_output_is_the_target_whatever_its_axes():
    line = nnx.Linear(4, 1, use_bias=False, rngs=nnx.Rngs(0))
    flat = nnx.Sequential(line, lambda x: x[:, 0])
    for model in (line, flat):
        found = explain.saliency(model, ROWS, abs=False)
        np.testing.assert_allclose(found, np.tile(line.kernel[...].T, (3, 1)), rtol=1e-6)


def test_grad_cam_takes_the_last_convolution_or_the_layer_of_a_name():
    class Plain(nnx.Module):
        def __init__(self, rngs):
            self.body = layers.Sequential(layers.Conv2d(1, 2, 3, rngs=rngs), layers.ReLU())
            self.fc = layers.Linear(2, 3, rngs=rngs)

        def __call__(self, x):
            return self.fc(self.body(x).mean((1, 2)))

    model = Plain(nnx.Rngs(0))
    x = HALF(jnp.asarray(IMAGES, jnp.float32) / 255)
    found = explain.grad_cam(model, x)
    assert found.shape == (2, 8, 6, 1)
    np.testing.assert_array_equal(found, explain.grad_cam(model, x, layer="body.0"))
    by_relu = explain.grad_cam(model, x, layer="body.1", interpolate_mode=None)
    assert by_relu.shape == (2, 6, 4, 1)


def test_convolutions_of_sequences_have_maps_too():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(layers.Conv1d(2, 3, 3, rngs=rngs), lambda x: x.mean(1))
    series = DRAW.normal(size=(2, 9, 2)).astype(np.float32)
    assert explain.grad_cam(model, series).shape == (2, 9, 1)


def test_an_integer_window_covers_all_channels(mlp):
    colour = nnx.Sequential(layers.flatten, nnx.Linear(48, 2, rngs=nnx.Rngs(0)))
    images = DRAW.normal(size=(2, 4, 4, 3)).astype(np.float32)
    found = explain.occlusion(colour, images, sliding_window_shapes=2, strides=2)
    same = explain.occlusion(colour, images, sliding_window_shapes=(2, 2, 3), strides=(2, 2, 1))
    np.testing.assert_array_equal(found, same)
    np.testing.assert_array_equal(found[:, 0, 0, 0], found[:, 1, 1, 2])
    falls = explain.occlusion(mlp, ROWS, 0, sliding_window_shapes=1)
    without = mlp(ROWS * np.array([1, 1, 0, 1], np.float32))
    np.testing.assert_allclose(falls[:, 2], (mlp(ROWS) - without)[:, 0], atol=1e-6)


class Words(nnx.Module):
    def __init__(self, rngs):
        self.table = nnx.Embed(7, 3, rngs=rngs)
        self.fc = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, tokens):
        return self.fc(jnp.tanh(self.table(tokens)).mean(1))


def test_tokens_of_a_stock_embedding_add_up_and_padding_has_nothing():
    model, tokens = Words(nnx.Rngs(0)), np.array([[3, 1, 0], [6, 2, 2]])
    found = explain.token_attributions(model, tokens, 1)
    difference = model(jnp.asarray(tokens)) - model(jnp.zeros_like(jnp.asarray(tokens)))
    np.testing.assert_allclose(found.attributions.sum(-1), difference[:, 1], atol=1e-5)
    assert found.attributions[0, 2] == 0


def test_columns_are_permuted_alone_or_together_also_in_series():
    model = nnx.Sequential(lambda x: x.sum(1), nnx.Linear(3, 1, use_bias=False, rngs=nnx.Rngs(0)))
    model.layers[1].kernel[...] = jnp.array([[1.0], [1.0], [0.0]])
    series = DRAW.normal(size=(30, 2, 3)).astype(np.float32)
    labels = series.sum((1, 2), keepdims=True)[:, 0] - series.sum(1)[:, 2:]
    alone = explain.permutation_importance(model, series, labels)
    assert (alone.importances_mean[:2] > 0.5).all()
    assert abs(alone.importances_mean[2]) < 1e-6
    assert alone.importances.shape == (3, 5)
    assert alone.score == pytest.approx(1)
    both = explain.permutation_importance(
        model, series, labels, columns=[[0, 1], [2]], n_repeats=2,
        metric=lambda outputs, labels: -np.abs(outputs - labels).max(),
    )  # fmt: skip
    assert both.importances.shape == (2, 2)
    assert both.importances_mean[0] > both.importances_mean[1] == pytest.approx(0, abs=1e-6)


SALIENCY, CAM, OCCLUSION = explain.saliency, explain.grad_cam, explain.occlusion
IMPORTANCE, TOKENS = explain.permutation_importance, explain.token_attributions
X = np.zeros((2, 8, 6, 1), np.float32)
BAD = [
    (SALIENCY, (IMAGES,), {}, r"inputs: expected floating-point inputs, .*, got uint8\["),
    (SALIENCY, (X[:, 1:, :, 0],), {}, "inputs: expected an array that the model accepts, got"),
    (SALIENCY, (X, 4), {}, "target: expected a class from 0 to 3, got 4"),
    (SALIENCY, (X, [0, 1, 2]), {}, "target: expected the number of a class, one for each"),
    (SALIENCY, (X, lambda y: y), {}, r"target: expected a function that returns floats \[2\]"),
    (SALIENCY, (X,), {"transform": lambda x: None}, "transform: expected .* an array, got"),
    (explain.smooth_grad, (X,), {"stdevs": -1.0}, "stdevs: expected a finite number >= 0"),
    (explain.integrated_gradients, (X,), {"baselines": X[:, 1:]}, "baselines: expected a number"),
    (explain.integrated_gradients, (X,), {"n_steps": 0}, "n_steps: expected an integer from 1 to"),
    (explain.integrated_gradients, (X,), {"method": "simpson"}, "method: expected one of gauss"),
    (CAM, (X,), {"layer": "conv9"}, "layer: expected a layer that the model calls: conv, norm"),
    (CAM, (X,), {"layer": "unused"}, "layer: expected a layer that the model calls: conv, norm"),
    (CAM, (X,), {"layer": "mix"}, "layer: expected a layer that is called once, got mix, 2 times"),
    (CAM, (X,), {"layer": "head"}, r"layer: expected a layer with outputs \[batch, height, "),
    (OCCLUSION, (X,), {"sliding_window_shapes": 9}, "sliding_window_shapes: expected a size of at"),
    (OCCLUSION, (X,), {"sliding_window_shapes": 2, "strides": 3}, "strides: expected a step of at"),
    (TOKENS, (X,), {}, r"inputs: expected integers \[batch, time\], got float32"),
    (IMPORTANCE, (X, X), {}, r"inputs: expected \[examples, columns\] or"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "given", "options", "message"), BAD)
def test_bad_arguments_are_named(net, function, given, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(net, *given, **options)


def test_models_without_such_layers_or_outputs_are_refused(mlp):
    with pytest.raises(ValueError, match="layer: expected a name, as the model calls no"):
        explain.grad_cam(mlp, ROWS)
    with pytest.raises(ValueError, match=r"baselines: expected a token from 0 to 6, got 7"):
        explain.token_attributions(Words(nnx.Rngs(0)), np.array([[1]]), baselines=7)
    with pytest.raises(ValueError, match=r"inputs: expected tokens from 0 to 6, got 9"):
        explain.token_attributions(Words(nnx.Rngs(0)), np.array([[9]]))
    with pytest.raises(ValueError, match="layer: expected an embedding of tokens"):
        explain.token_attributions(Words(nnx.Rngs(0)), np.array([[1]]), layer="fc")
    pair = nnx.Sequential(mlp, lambda x: (x, x))
    with pytest.raises(ValueError, match="target: expected a function of the outputs"):
        explain.saliency(pair, ROWS)
    first = explain.saliency(pair, ROWS, lambda outputs: outputs[0][:, 0])
    np.testing.assert_array_equal(first, explain.saliency(mlp, ROWS, 0))
    with pytest.raises(ValueError, match="labels: expected a label for each of 3 examples"):
        explain.permutation_importance(mlp, ROWS, np.zeros(2, int))
    with pytest.raises(ValueError, match="columns: expected a sequence of sequences"):
        explain.permutation_importance(mlp, ROWS, np.zeros(3, int), columns=[[4]])


def test_a_layer_within_a_scan_is_refused():
    class Looped(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(1, 1, (3, 3), rngs=rngs)

        def __call__(self, x):
            _, parts = jax.lax.scan(lambda c, x: (c, self.conv(x[None])[0]), 0, x)
            return parts.mean((1, 2))

    with pytest.raises(ValueError, match="layer: expected"):
        explain.grad_cam(Looped(nnx.Rngs(0)), X)


def test_pictures_have_the_sign_of_what_they_show(tmp_path):
    signed = drawing.draw_image(IMAGES[0], DRAW.normal(size=(8, 6)), path=tmp_path / "a.png")
    plain = drawing.draw_image(IMAGES[0], np.ones((8, 6)), title="ones", label="red: much")
    ends = [figure.axes[1].images[1].norm for figure in (signed, plain)]
    assert ends[0].vmin == -ends[0].vmax
    assert (ends[1].vmin, ends[1].vmax) == (0, 1)
    assert plain.get_suptitle() == "ones"
    assert plain.axes[2].get_xlabel() == "red: much"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    shades = drawing.shades(np.array([-1.0, 0.0, 1.0]))
    assert shades[0][2] > shades[0][0]
    assert shades[2][0] > shades[2][2]


def test_a_text_is_drawn_in_lines_and_bars_in_order():
    words = ["word"] * 40
    figure = drawing.draw_text(words, np.linspace(-1, 1, 40))
    rows = {text.get_position()[1] for text in figure.axes[0].texts}
    assert len(figure.axes[0].texts) == 40
    assert rows == {0, 1, 2}
    bars = drawing.draw_bars(["a", "b", "c"], np.array([0.1, -0.5, 0.3]), most=2)
    assert [label.get_text() for label in bars.axes[0].get_yticklabels()] == ["c", "b"]


def test_bad_pictures_are_refused():
    with pytest.raises(ValueError, match=r"attributions: expected \[8, 6\], got"):
        drawing.draw_image(IMAGES[0], np.ones((8, 7)))
    with pytest.raises(ValueError, match="image: expected"):
        drawing.draw_image(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="attributions: expected one number for each of 1 words"):
        drawing.draw_text(["a"], np.ones(2))
    with pytest.raises(ValueError, match="words: expected a sequence of strings, got 'word'"):
        drawing.draw_text("word", np.ones(4))
    with pytest.raises(ValueError, match="errors: expected one number for each of 1 names"):
        drawing.draw_bars(["a"], np.ones(1), np.ones(2))
    with pytest.raises(ValueError, match="values: expected one number for each of 1 names"):
        drawing.draw_bars(["a"], np.ones(2))
    with pytest.raises(ValueError, match="path: expected a file in a folder that exists"):
        drawing.draw_bars(["a"], np.ones(1), path="no-folder/a.png")

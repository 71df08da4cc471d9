"""The inside of a network: graph, activations, features, gradients, and their pictures."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import explain, layers, losses

DRAW = np.random.default_rng(0)
IMAGES = DRAW.normal(size=(5, 6, 6, 1)).astype(np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


class Residual(nnx.Module):
    """A sum of two branches, a layer that is called twice, and one in a list that is not called."""

    def __init__(self, rngs):
        self.stem = layers.Sequential(layers.Conv2d(1, 4, 3, padding=1, rngs=rngs), layers.ReLU())
        self.block = layers.Conv2d(4, 4, 3, padding=1, rngs=rngs)
        self.pool = layers.MaxPool2d(2)
        self.spare = nnx.List([nnx.Linear(2, 2, rngs=rngs)])
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = self.pool(self.stem(x))
        x = self.pool(jax.nn.relu(x + self.block(x)))
        return self.head(x.mean((1, 2)))


@pytest.fixture(scope="module")
def net():
    return Residual(nnx.Rngs(0))


def test_the_graph_has_the_calls_in_order_and_where_their_inputs_come_from(net):
    nodes = explain.network_graph(net, IMAGES[:2])
    assert [node.name for node in nodes] == [
        "input", "stem.0", "stem.1", "pool", "block", "pool", "head", "output",
    ]  # fmt: skip
    assert [node.sources for node in nodes] == [(), (0,), (1,), (2,), (3,), (3, 4), (5,), (6,)]
    assert nodes[3].shapes == ((2, 3, 3, 4),)
    assert nodes[4].kind == "Conv2d"
    assert [node.parameters for node in nodes] == [0, 40, 0, 0, 148, 0, 15, 0]
    figure = explain.draw_graph(net, jax.ShapeDtypeStruct((2, 6, 6, 1), np.float32), title="net")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"stem.0", "Conv2d", "2×6×6×4", "148"} <= set(texts)


def test_a_layer_of_several_outputs_is_one_node():
    class Recurrent(nnx.Module):
        def __init__(self, rngs):
            self.embedding = layers.Embedding(9, 4, rngs=rngs)
            self.lstm = layers.LSTM(4, 3, rngs=rngs)

        def __call__(self, tokens):
            return self.lstm(self.embedding(tokens))[0][:, -1]

    nodes = explain.network_graph(Recurrent(nnx.Rngs(0)), np.zeros((2, 5), np.int32))
    assert [(node.name, node.sources) for node in nodes] == [
        ("input", ()), ("embedding", (0,)), ("lstm", (1,)), ("output", (2,)),
    ]  # fmt: skip
    assert len(nodes[2].shapes) == 3


def test_activations_are_those_of_each_call(net):
    found = explain.activations(net, IMAGES)
    assert [*found] == [
        "stem.0", "stem.1", "stem", "pool", "block", "pool#2", "head", "output",
    ]  # fmt: skip
    np.testing.assert_array_equal(found["output"], net(IMAGES))
    np.testing.assert_allclose(found["stem.1"], np.maximum(found["stem.0"], 0))


def test_features_are_the_inputs_of_the_last_layer(net, monkeypatch):
    monkeypatch.setattr("jaxnets.explain.inside._BATCH", 2)
    found = explain.features(net, IMAGES)
    expected = explain.activations(net, IMAGES)["pool#2"].mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert explain.features(net, IMAGES, layer="block").shape == (5, 36)


def test_the_projection_has_the_directions_of_largest_variance():
    rows = DRAW.normal(size=(40, 6)) * np.array([5, 3, 1, 1, 1, 1])
    variances, directions = np.linalg.eigh(np.cov(rows.T))
    points = explain.project(rows)
    np.testing.assert_allclose(points.var(axis=0, ddof=1), variances[:-3:-1])
    expected = (rows - rows.mean(axis=0)) @ directions[:, :-3:-1]
    np.testing.assert_allclose(np.abs(points), np.abs(expected))
    assert explain.project(rows[:, :1]).shape == (40, 2)


def test_tsne_is_scikit_learns(monkeypatch):
    class TSNE:  # the package takes seconds to import
        def __init__(self, components, *, perplexity, init, random_state):
            self.settings = components, perplexity, init, random_state

        def fit_transform(self, rows):
            return rows.dtype, *self.settings

    modules = {"sklearn": None, "sklearn.manifold": types.SimpleNamespace(TSNE=TSNE)}
    monkeypatch.setattr("jaxnets.explain.inside.require", lambda name, **_: modules[name])
    found = explain.project(np.eye(10), method="tsne", seed=4)
    assert found == (np.float32, 2, 3.0, "pca", 4)


def test_gradients_are_those_of_the_loss(net):
    found = explain.parameter_gradients(net, IMAGES, LABELS, losses.cross_entropy)

    def loss(head):
        outputs = jnp.asarray(explain.features(net, IMAGES)) @ head + net.head.bias[...][None]
        return losses.cross_entropy(outputs, jnp.asarray(LABELS))

    np.testing.assert_allclose(
        found["head.kernel"], jax.grad(loss)(net.head.kernel[...]), rtol=1e-4, atol=1e-7
    )
    assert found["stem.0.kernel"].shape == (3, 3, 1, 4)


def test_kernels_are_drawn_as_windows_as_images_and_as_a_matrix(net):
    figure = explain.draw_kernels(net, IMAGES)
    drawn = [axes.images[0].get_array() for axes in figure.axes[:-1] if axes.images]
    np.testing.assert_allclose(drawn[2], net.stem[0].kernel[:, :, 0, 2])
    assert figure.get_suptitle() == "stem.0: 3×3×1×4"
    rngs = nnx.Rngs(0)
    flat = nnx.Sequential(layers.flatten, nnx.Linear(36, 3, rngs=rngs))
    images = explain.draw_kernels(flat, IMAGES).axes[0].images[0].get_array()
    np.testing.assert_allclose(images, flat.layers[1].kernel[:, 0].reshape(6, 6))
    line = nnx.Linear(2, 3, rngs=rngs)
    matrix = explain.draw_kernels(line, np.zeros((1, 2), np.float32))
    np.testing.assert_allclose(matrix.axes[0].images[0].get_array(), line.kernel[...])


@pytest.mark.slow
def test_each_picture_has_what_it_says(net, tmp_path):
    figure = explain.draw_activations(net, IMAGES[:1], path=tmp_path / "a.png")
    labels = {text.get_text().split("\n")[0] for axes in figure.axes for text in axes.texts}
    assert labels == {"stem.0", "stem.1", "pool", "block", "pool#2", "head"}
    histograms = explain.draw_histograms(net, IMAGES, LABELS, loss=losses.cross_entropy)
    assert [axes.get_title() for axes in histograms.axes[:2]] == ["values", "gradient"]
    assert "head.kernel\n4×3" in {axes.get_ylabel() for axes in histograms.axes}
    embedding = explain.draw_embedding(DRAW.normal(size=(5, 2)), LABELS, ["a", "b", "c"])
    legend = [text.get_text() for text in embedding.axes[0].get_legend().get_texts()]
    assert legend == ["a", "b", "c"]
    shaded = explain.draw_embedding(DRAW.normal(size=(5, 2)), DRAW.normal(size=5))
    assert shaded.axes[1].get_ylabel() == "label"
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


BAD = [
    (explain.network_graph, (IMAGES[:, 0],), {}, "x: expected a floating-point array"),
    (explain.network_graph, (3,), {}, r"inputs: expected an array \[batch, …\], or its"),
    (explain.activations, (IMAGES[..., 0, 0],), {}, "x: expected a floating-point array"),
    (explain.draw_activations, (IMAGES,), {}, r"inputs: expected one example \[1, …\]"),
    (explain.features, (IMAGES,), {"layer": "fc"}, "layer: expected a layer that the model calls"),
    (explain.features, (IMAGES,), {"layer": "pool"}, "layer: expected a layer that is called once"),
    (explain.draw_kernels, (IMAGES,), {"layer": "stem.1"}, "layer: expected a layer with a weight"),
    (explain.draw_histograms, (IMAGES,), {}, "loss: expected all of inputs, labels and loss"),
]


@pytest.mark.parametrize(("function", "given", "options", "message"), BAD)
def test_bad_arguments_are_named(net, function, given, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        function(net, *given, **options)


def test_points_without_a_plane_are_refused():
    with pytest.raises(ValueError, match=r"features: expected \[examples, features\] of at least"):
        explain.project(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"points: expected \[examples, 2\]"):
        explain.draw_embedding(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ValueError, match="labels: expected one label for each of 2 examples"):
        explain.draw_embedding(np.ones((2, 2)), np.ones(3))

"""Attributions compared with Captum's, and permutation importance with scikit-learn's."""

import functools

import captum.attr as captum
import jax
import numpy as np
import pytest
import torch
from flax import nnx
from sklearn import base, inspection

from jaxnets import explain, interop, layers

pytestmark = pytest.mark.slow

TARGETS = np.array([2, 0, 1])


class Cnn(nnx.Module):
    """Two convolutions; the second is a Flax layer in a list."""

    def __init__(self, rngs):
        options = {"rngs": rngs, "param_dtype": np.float64}
        self.conv1 = layers.Conv2d(2, 3, 3, **options)
        self.features = nnx.List([nnx.Conv(3, 4, (3, 3), padding="VALID", **options)])
        self.fc = layers.Linear(4 * 2 * 4, 3, **options)

    def __call__(self, x):
        x = layers.MaxPool2d(2)(jax.nn.relu(self.conv1(x)))
        return self.fc(layers.flatten(jax.nn.tanh(self.features[0](x))))


class TorchCnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(2, 3, 3)
        self.features = torch.nn.ModuleList([torch.nn.Conv2d(3, 4, 3)])
        self.fc = torch.nn.Linear(4 * 2 * 4, 3)

    def forward(self, x):
        x = torch.nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        return self.fc(torch.tanh(self.features[0](x)).flatten(1))


class Mlp(nnx.Module):
    def __init__(self, rngs):
        options = {"rngs": rngs, "param_dtype": np.float64}
        self.fc1, self.fc2 = layers.Linear(5, 6, **options), layers.Linear(6, 3, **options)

    def __call__(self, x):
        return self.fc2(jax.nn.sigmoid(self.fc1(x)))


class TorchMlp(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = torch.nn.Linear(5, 6), torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(torch.sigmoid(self.fc1(x)))


def pair(ours, theirs, inputs):
    torch.manual_seed(0)
    module = theirs().double().eval()
    model = ours(nnx.Rngs(0))
    interop.load_torch(model, module.state_dict())
    return model, module, inputs


@functools.cache  # created within a test, where float64 is enabled
def network(name):
    draw = np.random.default_rng(0)
    if name == "cnn":
        return pair(Cnn, TorchCnn, draw.normal(size=(3, 10, 14, 2)))
    return pair(Mlp, TorchMlp, draw.normal(size=(3, 5)))


NETWORKS = ["cnn", "mlp"]


def nchw(x):
    array = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
    return torch.tensor(array, requires_grad=True)


def nhwc(tensor):
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def check(ours, theirs, rtol=1e-10):
    theirs = nhwc(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * np.abs(theirs).max())


#: Captum rounds the weights of its quadratures to float32.
FLOAT32 = 2e-7


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_captums(name):
    model, module, x = network(name)
    target = torch.tensor(TARGETS)
    theirs = captum.Saliency(module)
    check(explain.saliency(model, x, TARGETS), theirs.attribute(nchw(x), target))
    signed = theirs.attribute(nchw(x), target, abs=False)
    check(explain.saliency(model, x, TARGETS, abs=False), signed)
    theirs = captum.InputXGradient(module).attribute(nchw(x), 1)
    check(explain.input_x_gradient(model, x, 1), theirs)


@pytest.mark.parametrize(
    ("name", "method"),
    [("cnn", "gausslegendre"), *(("mlp", method) for method in explain.integrated._METHODS)],
)
def test_integrated_gradients_are_captums(name, method):
    model, module, x = network(name)
    start = np.random.default_rng(1).normal(size=x.shape)
    ours = explain.integrated_gradients(
        model, x, TARGETS, baselines=start, n_steps=7, method=method
    )
    theirs, delta = captum.IntegratedGradients(module).attribute(
        nchw(x),
        nchw(start),
        torch.tensor(TARGETS),
        n_steps=7,
        method=method,
        return_convergence_delta=True,
    )
    check(ours.attributions, theirs, FLOAT32)
    np.testing.assert_allclose(ours.delta, delta.detach().numpy(), atol=1e-6)


@pytest.mark.parametrize("layer", ["conv1", "features.0"])
def test_grad_cam_is_captums(layer):
    model, module, x = network("cnn")
    theirs = captum.LayerGradCam(module, module.get_submodule(layer))
    plain = theirs.attribute(nchw(x), torch.tensor(TARGETS))
    ours = explain.grad_cam(
        model, x, TARGETS, layer=layer, relu_attributions=False, interpolate_mode=None
    )
    check(ours, plain)
    positive = theirs.attribute(nchw(x), torch.tensor(TARGETS), relu_attributions=True)
    for mode in ("nearest", "bilinear"):
        larger = captum.LayerAttribution.interpolate(positive, x.shape[1:3], mode)
        check(explain.grad_cam(model, x, TARGETS, layer=layer, interpolate_mode=mode), larger)


CASES = [
    ("cnn", (3, 4, 2), (2, 3, 1), 0.5),
    ("cnn", (5, 5, 1), (4, 5, 1), 0.0),
    ("mlp", (2,), 1, 1.0),
]


@pytest.mark.parametrize(("name", "window", "strides", "baseline"), CASES)
def test_occlusion_is_captums(name, window, strides, baseline):
    model, module, x = network(name)

    def first(sizes):
        return (sizes[-1], *sizes[:-1]) if isinstance(sizes, tuple) and len(sizes) == 3 else sizes

    theirs = captum.Occlusion(module).attribute(
        nchw(x), first(window), first(strides), baseline, torch.tensor(TARGETS)
    )
    ours = explain.occlusion(
        model, x, TARGETS, sliding_window_shapes=window, strides=strides, baselines=baseline
    )
    check(ours, theirs, FLOAT32)  # Captum sums in float32


class Words(nnx.Module):
    """The mean of an embedding's rows, through a hidden layer."""

    def __init__(self, rngs):
        options = {"rngs": rngs, "param_dtype": np.float64}
        self.embedding = layers.Embedding(9, 4, padding_idx=0, **options)
        self.fc1, self.fc2 = layers.Linear(4, 5, **options), layers.Linear(5, 2, **options)

    def __call__(self, tokens):
        return self.fc2(jax.numpy.tanh(self.fc1(self.embedding(tokens).mean(axis=1))))


class TorchWords(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(9, 4, padding_idx=0)
        self.fc1, self.fc2 = torch.nn.Linear(4, 5), torch.nn.Linear(5, 2)

    def forward(self, tokens):
        return self.fc2(torch.tanh(self.fc1(self.embedding(tokens).mean(1))))


def test_token_attributions_are_captums():
    tokens = np.array([[3, 8, 1, 0, 0], [2, 2, 7, 5, 4]], np.int32)
    model, module, _ = pair(Words, TorchWords, None)
    ours = explain.token_attributions(model, tokens, 1, n_steps=9)
    given = torch.tensor(tokens)
    theirs, delta = captum.LayerIntegratedGradients(module, module.embedding).attribute(
        given, torch.zeros_like(given), 1, n_steps=9, return_convergence_delta=True
    )
    check(ours.attributions, theirs.sum(-1), FLOAT32)
    np.testing.assert_allclose(ours.delta, delta.detach().numpy(), atol=1e-6)
    assert (np.asarray(ours.attributions)[0, 3:] == 0).all()


def test_permutation_importance_is_scikit_learns():
    model, _, _ = network("mlp")
    table = np.random.default_rng(3).normal(size=(40, 5))
    labels = np.random.default_rng(4).integers(3, size=40)

    class Estimator(base.ClassifierMixin, base.BaseEstimator):
        classes_ = np.arange(3)

        def fit(self, table, labels):
            return self

        def predict(self, table):
            return np.asarray(model(jax.numpy.asarray(table))).argmax(-1)

    theirs = inspection.permutation_importance(
        Estimator(), table, labels, n_repeats=3, random_state=7
    )
    ours = explain.permutation_importance(model, table, labels, n_repeats=3, seed=7)
    np.testing.assert_allclose(ours.importances, theirs.importances, atol=1e-6)
    np.testing.assert_allclose(ours.importances_mean, theirs.importances_mean, atol=1e-6)
    np.testing.assert_allclose(ours.importances_std, theirs.importances_std, atol=1e-6)

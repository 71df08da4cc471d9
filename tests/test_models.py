import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import optimizers
from jaxnets.data import Dataset, Split
from jaxnets.models import (
    MLP,
    MODELS,
    ImageClassifier,
    LeNet,
    LinearRegression,
    RecurrentClassifier,
)
from jaxnets.training import count_parameters, fit
from jaxnets.training.objective import outputs_of
from jaxnets.training.weights import load_weights, save_weights
from tests import tier
from tests.networks import CASES

battery = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
compiled = pytest.mark.parametrize("case", tier.one_in(5, CASES.values()), ids=CASES)
FLOATING = {name: case for name, case in CASES.items() if not case.vocabulary and not case.columns}


@nnx.jit
def _outputs(model, x):
    return outputs_of(model, x)


def run(model, inputs):
    return np.asarray(_outputs(model, jax.tree.map(jnp.asarray, inputs)))


@compiled
def test_outputs_have_the_stated_shape_for_any_batch(case):
    model = case.build(nnx.Rngs(0))
    model.eval()
    for count in (1, 3):
        outputs = run(model, case.inputs(count))
        places = case.example if case.per_token else case.grid
        assert outputs.shape == (count, *places, *case.last)
        assert outputs.dtype == np.float32
        assert np.isfinite(outputs).all()


@compiled
def test_an_example_does_not_depend_on_its_batch(case):
    model = case.build(nnx.Rngs(0))
    model.eval()
    inputs = case.inputs(3)
    second = jax.tree.map(lambda array: array[1:2], inputs)
    np.testing.assert_allclose(run(model, inputs)[1:2], run(model, second), rtol=1e-5, atol=1e-6)


@compiled
def test_the_same_seed_draws_the_same_weights_and_another_seed_others(case):
    def weights(seed):
        return jax.tree.leaves(nnx.state(case.build(nnx.Rngs(seed)), nnx.Param))

    for first, second, other in zip(weights(0), weights(0), weights(1), strict=True):
        np.testing.assert_array_equal(first, second)
        constant = np.ptp(first) == 0  # a bias of 0 or a scale of 1
        assert constant or not np.array_equal(first, other)


@compiled
def test_every_parameter_gets_a_finite_gradient_that_is_not_all_zero(case):
    model = case.build(nnx.Rngs(0))
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)
    inputs, labels = jax.tree.map(jnp.asarray, (case.inputs(32), case.labels(32)))

    @jax.jit
    def gradient(parameters):
        def objective(parameters):
            model = nnx.merge(graphdef, parameters, rest, copy=True)
            return case.loss(outputs_of(model, inputs), labels)

        return jax.grad(objective)(parameters)

    for path, value in jax.tree.leaves_with_path(gradient(parameters)):
        assert np.isfinite(value).all(), path
        idle = case.idle is not None and case.idle in str(path)
        assert (np.abs(value).max() == 0) == idle, path


@pytest.mark.parametrize("name", tier.usually(CASES, ["mlp", "text-lstm"]))
def test_training_is_bit_for_bit_repeatable_and_lowers_the_loss(name):
    case = CASES[name]
    data = Dataset(
        "drawn", Split(case.inputs(48), case.labels(48)), Split(case.inputs(9), case.labels(9))
    )

    optimizer = optimizers.adam(0.01)

    def train():
        model = case.build(nnx.Rngs(0))
        return fit(
            model, data, loss=case.loss, optimizer=optimizer, epochs=4, batch_size=16,
            seed=3, progress="none",
        )  # fmt: skip

    first, second = train(), train()
    np.testing.assert_array_equal(first.step_losses, second.step_losses)
    jax.tree.map(np.testing.assert_array_equal, first.state.parameters, second.state.parameters)
    assert first.history[-1].train_loss < first.history[0].train_loss
    assert first.step_losses.shape == (4 * 3,)
    assert first.test.total == (case.labels(9).size if case.per_token else 9)


@compiled
def test_weights_survive_saving_and_loading(case, tmp_path):
    model, other = case.build(nnx.Rngs(0)), case.build(nnx.Rngs(1))
    model.eval(), other.eval()
    inputs = case.inputs(3)
    assert not np.array_equal(run(model, inputs), run(other, inputs))
    save_weights(model, tmp_path / "weights")
    load_weights(other, tmp_path / "weights")
    np.testing.assert_array_equal(run(model, inputs), run(other, inputs))


@pytest.mark.parametrize("case", FLOATING.values(), ids=FLOATING)
def test_an_example_of_another_shape_is_refused(case):
    model = case.build(nnx.Rngs(0))
    with pytest.raises(
        ValueError, match=r"(inputs|images|sound|noise): expected .*, got float32\[2, "
    ):
        model(jnp.zeros((2, *case.example[:-1], case.example[-1] + 1), jnp.float32))


@pytest.mark.parametrize("case", FLOATING.values(), ids=FLOATING)
def test_integer_inputs_are_refused(case):
    model = case.build(nnx.Rngs(0))
    with pytest.raises(ValueError, match=r"expected a floating-point array .*, got uint8\["):
        model(jnp.zeros((2, *case.example), jnp.uint8))


@pytest.mark.parametrize(
    ("build", "size"),
    [
        (MLP, 109_386),
        (partial(MLP, (784, 128, 10)), 101_770),
        (LeNet, 61_706),
        (partial(LeNet, 3, 10, 32), 62_006),
        (partial(ImageClassifier, 3072, 64, 10), 197_322),
        (LinearRegression, 2),
        (
            partial(RecurrentClassifier, 28, 128, 2, 0.0, 10),
            4 * 128 * (28 + 128 + 2 + 128 + 128 + 2) + 1290,
        ),
        (
            partial(RecurrentClassifier, 28, 128, 2, 0.0, 10, cell="gru"),
            3 * 128 * (28 + 128 + 2 + 128 + 128 + 2) + 1290,
        ),
    ],
)
def test_the_documented_sizes(build, size):
    assert count_parameters(nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))) == size


def test_layers_have_the_names_of_pytorch():
    def shape(network, *arguments, **options):
        return nnx.eval_shape(lambda: network(*arguments, **options, rngs=nnx.Rngs(0)))

    assert shape(MLP).fc3.out_features == 10
    assert shape(LeNet).conv2.kernel.shape == (5, 5, 6, 16)
    assert shape(ImageClassifier).fc2.out_features == 10
    assert shape(RecurrentClassifier, 3, 4).lstm.hidden_size == 4
    assert shape(RecurrentClassifier, 3, 4, cell="gru").gru.hidden_size == 4
    assert set(MODELS) >= {"linear-regression", "mlp", "image-classifier", "lenet"}


def test_features_may_be_an_array():
    assert MLP(np.array([4, 3]), rngs=nnx.Rngs(0)).features == (4, 3)
    assert all(type(size) is int for size in MLP(np.array([4, 3]), rngs=nnx.Rngs(0)).features)


def test_probabilities_are_probabilities():
    rngs = nnx.Rngs(0)
    softmax = run(MLP((4, 3), output="softmax", rngs=rngs), np.ones((5, 4), np.float32))
    np.testing.assert_allclose(softmax.sum(1), 1, rtol=1e-6)
    inputs = np.ones((5, 2, 3), np.float32)
    sigmoid = run(RecurrentClassifier(3, 4, rngs=rngs), inputs)
    assert ((sigmoid > 0) & (sigmoid < 1)).all()
    logits = RecurrentClassifier(3, 4, output="logits", rngs=nnx.Rngs(1))
    same = RecurrentClassifier(3, 4, rngs=nnx.Rngs(1))
    np.testing.assert_allclose(jax.nn.sigmoid(run(logits, inputs)), run(same, inputs), rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda r: MLP((784,), rngs=r), r"features: expected at least an input and an output"),
        (lambda r: MLP((784, 0, 10), rngs=r), "features: expected a positive integer, got 0"),
        (lambda r: MLP(output="relu", rngs=r), "output: expected one of logits, softmax"),
        (lambda r: LeNet(image_size=29, rngs=r), "image_size: expected 28 or 32, got 29"),
        (lambda r: LeNet(0, rngs=r), "in_channels: expected a positive integer, got 0"),
        (lambda r: ImageClassifier(hidden_size=-1, rngs=r), "hidden_size: expected a positive"),
        (lambda r: LinearRegression(init_std=-1.0, rngs=r), "init_std: expected a finite number"),
        (
            lambda r: RecurrentClassifier(3, 4, cell="rnn", rngs=r),
            "cell: expected one of lstm, gru",
        ),
        (
            lambda r: RecurrentClassifier(3, 4, output="x", rngs=r),
            "output: expected one of sigmoid",
        ),
        (lambda r: RecurrentClassifier(3, 4, 0, rngs=r), "n_layers: expected a positive integer"),
        (lambda r: RecurrentClassifier(3, 4, 2, 1.5, rngs=r), "dropout: expected"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build(nnx.Rngs(0))


@pytest.mark.parametrize("name", tier.one_in(3, CASES))
def test_a_network_tells_the_arguments_that_make_another_of_its_kind(name):
    network = nnx.eval_shape(lambda: CASES[name].build(nnx.Rngs(0)))
    options = json.loads(json.dumps(network.options))
    another = nnx.eval_shape(lambda: type(network)(**options, rngs=nnx.Rngs(1)))
    assert nnx.split(another)[0] == nnx.split(network)[0]

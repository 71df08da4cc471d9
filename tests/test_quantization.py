"""Quantized networks: which layers change, what happens to the others, folders and commands."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import fit, layers, losses, optimizers, quantization, recipes, runs
from jaxnets.arrays import InputError
from jaxnets.changes import Change
from jaxnets.cli import main
from jaxnets.data import Dataset, Split
from jaxnets.quantization.rounding import packed, unpacked
from jaxnets.training import predictor

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


class Net(nnx.Module):
    """Convolutions followed by normalizations, one also by an addition, and other layers."""

    def __init__(self, rngs):
        self.body = nnx.List(
            [layers.Conv2d(1, 4, 3, bias=False, rngs=rngs), nnx.BatchNorm(4, rngs=rngs)]
        )
        self.side, self.norm = nnx.Conv(4, 4, (3, 3), rngs=rngs), layers.BatchNorm2d(4)
        self.up = layers.ConvTranspose2d(4, 2, 2, stride=2, rngs=rngs)
        self.fc = nnx.Linear(32, 3, rngs=rngs)
        for norm in (self.body[1], self.norm):
            norm.mean[...], norm.var[...] = numbers(4), np.abs(numbers(4)) + 1

    def __call__(self, x):
        x = jax.nn.relu(self.body[1](self.body[0](x)))
        y = self.side(x)
        return self.fc(self.up(self.norm(y) + y)[:, :4, :4].reshape(len(x), -1))


@pytest.fixture(scope="module")
def net():
    return Net(nnx.Rngs(0)), numbers(20, 6, 6, 1)


def error(small, model, x):
    model.eval()
    expected = model(x)
    return np.abs(small(x) - expected).max() / np.abs(expected).max()


@pytest.mark.slow
def test_a_static_network_folds_what_follows_directly_and_lists_the_rest(net):
    model, x = net
    before = nnx.to_pure_dict(nnx.state(model))
    small = quantization.quantize_static(model, x)
    assert error(small, model, x) < 0.03
    found = quantization.report(small)
    assert [row.path for row in found.quantized] == ["body.0", "fc", "side"]
    assert {row.path: row.how for row in found.left} == {
        "norm": "floating point: this kind of layer cannot be quantized",
        "up": "floating point: not quantized in mode static",
    }
    assert "body.0  Conv2d           weights int8, per channel; inputs 7 bits, calibrated" in str(
        found
    )
    same = jax.tree.map(np.array_equal, before, nnx.to_pure_dict(nnx.state(model)))
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize(("bits", "group", "most"), [(8, None, 0.02), (4, None, 0.3), (4, 3, 0.2)])
def test_weights_are_an_eighth_or_a_quarter_of_the_size(net, bits, group, most):
    model, x = net
    small = quantization.quantize_weights(model, bits, group)
    assert error(small, model, x) < most
    assert [row.path for row in quantization.report(small).left] == ["body.1", "norm"]
    kernel = small.fc.weights["kernel"]
    assert kernel.integers[...].nbytes == 32 * 3 * bits // 8
    given = model.fc.kernel[...]
    step = np.asarray(kernel.scale[...]).max()
    assert np.abs(kernel.floats(jnp.float32) - given).max() <= step * 1.001


def test_four_bits_are_packed_in_pairs():
    integers = RNG.integers(-8, 8, size=(3, 5)).astype(np.int8)
    assert packed(integers).shape == (3, 3)
    np.testing.assert_array_equal(unpacked(jnp.asarray(packed(integers)), 5), integers)


@pytest.mark.slow
def test_a_dynamic_network_on_tokens_keeps_its_checks():
    class Reader(nnx.Module):
        def __init__(self, rngs):
            self.embedding = layers.Embedding(7, 4, padding_idx=0, rngs=rngs)
            self.rnn = layers.RNN(4, 5, rngs=rngs)
            self.attention = layers.MultiheadAttention(5, 1, rngs=rngs)

        def __call__(self, tokens):
            return self.rnn(self.embedding(tokens))[0]

    model = Reader(nnx.Rngs(0))
    small = quantization.quantize_dynamic(model)
    tokens = np.array([[1, 6, 0], [2, 3, 3]], np.int32)
    answer = predictor(small)
    assert np.abs(answer(tokens) - model(tokens)).max() < 0.05
    assert small.rnn.hidden_size == 5
    with pytest.raises(InputError, match="indices in"):
        answer(np.full((1, 2), 7, np.int32))
    left = {row.path for row in quantization.report(small).left}
    assert {path.partition(".")[0] for path in left} == {"attention"}


def test_shared_weights_stay_as_they_are():
    class Tied(nnx.Module):
        def __init__(self, rngs):
            self.embedding = layers.Embedding(7, 4, rngs=rngs)
            self.decoder = layers.TiedLinear(self.embedding)
            self.fc = self.again = layers.Linear(4, 4, rngs=rngs)

        def __call__(self, tokens):
            return self.decoder(self.again(self.fc(self.embedding(tokens))))

    small = quantization.quantize_dynamic(Tied(nnx.Rngs(0)))
    assert small.fc is small.again
    found = quantization.report(small)
    assert [row.path for row in found.quantized] in (["fc"], ["again"])
    assert all("shared with another layer" in row.how for row in found.left)


@pytest.mark.slow
def test_rows_with_their_own_range_do_not_depend_on_each_other():
    layer = quantization.quantize_dynamic(layers.Linear(9, 4, rngs=nnx.Rngs(0)), per_row=True)
    x = numbers(6, 9) * np.float32(10) ** np.arange(6, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(layer(x)[:1], layer(x[:1]))


@pytest.mark.slow
def test_a_network_trained_for_integers_computes_the_same_with_them(net):
    model, x = net
    split = Split(x, np.arange(len(x), dtype=np.int32) % 3)
    prepared = quantization.prepare_qat(model, x, averaging_constant=0.5)
    assert "prepared for int8, not converted yet" in str(quantization.report(prepared))
    step = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.05)}
    trained = fit(prepared, Dataset("points", split, split), epochs=6, batch_size=10, **step)
    assert trained.history[-1].train["loss"] < trained.history[0].train["loss"]
    small = quantization.convert(trained.model)
    assert [row.path for row in quantization.report(small).quantized] == ["body.0", "fc", "side"]
    assert small.body[0].weights["kernel"].values.dtype == jnp.int8
    assert error(small, trained.model, x) < 1e-3


MODEL = layers.Linear(3, 2, rngs=nnx.Rngs(0))
BAD = [
    (lambda q: q.quantize_dynamic(3), "model: expected an nnx.Module, got 3"),
    (
        lambda q: q.quantize_dynamic(layers.ReLU()),
        "model: expected a layer to quantize: Linear, LSTM",
    ),
    (lambda q: q.quantize_dynamic(MODEL, per_channel=1), "per_channel: expected True or False"),
    (lambda q: q.quantize_dynamic(MODEL, skip=("fc",)), "skip: expected paths from"),
    (lambda q: q.quantize_dynamic(MODEL, skip=3), "skip: expected paths of layers"),
    (lambda q: q.quantize_weights(MODEL, 5), "bits: expected 8 or 4, got 5"),
    (lambda q: q.quantize_weights(MODEL, group_size=0), "group_size: expected a positive integer"),
    (
        lambda q: q.quantize_weights(MODEL, group_size=2, per_channel=False),
        "per_channel: expected True with a group_size",
    ),
    (lambda q: q.quantize_static(MODEL, numbers(0, 3)), "inputs: expected arrays"),
    (lambda q: q.quantize_static(MODEL, numbers(2, 4)), "x: expected a floating-point array"),
    (
        lambda q: q.quantize_static(MODEL, numbers(2, 3) / np.float32(0)),
        "x: expected finite numbers",
    ),
    (
        lambda q: q.quantize_static(MODEL, numbers(2, 3), observer="mean"),
        "observer: expected one of",
    ),
    (lambda q: q.MovingAverageMinMaxObserver(2), "averaging_constant: expected"),
    (lambda q: q.MinMaxObserver("no"), "reduce_range: expected True or False"),
    (lambda q: q.prepare_qat(MODEL, averaging_constant=-1), "averaging_constant: expected"),
    (lambda q: q.FakeQuantize("affine"), "qscheme: expected one of"),
    (lambda q: q.FakeQuantize("per_channel_symmetric"), "channels: expected a positive integer"),
    (lambda q: q.convert(MODEL), "model: expected a network from prepare_qat"),
    (lambda q: q.convert(q.prepare_qat(MODEL)), "model: expected a trained network"),
    (lambda q: q.report(3), "model: expected an nnx.Module"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_what_is_wrong_is_said_in_a_sentence(call, message):
    with np.errstate(all="ignore"), pytest.raises(InputError, match=re.escape(message)):
        call(quantization)


def test_weights_that_are_no_numbers_are_named():
    broken = layers.Linear(3, 2, rngs=nnx.Rngs(0))
    broken.kernel[...] = broken.kernel[...].at[0].set(np.nan)
    network = layers.Sequential(broken)
    with pytest.raises(InputError, match=r"model: expected finite weights, got NaN .* in .*kernel"):
        quantization.quantize_weights(network)


def test_layers_that_no_input_reaches_are_named(net):
    class Half(nnx.Module):
        def __init__(self, rngs):
            self.used, self.idle = (layers.Linear(3, 3, rngs=rngs) for _ in range(2))

        def __call__(self, x):
            return self.used(x)

    with pytest.raises(InputError, match="go through every layer, got none in idle"):
        quantization.quantize_static(Half(nnx.Rngs(0)), numbers(2, 3))


@pytest.fixture(scope="module")
def folder(net, tmp_path_factory):
    model, x = net
    split = Split(x, np.arange(len(x), dtype=np.int32) % 3)
    step = {"loss": losses.cross_entropy, "optimizer": optimizers.sgd(0.0)}
    trained = fit(model, Dataset("points", split, split), epochs=1, **step)
    place = tmp_path_factory.mktemp("runs") / "run"
    trained.save(place)
    return place, trained.model, x


MODES = {
    "dynamic": lambda model, x: quantization.quantize_dynamic(model, skip="side"),
    "static": quantization.quantize_static,
    "weights": lambda model, x: quantization.quantize_weights(model, 4, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_quantized_run_is_read_as_it_was_written(folder, mode, tmp_path):
    run, model, x = folder
    small = MODES[mode](model, x)
    change = Change("quantization", quantization.settings_of(small))
    json.dumps(change.record())
    runs.write_changed(tmp_path / "small", run, small, change)
    saved = runs.read(tmp_path / "small", model=model)
    assert str(quantization.report(saved.model)) == str(quantization.report(small))
    np.testing.assert_allclose(saved.predict(x), predictor(small)(x), atol=1e-5)


@pytest.mark.slow
def test_changes_of_two_kinds_add_up(folder, tmp_path):
    run, model, x = folder
    first = quantization.quantize_static(model, x, skip="fc")
    runs.write_changed(
        tmp_path / "one", run, first, Change("quantization", quantization.settings_of(first))
    )
    second = quantization.quantize_weights(first)
    change = Change("quantization", quantization.settings_of(second))
    runs.write_changed(tmp_path / "two", tmp_path / "one", second, change)
    saved = runs.read(tmp_path / "two", model=model)
    assert str(quantization.report(saved.model)) == str(quantization.report(second))
    np.testing.assert_allclose(saved.predict(x), predictor(second)(x), atol=1e-5)
    with pytest.raises(InputError, match="changes: expected paths from"):
        quantization.restructured(layers.Linear(3, 2, rngs=nnx.Rngs(0)), change.settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run in the format of the command line."""
    folder = tmp_path_factory.mktemp("trained")
    known = recipes.recipe("linear-regression")
    options = {"model": "mlp", "model_options": {"features": (1, 4, 1)}, "epochs": 1}
    recipe = dataclasses.replace(known, **options)
    data = recipes.load_data(recipe)
    runs.write(folder, recipe, 0, recipes.train(recipe, data=data, progress="none"), data)
    return folder


@pytest.mark.slow
def test_the_command_makes_a_run_that_predicts(trained, tmp_path, capsys):
    new = tmp_path / "small"
    words = ["quantize", str(trained), "--mode", "static", "--calibration", "9", "--out", str(new)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("weights int8, per channel; inputs 7 bits, calibrated")
    assert [line.split()[0] for line in lines[2:4]] == ["before:", "after:"]
    assert lines[4].startswith(f"saved in {new}; use it with: jaxnets predict")
    assert main(["predict", str(new), "--index", "0"]) == 0
    more = tmp_path / "weights"
    words = ["quantize", str(trained), "--mode", "weights", "--bits", "4", "--out", str(more)]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bits"] == 4
    assert found["left"] == {}
    assert {"loss", "bytes", "microseconds_alone"} <= {*found["before"]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "4"], "bits: expected none with --mode dynamic, got 4"),
        (["--mode", "weights", "--bits", "3"], "bits: expected 8 or 4, got 3"),
        (["--mode", "weights", "--calibration", "3"], "calibration: expected none with --mode"),
        (["--skip", "fc9"], "skip: expected paths from"),
    ],
)
def test_the_command_refuses_in_a_sentence(words, message, trained, tmp_path, capsys):
    assert main(["quantize", str(trained), "--out", str(tmp_path / "new"), *words]) == 2
    assert f"jaxnets: {message}" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_command_does_not_write_over_a_folder(trained, capsys):
    assert main(["quantize", str(trained), "--out", str(trained)]) == 2
    assert "out: expected a new or empty folder" in capsys.readouterr().err

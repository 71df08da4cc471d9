"""What fit takes: labels of every kind, networks with any state, any structure of outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.layers import Dropout, Linear
from jaxnets.training import NonFiniteLossError, evaluate, fit, predict


def data(labels, count=12):
    draw = np.random.default_rng(0)
    split = Split(draw.normal(size=(count, 4)).astype(np.float32), labels)
    return Dataset("drawn", split, split)


SGD = optimizers.sgd(0.1)  # one, so that runs with it share their programs


def train(model, labels, loss=losses.cross_entropy, **options):
    settings = {"optimizer": SGD, "epochs": 2, "batch_size": 6, "progress": "none"}
    return fit(model, data(labels), loss=loss, **{**settings, **options})


def linear(outputs=3):
    return Linear(4, outputs, rngs=nnx.Rngs(0))


CLASSES = np.arange(12, dtype=np.int32) % 3


def test_a_single_logit_is_counted_at_zero():
    labels = (CLASSES > 0).astype(np.int32)[:, None]
    run = train(linear(1), labels, losses.binary_cross_entropy_with_logits, batch_size=12)
    logits = predict(run.model, data(labels).test.inputs)
    assert run.test.correct == ((logits > 0) == labels).sum()
    assert run.test.correct != ((logits > 0.5) == labels).sum()


def test_whole_numbers_to_predict_have_no_accuracy():
    run = train(linear(1), CLASSES[:, None] - 1, losses.mse_loss)
    assert run.test.correct is None
    assert run.history[-1].train_loss < run.history[0].train_loss


@pytest.mark.parametrize("ignored", [-100, 255])
def test_labels_that_are_ignored_are_no_fault(ignored):
    kept = CLASSES < 2
    loss = functools.partial(losses.cross_entropy, ignore_index=ignored)
    run = train(linear(), np.where(kept, CLASSES, ignored), loss, batch_size=12, epochs=1)
    counted = Split(data(CLASSES).train.inputs[kept], CLASSES[kept])
    again = evaluate(linear(), counted, loss=losses.cross_entropy)
    assert run.step_losses[0] == pytest.approx(again.loss, rel=1e-6)


def test_a_label_that_is_no_class_is_seen_before_training():
    with pytest.raises(ValueError, match=r"data.train.labels: expected classes in \[0, 1\]"):
        train(linear(2), CLASSES)
    # through a function of the user's own it is seen when it has made the loss NaN
    with pytest.raises(NonFiniteLossError, match="or inputs or labels are not what the loss takes"):
        train(linear(2), CLASSES, lambda outputs, labels: losses.cross_entropy(outputs, labels))


def test_outputs_may_be_a_structure():
    class Two(nnx.Module):
        def __init__(self):
            self.one, self.two = linear(), linear(1)

        def __call__(self, x):
            return {"class": self.one(x), "size": (self.two(x), len(x))}

    def loss(outputs, labels):
        size, count = outputs["size"]
        assert count == len(size)
        return losses.cross_entropy(outputs["class"], labels) + jnp.mean(size**2)

    run = train(Two(), CLASSES, loss, correct=None)
    assert run.test.loss < run.history[0].train_loss
    assert predict(run.model.one, data(CLASSES).test.inputs).shape == (12, 3)


def test_streams_of_another_generator_are_seeded_too():
    class Rbg(nnx.Module):
        def __init__(self):
            self.fc = linear()
            self.dropout = Dropout(0.5, rngs=nnx.Rngs(jax.random.key(0, impl="rbg")))

        def __call__(self, x):
            return self.fc(self.dropout(x))

    first, second = (train(Rbg(), CLASSES) for _ in range(2))
    np.testing.assert_array_equal(first.step_losses, second.step_losses)
    assert not np.array_equal(first.step_losses, train(Rbg(), CLASSES, seed=1).step_losses)


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")  # Flax has nnx.capture
def test_what_a_network_sows_is_let_go():
    class Sowing(nnx.Module):
        def __init__(self):
            self.fc = linear()

        def __call__(self, x):
            x = self.fc(x)
            self.sow(nnx.Intermediate, "logits", x)
            return x

    model = Sowing()
    model(jnp.zeros((1, 4)))
    sown, plain = train(model, CLASSES), train(linear(), CLASSES)
    np.testing.assert_array_equal(sown.step_losses, plain.step_losses)
    assert evaluate(sown.model, data(CLASSES).test, loss=losses.cross_entropy).total == 12


@pytest.mark.parametrize("flag", ["jax_disable_jit", "jax_debug_nans"])
def test_debugging_flags_of_jax_are_heeded(flag):
    plain = train(linear(), CLASSES, epochs=1, batch_size=6)
    with getattr(jax, flag.removeprefix("jax_"))(True):
        run = train(linear(), CLASSES, epochs=1, batch_size=6)
    np.testing.assert_allclose(run.step_losses, plain.step_losses, rtol=1e-5)


def test_a_test_loss_that_is_not_finite_is_an_error():
    good = data(CLASSES)
    bad = Split(np.full_like(good.test.inputs, np.inf), CLASSES)
    with pytest.raises(NonFiniteLossError, match="the loss is nan at epoch 1, the test"):
        fit(linear(), Dataset("bad", good.train, bad), loss=losses.cross_entropy,
            optimizer=SGD, epochs=1, progress="none")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Linear}, "model: expected an nnx.Module, got the class Linear"),
        ({"model": None}, "model: expected an nnx.Module, got a NoneType"),
        ({"model": Dropout(0.5, rngs=nnx.Rngs(0))}, "model: .* with parameters, got a Dropout"),
        ({"loss": "mse"}, "loss: expected a function of .outputs, labels., got 'mse'"),
        ({"loss": lambda outputs, labels: 1}, "loss: expected a function that returns a floating"),
        ({"optimizer": None}, "optimizer: expected a gradient transformation.*got None"),
        ({"optimizer": optimizers.sgd}, "optimizer: expected a gradient transformation"),
        ({"loss": lambda outputs, labels: None}, "loss: .* scalar, the mean .*, got NoneType"),
        ({"loss": lambda outputs, labels: (outputs, 1)}, "loss: .* scalar, .*, got tuple"),
        ({"loss": lambda outputs: outputs}, "loss: .* scalar, .*takes 1 positional argument but 2"),
        ({"loss": losses.LOSSES}, "loss: expected a function of .outputs, labels., got {"),
        ({"loss": float}, "loss: expected a function of .outputs, labels., got <class 'float'>"),
        ({"optimizer": np.zeros((2, 2))}, r"optimizer: .*, got float64\[2, 2\]$"),
        ({"correct": "yes"}, "correct: expected a function, 'auto' or None, got 'yes'"),
        ({"correct": lambda o, y: o}, "correct: expected a function that returns an integer"),
        ({"transform": 3}, "transform: expected callables, got int"),
        ({"transform": [np.log]}, "transform: expected callables, got list"),
    ],
)  # fmt: skip
def test_arguments_of_another_kind_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(**{"model": linear(), "labels": CLASSES, **options})


def test_data_of_another_kind_are_named():
    with pytest.raises(ValueError, match="data: expected a Dataset, got a tuple"):
        fit(linear(), (1, 2), loss=losses.mse_loss, optimizer=optimizers.sgd(0.1), epochs=1)
    with pytest.raises(ValueError, match="split: expected a Split or .*, got a Dataset"):
        evaluate(linear(), data(CLASSES), loss=losses.cross_entropy)
    with pytest.raises(ValueError, match="inputs: expected at least one example"):
        predict(linear(), np.zeros((0, 4), np.float32))


def test_outputs_in_a_dict_are_not_counted_by_themselves():
    class Named(nnx.Module):
        def __init__(self):
            self.one = linear()

        def __call__(self, x):
            return {"class": self.one(x)}

    def loss(outputs, labels):
        return losses.cross_entropy(outputs["class"], labels)

    with pytest.raises(ValueError, match="correct: expected None or a function, .*, got 'auto'"):
        train(Named(), CLASSES, loss)


def test_pixels_without_a_transform_are_named_with_the_remedy():
    pixels = Split(np.zeros((4, 4), np.uint8), np.zeros(4, np.int32))
    message = r"got uint8\[\d, 4\] pixels, which transform=ToFloat\(\) converts"
    options = {"loss": losses.cross_entropy, "optimizer": SGD, "epochs": 1, "progress": "none"}
    with pytest.raises(ValueError, match=message):
        fit(linear(), Dataset("pixels", pixels, pixels), **options)
    with pytest.raises(ValueError, match=message):
        evaluate(linear(), pixels, loss=losses.cross_entropy)
    with pytest.raises(ValueError, match=message):
        predict(linear(), pixels.inputs)

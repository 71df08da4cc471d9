"""What fit accepts: labels of every kind, networks with any state, any structure of outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, metrics, optimizers
from jaxnets.data import Dataset, Mixup, Split
from jaxnets.layers import Dropout, Linear
from jaxnets.training import (
    NonFiniteLossError,
    evaluate,
    fit,
    in_turn,
    initialize,
    minimize,
    predict,
    supervised,
)
from jaxnets.training.labels import adds_up
from tests import tier


def data(labels, count=12):
    draw = np.random.default_rng(0)
    split = Split(draw.normal(size=(count, 4)).astype(np.float32), labels)
    return Dataset("drawn", split, split)


SGD = optimizers.sgd(0.1)  # one object, so that runs share programs


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
    for loss in (losses.cross_entropy, lambda *given: losses.cross_entropy(*given)):
        with pytest.raises(ValueError, match=r"data.train.labels: expected classes in \[0, 1\]"):
            train(linear(2), CLASSES, loss)
    # if a user-defined loss changes the labels, the NaN loss is reported
    with pytest.raises(NonFiniteLossError, match="or inputs or labels are invalid for the loss"):
        train(linear(2), CLASSES, lambda outputs, labels: losses.cross_entropy(outputs, labels + 0))


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


@pytest.mark.slow
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


@pytest.mark.slow
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
        ({"correct": lambda o, y: o}, "correct: expected a function that returns the number"),
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


# -- accuracy ------------------------------------------------------------------------------------


class PerPosition(nnx.Module):
    """Scores of three classes at each of two positions."""

    def __init__(self, rngs=None):
        self.fc = linear(6)

    def __call__(self, x):
        return self.fc(x).reshape(-1, 2, 3)


POSITIONS = np.random.default_rng(1).integers(0, 3, (12, 2)).astype(np.int32)


def right(outputs, labels):
    return jnp.argmax(outputs, -1).astype(labels.dtype) == labels


def unlike_a_count(outputs, labels):
    return jnp.vdot(jnp.all(right(outputs, labels), -1).astype(int), jnp.ones(len(labels), int))


def too_many(outputs, labels):
    return jnp.vdot(right(outputs, labels).astype(int), jnp.full(len(labels), 99))


# functions, and their totals for 12 examples with two labels each
COUNTED = {
    "auto": ("auto", 24),
    "labels": (lambda o, y: jnp.sum(right(o, y)), 24),
    "examples": (lambda o, y: jnp.sum(jnp.all(right(o, y), axis=-1)), 12),
    "mean of an example": (lambda o, y: jnp.sum(jnp.mean(right(o, y), axis=-1) == 1), 12),
    "one task": (lambda o, y: jnp.count_nonzero(right(o, y)[:, 0]), 12),
    "tasks added up": (lambda o, y: jnp.sum(right(o, y)[:, 0]) + jnp.sum(right(o, y)[:, 1]), 24),
    "in a condition": (lambda o, y: jnp.where(right(o, y), 1, 0).sum(), 24),
    "ours": (functools.partial(metrics.top_k_correct, k=1), 24),
    "opaque": (unlike_a_count, 12),
    "truth values": (lambda o, y: jnp.all(right(o, y), axis=-1), 12),
    "truth values of labels": (right, 24),
    "pair": (lambda o, y: (jnp.sum(right(o, y) & (y > 0)), jnp.sum(y > 0)), (POSITIONS > 0).sum()),
}


@pytest.mark.parametrize("kind", tier.one_in(3, COUNTED))
def test_accuracy_is_out_of_what_is_counted(kind):
    function, total = COUNTED[kind]
    model = PerPosition()
    found = evaluate(
        model, data(POSITIONS).test, loss=losses.cross_entropy, correct=function, batch_size=5
    )
    outputs = predict(model, data(POSITIONS).test.inputs)
    counted = outputs.argmax(-1) == POSITIONS
    expected = {
        12: counted[:, 0].sum() if kind == "one task" else counted.all(-1).sum(),
        24: counted.sum(),
    }.get(total, (counted & (POSITIONS > 0)).sum())
    assert (found.correct, found.total) == (expected, total)
    assert found.accuracy == expected / total


@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"seeds": [0]}])
def test_training_counts_as_evaluation_does(options):
    examples = COUNTED["examples"][0]
    build = (lambda rngs: PerPosition()) if "seeds" in options else PerPosition()
    still = {"optimizer": optimizers.sgd(0.0), "epochs": 1, "batch_size": 5}
    run = train(build, POSITIONS, correct=examples, **still, **options)
    run = run.members[0] if "seeds" in options else run
    assert run.test.total == 12
    assert run.history[0].train_accuracy == run.history[0].test_accuracy == run.test.accuracy


def test_ignored_labels_are_no_predictions():
    labels = np.where(POSITIONS > 0, POSITIONS, -100).astype(np.int32)
    run = train(PerPosition(), labels, optimizer=optimizers.sgd(0.0), epochs=1, batch_size=5)
    outputs = predict(run.model, data(labels).test.inputs).argmax(-1)
    assert run.test.total == (POSITIONS > 0).sum()
    assert run.test.correct == ((outputs == labels) & (POSITIONS > 0)).sum()
    assert run.history[0].train_accuracy == run.test.accuracy


def test_pixels_and_labels_that_stand_alone_are_counted_each():
    class Pixels(nnx.Module):
        def __init__(self):
            self.fc = linear(18)

        def __call__(self, x):
            return self.fc(x).reshape(-1, 2, 3, 3)

    pixels = np.random.default_rng(2).integers(0, 3, (12, 2, 3)).astype(np.int32)
    assert train(Pixels(), pixels, epochs=1).test.total == 72
    several = (POSITIONS > 0).astype(np.int32)
    run = train(linear(2), several, losses.binary_cross_entropy_with_logits, epochs=1)
    outputs = predict(run.model, data(several).test.inputs)
    assert run.test == evaluate(
        run.model, data(several).test, loss=losses.binary_cross_entropy_with_logits
    )
    assert (run.test.correct, run.test.total) == (((outputs >= 0) == several).sum(), 24)


@pytest.mark.slow
def test_mixed_labels_are_one_prediction_each():
    mixed = train(linear(), CLASSES, augment=Mixup(0.2, 3), epochs=1)
    assert 0 <= mixed.history[0].train_accuracy <= 1
    assert mixed.history[0].train_accuracy * 12 == pytest.approx(
        round(mixed.history[0].train_accuracy * 12)
    )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda o, y: (jnp.int32(9), jnp.int32(3)), "correct: expected at most as many .* 9 of 3"),
        (too_many, "correct: expected at most as many correct predictions as predictions"),
        (lambda o, y: jnp.int32(-1), r"correct: expected at most as many correct .* -1 of 6"),
        (lambda o, y: jnp.mean(right(o, y)), "correct: expected .* a pair of it .*got float32"),
        (lambda o, y: None, "correct: expected a function that returns .* got None"),
        (lambda o, y: (1, 2, 3), "correct: expected a function that returns .* got int, int, int"),
        (lambda o, y: jnp.array(True), r"correct: expected .* booleans \[batch, …\], got bool"),
    ],
)
def test_what_is_no_share_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        train(linear(), CLASSES, correct=function)


# -- losses --------------------------------------------------------------------------------------


def penalized(outputs, labels):
    return losses.cross_entropy(outputs, labels, reduction="sum") + 1e-4


SUMS = [
    functools.partial(losses.cross_entropy, reduction="sum"),
    lambda outputs, labels: losses.cross_entropy(outputs, labels, reduction="sum"),
    penalized,
]
MEANS = [
    losses.cross_entropy,
    functools.partial(losses.cross_entropy, reduction="mean"),
    lambda outputs, labels: jnp.mean(losses.cross_entropy(outputs, labels, reduction="none")),
    lambda outputs, labels: losses.cross_entropy(outputs, labels, reduction="sum") / len(labels),
]


@pytest.mark.parametrize("loss", tier.usually([*SUMS, *MEANS], [SUMS[0], MEANS[0]]))
def test_train_and_test_loss_are_means_over_the_examples(loss):
    still = {"optimizer": optimizers.sgd(0.0), "epochs": 1, "batch_size": 5}
    run = train(linear(), CLASSES, loss, **still)
    mean = evaluate(linear(), data(CLASSES).test, loss=losses.cross_entropy).loss
    assert run.history[0].train_loss == pytest.approx(mean, rel=1e-4)
    assert run.history[0].test_loss == run.test.loss == pytest.approx(mean, rel=1e-4)
    again = evaluate(linear(), data(CLASSES).test, loss=loss, batch_size=7)
    assert again.loss == pytest.approx(mean, rel=1e-4)
    if loss in SUMS:  # a step's loss is what the function returns
        assert run.step_losses.sum() == pytest.approx(12 * mean, rel=1e-4)
    many = train(lambda rngs: linear(), CLASSES, loss, seeds=[0], **still)
    assert many.members[0].history[0].train_loss == pytest.approx(mean, rel=1e-4)
    assert many.loss.mean == pytest.approx(mean, rel=1e-4)


def test_a_loss_is_tried_without_a_sound(capfd):
    def loud(outputs, labels):
        jax.debug.print("a loss")
        return losses.cross_entropy(outputs, labels)

    with jax.disable_jit():
        shapes = jax.ShapeDtypeStruct((2, 3), np.float32), jax.ShapeDtypeStruct((2,), np.int32)
        assert [adds_up(loss, *shapes) for loss in (*SUMS, *MEANS)] == [True] * 3 + [False] * 4
        assert not adds_up(loud, *shapes)
    assert not capfd.readouterr().out


def test_a_loss_that_takes_no_two_examples_is_a_mean():
    def of_threes(outputs, labels):
        return losses.cross_entropy(outputs.reshape(-1, 3, 3), labels.reshape(-1, 3))

    run = train(linear(), CLASSES, of_threes, epochs=1, correct=None)
    assert np.isfinite(run.test.loss)


REAL = np.linspace(-1, 1, 12, dtype=np.float32)
TWO_NAMES = {"class_names": ("cat", "dog")}


@pytest.mark.parametrize(
    ("outputs", "labels", "loss", "names", "message"),
    [
        (1, REAL[:, None], "cross_entropy", {}, "loss: expected another one for a single output"),
        (1, CLASSES * 0, "cross_entropy", {}, "loss: expected another one for a single output"),
        (
            1,
            CLASSES * 0,
            "nll_loss",
            {},
            "got nll_loss, which requires one output per class",
        ),
        (3, np.tile(REAL[:, None], 3), "cross_entropy", {}, "labels: expected labels from 0 to 1"),
        (
            1,
            CLASSES,
            "binary_cross_entropy_with_logits",
            {},
            "expected labels from 0 to 1 .* 0 to 2",
        ),
        (1, REAL, "binary_cross_entropy_with_logits", {}, "labels: expected .*, got -1 to 1"),
        (
            2,
            CLASSES % 2,
            "binary_cross_entropy_with_logits",
            {},
            "labels: expected the outputs' sh",
        ),
        (3, CLASSES, "mse_loss", {}, "labels: expected the outputs' shape"),
        (2, CLASSES, "cross_entropy", {}, r"labels: expected classes in \[0, 1\]"),
        (
            3,
            CLASSES % 2,
            "cross_entropy",
            TWO_NAMES,
            "for the 2 classes cat, dog, got outputs for 3",
        ),
        (
            2,
            CLASSES % 2,
            "cross_entropy",
            {"class_names": tuple("abcde")},
            "model: expected outputs for the 5 classes a, b, c, …, got outputs for 2",
        ),
        (
            1,
            CLASSES % 2,
            "binary_cross_entropy_with_logits",
            {"class_names": tuple("abc")},
            "model: expected outputs for the 3 classes a, b, c, got outputs for 2",
        ),
    ],
)
def test_outputs_are_those_of_the_classes(outputs, labels, loss, names, message):
    split = data(labels).train
    named = Dataset("named", split, split, **names)
    settings = {"loss": getattr(losses, loss), "optimizer": SGD, "epochs": 1, "progress": "none"}
    with pytest.raises(ValueError, match=message):
        fit(linear(outputs), named, **settings)
    with pytest.raises(ValueError, match=message):
        fit(lambda rngs: linear(outputs), named, seeds=[0], **settings)


# -- steps ---------------------------------------------------------------------------------------


class TwoParts(nnx.Module):
    def __init__(self):
        self.one, self.two = linear(), linear()

    def __call__(self, x):
        return self.one(x) + self.two(x)


def test_a_step_is_named_after_the_submodules_that_it_trains_and_freezes_others():
    objective = supervised(losses.cross_entropy)
    first = minimize(objective, SGD, wrt="one", frozen="two")
    both = in_turn(first, minimize(objective, SGD, wrt=("one", "two")))
    assert both.names == ("one", "one_two")


@pytest.mark.parametrize("names", ["three", ("one", "three")])
@pytest.mark.parametrize("argument", ["wrt", "frozen"])
def test_a_submodule_that_is_not_there_is_named_with_those_that_are(argument, names):
    step = minimize(supervised(losses.cross_entropy), SGD, **{argument: names})
    message = f"{argument}: expected submodules of the model, such as one, two, got 'three'"
    with pytest.raises(ValueError, match=message):
        initialize(TwoParts(), step)

"""Augmentation is drawn from (seed, step), and only in training."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import (
    Compose,
    CutMix,
    Dataset,
    Mixup,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTransform,
    Split,
    ToFloat,
    augment,
    epoch_plan,
)
from jaxnets.models import MLP
from jaxnets.recipes import AUGMENTATIONS
from jaxnets.training import evaluate, fit, initialize, minimize, supervised, train_step
from jaxnets.training.state import DRAWS


def images(count=40, test=12):
    draw = np.random.default_rng(0)

    def split(n):
        pixels = draw.integers(256, size=(n, 4, 4, 1), dtype=np.uint8)
        return Split(pixels, draw.integers(3, size=n).astype(np.int32))

    return Dataset("images", split(count), split(test))


NOTHING = optax.set_to_zero()
SGD = optimizers.sgd(0.1)  # one object, so that runs share programs


def train(**options):
    settings = {
        "loss": losses.cross_entropy,
        "optimizer": SGD,
        "epochs": 2,
        "batch_size": 16,
        "transform": ToFloat(),
        "progress": "none",
    }
    return fit(MLP((16, 8, 3), rngs=nnx.Rngs(0)), images(), **{**settings, **options})


VARY = Compose(RandomCrop(4, padding=2), RandomHorizontalFlip())


@pytest.mark.slow
def test_augmentation_is_a_function_of_seed_and_step():
    first, second = train(augment=VARY), train(augment=VARY)
    np.testing.assert_array_equal(first.step_losses, second.step_losses)
    jax.tree.map(np.testing.assert_array_equal, first.state.parameters, second.state.parameters)
    plain = train()
    assert not np.array_equal(first.step_losses, plain.step_losses)
    nothing = train(augment=Compose(RandomCrop(4), RandomHorizontalFlip(0)))
    np.testing.assert_array_equal(nothing.step_losses, plain.step_losses)
    # the same order and initial weights, but other draws
    still = {"augment": VARY, "shuffle": False, "epochs": 1}
    assert train(seed=1, **still).step_losses[0] != train(**still).step_losses[0]


def seen(vary, step, seed=0):
    """The batch that the transform receives in one step."""
    model = MLP((16, 3), rngs=nnx.Rngs(0))
    data, got = images().train, []

    def watch(x):
        jax.debug.callback(lambda x: got.append(np.asarray(x)), x)
        return ToFloat()(x)

    how = minimize(
        supervised(losses.cross_entropy, transform=watch, augment=vary), optax.set_to_zero()
    )
    state = initialize(model, how, seed=seed)
    state = dataclasses.replace(state, step=jnp.asarray(step, jnp.int32))
    batch = {"inputs": data.inputs[:8], "labels": data.labels[:8]}
    jax.jit(train_step, static_argnums=0)(how, state, batch)
    jax.effects_barrier()
    return got[0]


@pytest.mark.slow
def test_each_step_augments_differently_and_a_resumed_one_the_same():
    third = seen(VARY, 3)
    assert third.dtype == np.uint8  # before the transform
    np.testing.assert_array_equal(third, seen(VARY, 3))
    assert not np.array_equal(third, seen(VARY, 4))
    assert not np.array_equal(third, seen(VARY, 3, seed=1))
    np.testing.assert_array_equal(seen(None, 3), images().train.inputs[:8])


def test_augmentation_draws_apart_from_dropout():
    class Keys(RandomTransform):
        def example(self, image, key):
            return jax.random.key_data(key).astype(jnp.float32)

    how = minimize(supervised(losses.cross_entropy, augment=Keys()), NOTHING)
    state = initialize(MLP((16, 3), rngs=nnx.Rngs(0)), how)
    batch = {"inputs": jnp.zeros((2, 1, 1, 1)), "labels": jnp.zeros(2)}
    key = jax.random.fold_in(jax.random.fold_in(state.key, DRAWS), state.step)
    drawn = how.objective.augmented(batch, key)["inputs"]
    dropout = jax.random.split(jax.random.fold_in(state.key, state.step), 2)
    assert not np.array_equal(drawn, jax.random.key_data(dropout).astype(jnp.float32))


@pytest.mark.slow
def test_evaluation_is_not_augmented():
    run = train(augment=VARY)
    data = images()
    options = {"loss": losses.cross_entropy, "transform": ToFloat()}
    again = evaluate(run.model, data.test, **options)
    assert (again.loss, again.correct) == (pytest.approx(run.test.loss), run.test.correct)
    # with a learning rate of 0 the weights are constant, so that only the draws differ
    still = train(augment=VARY, optimizer=optimizers.sgd(0.0), epochs=2)
    first, second = still.history
    assert first.test_loss == second.test_loss
    assert first.train_loss != second.train_loss


@pytest.mark.slow
@pytest.mark.parametrize("mixing", [Compose(ToFloat(), Mixup(0.4, 3)), CutMix(1.0, 3)])
def test_mixed_labels_are_learned_and_counted_by_the_heavier_class(mixing):
    run = train(augment=mixing, epochs=1, optimizer=optimizers.sgd(0.0), batch_size=40)
    data, state = images().train, run.state
    order = epoch_plan(40, 40, seed=0, epoch=0).full[0]
    key = jax.random.fold_in(jax.random.fold_in(state.key, DRAWS), 0)
    batch = {"inputs": data.inputs[order], "labels": data.labels[order]}
    varied = jax.jit(supervised(losses.cross_entropy, augment=mixing).augmented)(batch, key)
    x, targets = varied["inputs"], varied["labels"]
    outputs = run.model(ToFloat()(x))
    assert targets.shape == (40, 3)
    assert run.step_losses[0] == pytest.approx(
        float(losses.cross_entropy(outputs, targets)), rel=1e-5
    )
    right = (outputs.argmax(-1) == targets.argmax(-1)).sum()
    assert run.history[0].train_accuracy == pytest.approx(int(right) / 40)


def test_a_program_with_augmentation_is_compiled_once():
    vary = Compose(RandomCrop((4, 4), padding=(2, 2)), RandomHorizontalFlip(0.5))
    again, step = (
        minimize(supervised(losses.cross_entropy, augment=each), NOTHING) for each in (vary, VARY)
    )
    assert again == step
    assert hash(again) == hash(step)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"transform": VARY},
            r"transform: expected one that is not random \(use augment for random ones\)",
        ),
        ({"augment": [VARY]}, "augment: expected callables, got list"),
        ({"augment": RandomCrop(5)}, "size: expected at most the 4×4 pixels"),
        ({"augment": RandomCrop(3)}, "inputs: expected a batch of examples of 16"),
        ({"augment": Mixup(1, 3)}, "x: expected floating values"),
        ({"augment": CutMix(1, 4)}, "labels: expected"),
    ],
)
def test_bad_augmentation_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(**options)


def test_the_page_says_what_is_true():
    page = (Path(__file__).parent.parent / "docs" / "augmentation.md").read_text()
    for name in AUGMENTATIONS:
        assert f"`{name}`" in page
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    own = next(block for block in blocks if "Noise" in block)
    found = {}
    exec(own, found)
    noisy = found["augment"](np.zeros((4, 8, 8, 1), np.uint8), jax.random.key(0))
    assert noisy.std() == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_named_augmentation_keeps_the_shape(name):
    if name == "spec-augment":  # of spectrograms, after the transform
        x = jax.ShapeDtypeStruct((4, 30, 40), np.float32)
        mask = AUGMENTATIONS[name].augmentation
        assert jax.eval_shape(mask, x, jax.random.key(0)).shape == x.shape
        return
    side = 28 if name == "shift" else 32
    x = jax.ShapeDtypeStruct((4, side, side, 3), np.uint8)
    labels = jax.ShapeDtypeStruct((4,), np.int32)
    apply = functools.partial(augment, AUGMENTATIONS[name])
    ours, targets = jax.eval_shape(apply, x, labels, jax.random.key(0))
    assert ours.shape == x.shape
    assert targets.shape == ((4, 10) if name in ("mixup", "cutmix") else (4,))

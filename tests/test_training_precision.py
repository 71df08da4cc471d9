"""Gradient accumulation, and computation in another precision than that of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.layers import BatchNorm1d, Dropout, Linear
from jaxnets.models import MLP, RecurrentClassifier
from jaxnets.training import fit


def data(shape, dtype=np.float64, count=23):
    draw = np.random.default_rng(0)
    labels = draw.integers(3, size=count).astype(np.int32)
    split = Split(draw.normal(size=(count, *shape)).astype(dtype), labels)
    return Dataset("drawn", split, split.take(5))


ADAM = optimizers.adam(0.01)  # one object, so that runs share programs


def train(model, on, **options):
    settings = {"optimizer": ADAM, "epochs": 2, "batch_size": 10}
    settings |= {"loss": losses.cross_entropy, "progress": "none"}
    return fit(model, on, **{**settings, **options})


def weighted(outputs, labels):
    """Not a mean over the examples: the sum of the weights differs between parts."""
    return losses.cross_entropy(outputs, labels, weight=jnp.array([0.1, 1.0, 7.0], outputs.dtype))


@pytest.mark.slow
@pytest.mark.parametrize("loss", [losses.cross_entropy, weighted])
@pytest.mark.parametrize("accumulate", [2, 3])
def test_parts_make_the_step_of_the_whole_batch(loss, accumulate):
    with jax.enable_x64(True):
        model = MLP((4, 8, 3), rngs=nnx.Rngs(0), param_dtype=jnp.float64)
        whole = train(model, data((4,)), loss=loss)
        parts = train(model, data((4,)), loss=loss, accumulate=accumulate)
        np.testing.assert_allclose(parts.step_losses, whole.step_losses, rtol=1e-12)
        assert parts.history[-1].train_accuracy == whole.history[-1].train_accuracy
        for one, other in zip(
            *(jax.tree.leaves(run.state.parameters) for run in (whole, parts)), strict=True
        ):
            np.testing.assert_allclose(other, one, rtol=1e-9, atol=1e-12)


def test_an_output_that_is_not_of_the_examples_is_a_fault_of_parts():
    class Norm(MLP):
        def __call__(self, x):
            made = super().__call__(x)
            return made, (made**2).mean()

    def loss(outputs, labels):
        return losses.cross_entropy(outputs[0], labels) + outputs[1]

    model, on = Norm((4, 3), rngs=nnx.Rngs(0)), data((4,), np.float32)
    assert train(model, on, loss=loss, correct=None, epochs=1).test.loss > 0
    with pytest.raises(
        ValueError, match="model: expected outputs .*, got float32.. for 5 examples"
    ):
        train(model, on, loss=loss, correct=None, accumulate=2)


@pytest.mark.slow
def test_parts_of_sequences():
    with jax.enable_x64(True):
        model = RecurrentClassifier(
            4, 5, 2, output_dim=3, cell="lstm", rngs=nnx.Rngs(0), param_dtype=jnp.float64
        )
        whole, parts = (train(model, data((6, 4), count=20), accumulate=n) for n in (1, 4))
        np.testing.assert_allclose(parts.step_losses, whole.step_losses, rtol=1e-12)


@pytest.mark.slow
def test_each_part_has_its_own_statistics_and_draws():
    class Net(nnx.Module):
        def __init__(self):
            self.norm = BatchNorm1d(4, param_dtype=jnp.float64)
            self.dropout = Dropout(0.5, rngs=nnx.Rngs(0))
            self.fc = Linear(4, 3, rngs=nnx.Rngs(1), param_dtype=jnp.float64)

        def __call__(self, x):
            return self.fc(self.dropout(self.norm(x)))

    with jax.enable_x64(True):
        on = data((4,), count=7)
        run = train(Net(), on, epochs=1, batch_size=7, accumulate=2, shuffle=False)
        first, last = on.train.inputs[:4], on.train.inputs[4:]
        mean = 0.9 * 0.1 * first.mean(0) + 0.1 * last.mean(0)  # the padded part has 3
        np.testing.assert_allclose(run.model.norm.mean[...], mean, rtol=1e-12)
        assert run.model.norm.num_batches_tracked[...] == 2
        again = train(Net(), on, epochs=1, batch_size=7, accumulate=2, shuffle=False)
        np.testing.assert_array_equal(run.step_losses, again.step_losses)


@pytest.mark.slow
def test_parts_without_examples_leave_the_statistics():
    def statistics(accumulate):
        norm = BatchNorm1d(4)
        model = nnx.Sequential(norm, Linear(4, 3, rngs=nnx.Rngs(0)))
        on = data((4,), np.float32, count=5)
        run = train(model, on, epochs=1, batch_size=5, accumulate=accumulate)
        return run.model.layers[0]

    # three or four parts are 2, 2 and 1 examples, of which the last has no variance
    three, four = statistics(3), statistics(4)
    np.testing.assert_array_equal(three.var, four.var)
    assert three.num_batches_tracked[...] == four.num_batches_tracked[...] == 2
    with pytest.raises(ValueError, match="x: expected more than one value per channel"):
        statistics(5)


@pytest.mark.slow
def test_half_the_width_in_the_network_and_the_whole_in_weights_and_loss():
    seen = set()

    class Watching(MLP):
        def __call__(self, x):
            seen.add((x.dtype, self.fc1.kernel[...].dtype))
            outputs = super().__call__(x)
            seen.add(outputs.dtype)
            return outputs

    def loss(outputs, labels):
        assert outputs.dtype == jnp.float32
        return losses.cross_entropy(outputs, labels)

    on = data((4,), np.float32)
    model = Watching((4, 16, 3), rngs=nnx.Rngs(0))
    half = train(model, on, loss=loss, compute_dtype="bfloat16")
    half_wide = jnp.dtype(jnp.bfloat16)
    assert seen == {(half_wide, half_wide), half_wide}
    assert {x.dtype for x in jax.tree.leaves(half.state.parameters)} == {jnp.dtype(jnp.float32)}
    whole = train(model, on)
    np.testing.assert_allclose(half.step_losses, whole.step_losses, rtol=0.02)
    assert not np.array_equal(half.step_losses, whole.step_losses)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_networks_compute_in_half_the_width(cell):
    model = RecurrentClassifier(4, 5, 1, output_dim=3, cell=cell, rngs=nnx.Rngs(0))
    on = data((6, 4), np.float32, count=20)
    half, whole = (train(model, on, compute_dtype=dtype) for dtype in ("bfloat16", None))
    np.testing.assert_allclose(half.step_losses, whole.step_losses, rtol=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate": 0}, "accumulate: expected a positive integer, got 0"),
        ({"compute_dtype": "int8"}, "compute_dtype: expected a floating-point dtype"),
        ({"compute_dtype": "half-ish"}, "compute_dtype: expected a floating-point dtype"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        train(MLP((4, 3), rngs=nnx.Rngs(0)), data((4,), np.float32), **options)

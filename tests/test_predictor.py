import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import layers, predict, predictor
from jaxnets.data import Compose, Normalize, RandomHorizontalFlip, ToFloat

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)
TRANSFORM = Compose(ToFloat(), Normalize(0.5, 0.25))


class Network(nnx.Module):
    """Has statistics and dropout, which evaluation must not use as training does."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.fc, self.norm = layers.Linear(4, 2, rngs=rngs), layers.BatchNorm1d(2, rngs=rngs)
        self.dropout = layers.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = self.fc(x)
        return {"sum": x.sum(axis=1), "logits": self.dropout(self.norm(x))}


@pytest.mark.parametrize("examples", [1, 3])
def test_answers_are_those_of_predict(examples):
    model, inputs = Network(), PIXELS[:examples]
    answers = predictor(model, transform=TRANSFORM)(inputs)
    assert isinstance(answers["logits"], jax.Array)
    for name, expected in predict(model, inputs, transform=TRANSFORM).items():
        np.testing.assert_allclose(answers[name], expected, rtol=1e-6)


def test_a_shape_is_compiled_once():
    seen = []

    def transform(batch):
        seen.append(batch.shape)
        return batch.astype(jnp.float32)

    answer = predictor(Network(), transform=transform)
    for examples in (1, 3, 1, 3):
        answer(PIXELS[:examples])
    assert seen == [(1, 4), (3, 4)]


def test_a_predictor_and_its_model_leave_each_other_alone():
    model = Network()
    answer = predictor(model, transform=TRANSFORM)
    before = answer(PIXELS[:1])["sum"]
    model.fc.kernel[...] = jnp.zeros_like(model.fc.kernel[...])
    np.testing.assert_array_equal(answer(PIXELS[:1])["sum"], before)
    np.testing.assert_array_equal(predictor(model)(PIXELS[:1] * 1.0)["sum"], model.fc.bias.sum())


def test_what_is_no_model():
    with pytest.raises(ValueError, match="model: expected an nnx.Module, got a dict"):
        predictor({})


def test_a_random_transform():
    with pytest.raises(ValueError, match="transform: expected one that is not random"):
        predictor(Network(), transform=RandomHorizontalFlip())


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([[1.0, 2.0]], r"inputs: expected an array \[examples, …\], got a list"),
        (np.zeros((0, 4), np.float32), r"inputs: expected at least one example, got an array"),
        (np.float32(1), r"inputs: expected at least one example, got an array \[\]"),
    ],
)
def test_what_is_no_batch(inputs, message):
    with pytest.raises(ValueError, match=message):
        predictor(Network())(inputs)


@pytest.mark.parametrize(
    "ask",
    [
        predictor,
        lambda model: lambda inputs: predict(model, inputs),
        lambda model: lambda inputs: predict(model, inputs.tolist()),
    ],
)
@pytest.mark.parametrize("number", [2**32 + 2, -(2**40)])
def test_a_token_of_64_bits_does_not_wrap(ask, number):
    class Tokens(nnx.Module):
        def __init__(self):
            self.embedding = layers.Embedding(5, 2, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.embedding(x)

    answer = ask(Tokens())
    assert answer(np.array([2])).shape == (1, 2)
    with pytest.raises(ValueError, match=f"inputs: expected numbers .* int32, got {number} in row"):
        answer(np.array([2, number]))

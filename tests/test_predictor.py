from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import kernels, layers, predict, predictor
from jaxnets.data import Compose, Normalize, RandomHorizontalFlip, ToFloat
from jaxnets.kernels import borrowed, rewrite

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


class Sums(nnx.Module):
    """Returns its inputs together with outputs that take a while."""

    def __init__(self):
        self.weights = nnx.Param(jnp.full((512, 512), 1 / 512))

    def __call__(self, x):
        y = x.astype(jnp.float32)
        for _ in range(8):
            y = jnp.tanh(y @ self.weights[...])
        return {"same": x, "sum": x.sum(axis=1), "last": y}


ROWS = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)  # 1 MiB


def beginning_at(offset, array):
    """A copy whose address is ``offset`` bytes after a multiple of 64."""
    memory = np.empty(array.nbytes + 128, np.uint8)
    first = -memory.ctypes.data % 64 + offset
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def every_other(array):
    """The same values with gaps between the rows in memory."""
    return np.repeat(array, 2, axis=0)[::2]


ANSWER = predictor(Sums())
LAYOUTS = {
    "aligned": lambda: beginning_at(0, ROWS),
    "unaligned": lambda: beginning_at(16, ROWS),
    "rows apart": lambda: every_other(ROWS),
    "columns first": lambda: np.asfortranarray(ROWS),
    "small": lambda: beginning_at(16, ROWS[:3]),
    "small, aligned": lambda: beginning_at(0, ROWS[:3]),
    "float64": lambda: beginning_at(16, ROWS.astype(np.float64)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_array_may_be_changed_after_the_call(layout):
    inputs = LAYOUTS[layout]()
    expected = jax.tree.map(np.asarray, ANSWER(jnp.array(inputs)))
    for _ in range(3):
        kept = inputs.copy()
        answers = ANSWER(inputs)
        np.testing.assert_array_equal(inputs, kept)
        inputs[...] = 1000
        jax.tree.map(np.testing.assert_array_equal, answers, expected)
        inputs[...] = kept
        jax.tree.map(np.testing.assert_array_equal, answers, expected)


@pytest.mark.parametrize("offset", [0, 16])
def test_an_array_that_is_read_only(offset):
    inputs = beginning_at(offset, ROWS)
    inputs.flags.writeable = False
    np.testing.assert_array_equal(ANSWER(inputs)["same"], ROWS)


@pytest.mark.slow
def test_answers_of_several_threads():
    def ask(number):
        inputs = beginning_at(16, ROWS + number)
        for _ in range(8):
            answers = ANSWER(inputs)
            np.testing.assert_array_equal(answers["same"], inputs)
        return answers["sum"]

    with ThreadPoolExecutor(3) as pool:
        sums = list(pool.map(ask, range(3)))
    for number, found in enumerate(sums):
        np.testing.assert_allclose(found, (ROWS + number).sum(axis=1), rtol=1e-4, atol=1e-3)


def test_answers_for_several_large_arrays():
    class Difference(nnx.Module):
        def __init__(self):
            self.scale = nnx.Param(jnp.ones(()))

        def __call__(self, x, y):
            return self.scale[...] * (x - y)

    answer = predictor(Difference())
    for rows in (ROWS[:512], np.concatenate([ROWS, ROWS]), ROWS):  # the buffers grow
        pair = beginning_at(16, rows), beginning_at(16, 2 * rows)
        np.testing.assert_array_equal(answer(pair), -rows)


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


class Layers(nnx.Module):
    """Two linear layers; with ``twice``, an addition uses the inputs too."""

    def __init__(self, *, twice=False):
        rngs, self.twice = nnx.Rngs(0), twice
        self.fc1, self.fc2 = layers.Linear(64, 64, rngs=rngs), layers.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        y = jax.nn.relu(self.fc1(layers.flatten(x)))
        return y + layers.flatten(x) if self.twice else self.fc2(y)


IMAGES = np.random.default_rng(0).standard_normal((256, 8, 8, 1), dtype=np.float32)


@pytest.mark.parametrize(
    ("twice", "layout", "read"),
    [
        (False, "unaligned", 16), (False, "odd", 4), (True, "unaligned", 0),
        (False, "rows apart", 0), (False, "aligned", 0),
    ],
)  # fmt: skip
def test_a_kernel_reads_inputs_in_place(monkeypatch, twice, layout, read):
    addresses, address_of = [], borrowed.address_of

    def noted(array):
        addresses.append(array.ctypes.data % 64)
        return address_of(array)

    monkeypatch.setattr(borrowed, "address_of", noted)
    given = {
        "unaligned": beginning_at(16, IMAGES), "odd": beginning_at(4, IMAGES),
        "rows apart": every_other(IMAGES), "aligned": beginning_at(0, IMAGES),
    }[layout]  # fmt: skip
    answer = predictor(Layers(twice=twice))
    expected = np.asarray(answer(jnp.array(IMAGES)))
    for _ in range(2):
        given[...] = IMAGES
        found = answer(given)
        given[...] = 1000
        np.testing.assert_array_equal(found, expected)
    in_place = read and kernels.status() == "in use"
    assert addresses == ([read] * 2 if in_place else [])


def test_without_kernels_no_address_is_read(monkeypatch):
    monkeypatch.setenv("JAXNETS_NATIVE", "off")
    with kernels.aside():
        assert rewrite.by_address(Layers(), jax.ShapeDtypeStruct(IMAGES.shape, np.float32)) is None

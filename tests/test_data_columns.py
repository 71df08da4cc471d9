"""Splits whose inputs and labels have several arrays, or that have no labels."""

import functools
import json
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxnets
from jaxnets import evaluate, fit, layers, losses, optimizers, predict, predictor, recipes
from jaxnets.cli import main
from jaxnets.compare.experiment import Experiment
from jaxnets.data import (
    Compose,
    Dataset,
    Draws,
    Mixup,
    Normalize,
    OnColumn,
    RandomCrop,
    RandomHorizontalFlip,
    RandomTransform,
    Split,
    StreamedSplit,
    ToFloat,
    augment,
    hold_out,
    load,
    standardize,
)
from jaxnets.data.contact_sheet import contact_sheet
from jaxnets.data.dataset import in_memory
from jaxnets.data.series import cut
from jaxnets.data.source import join
from jaxnets.data.streaming import Joined
from jaxnets.data.survey import background_of, channel_statistics, class_counts
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from jaxnets.data.transforms.record import describe_transform, make_transform
from jaxnets.training import minimize

COUNT = 14
DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (COUNT, 4, 4, 1), np.uint8)
TABULAR = DRAW.normal(size=(COUNT, 3)).astype(np.float32)
DIGITS = (np.arange(COUNT) % 3).astype(np.int32)
SIZES = TABULAR.sum(1, keepdims=True)

NAMED = Split({"tabular": TABULAR, "image": IMAGES}, {"digit": DIGITS, "size": SIZES})
PLACED = Split((IMAGES, TABULAR), (DIGITS, SIZES))
ALONE = Split({"tabular": TABULAR, "image": IMAGES})
EVERY = {"named": NAMED, "placed": PLACED, "without labels": ALONE, "one": Split(TABULAR)}
SPLITS = pytest.mark.parametrize("split", EVERY.values(), ids=EVERY)


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        np.testing.assert_array_equal(one, other, strict=True)


class Examples:
    """A user-defined collection of examples."""

    def __init__(self, split, lone):
        self.split, self.lone = split, lone

    def __len__(self):
        return len(self.split)

    def __getitem__(self, number):
        inputs, labels = self.split[number]
        return (inputs if self.lone else (inputs,)) if labels is None else (inputs, labels)


# Streaming


@SPLITS
@pytest.mark.parametrize("lone", [True, False])
def test_streamed_batches_are_those_in_memory(split, lone):
    streamed = StreamedSplit(Examples(split, lone), prefetch=1)
    assert streamed.spec == split.spec
    rows = [np.array([3, 1, 12]), np.array([0])]
    for batch, numbers in zip(streamed.batches(rows), rows, strict=True):
        assert_equal(batch, split.gather(numbers))
    assert_equal(streamed.gather(np.array([], int)), split.gather(np.array([], int)))
    assert streamed.described() == split.described()
    assert_equal(streamed.take(5).gather(np.arange(5)), split.gather(np.arange(5)))


@SPLITS
def test_a_streamed_split_has_the_checksum_of_its_arrays_one_after_the_other(split):
    whole = 0
    for array in jax.tree.leaves((split.inputs, split.labels)):
        whole = zlib.crc32(array.tobytes(), whole)
    assert StreamedSplit(split).checksum() == whole
    inputs = jax.tree.map(lambda x: x[::-1].copy(), split.inputs)
    assert StreamedSplit(Split(inputs, split.labels)).checksum() != whole


@SPLITS
def test_parts_are_joined(split):
    joined = Joined((split.take(5), split.between(5, COUNT)))
    rows = np.array([7, 2, 13, 0])
    assert_equal(joined.gather(rows), split.gather(rows))
    assert_equal(joined.known_labels(), split.labels)
    together = join([split.take(5), split.between(5, COUNT)])
    assert_equal((together.inputs, together.labels), (split.inputs, split.labels))
    with pytest.raises(ValueError, match="split: expected parts with examples of the same shape"):
        join([split, Split(IMAGES, DIGITS)])


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (
            [({"a": 0.0}, 0), ({"a": np.zeros(2)}, 0)],
            r"input.a of example 1: expected float32\[\], as that of example 0, got float64\[2\]",
        ),
        (
            [({"a": 0.0}, 0), ({"b": 0.0}, 0)],
            r"input of example 1: expected \{a: float32\[\]\}, as .*, got \{b: float32\[\]\}",
        ),
        (
            [(0.0, (1, 2)), (0.0, (1, 2.0))],
            r"label\[1\] of example 1: expected int32\[\], as .*, got float32\[\]",
        ),
        ([(0.0, 1), (0.0,)], r"label of example 1: expected int32\[\], as .*, got none"),
        (
            [({"a": 0}, 0), ({"a": 2**40}, 0)],
            r"input.a of example 1: .* 32 bits, got 10995",
        ),
    ],
)
def test_a_streamed_example_that_differs_is_named(examples, message):
    with pytest.raises(ValueError, match=message):
        StreamedSplit(examples).gather(np.arange(2))


def test_a_batch_of_another_kind_is_named():
    whole = StreamedSplit([{"a": 0.0}, {"a": 0}])
    message = r"examples from number 1: expected \{a: float32\[\]\}, as example 0, got \{a: int32"
    with pytest.raises(ValueError, match=message):
        whole.gather(np.array([1]))
    wide = StreamedSplit([{"a": np.zeros(2)}, {"a": np.array([0, 1e300])}])
    with pytest.raises(ValueError, match=r"input.a of example 1: .* into float32, got 1e\+300"):
        wide.gather(np.array([1]))


# Holding out, and data sets


@SPLITS
@pytest.mark.parametrize("stream", [False, True])
def test_examples_are_held_out_all_together(split, stream):
    kept, held = hold_out(StreamedSplit(split) if stream else split, 0.25)
    assert (len(kept), len(held)) == (COUNT - 4, 4)
    both = [part.gather(np.arange(len(part)))[0] for part in (kept, held)]
    rows = np.concatenate([jax.tree.leaves(inputs)[-1].reshape(len(part), -1)[:, 0]
                           for inputs, part in zip(both, (kept, held), strict=True)])  # fmt: skip
    whole = jax.tree.leaves(split.gather(np.arange(COUNT))[0])[-1].reshape(COUNT, -1)[:, 0]
    np.testing.assert_array_equal(np.sort(rows), np.sort(whole))


def test_streamed_labels_that_cannot_be_had_alone_are_still_asked_for():
    with pytest.raises(ValueError, match="split: expected one whose labels can be read alone"):
        hold_out(StreamedSplit(Examples(NAMED, True)), 0.25)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            Split({"image": IMAGES[:, :2], "tabular": TABULAR}, NAMED.labels),
            r"test inputs.image: expected uint8\[4, 4, 1\] for each example, as in train, got "
            r"uint8\[2, 4, 1\]",
        ),
        (
            Split(NAMED.inputs, {"digit": DIGITS, "size": SIZES.astype(np.float64)}),
            r"test labels.size: expected float32\[1\] .* got float64\[1\]",
        ),
        (
            Split({"image": IMAGES}, NAMED.labels),
            r"test inputs: expected \{image: .*, tabular: float32\[3\]\} .* got \{image: uint8",
        ),
        (ALONE, r"test labels: expected \{digit: .*, got none"),
        (PLACED, r"test inputs: expected \{image: .*, got \(uint8\[4, 4, 1\], float32\[3\]\)"),
    ],
)
def test_a_data_set_names_the_column_that_differs(test, message):
    with pytest.raises(ValueError, match=message):
        Dataset("drawn", NAMED, test)


# Files


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("streaming", [False, True])
def test_an_npz_file_of_several_columns(tmp_path, streaming):
    path = write(tmp_path / "pairs.npz", **{
        "train_inputs.image": IMAGES[..., 0], "train_inputs.tabular": TABULAR.astype(np.float64),
        "train_labels.digit": DIGITS[:, None].astype(np.int64), "train_labels.size": SIZES,
        "inputs_test.image": IMAGES[:5, ..., 0], "inputs_test.tabular": TABULAR[:5],
        "labels_test.digit": DIGITS[:5], "labels_test.size": SIZES[:5],
    })  # fmt: skip
    data = load(path, streaming=streaming)
    for split, expected in ((data.train, NAMED), (data.test, NAMED.take(5))):
        assert_equal(split.gather(np.arange(len(split))), (expected.inputs, expected.labels))
    assert data.num_classes is None
    assert data.spec == NAMED.spec


@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_of_nothing_but_inputs_has_no_labels(tmp_path, streaming):
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "x_train.npy", TABULAR)
    np.save(folder / "x_test.npy", TABULAR[:3])
    for place in (folder, write(tmp_path / "some.npz", x_train=TABULAR, x_test=TABULAR[:3])):
        data = load(place, streaming=streaming)
        assert data.spec.labels is None
        assert_equal(data.train.gather(np.arange(COUNT)), (TABULAR, None))
    held = load(write(tmp_path / "alone.npz", **{"x.image": IMAGES}), test_fraction=0.5)
    assert (len(held.train), len(held.test)) == (7, 7)
    assert held.train.inputs.keys() == {"image"}


def test_the_commands_describe_columns(tmp_path, capsys):
    arrays = {"x.image": IMAGES, "x.tabular": TABULAR, "y.digit": DIGITS, "y.size": SIZES}
    path = str(write(tmp_path / "pairs.npz", **arrays))

    def out(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    text = out("data", "info", path)
    assert "inputs {image: uint8[4, 4, 1], tabular: float32[3]}, labels {digit: int32[], " in text
    assert "mean of the training inputs.image in [0, 1]: 0." in text
    assert "std of the training inputs.tabular: " in text
    first = out("data", "head", path, "-n", "1")
    assert first.startswith("0: inputs.image uint8[4, 4, 1], mean ")
    assert ", inputs.tabular " in first
    assert " → labels.digit " in first
    unlabelled = str(write(tmp_path / "alone.npz", x=TABULAR))
    assert "labels none" in out("data", "info", unlabelled)
    assert " → no labels" in out("data", "head", unlabelled, "-n", "1")
    assert "14, all readable" in out("data", "check", path)


# Transforms


def test_a_transform_of_one_column_leaves_the_others():
    key = jax.random.key(3)
    crop = RandomCrop(4, padding=1)
    for inputs, column in ((NAMED.inputs, "image"), (PLACED.inputs, 0)):
        varied, labels = augment(OnColumn(column, crop), inputs, DIGITS, key)
        assert type(varied) is type(inputs)
        expected = crop(IMAGES, key)
        assert not np.array_equal(expected, IMAGES)
        np.testing.assert_array_equal(varied[column], expected)
        np.testing.assert_array_equal(varied["tabular" if column == "image" else 1], TABULAR)
        np.testing.assert_array_equal(labels, DIGITS)


@pytest.mark.slow
def test_transforms_of_columns_compose_and_mix_labels():
    steps = Compose(
        OnColumn("image", Compose(ToFloat(), Mixup(0.5, 3))), lambda x: {**x, "one": x["image"] * 0}
    )
    inputs, labels = augment(steps, NAMED.inputs, DIGITS, jax.random.key(0))
    assert labels.shape == (COUNT, 3)
    assert inputs.keys() == {"image", "tabular", "one"}
    with pytest.raises(ValueError, match="labels: expected labels through augment"):
        OnColumn("image", Mixup(0.5, 3))(NAMED.inputs)


def test_equal_transforms_of_columns_are_one_static_argument_and_one_record():
    one, other = (OnColumn("image", Compose(ToFloat(), Normalize(0.5, 0.25))) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != OnColumn("other", one.transform)
    for transform in (one, Compose(OnColumn(0, ToFloat()), OnColumn(1, Normalize(1, 2)))):
        described = json.loads(json.dumps(describe_transform(transform)))
        again = make_transform(described)
        inputs = NAMED.inputs if transform is one else PLACED.inputs
        assert_equal(again(inputs), transform(inputs))


class Mine(RandomTransform):
    def example(self, image, key):
        return image


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: OnColumn("a b", ToFloat()),
            "column: expected a name such as 'image', or a num",
        ),
        (lambda: OnColumn(-1, ToFloat()), "column: expected .* got -1"),
        (lambda: OnColumn("image", 3), "transform: expected callables, got int"),
        (
            lambda: OnColumn("picture", ToFloat())(NAMED.inputs),
            r"inputs: expected .* with inputs.picture, got inputs.image, inputs.tabular",
        ),
        (
            lambda: OnColumn(2, ToFloat())(PLACED.inputs),
            r"with inputs\[2\], got inputs\[0\], ",
        ),
        (lambda: OnColumn("image", ToFloat())(IMAGES), "with inputs.image, got one array"),
        (
            lambda: augment(
                OnColumn("tabular", RandomCrop(2)), NAMED.inputs, None, jax.random.key(0)
            ),
            r"inputs.tabular: expected a batch of images \[B, H, W, C\], got float32\[14, 3\]",
        ),
        (
            lambda: augment(RandomCrop(2), NAMED.inputs, None, jax.random.key(0)),
            r"transform: expected OnColumn\('image', RandomCrop\(…\)\) for one array of "
            r"inputs.image, inputs.tabular, got RandomCrop, which takes one array",
        ),
        (
            lambda: augment(Mine(), PLACED.inputs, None, jax.random.key(0)),
            r"OnColumn\(0, Mine\(…\)\) for one array of inputs\[0\], inputs\[1\]",
        ),
        (
            lambda: augment(Mixup(1, 3), PLACED.inputs, DIGITS, jax.random.key(0)),
            "got Mixup, which",
        ),
        (lambda: Compose(ToFloat())(NAMED.inputs), "got ToFloat, which takes one array"),
        (lambda: make_transform([{"name": "OnColumn", "column": 1}]), "transform: expected one of"),
    ],
)
def test_transforms_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Training, evaluating, predicting


class Two(nnx.Module):
    """Takes an image and numbers, and returns a digit and a size."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.image, self.tabular = (layers.Linear(n, 4, rngs=rngs) for n in (16, 3))

    def __call__(self, image, tabular):
        hidden = self.image(image.reshape(len(image), -1)) + self.tabular(tabular)
        return {"digit": hidden[:, :3], "size": hidden[:, 3:]}


def loss(outputs, labels):
    digit, size = (labels["digit"], labels["size"]) if isinstance(labels, dict) else labels
    return losses.cross_entropy(outputs["digit"], digit) + losses.mse_loss(outputs["size"], size)


def correct(outputs, labels):
    return outputs["digit"].argmax(-1) == (labels if hasattr(labels, "shape") else labels["digit"])


SGD = optimizers.sgd(0.05)
SCALED = OnColumn("image", Compose(ToFloat(), Normalize(0.5, 0.25)))
FLIPPED = OnColumn("image", RandomHorizontalFlip())


@pytest.fixture(scope="module")
def run():
    return fit(
        Two(), Dataset("pairs", NAMED, NAMED.take(5)), loss=loss, optimizer=SGD, epochs=2,
        batch_size=6, transform=SCALED, augment=FLIPPED, correct=None, progress="none",
    )  # fmt: skip


@pytest.mark.slow
def test_a_model_of_columns_is_trained_streamed_and_evaluated(run):
    assert run.history[1].train["loss"] < run.history[0].train["loss"]
    found = evaluate(run.model, NAMED.take(5), loss=loss, transform=SCALED, correct=None)
    assert found.loss == pytest.approx(run.test.loss, rel=1e-5)
    streamed = StreamedSplit(Examples(NAMED.take(5), True))
    again = evaluate(run.model, streamed, loss=loss, transform=SCALED, correct=correct)
    assert again.loss == pytest.approx(found.loss, rel=1e-5)
    digits = predict(run.model, NAMED.inputs, transform=SCALED)["digit"]
    assert again.correct == (digits.argmax(1)[:5] == DIGITS[:5]).sum()


def test_predictions_of_columns_are_those_of_the_model(run):
    answer = predictor(run.model, transform=SCALED)
    expected = predict(run.model, NAMED.inputs, transform=SCALED)
    for name, array in answer(NAMED.inputs).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    scaled = SCALED({key: jnp.asarray(x) for key, x in NAMED.inputs.items()})
    placed = scaled["image"], scaled["tabular"]
    for made in (predict(run.model, tuple(map(np.asarray, placed))), predictor(run.model)(placed)):
        np.testing.assert_allclose(made["size"], expected["size"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ask", [predictor, lambda m, **o: functools.partial(predict, m, **o)])
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": IMAGES, "tabular": TABULAR[:3]}, r"inputs: expected arrays of one length, got"),
        ({"image": IMAGES[:0], "tabular": TABULAR[:0]}, "inputs.image: expected at least one exam"),
        ({"image": IMAGES, "tabular": "x"}, r"inputs.tabular: expected an array \[examples, …\]"),
        ({"image": IMAGES, "tabular": np.array([1e300])}, "inputs.tabular: .* float32, got 1e"),
        ({}, "inputs: expected at least one array, got none"),
        ({"image": IMAGES}, r"(inputs: expected|transform: expected).*"),
        (IMAGES, "got one array"),
    ],
)
def test_predictions_refuse_columns_that_do_not_fit(run, ask, inputs, message):
    with pytest.raises(ValueError, match=message):
        ask(run.model, transform=SCALED)(inputs)


class Words(nnx.Module):
    def __init__(self):
        self.words = layers.Embedding(5, 2, rngs=nnx.Rngs(0))

    def __call__(self, words, other):
        return self.words(words) + other


def test_an_index_without_a_row_is_named_by_its_column():
    fine = {"words": np.array([0, 4]), "other": np.zeros((2, 2), np.float32)}
    bad = {**fine, "words": np.array([0, 5])}
    for answer in (predictor(Words()), functools.partial(predict, Words())):
        assert answer(fine).shape == (2, 2)
        with pytest.raises(ValueError, match=r"^inputs.words: expected indices in \[0, 4\], as"):
            answer(bad)
    with pytest.raises(ValueError, match=r"^split.inputs.words: expected indices in \[0, 4\]"):
        evaluate(Words(), Split(bad, fine["other"]), loss=losses.mse_loss)


def test_a_class_that_is_none_is_named_by_its_column():
    strange = Split(NAMED.inputs, {"digit": DIGITS + 1, "size": SIZES})
    with pytest.raises(ValueError, match=r"split.labels.digit: expected classes in \[0, 2\]"):
        evaluate(Two(), strange, loss=loss, transform=SCALED, correct=None)


def test_supervised_training_without_labels_says_what_it_lacks():
    with pytest.raises(ValueError, match="data: expected labels, as the loss takes"):
        evaluate(Two(), ALONE, loss=loss, transform=SCALED)


def energy(model, batch, key):
    return jnp.mean(model(batch["inputs"]) ** 2)


def test_a_split_without_labels_is_trained_on():
    model = layers.Linear(3, 1, rngs=nnx.Rngs(0))
    step = minimize(energy, SGD)
    runs = [
        fit(model, split, step, epochs=1, batch_size=7, progress="none")
        for split in (Split(TABULAR), StreamedSplit(list(TABULAR)))
    ]
    np.testing.assert_array_equal(runs[0].step_losses, runs[1].step_losses)
    assert evaluate(runs[0].model, Split(TABULAR), energy).loss < runs[0].step_losses[0]


def test_a_run_on_columns_is_saved_and_loaded(run, tmp_path):
    run.save(tmp_path / "run")
    saved = jaxnets.load(tmp_path / "run", model=run.model)
    assert saved.inputs == NAMED.spec.inputs
    assert "inputs {image: uint8[4, 4, 1], tabular: float32[3]}" in repr(saved)
    expected = predict(run.model, NAMED.inputs, transform=SCALED)
    np.testing.assert_array_equal(saved.predict(NAMED.inputs)["size"], expected["size"])
    placed = fit(layers.Linear(3, 1, rngs=nnx.Rngs(0)), Split((TABULAR, TABULAR)), STILL,
                 epochs=1, progress="none")  # fmt: skip
    placed.save(tmp_path / "placed")
    saved = jaxnets.load(tmp_path / "placed", model=placed.model)
    assert saved.inputs == placed.task.inputs == Split((TABULAR, TABULAR)).spec.inputs


def still(model, batch, key):
    return jnp.mean(model(batch["inputs"][0]))


STILL = minimize(still, optimizers.sgd(0.0))


# Functions that accept only one array

PAIRS = Dataset("pairs", NAMED, NAMED)


def texts(split):
    words = Vocabulary(("<pad>", "<unk>", "a"))
    return TextDataset("texts", split, split, encoder=TextEncoder(Tokenizer(), words, length=2))


def experiment(split):
    return Experiment(
        name="pairs", description="", build=Two, build_torch=None, data=Dataset("d", split, split),
        loss=losses.mse_loss, optimizer=SGD, torch_loss=None, torch_optimizer=None, epochs=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: class_counts(NAMED, 3),
            "split.labels: expected one array, got split.labels.d",
        ),
        (lambda: class_counts(Split(IMAGES), 3), "split.labels: expected one array, got none"),
        (
            lambda: channel_statistics(PLACED),
            r"split.inputs: expected one array, got split.inp",
        ),
        (
            lambda: contact_sheet(NAMED),
            "split.inputs: expected one array, got split.inputs.i",
        ),
        (lambda: contact_sheet(Split(IMAGES)), "split.labels: expected one array, got none"),
        (lambda: cut(ALONE, 2, 1), "steps.inputs: expected one array"),
        (lambda: standardize(PAIRS), "pairs, inputs: expected one array, got pairs, inputs.image"),
        (
            lambda: standardize(Dataset("table", Split(TABULAR))),
            "table, labels: expected one array, got none",
        ),
        (lambda: texts(NAMED), "train inputs: expected one array"),
        (
            lambda: texts(Split(np.zeros((2, 2), np.int32))).widths(2),
            "buckets: expected None or 1, unless each text has one label, got none",
        ),
        (lambda: experiment(NAMED), "data.train.labels: expected an array, .* got dict"),
        (lambda: experiment(Split(IMAGES)), "data.train.labels: expected an array, .*, got None"),
        (
            lambda: recipes.train(recipes.RECIPES["mnist-mlp"], data=PAIRS),
            "inputs of pairs: expected one array, got inputs of pairs.image, inputs of pairs",
        ),
        (
            lambda: recipes.train(
                recipes.RECIPES["mnist-mlp"], data=Dataset("p", Split(NAMED.inputs, DIGITS))
            ),
            "inputs of p: expected one array, got inputs of p.image, inputs of p.tabular",
        ),
        (
            lambda: Dataset("pairs", NAMED, class_names=("a",)),
            "class_names: expected None, as the labels are not integers",
        ),
        (
            lambda: in_memory(Draws(3)),
            "split: expected a split whose examples are in memory",
        ),
    ],
)
def test_what_takes_one_array_says_so(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_needs_no_array_does_without():
    assert background_of(PAIRS) is None
    assert background_of(Dataset("alone", ALONE)) is None
    assert PAIRS.num_classes is None
    assert Dataset("alone", ALONE).num_classes is None
    table = standardize(Dataset("table", Split(TABULAR, SIZES)))
    assert table.test is None
    np.testing.assert_allclose(table.train.inputs.mean(0), 0, atol=1e-6)

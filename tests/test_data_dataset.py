import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets import data
from jaxnets.data import Dataset, Split, StreamedSplit
from jaxnets.data.text import TextDataset, TextEncoder, Tokenizer, Vocabulary
from tests import tier


def images(count, dtype=np.uint8):
    return np.zeros((count, 4, 4, 1), dtype)


def classes(*labels):
    return np.array(labels, np.int32)


def split(*labels):
    return Split(images(len(labels)), classes(*labels))


def test_split_has_a_length_and_takes_its_first_examples():
    whole = Split(np.arange(6).reshape(3, 2), classes(5, 6, 7))
    assert len(whole) == 3
    first = whole.take(2)
    assert len(first) == 2
    np.testing.assert_array_equal(first.inputs, [[0, 1], [2, 3]])
    np.testing.assert_array_equal(first.labels, [5, 6])
    assert len(whole.take(np.int64(3))) == 3


@pytest.mark.parametrize("n", [0, 4, -1, 1.0, True, "2", None])
def test_take_refuses_a_number_out_of_range(n):
    with pytest.raises(ValueError, match="n: expected an integer from 1 to 3, got"):
        split(0, 1, 2).take(n)


@pytest.mark.parametrize(
    ("inputs", "labels", "message"),
    [
        (images(3), classes(0, 1), r"labels: expected 3 labels.*got int32\[2\]"),
        (images(0), classes(), r"inputs: expected at least one example, got uint8\[0, 4, 4, 1\]"),
        (np.float32(1.0) * np.ones(()), classes(0), "inputs: expected a NumPy array"),
        (np.array(1.0), classes(0), r"inputs: .* batch axis, \[N, ...\], got float64\[\]"),
        (images(1), np.array(1), r"labels: .* batch axis"),
        ([[1.0]], classes(0), "inputs: expected a NumPy array, got list"),
        (images(1), jnp.zeros(1), "labels: expected a NumPy array"),
        (np.array(["a"]), classes(0), "inputs: expected an array of numbers"),
        (images(1), np.array([True]), "labels: expected an array of numbers"),
        (images(1), np.array([None]), "labels: expected an array of numbers"),
        (np.array([2**32 + 1]), classes(0), "inputs: expected numbers that fit into int32, got 42"),
        (images(1), np.array([2**32 + 1]), "labels: expected numbers that fit into int32, got 42"),
        (images(1), np.array([2**32], np.uint64), "labels: expected numbers that fit into uint32"),
        (np.array([1e300]), classes(0), r"inputs: .* into float32, got 1e\+300 in row 0"),
        (images(2), np.array([0, -1e300]), r"labels: .* into float32, got -1e\+300 in row 1"),
    ],
)
def test_split_refuses(inputs, labels, message):
    with pytest.raises(ValueError, match=message):
        Split(inputs, labels)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            split(0, 1),
            Split(images(1)[:, :3], classes(0)),
            r"test inputs: expected uint8\[4, 4, 1\] for each example.*got uint8\[3, 4, 1\]",
        ),
        (split(0), Split(images(1, np.float32), classes(0)), "test inputs: expected uint8"),
        (split(0), Split(images(1), np.zeros(1, np.float32)), r"test labels: expected int32\[\]"),
        (split(0), Split(images(1), classes([0, 1])), r"test labels: .* got int32\[2\]"),
        (split(0), images(1), "test: expected a Split or a StreamedSplit, got ndarray"),
        (None, split(0), "train: expected a Split or a Str.*, got NoneType"),
    ],
)
def test_dataset_refuses_splits_that_differ(train, test, message):
    with pytest.raises(ValueError, match=message):
        Dataset("digits", train, test)


@pytest.mark.parametrize("name", ["", None, 3])
def test_dataset_refuses_a_name(name):
    with pytest.raises(ValueError, match="name: expected a non-empty string"):
        Dataset(name, split(0), split(0))


def test_dataset_refuses_class_names_that_do_not_fit():
    with pytest.raises(ValueError, match="class_names: expected a tuple of strings"):
        Dataset("digits", split(0), split(0), ["zero"])
    with pytest.raises(ValueError, match="class_names: expected a tuple of strings"):
        Dataset("digits", split(0), split(0), (0,))
    with pytest.raises(ValueError, match="at least 3 names, as label 2 occurs"):
        Dataset("digits", split(0), split(2), ("zero", "one"))
    values = Split(images(1), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="class_names: expected None, as the labels are not int"):
        Dataset("values", values, values, ("zero",))


def test_num_classes():
    assert Dataset("digits", split(0, 1), split(0), ("a", "b", "c")).num_classes == 3
    assert Dataset("digits", split(0, 1), split(4)).num_classes == 5
    values = Split(images(1), np.zeros((1, 2), np.float32))
    assert Dataset("values", values, values).num_classes is None


def test_load_refuses_a_name_that_is_too_long_for_a_file(tmp_path):
    (tmp_path / "other.txt").touch()
    with pytest.raises(ValueError, match=r"^name: expected one of .*, got 'x+…x+'$"):
        data.load("x" * 1000, data_dir=tmp_path)


def test_load_refuses_an_unknown_name_and_suggests_the_nearest():
    message = r"name: expected one of .*linear, mnist, .* got 'minst'; did you mean 'mnist' or"
    with pytest.raises(ValueError, match=message):
        data.load("minst")
    with pytest.raises(ValueError, match=r"got 'zzqqzz'$"):
        data.load("zzqqzz")
    with pytest.raises(ValueError, match=r"got 3$"):
        data.load(3)


LARGE = {"scattered-digits"}  # 350 MB while it is made


@pytest.mark.parametrize("name", tier.usually(data.DATASETS, data.DATASETS.keys() - LARGE))
def test_every_data_set_loads_under_its_name(name):
    dataset = data.load(name)
    assert dataset.name == name


def test_linear_is_the_line_2x_plus_1_with_noise():
    dataset, again = data.load("linear"), data.load("linear")
    for part, size in ((dataset.train, 1000), (dataset.test, 200)):
        assert part.inputs.shape == part.labels.shape == (size, 1)
        assert part.inputs.dtype == part.labels.dtype == np.float32
        slope, intercept = np.polyfit(part.inputs[:, 0], part.labels[:, 0], 1)
        assert slope == pytest.approx(2.0, abs=0.03)
        assert intercept == pytest.approx(1.0, abs=0.03)
        assert np.std(part.labels - 2 * part.inputs - 1) == pytest.approx(0.1, abs=0.01)
        assert part.inputs.min() >= -1
        assert part.inputs.max() <= 1
    np.testing.assert_array_equal(dataset.train.labels, again.train.labels)
    np.testing.assert_array_equal(dataset.test.inputs, again.test.inputs)
    assert not set(dataset.train.inputs[:, 0]) & set(dataset.test.inputs[:, 0])


# What a person sees


def test_data_are_shown_in_a_few_lines_without_arrays():
    names = tuple(f"class {number}" for number in range(1000))
    streamed = StreamedSplit(split(*range(4)), workers=2)
    shown = repr(Dataset("many", split(*range(9)), streamed, names, "files in data"))
    assert shown.splitlines() == [
        "Dataset many (files in data)",
        "  train  9 examples: inputs uint8[4, 4, 1], labels int32[]",
        "  test   4 examples: inputs uint8[4, 4, 1], labels int32[] (streamed)",
        "  1000 classes: class 0, class 1, class 2, class 3, class 4, class 5, class…",
    ]
    few = Dataset("few", split(0, 1), split(1), ("a\x1b[31m", "b"))
    assert repr(few).splitlines()[-1] == "  2 classes: a\\x1b[31m, b"


def test_splits_and_plans_are_shown_in_a_line():
    whole = split(*range(4))
    assert repr(whole) == "Split of 4 examples: inputs uint8[4, 4, 1], labels int32[]"
    shown = "StreamedSplit of 4 examples: inputs uint8[4, 4, 1], labels int32[], read by"
    streamed = StreamedSplit(whole, workers=2)
    assert repr(streamed) == f"{shown} 2 workers"
    assert repr(StreamedSplit(whole)) == f"{shown} threads"
    assert repr(streamed.take(2).examples) == "Range of 2 examples"
    assert repr(streamed.chosen(np.arange(3)).examples) == "Chosen of 3 examples"
    assert repr(StreamedSplit([(np.zeros(9999), 0)] * 3).examples) == "Indexed of 3 examples"
    assert repr(data.epoch_plan(1000, 8, seed=0, epoch=0)) == "Plan of 125 batches"


def test_texts_and_standardized_numbers_say_what_they_are():
    words = Vocabulary.from_counts({f"word{n}": 1 for n in range(5000)})
    shown = (
        "Vocabulary of 5,002 tokens: '<pad>', '<unk>', 'word0', 'word1', 'word10', 'word100', 'w…"
    )
    assert repr(words) == shown
    encoder = TextEncoder(Tokenizer(), words, length=2)
    part = Split(encoder(["word1", "word2 word3"]), classes(0, 1))
    texts = repr(TextDataset("texts", part, part, encoder=encoder)).splitlines()
    assert texts[0] == "TextDataset texts"
    assert texts[-1] == "  5,002 tokens in the vocabulary"
    assert len(repr(encoder)) < 300
    wide = Split(np.random.default_rng(0).normal(size=(9, 700)), np.arange(9.0))
    scaled = data.standardize(Dataset("wide", wide, wide))
    assert repr(scaled).splitlines()[-1] == "  inputs and labels standardized"
    assert repr(scaled.inputs_scaler) == "Standardizer of 700 columns"
    inputs = data.standardize(Dataset("wide", wide, wide), labels=False)
    assert repr(inputs).splitlines()[-1] == "  inputs standardized"

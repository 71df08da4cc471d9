import gzip
import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest
from flax import nnx

from jaxnets import LinearRegression, fit, losses, optimizers
from jaxnets.arrays import InputError
from jaxnets.data import (
    Dataset,
    Split,
    StreamedSplit,
    epoch_plan,
    files,
    hold_out,
    idx,
    load,
    standardize,
)
from jaxnets.data.dataset import in_memory
from jaxnets.data.streaming import Joined, Range, RecordPairs, Records
from jaxnets.data.streaming.crew import Worker
from tests.data_files import images, labels, write_cifar10, write_idx, write_images
from tests.test_data_tfds import TinyPictures, prepare


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))


OTHERS = set()  # threads and processes that other tests left


def readers():
    threads = {thread for thread in threading.enumerate() if "jaxnets-data" in thread.name}
    return threads - OTHERS


def workers():
    return set(multiprocessing.active_children()) - OTHERS


@pytest.fixture(autouse=True)
def _nobody_is_left():
    OTHERS.clear()
    OTHERS.update(readers(), workers())
    yield
    assert not workers()


def arrays():
    return {
        "x_train": images(20, (3, 6, 5)),
        "y_train": labels(20, 4).astype(np.int64)[:, None],
        "x_test": images(8, (3, 6, 5), seed=1),
        "y_test": labels(8, 4).astype(np.int64)[:, None],
    }


def write_npy(folder):
    folder.mkdir(parents=True)
    for name, array in arrays().items():
        np.save(folder / f"{name}.npy", array)


def write_values(folder):
    """Writes big-endian values to predict, at an unaligned position of the file."""
    x, y = np.arange(24, dtype=">f8").reshape(12, 2), np.arange(12, dtype=">f4")
    np.savez(folder / "values.npz", note=np.zeros(3), x=x, y=y)


def write_pictures(folder):
    write_images(folder / "pets" / "train", {"dog": 12, "cat": 8})
    write_images(folder / "pets" / "test", {"dog": 3, "cat": 5})


#: Functions that write a data set into a folder, and its name.
LAYOUTS = {
    "idx": (lambda folder: write_idx(folder / "KMNIST" / "raw"), "kmnist"),
    "cifar": (lambda f: write_cifar10(f / "cifar-10-batches-bin", layout="binary"), "cifar10"),
    "npz": (lambda folder: np.savez(folder / "spots.npz", **arrays()), "spots"),
    "npy": (lambda folder: write_npy(folder / "spots"), "spots"),
    "values": (write_values, "values"),
    "images": (write_pictures, "pets"),
    "tfds": (lambda folder: prepare(TinyPictures, folder), "tiny_pictures"),
}


def written(folder, layout):
    write, name = LAYOUTS[layout]
    write(folder)
    return {"name": name, "data_dir": folder}


def rows_of(split, seed=0):
    """The rows of the batches of an epoch, including the smaller last one."""
    plan = epoch_plan(len(split), 3, seed=seed, epoch=0)
    return [*plan.full, plan.rest]


def assert_same(batches, split, rows):
    batches = list(batches)
    assert len(batches) == len(rows)
    for (inputs, numbers), chosen in zip(batches, rows, strict=True):
        chosen = np.asarray(chosen, int)
        np.testing.assert_array_equal(inputs, split.inputs[chosen], strict=True)
        np.testing.assert_array_equal(numbers, split.labels[chosen], strict=True)


# The same batches as from memory


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_batches_are_those_of_the_set_in_memory(tmp_path, layout):
    place = written(tmp_path, layout)
    for splits in ({}, {"train": "train[20%:]", "test": "train[2:5]+train[-2:]"}):
        held, streamed = load(**place, **splits), load(**place, **splits, streaming=True)
        for what in ("name", "origin", "class_names", "spec", "num_classes"):
            assert getattr(streamed, what) == getattr(held, what)
        for split, lying in ((held.train, streamed.train), (held.test, streamed.test)):
            assert isinstance(lying, StreamedSplit)
            rows = rows_of(split)
            assert_same(lying.batches(rows), split, rows)
            # the copy that a worker process receives reads the same
            inputs, _ = pickle.loads(pickle.dumps(lying.examples)).gather(rows[0])
            assert inputs.tobytes() == split.inputs[rows[0]].tobytes()


def test_a_split_in_memory_and_a_list_of_pairs_are_streamed_too():
    split = Split(images(10, (2, 2)), labels(10).astype(np.int32))
    rows = rows_of(split)
    assert_same(StreamedSplit(split).batches(rows), split, rows)
    pairs = list(zip(split.inputs, split.labels, strict=True))
    assert_same(StreamedSplit(pairs, prefetch=1).batches(rows), split, rows)
    plain = StreamedSplit([(n / 2, n) for n in range(4)])
    assert plain.spec.inputs.dtype == np.float32
    assert plain.spec.labels.dtype == np.int32
    assert [example for example, _ in split][3].tolist() == split.inputs[3].tolist()


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((2**32 + 1, 0), "input of example 1: expected an integer of 32 bits, got 4294967297"),
        ((0, 2**70), "label of example 1: expected an integer of 32 bits, got 11805916"),
        ((1e300, 0), r"input of example 1: expected numbers that fit into float32, got 1e\+300"),
        ((np.int64(0), np.int64(2**32 + 1)), "label of example 1: expected .* into int32, got 42"),
        ((np.array([0.0, 1e300]), 0), r"input of example 1: .* into float32, got 1e\+300 in row 1"),
    ],
)
def test_streamed_numbers_do_not_wrap(pair, message):
    like = [np.zeros_like(value) if isinstance(value, np.ndarray | np.generic) else type(value)()
            for value in pair]  # fmt: skip
    with pytest.raises(ValueError, match=message):
        StreamedSplit([tuple(like), pair]).gather(np.arange(2))


def test_a_pass_resumes_at_any_step_and_is_shared_by_columns():
    split = Split(images(10, (2, 2)), labels(10).astype(np.int32))
    streamed, rows = StreamedSplit(split), rows_of(split)
    assert_same(streamed.batches(rows[2:]), split, rows[2:])
    own = [row[1::2] for row in rows]  # this process has no rows of the last batch
    assert [len(row) for row in own] == [1, 1, 1, 0]
    assert_same(streamed.batches(own), split, own)
    assert list(streamed.batches([])) == []
    assert_same([streamed.gather(rows[1]), streamed.gather(rows[1][:0])], split, [rows[1], []])


def test_examples_set_aside_by_chance_are_the_same(tmp_path):
    write_images(tmp_path / "pets", {"dog": 10, "cat": 20})
    held, streamed = (
        load("pets", data_dir=tmp_path, test_fraction=0.3, seed=1, streaming=streaming)
        for streaming in (False, True)
    )
    rows = [np.arange(len(held.test))]
    assert_same(streamed.test.batches(rows), held.test, rows)
    assert_same(streamed.train.batches(rows), held.train, rows)
    with pytest.raises(ValueError, match=r"split: expected one whose labels can be read alone"):
        hold_out(StreamedSplit([(0.0, 0), (1.0, 1)]), 0.5)


def test_a_streamed_split_is_taken_and_chosen_from():
    streamed = StreamedSplit([(float(n), n) for n in range(5)], classes=5)
    ((inputs, _),) = streamed.take(3).batches([np.array([2, 0])])
    assert inputs.tolist() == [2, 0]
    ((inputs, _),) = streamed.chosen(np.array([4, 1])).take(1).batches([np.array([0])])
    assert inputs.tolist() == [4]
    with pytest.raises(ValueError, match="n: expected an integer from 1 to 5, got 6"):
        streamed.take(6)


def test_joined_examples_are_of_one_kind():
    pairs = [Split(images(4, (n, 2)), labels(4)) for n in (2, 2, 3)]
    joined = Joined((Range(pairs[0], 1, 3), pairs[1]))
    assert joined.gather(np.array([3, 0, 2]))[0].tolist() == [
        pairs[k].inputs[n].tolist() for k, n in ((1, 1), (0, 1), (1, 0))
    ]
    assert joined.known_labels().tolist() == [1, 2, 0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"one of the same shape|split: expected parts with ex"):
        Joined((pairs[0], pairs[2])).gather(np.array([0, 5]))


def test_fit_learns_the_same_from_what_is_streamed():
    data = load("linear")
    streamed = Dataset("linear", StreamedSplit(data.train), StreamedSplit(data.test))
    one, other = (
        fit(
            LinearRegression(1, rngs=nnx.Rngs(0)), each, loss=losses.mse_loss,
            optimizer=optimizers.sgd(0.1, momentum=0.9), batch_size=48, epochs=2, progress="none",
        )
        for each in (data, streamed)
    )  # fmt: skip
    np.testing.assert_allclose(other.step_losses, one.step_losses, rtol=1e-6)
    np.testing.assert_allclose(other.test.loss, one.test.loss, rtol=1e-6)
    np.testing.assert_allclose(other.model.kernel[...], one.model.kernel[...], 1e-6)


# Threads and processes that read ahead


def test_no_threads_remain_after_an_early_close():
    streamed = StreamedSplit([(float(n), n) for n in range(9)])
    rows = list(np.arange(9).reshape(3, 3))
    stream = streamed.batches(rows)
    next(stream)
    assert readers()
    stream.close()
    assert not readers()
    assert len(list(streamed.batches(rows))) == 3
    assert readers()  # they wait for the next pass
    streamed.close()
    assert not readers()
    for _ in zip(range(3), streamed.batches(rows), strict=False):
        pass  # the end of the stream is not reached
    assert readers()
    del streamed
    assert not readers()


def test_two_passes_at_once_do_not_disturb_each_other():
    streamed = StreamedSplit([(float(n), n) for n in range(9)])
    rows = list(np.arange(9).reshape(3, 3))
    one, two = streamed.batches(rows), streamed.batches(rows[::-1])
    assert next(one)[1].tolist() == [0, 1, 2]
    assert next(two)[1].tolist() == [6, 7, 8]
    two.close()
    assert [numbers.tolist() for _, numbers in one] == [[3, 4, 5], [6, 7, 8]]


def test_no_more_is_read_ahead_than_was_asked_for():
    asked = []

    class Counted:
        def __len__(self):
            return 100

        def __getitem__(self, number):
            asked.append(number)
            return 0.0, 0

    stream = StreamedSplit(Counted(), prefetch=3).batches(list(np.arange(100)[:, None]))
    next(stream)
    stream.close()
    assert max(asked) <= 3


@pytest.mark.slow
def test_workers_read_the_same_and_say_what_is_wrong(tmp_path):
    place = written(tmp_path, "images")
    held, streamed = load(**place), load(**place, streaming=True, workers=2)
    rows = rows_of(held.train)
    assert_same(streamed.train.batches(rows), held.train, rows)
    before = workers()
    assert len(before) == 2
    assert_same(streamed.train.batches(rows[3:]), held.train, rows[3:])
    assert workers() == before  # the same processes were reused
    (tmp_path / "pets" / "train" / "dog" / "4.png").write_bytes(b"no picture")
    with pytest.raises(
        InputError, match=r"dog/4\.png: expected a readable image, got a file of another"
    ):
        list(streamed.train.batches(rows))
    assert not workers()


class Unreadable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")  # so that pickle cannot recreate it


class Treacherous:
    def __len__(self):
        return 4

    def __getitem__(self, number):
        if number == 1:
            raise KeyError("gone")
        if number == 2:
            raise Unreadable("one", "two")
        if number == 3:
            os._exit(7)
        return 0.5, number


@pytest.mark.slow
def test_what_happens_to_a_worker_is_told():
    streamed = StreamedSplit(Treacherous())
    worker = Worker(pickle.dumps(streamed.examples))
    try:
        assert worker.read(np.array([0, 0]))[0].tolist() == [0.5, 0.5]
        with pytest.raises(KeyError, match="gone") as caught:
            worker.read(np.array([0, 1]))
        assert "__getitem__" in caught.value.__notes__[0]
        with pytest.raises(RuntimeError, match="Unreadable: one and two"):
            worker.read(np.array([2]))
        with pytest.raises(RuntimeError, match=r"ended with exit code 7: .* `if __name__ =="):
            worker.read(np.array([3]))
    finally:
        worker.kill()
        worker.close()


# What is refused


def test_what_pickle_cannot_write_needs_threads():
    class Local:
        def __len__(self):
            return 1

        def __getitem__(self, number):
            return 0.0, 0

    rows = [np.array([0])]
    assert len(list(StreamedSplit(Local()).batches(rows))) == 1
    message = r"examples: expected an object that can be pickled .* or workers=0, got .*Local"
    with pytest.raises(ValueError, match=message):
        list(StreamedSplit(Local(), workers=1).batches(rows))


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (3, "examples: expected an object with __len__ and __getitem__, got int"),
        ([], "examples: expected at least one example, got none"),
        ({1: 2}, r"example 0: expected \(input, label\) for its number, .*, got KeyError: 0"),
        (
            [(1, 2, 3)],
            r"example 0: expected \(input, label\) .*, or an input alone, got a tuple of 3",
        ),
        ([()], r"example 0: expected \(input, label\) .*, got a tuple of 0"),
        ([{}], "input: expected at least one array, got none"),
        ([({1: 2.0}, 0)], "input: expected names such as 'image', got 1"),
        ([({"image": "a"}, 0)], "input.image of example 0: expected numbers, got <U1"),
        ([(1.0, (0, True))], r"label\[1\] of example 0: expected numbers, got bool"),
        ([None], "input of example 0: expected numbers, got object"),
        ([("a", 0)], "input of example 0: expected numbers, got <U1"),
        ([(0.0, True)], r"label of example 0: expected numbers, got bool\[\]"),
    ],
)
def test_invalid_examples(examples, message):
    with pytest.raises(ValueError, match=message):
        StreamedSplit(examples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers: expected the number of processes, from 0, got -1"),
        ({"workers": True}, "workers: expected the number of processes"),
        ({"prefetch": 0}, "prefetch: expected a positive integer, got 0"),
        ({"classes": 0}, "classes: expected a positive integer, got 0"),
    ],
)
def test_invalid_options(options, message):
    with pytest.raises(ValueError, match=message):
        StreamedSplit([(0.0, 0)], **options)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0]], r"rows: expected arrays of the numbers of examples, integers \[b\], got list"),
        ([np.zeros((1, 1), int)], r"rows: expected arrays .* got int64\[1, 1\]"),
        ([np.array([0.0])], r"rows: expected arrays .* got float64\[1\]"),
        ([np.array([0, 2])], "rows: expected numbers from 0 to 1, got 0 to 2"),
        ([np.array([-1])], "rows: expected numbers from 0 to 1, got -1 to -1"),
    ],
)
def test_invalid_rows(rows, message):
    streamed = StreamedSplit([(0.0, 0), (1.0, 1)])
    for read in (lambda: list(streamed.batches(rows)), lambda: streamed.gather(rows[0])):
        with pytest.raises(ValueError, match=message):
            read()
    assert not readers()


def test_examples_are_of_one_shape_and_dtype():
    pixels = np.zeros((2, 2), np.uint8)
    streamed = StreamedSplit([(pixels, 0), (pixels[:1], 0), (pixels, np.int16(0)), (pixels, 0)])
    message = r"input of example 1: expected uint8\[2, 2\], as that of example 0, got uint8\[1, 2\]"
    with pytest.raises(ValueError, match=message):
        list(streamed.batches([np.array([0, 1])]))
    with pytest.raises(ValueError, match=r"label of example 2: expected int32\[\], as .* int16"):
        list(streamed.batches([np.array([3, 2])]))
    message = r"examples from number 1: expected uint8\[2, 2\], as example 0, got uint8\[1, 2\]"
    with pytest.raises(ValueError, match=message):
        list(streamed.batches([np.array([1])]))


def test_labels_are_looked_at_as_they_pass():
    streamed = StreamedSplit([(0.0, 0), (0.0, 1), (0.0, 2), (0.0, -1)])
    assert [len(numbers) for _, numbers in streamed.batches([np.array([2, 0])])] == [2]
    with pytest.raises(ValueError, match="label of example 3: expected class numbers from 0, got"):
        list(streamed.batches([np.array([2, 3])]))
    named = Dataset("three", streamed, streamed, class_names=("a", "b"))
    assert (named.num_classes, named.train.classes) == (2, 2)
    with pytest.raises(
        ValueError, match="label of example 2: expected class numbers from 0 to 1, got 2"
    ):
        list(named.test.batches([np.array([1, 2])]))


def test_a_data_set_checks_streamed_splits_as_those_in_memory():
    floats, numbers = StreamedSplit([(0.0, 0.5)]), StreamedSplit([(0.0, 1)])
    held = Split(np.zeros(1, np.float32), np.ones(1, np.int32))
    mixed = Dataset("mixed", numbers, held)
    assert mixed.spec == held.spec == numbers.spec
    assert Dataset("values", floats, floats).num_classes is None
    assert Dataset("numbers", StreamedSplit(held), held).num_classes == 2
    with pytest.raises(ValueError, match="class_names: expected the classes' names, as the labels"):
        _ = mixed.num_classes
    with pytest.raises(ValueError, match=r"test labels: expected int32\[\] for each example"):
        Dataset("mixed", numbers, floats)
    with pytest.raises(ValueError, match="class_names: expected None, as the labels are not int"):
        Dataset("values", floats, floats, class_names=("a",))


def test_what_needs_memory_says_so():
    streamed = StreamedSplit([(0.0, 0.5)])
    message = "got a streamed split of 1 examples; load it without streaming=True"
    for what in (
        lambda: streamed.inputs,
        lambda: streamed.labels,
        lambda: in_memory(streamed),
        lambda: standardize(Dataset("values", streamed, streamed)),
    ):
        with pytest.raises(ValueError, match=f"split: expected a split whose .* {message}"):
            what()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"streaming": 1}, "streaming: expected True or False, got 1"),
        ({"workers": 2}, "workers: expected 0, unless streaming=True, got 2"),
        ({"streaming": True, "workers": -1}, "workers: expected an integer >= 0, got -1"),
        ({"streaming": True, "standardize": True}, "standardize: expected False with streaming="),
        ({"streaming": True, "train": "valid"}, "train: expected a split of train, test, got"),
    ],
)
def test_load_refuses_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        load("linear", **options)


def packed_idx(folder):
    write_idx(folder, packed=True)


def packed_arrays(folder):
    np.savez_compressed(folder / "spots.npz", **arrays())


def columns_first(folder):
    np.savez(folder / "spots.npz", x=np.asfortranarray(np.zeros((4, 3))), y=np.zeros(4))


def table(folder):
    (folder / "spots.csv").write_text("a,label\n1,0\n2,1\n3,0\n")


@pytest.mark.parametrize(
    ("write", "name", "message"),
    [
        (packed_idx, "kmnist", "uncompressed IDX files, as gunzip makes, got IDX files in"),
        (
            lambda folder: write_cifar10(folder, layout="pickle"),
            "cifar10",
            "CIFAR's binary version, whose images can be read one by one, got pickles in",
        ),
        (
            packed_arrays,
            "spots",
            r"uncompressed arrays in C order, in .npy files or by np\.savez, got",
        ),
        (columns_first, "spots", "uncompressed arrays in C order, "),
        (
            table,
            "spots",
            r"arrays, in \.npy files or by np\.savez, instead of a table, got the",
        ),
    ],
)
def test_what_cannot_be_streamed_says_what_could(tmp_path, write, name, message):
    write(tmp_path)
    assert load(name, data_dir=tmp_path).train
    with pytest.raises(ValueError, match=f"streaming: expected {message}"):
        load(name, data_dir=tmp_path, streaming=True)


def test_arrays_that_are_streamed_are_never_read_whole(tmp_path, monkeypatch):
    x, y = images(6, (28, 28)), labels(6)
    np.savez(tmp_path / "kmnist.npz", x_train=x, y_train=y, x_test=x[:2], y_test=y[:2])
    monkeypatch.delattr(np, "load")
    streamed = load("kmnist", data_dir=tmp_path, streaming=True)
    assert streamed.train.gather(np.array([4]))[0].tobytes() == x[4].tobytes()
    with pytest.raises(AttributeError):
        load("kmnist", data_dir=tmp_path)


def test_texts_are_not_streamed():
    with pytest.raises(ValueError, match="streaming: expected None, as names is a data set"):
        load("names", streaming=True)


# Damage


def test_a_file_cut_short_under_way_is_named(tmp_path):
    streamed = load(**written(tmp_path, "idx"), streaming=True)
    path = tmp_path / "KMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[: 16 + 12 * 784 + 5])
    assert len(list(streamed.train.batches([np.array([11, 3])]))) == 1
    message = rf"{path.name}, record 12: expected 784 bytes, got 5 bytes \(truncated\)"
    with pytest.raises(ValueError, match=message):
        list(streamed.train.batches([np.array([3, 10, 11, 12, 13])]))


def test_a_damaged_file_is_named_before_anything_is_read(tmp_path):
    place = written(tmp_path, "npy")
    path = tmp_path / "spots" / "x_test.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    bytes_ = rf"{len(content)} bytes for uint8\[8, 3, 6, 5\], got {len(content) - 1}"
    with pytest.raises(ValueError, match=rf"x_test\.npy: expected {bytes_}"):
        load(**place, streaming=True)
    path.write_bytes(b"no array")
    with pytest.raises(ValueError, match=r"x_test\.npy: expected an undamaged \.npy file, got"):
        load(**place)


def test_a_label_out_of_range_is_named_with_its_file(tmp_path):
    place = written(tmp_path, "cifar")
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_2.bin"
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(10, -1).copy()
    records[4, 0] = 10
    path.write_bytes(records.tobytes())
    streamed = load(**place, streaming=True).train
    with pytest.raises(
        ValueError, match=r"data_batch_2\.bin: expected labels from 0 to 9, got 10 for image 4"
    ):
        list(streamed.batches([np.array([3, 14])]))


def test_a_damaged_prepared_set_is_named(tmp_path):
    place = written(tmp_path, "tfds")
    streamed = load(**place, streaming=True).train
    (path,) = (tmp_path / "tiny_pictures" / "1.0.0").glob("*train*")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"1\.0\.0, example 3 of train: expected an undamaged ex"):
        list(load_again(streamed).batches([np.array([3])]))


def load_again(streamed):
    """The same split as in a worker: without open files."""
    again = object.__new__(StreamedSplit)
    again.__dict__ |= streamed.__dict__
    again.examples = pickle.loads(pickle.dumps(streamed.examples))
    return again


def test_an_image_that_has_another_size_now_is_named(tmp_path):
    streamed = load(**written(tmp_path, "images"), streaming=True).train
    path = tmp_path / "pets" / "train" / "cat" / "0.png"
    path.unlink()
    write_images(tmp_path / "other", {"cat": 1}, size=(9, 6))
    (tmp_path / "other" / "cat" / "0.png").rename(path)
    with pytest.raises(ValueError, match=r"cat/0\.png: expected an image of 8×6 pixels, got 9×6"):
        list(streamed.batches([np.arange(20)]))


def test_records_in_a_row_are_read_at_once_and_others_one_by_one(tmp_path):
    content = np.arange(60, dtype=">i2").reshape(10, 3, 2)
    (tmp_path / "a").write_bytes(b"head" + content.tobytes())
    records = Records(tmp_path / "a", 4, (10, 3, 2), content.dtype)
    for rows in ([4], [0, 1, 2, 9], [9, 8, 7], [5, 5, 6], list(range(10))):
        got = records.gather(np.array(rows))
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, content[rows])
    assert len(RecordPairs(records, records).known_labels()) == 10
    with pytest.raises(ValueError, match=r"a: expected 136 bytes for >i2\[11, 3, 2\], got 124"):
        Records(tmp_path / "a", 4, (11, 3, 2), content.dtype)


def test_records_beyond_two_gigabytes_are_found(tmp_path):
    with open(tmp_path / "a", "wb") as file:  # a sparse file with data only at its end
        file.seek(2999 * 2**20)
        file.write(bytes([7]) * 2**20)
    records = Records(tmp_path / "a", 0, (3000, 2**20), np.dtype(np.uint8))
    got = records.gather(np.array([2999, 0], np.int32))
    assert got[:, 5].tolist() == [7, 0]


def test_idx_files_of_any_element_are_read_where_they_lie(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    (tmp_path / "a").write_bytes(idx.encode(array))
    np.testing.assert_array_equal(
        idx.records(tmp_path / "a").gather(np.array([2, 0])), array[[2, 0]]
    )
    (tmp_path / "a").write_bytes(gzip.compress(idx.encode(array)))
    assert idx.records(tmp_path / "a") is None
    (tmp_path / "a").write_bytes(idx.encode(np.array(3, np.uint8)))
    with pytest.raises(ValueError, match=r"a: expected an array with a batch axis, got uint8\[\]"):
        idx.records(tmp_path / "a")

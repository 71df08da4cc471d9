"""Paths instead of names of data sets: files and folders in every layout."""

import os
from pathlib import Path

import numpy as np
import pytest

from jaxnets.data import files, load
from jaxnets.data.loading import path_of
from tests.data_files import images, labels, write_cifar10, write_idx, write_images


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    monkeypatch.setattr(files, "system_root", lambda name: None)


def table(path, rows=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a,kind\n" + "".join(f"{k},{'xy'[k % 2]}\n" for k in range(rows)))


def arrays(folder):
    folder.mkdir(parents=True)
    for name, array in (("x", images(6, (5, 4))), ("y", labels(6, 2))):
        np.save(folder / f"{name}.npy", array)


def npz(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, x=images(6, (5, 4)), y=labels(6, 2))


def text(path, letters="abcdefgh"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(letters[:k] * 20 for k in range(1, len(letters))) * 20)


def names(folder):
    for language in ("Irish", "Czech"):
        text(folder / f"{language}.txt")


LAYOUTS = {
    "a table": (lambda top: table(top / "pets.csv"), "pets.csv", "pets", 2),
    "tables": (
        lambda top: (table(top / "pets" / "train.csv"), table(top / "pets" / "test.csv", 4)),
        "pets",
        "pets",
        2,
    ),
    "a folder with one table": (lambda top: table(top / "pets" / "all.csv"), "pets", "pets", 2),
    "npz": (lambda top: npz(top / "spots.npz"), "spots.npz", "spots", 2),
    "npy": (lambda top: arrays(top / "spots"), "spots", "spots", 2),
    "a file of npy": (lambda top: arrays(top / "spots"), "spots/x.npy", "x", 2),
    "images": (
        lambda top: write_images(top / "pets", {"cat": 5, "dog": 5}),
        "pets",
        "pets",
        2,
    ),
    "idx": (lambda top: write_idx(top / "digits"), "digits", "digits", 10),
    "idx in raw": (lambda top: write_idx(top / "digits" / "raw"), "digits", "digits", 10),
    "torchvision's": (lambda top: write_idx(top / "MNIST" / "raw"), "MNIST", "mnist", 10),
    "torchvision's raw": (lambda top: write_idx(top / "MNIST" / "raw"), "MNIST/raw", "mnist", 10),
    "a file of idx": (
        lambda top: write_idx(top / "digits"),
        "digits/train-images-idx3-ubyte",
        "train-images-idx3-ubyte",
        10,
    ),
    "cifar": (
        lambda top: write_cifar10(top / "cifar-10-batches-bin", layout="binary", count=4),
        "cifar-10-batches-bin",
        "cifar10",
        10,
    ),
    "cifar's pickles elsewhere": (
        lambda top: write_cifar10(top / "things", layout="pickle", count=4),
        "things/data_batch_1",
        "data_batch_1",
        4,
    ),
    "text": (lambda top: text(top / "play.txt"), "play.txt", "play", None),
    "a folder of text": (lambda top: text(top / "play" / "input.txt"), "play", "input", None),
    "names": (lambda top: names(top / "people"), "people", "names", 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_path_is_loaded_whatever_lies_there(tmp_path, monkeypatch, layout):
    write, path, name, classes = LAYOUTS[layout]
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    for given in (str(tmp_path / path), tmp_path / path, f"./{path}", Path(path)):
        data = load(given)
        assert data.name == name
        assert len(data.train) > 0
        assert classes is None or data.num_classes == classes


def test_a_path_begins_at_home_or_in_the_folder_given(tmp_path, monkeypatch):
    table(tmp_path / "pets.csv")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("~/pets.csv").name == "pets"
    assert load("pets.csv", data_dir=tmp_path).origin == f"the table {tmp_path / 'pets.csv'}"
    assert load("pets.csv", data_dir=tmp_path / "pets.csv").encoder.inputs == ("a",)


def test_a_known_sets_path_that_holds_another_keeps_its_own(tmp_path):
    write_images(tmp_path / "cifar10", {"cat": 5, "dog": 5}, size=(9, 9))
    data = load(tmp_path / "cifar10")
    assert (data.name, data.class_names) == ("cifar10", ("cat", "dog"))


def test_a_path_is_streamed_and_split_like_a_name(tmp_path):
    npz(tmp_path / "spots.npz")
    data = load(tmp_path / "spots.npz", train="train[:4]", test="train[4:]", streaming=True)
    assert (len(data.train), len(data.test)) == (4, 2)


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("/none/pets.csv", {}, "name: expected an existing file or folder, got '/none/pets.csv'"),
        ("./none", {}, "name: expected an existing file or folder, got './none'"),
        ("none.csv", {}, "name: expected an existing file or folder, got 'none.csv'"),
        (Path("none"), {}, "name: expected an existing file or folder, got 'none'"),
        ("/" + "x" * 300, {}, "name: expected an existing file or folder, got '/xxx"),
        ("/a\0b", {}, "name: expected an existing file or folder"),
        (".", {}, r"name: expected a file or folder with IDX files, .*, or texts, got '\.'"),
        ("./notes.pdf", {}, "name: expected a file or folder with IDX files"),
        ("./play.txt", {"label": "a"}, "label: expected None, as text is a data set of texts"),
        ("./play.txt", {"drop": "a"}, "drop: expected None, as text is a data set of texts"),
        ("./pets.csv", {"source": "tfds"}, "source: expected None or 'files', as the name is a p"),
    ],
)
def test_a_path_without_a_set_is_one_sentence(tmp_path, monkeypatch, path, options, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "pets.csv")
    text(tmp_path / "play.txt")
    table(tmp_path / "more.csv")
    (tmp_path / "notes.pdf").write_bytes(b"no data")
    with pytest.raises(ValueError, match=message):
        load(path, **options)


@pytest.mark.parametrize("name", ["mnist", "pets", "emnist/letters", "", " ", "http://a/b.csv"])
def test_a_name_is_no_path(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "pets").mkdir()
    assert path_of(name) is None
    (tmp_path / "emnist" / "letters").mkdir(parents=True)
    assert path_of(os.path.join("emnist", "letters")) == Path("emnist/letters")

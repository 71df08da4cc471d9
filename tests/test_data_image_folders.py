"""Folders of images: layouts, sizes, ignored files, hostile files."""

import contextlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxnets.arrays import InputError
from jaxnets.data import files, image_files, load
from jaxnets.data.image_files import read_image


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "prepared"))
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")


def write(folder, *names, size=(4, 3)):
    """Writes an image at each name; a trailing slash means an empty folder, .txt a text file."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if name.endswith(".txt") or path.name in ("Thumbs.db", "._1.png"):
            path.write_text("no image")
        elif not name.endswith("/"):
            number = sum(name.encode()) % 256
            kind = "PNG" if path.suffix.lower() in (".png", ".heic") else None
            kind = "JPEG" if path.suffix == ".jfif" else kind
            Image.new("RGB", size, (number, 0, 0)).save(path, kind)
    return folder


def counts(data):
    """How many images each class has, training and test together."""
    labels = np.concatenate([data.train.labels, data.test.labels])
    return dict(zip(data.class_names, np.bincount(labels).tolist(), strict=True))


DIRECT = ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (DIRECT, {"cat": 2, "dog": 2}),
        ((*DIRECT, "emu/1.jfif", "emu/2.JFIF.PNG"), {"cat": 2, "dog": 2, "emu": 2}),
        (("cat/1.JPG", "cat/2.Jpeg", "dog/1.jpe", "dog/2.tif"), {"cat": 2, "dog": 2}),
        # one level deeper, and next to images directly in the folder
        ((*DIRECT, "ant/a/1.png", "ant/b/1.png"), {"ant": 2, "cat": 2, "dog": 2}),
        ((*DIRECT, "cat/more/1.png", "cat/a/b/c/d/1.png"), {"cat": 4, "dog": 2}),
        (("cat/a/1.png", "cat/b/1.png", "dog/c/1.png", "dog/2.png"), {"cat": 2, "dog": 2}),
        (("cat/a/1.png", "cat/b/1.png", "dog/a/1.png", "dog/b/1.png"), {"cat": 2, "dog": 2}),
        # classes with the names of splits
        (("train/1.png", "train/2.png", "bus/1.png", "bus/2.png"), {"bus": 2, "train": 2}),
        (
            ("train/1.png", "train/2.png", "test/1.png", "val/1.png", "bus/1.png", "bus/a/2.png"),
            {"bus": 2, "test": 1, "train": 2, "val": 1},
        ),
        (("train/1.png", "train/old/2.png", "bus/1.png", "bus/2.png"), {"bus": 2, "train": 2}),
        # files of operating systems
        (
            (*DIRECT, "__MACOSX/cat/._1.png", ".hidden/1.png", "cat/Thumbs.db", "dog/._1.png"),
            {"cat": 2, "dog": 2},
        ),
        # an enclosing folder, as in archives
        (("pets/cat/1.png", "pets/cat/2.png", "pets/dog/1.png", "pets/dog/2.png"), None),
    ],
)
def test_classes_are_those_of_torchvision(tmp_path, names, expected):
    data = load("these", data_dir=write(tmp_path / "set", *names), test_fraction=0.5)
    assert counts(data) == (expected or {"cat": 2, "dog": 2})


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Train", "Test"),
        ("TRAIN", "VAL"),
        ("Training", "Validation"),
        ("training_set/training_set", "test_set/test_set"),
        ("pets/train", "pets/valid"),
    ],
)
@pytest.mark.parametrize("inside", ["", "images/", "a/b/"])
def test_splits_in_any_case_of_letters(tmp_path, train, test, inside):
    write(tmp_path / "set" / train, *(f"{name}/{inside}{k}.png" for name in "ab" for k in range(3)))
    write(tmp_path / "set" / test, f"a/{inside}1.png", f"b/{inside}1.png", f"b/{inside}2.png")
    data = load("these", data_dir=tmp_path / "set")
    assert data.class_names == ("a", "b")
    assert np.bincount(data.train.labels).tolist() == [3, 3]
    assert np.bincount(data.test.labels).tolist() == [1, 2]


TRAIN = ("train/cat/1.png", "train/dog/1.png")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((*DIRECT, "cow/"), "cow: expected images of the class cow, got none$"),
        ((*DIRECT, "cow/a/"), "cow: expected images of the class cow, got none$"),
        ((*DIRECT, "cow/1.heic"), r"the class cow, got only cow/1\.heic, of unknown format"),
        ((*TRAIN, "train/cow/"), "train/cow: expected images of the class cow, got none"),
        ((*TRAIN, "test/cat/1.png", "test/dog/"), "test/dog: expected images of the class dog"),
        ((*TRAIN, "test/Cat/1.png"), "test: expected classes of .*train, .* cat, dog, got Cat"),
        ((*TRAIN, "test/"), "test: expected a subfolder of images for each class, got none"),
        ((*TRAIN, "Train/cat/1.png"), "expected one folder of train images, got Train and train"),
        ((*TRAIN, "val/cat/1.png", "valid/cat/1.png"), "of validation images, got val and valid"),
        (("Train/1.png", "Train/2.png"), "expected train/CLASS/IMAGE or .*, got images in Train"),
        (("train/1.png", "test/1.png"), "expected train/CLASS/IMAGE or .*, got images in test, tr"),
        (("test/cat/1.png", "val/cat/1.png"), "CLASS/IMAGE, got images in test, val"),
        (
            (*TRAIN, "bus/1.png"),
            "expected classes, or train .*load .*train for .*bus next to train",
        ),
        (
            ("1.png", "2.png"),
            "name: expected .* or a subfolder of images or WAV files for each class.*, got 'these'",
        ),
        (
            ("cat/", "dog/"),
            "name: expected .* or a subfolder of images or WAV files for each class.*, got 'these'",
        ),
    ],
)
def test_what_has_no_clear_classes_is_refused(tmp_path, names, message):
    with pytest.raises(ValueError, match=message):
        load("these", data_dir=write(tmp_path / "set", *names))


@pytest.mark.parametrize(
    ("names", "expected", "message"),
    [
        (
            (*DIRECT, "cat/1.heic", "dog/a.txt", "dog/b.txt", "dog/c.txt", "dog/d.txt"),
            {"cat": 2, "dog": 2},
            r"cat/1\.heic, dog/a\.txt, dog/b\.txt and 2 more, of unknown format$",
        ),
        (
            (*TRAIN, "train/cat/2.png", "train/dog/2.png", "1.png", "readme.txt"),
            {"cat": 2, "dog": 2},
            r"set/1\.png, outside the class folders$",
        ),
        ((*DIRECT, "1.png"), {"cat": 2, "dog": 2}, r"set/1\.png, outside the class folders$"),
        (
            (*TRAIN, "train/1.png", "val/cat/1.png"),
            {"cat": 2, "dog": 1},
            r"train/1\.png, outside the class folders; dog in val, which has no such folders$",
        ),
        (
            (*TRAIN, "train/cat/2.png", "train/dog/2.png", "test/1.png"),
            {"cat": 2, "dog": 2},
            "test, whose images have no classes$",
        ),
        (
            (*TRAIN, "val/cat/1.png", "val/dog/1.png", "test/images/1.png", "unsup/1.png"),
            {"cat": 2, "dog": 2},
            "the folder unsup; test, whose images have no classes$",
        ),
    ],
)
def test_what_is_left_out_is_named(tmp_path, names, expected, message):
    folder = write(tmp_path / "set", *names)
    with pytest.warns(UserWarning, match=f"images in {folder}: left out .*{message}"):
        data = load("these", data_dir=folder, test_fraction=0.5)
    assert counts(data) == expected


def test_tiny_imagenets_layout(tmp_path):
    folder = tmp_path / "tiny-imagenet-200"
    write(folder, *(f"train/{name}/images/{name}_{k}.png" for name in ("n1", "n2") for k in (0, 1)))
    write(folder, "val/images/val_0.png", "val/images/val_1.png", "val/images/val_2.png")
    write(folder, "train/n1/n1_boxes.txt", "test/images/test_0.png")
    annotations = folder / "val" / "val_annotations.txt"
    annotations.write_text("val_0.png\tn2\t0\t1\t2\t3\nval_1.png\tn1\t0\t0\t0\t0\nval_2.png\tn2\n")
    left_out = r"left out n1/n1_boxes\.txt, of unknown format; test, whose images have no classes"
    with pytest.warns(UserWarning, match=left_out):
        data = load(folder)
    assert data.class_names == ("n1", "n2")
    assert np.bincount(data.train.labels).tolist() == [2, 2]
    reds = {
        sum(f"val/images/val_{k}.png".encode()) % 256: label for k, label in enumerate((1, 0, 1))
    }
    assert [reds[red] for red in data.test.inputs[:, 0, 0, 0]] == data.test.labels.tolist()
    for line, message in [
        (
            "val_0.png",
            r"annotations\.txt, line 1: expected an image in .*images, a tab, and its cl",
        ),
        (
            "../../train/n1/images/n1_0.png\tn1",
            "expected an image in .*images, a tab, and its class",
        ),
        ("val_9.png\tn1", "a tab, and its class, got 'val_9.png"),
        ("val_0.png\tn3", "val: expected classes of .*train, which are n1, n2, got n3"),
    ]:
        annotations.write_text(line)
        with pytest.raises(ValueError, match=message):
            load(folder)


def test_links_are_followed_and_circles_are_not(tmp_path):
    folder = write(tmp_path / "set", *DIRECT)
    write(tmp_path / "elsewhere", "1.png", "2.png", "deep/3.png")
    (folder / "emu").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(folder / "emu")
    (folder / "cat" / "3.png").symlink_to(folder / "dog" / "1.png")
    data = load("these", data_dir=folder, test_fraction=0.3)
    assert counts(data) == {"cat": 3, "dog": 2, "emu": 3}
    (folder / "dog" / "9.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match=r"dog/9\.png: expected a readable image, got no such file"
    ):
        load("these", data_dir=folder)


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path):
    folder = write(tmp_path / "set", *DIRECT)
    os.mkfifo(folder / "dog" / "9.png")
    with pytest.raises(ValueError, match=r"dog/9\.png: expected a readable image, .*a special"):
        load("these", data_dir=folder)


def test_folders_around_sets_are_not_taken_for_a_known_set(tmp_path):
    write(tmp_path / "pets", *DIRECT)
    write(tmp_path / "flowers", "rose/1.png", "tulip/1.png")
    with pytest.raises(ValueError, match="name: expected files"):
        load("kmnist", data_dir=tmp_path)


def test_a_folder_with_other_things_is_not_taken_for_a_known_set(tmp_path):
    write(tmp_path / "all", "figures/1.png", "notes/", "mine/cat/1.png", "mine/dog/")
    with pytest.raises(ValueError, match="name: expected files .*set prepared in"):
        load("kmnist", data_dir=tmp_path / "all")
    with pytest.raises(ValueError, match="data_dir: expected files .*; without data_dir mnist"):
        load("mnist", data_dir=tmp_path / "all")
    with pytest.raises(ValueError, match="expected images of the class mine|class notes"):
        load("other", data_dir=tmp_path / "all")
    write(tmp_path / "all", "kmnist/a/1.png", "kmnist/b/")
    for name, data_dir in [
        ("mine", "all"), ("mine", "all/mine"), ("kmnist", "all"), ("kmnist", "all/kmnist"),
    ]:  # fmt: skip
        with pytest.raises(
            ValueError, match=r"(dog|b): expected images of the class \w+, got none"
        ):
            load(name, data_dir=tmp_path / data_dir)


# Sizes


def drawn(path, size, mode="RGB"):
    """An image of random pixels, of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(size).integers(256, size=(*size[::-1], *channels))
    Image.fromarray(pixels.astype(np.uint8), mode).save(path)
    return Image.open(path)


@pytest.mark.parametrize(("size", "shape"), [(6, (6, 6)), ((5, 8), (5, 8)), ([5, 8], (5, 8))])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_size_is_that_of_every_image(tmp_path, size, shape, streaming):
    sizes = {"a": [(12, 9), (6, 6), (7, 30), (3, 2)], "b": [(40, 6), (8, 5), (1, 1), (20, 20)]}
    expected = {}
    for name, each in sizes.items():
        for width, height in each:
            image = drawn(tmp_path / "set" / name / f"{width}x{height}.png", (width, height))
            fitted = ImageOps.fit(image, shape[::-1], Image.Resampling.BILINEAR)
            expected[np.asarray(fitted).tobytes()] = "ab".index(name)
            if (height, width) == shape:
                assert np.array_equal(fitted, image)
    data = load("these", data_dir=tmp_path / "set", size=size, streaming=streaming)
    assert data.spec.inputs.shape == (*shape, 3)
    for split in (data.train, data.test):
        pixels, labels = split.gather(np.arange(len(split)))
        for image, label in zip(pixels, labels, strict=True):
            assert expected.pop(image.tobytes()) == label
    assert not expected


def test_a_path_takes_a_size_and_names_what_is_left_out(tmp_path):
    folder = write(tmp_path / "set", *DIRECT, "cat/a.heic")
    write(folder, "dog/3.png", size=(9, 9))
    for name in (folder, str(folder)):
        with pytest.warns(UserWarning, match=r"left out cat/a\.heic"):
            data = load(name, size=5, test_fraction=0.4)
        assert data.spec.inputs.shape == (5, 5, 3)
        assert counts(data) == {"cat": 2, "dog": 3}
    with pytest.raises(ValueError, match="size= resizes all of them"):
        load(folder)


def test_images_of_several_sizes_without_a_size_say_the_remedy(tmp_path):
    write(tmp_path / "set", *DIRECT)
    write(tmp_path / "set", "dog/3.png", size=(4, 4))
    with pytest.raises(ValueError, match="4×3 pixels, as .*, got 4×4; size= resizes all of"):
        load("these", data_dir=tmp_path / "set")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "size: expected a positive integer, got 0"),
        ("32", "size: expected a positive integer, got 32"),
        ((3, 4, 5), r"size: expected a positive integer, or two: height and width, got \(3, 4, 5"),
        ((3, 2.5), "size: expected a positive integer, got 2.5"),
        (True, "size: expected a positive integer, got True"),
        (10_000, "size: expected at most 67,108,864 pixels, got 10000×10000"),
    ],
)
def test_a_bad_size_is_refused(tmp_path, size, message):
    with pytest.raises(ValueError, match=message):
        load("these", data_dir=write(tmp_path / "set", *DIRECT), size=size)


def test_a_size_is_for_folders_of_images_alone():
    for name in ("linear", "mnist"):
        with pytest.raises(ValueError, match=rf"size: expected None, as {name} \(bundled .*folder"):
            load(name, size=8)


# Hostile files


@pytest.mark.parametrize("size", [None, 4])
def test_no_format_that_starts_other_programs_is_opened(tmp_path, monkeypatch, size):
    from PIL import EpsImagePlugin

    def refuse(*arguments, **options):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", refuse)
    folder = write(tmp_path / "set", *DIRECT)
    (folder / "dog" / "3.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\nshowpage\n"
    )
    with pytest.raises(
        ValueError, match=r"3\.png: expected a readable image, got a file of another"
    ):
        load("these", data_dir=folder, size=size)
    with pytest.raises(ValueError, match="expected a readable image, got a file of another"):
        read_image(folder / "dog" / "3.png", (3, 4, 3), fit=size is not None)


def chunk(kind, content):
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def write_bomb(path, width, height):
    """A PNG file whose header declares a large image, without its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content + chunk(b"IEND", b""))
    return path


def test_an_image_of_another_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    from PIL import ImageFile

    path = write_bomb(tmp_path / "bomb.png", 8000, 8000)

    def refuse(image):
        raise AssertionError("the pixels were read")

    monkeypatch.setattr(ImageFile.ImageFile, "load", refuse)
    with pytest.raises(ValueError, match=r"bomb\.png: expected an image of 4×3 .*, got 8000×8000"):
        read_image(path, (3, 4, 3))
    write_bomb(path, 8192, 8193)
    for fit in (False, True):
        message = r"bomb\.png: expected an image of at most 67,108,864 pixels, got 8192×8193"
        with pytest.raises(ValueError, match=message):
            read_image(path, (3, 4, 3), fit=fit)
    write_bomb(path, 2**31 - 1, 2**31 - 1)
    with pytest.raises(ValueError, match="expected a readable image, got Image size"):
        read_image(path, (3, 4, 3))


def test_a_damaged_image_of_any_format_is_named(tmp_path):
    random = np.random.default_rng(0)
    for ending in (".png", ".jpg", ".bmp", ".gif", ".webp", ".ppm", ".tif"):
        path = tmp_path / f"image{ending}"
        Image.fromarray(random.integers(256, size=(8, 8, 3)).astype(np.uint8)).save(path)
        whole = path.read_bytes()
        assert read_image(path, (8, 8, 3)).shape == (8, 8, 3)
        for _ in range(20):
            damaged = bytearray(whole)
            for place in random.integers(len(whole), size=4):
                damaged[place] = random.integers(256)
            path.write_bytes(bytes(damaged[: random.integers(len(whole))]))
            with contextlib.suppress(InputError):  # no other exception
                assert read_image(path, (8, 8, 3), fit=True).shape == (8, 8, 3)


def test_every_ending_is_one_that_pillow_has_for_its_format():
    Image.init()
    for name, endings in image_files.FORMATS.items():
        assert {Image.EXTENSION[ending] for ending in endings} == {name}


def test_the_library_opens_no_image_without_naming_the_formats():
    root = Path(image_files.__file__).parent.parent
    for path in root.rglob("*.py"):
        for line in path.read_text().splitlines():
            if "Image.open(" in line:
                assert "formats=" in line, path

import gzip
import hashlib
import importlib.util
import io
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from jaxnets import data
from jaxnets.data import idx, mnist

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "build_mnist.py"
BUNDLED = Path(mnist.__file__).with_name("mnist.npz")


@pytest.fixture(scope="module")
def dataset():
    return data.load("mnist")


@pytest.fixture(scope="module")
def arrays(dataset):
    """The loaded arrays as they were published."""
    return {
        "train_images": dataset.train.inputs[..., 0],
        "train_labels": dataset.train.labels.astype(np.uint8),
        "test_images": dataset.test.inputs[..., 0],
        "test_labels": dataset.test.labels.astype(np.uint8),
    }


@pytest.fixture(scope="module")
def originals(arrays, tmp_path_factory):
    """A folder with the four IDX files, the labels compressed."""
    folder = tmp_path_factory.mktemp("originals")
    for member, (name, _) in mnist.ORIGINALS.items():
        content = idx.encode(arrays[member])
        if member.endswith("labels"):
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("build_mnist", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_shapes_and_dtypes(dataset):
    for part, count in ((dataset.train, 60000), (dataset.test, 10000)):
        assert part.inputs.shape == (count, 28, 28, 1)
        assert part.inputs.dtype == np.uint8
        assert part.labels.shape == (count,)
        assert part.labels.dtype == np.int32
    assert dataset.class_names == tuple("0123456789")
    assert dataset.num_classes == 10
    assert dataset.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.parametrize("member", mnist.ORIGINALS)
def test_arrays_are_the_published_ones(arrays, member):
    name, md5 = mnist.ORIGINALS[member]
    assert hashlib.md5(idx.encode(arrays[member])).hexdigest() == md5, name


def test_bundled_file_is_small_and_carries_its_licence():
    assert BUNDLED.stat().st_size <= 12_000_000
    licence = BUNDLED.with_name("mnist.npz.license").read_text()
    assert "SPDX-License-Identifier: CC-BY-SA-3.0" in licence


def test_data_card_states_what_is_measured(dataset):
    card = (ROOT / "docs" / "data-cards" / "mnist.md").read_text()
    for name, md5 in mnist.ORIGINALS.values():
        assert re.search(rf"{name}.*{md5}", card)
    assert hashlib.sha256(BUNDLED.read_bytes()).hexdigest() in card
    assert f"{BUNDLED.stat().st_size:,} bytes" in card
    classes = zip(
        *(np.bincount(part.labels) for part in (dataset.train, dataset.test)), strict=True
    )
    for digit, (train, test) in enumerate(classes):
        assert f"| {digit} | {train:,} | {test:,} |" in card
    parts = np.array_split(dataset.train.inputs, 60)
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in parts)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    std = np.average((values - mean) ** 2, weights=counts) ** 0.5
    assert f"{mean:.6f}" in card
    assert f"{std:.6f}" in card
    assert (round(mean, 4), round(std, 4)) == (0.1307, 0.3081)


def test_script_packs_the_originals_in_the_files_order(
    script, originals, arrays, tmp_path, monkeypatch, capsys
):
    packed = {}
    monkeypatch.setattr(script, "pack", lambda arrays: packed.update(arrays) or b"packed")
    out = tmp_path / "mnist.npz"
    script.main([str(originals), "--out", str(out)])
    assert capsys.readouterr().out == f"wrote {out}: 6 bytes\n"
    assert out.read_bytes() == b"packed"
    with zipfile.ZipFile(BUNDLED) as bundled:
        assert bundled.namelist() == [f"{name}.npy" for name in packed]
    for name, array in arrays.items():  # np.testing would need three times the memory
        assert packed[name].dtype == array.dtype
        assert np.array_equal(packed[name], array)


@pytest.mark.slow
def test_script_reproduces_the_bundled_bytes(script, arrays):
    """Compares the test part, which is last in the file: dates, modes and compressed data."""
    packed = script.pack({name: array for name, array in arrays.items() if "test" in name})
    with zipfile.ZipFile(io.BytesIO(packed)) as ours, zipfile.ZipFile(BUNDLED) as bundled:
        for name in ours.namelist():
            assert ours.read(name) == bundled.read(name)
        begin = bundled.getinfo("test_images.npy").header_offset
        if "zlib-ng" not in zlib.ZLIB_RUNTIME_VERSION:  # which compresses differently
            assert BUNDLED.read_bytes()[begin:].startswith(packed[: ours.start_dir])


def test_script_explains_itself(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    shown = capsys.readouterr().out
    for part in ("IDX_DIR", "--out", "train-images-idx3-ubyte", "mnist.npz", ".gz"):
        assert part in shown


def test_script_refuses_a_folder_without_the_files(script, tmp_path):
    with pytest.raises(SystemExit, match=r"IDX_DIR: expected a folder with train-images.*got"):
        script.main([str(tmp_path)])


def test_script_refuses_files_that_are_not_mnist(script, originals, tmp_path):
    for file in originals.iterdir():
        (tmp_path / file.name).symlink_to(file)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.unlink()
    out = tmp_path / "out.npz"

    labels.write_bytes(gzip.compress(idx.encode(np.zeros(10000, np.uint8))))
    with pytest.raises(SystemExit, match=r"t10k-labels-idx1-ubyte.gz: expected MNIST's file.* got"):
        script.main([str(tmp_path), "--out", str(out)])
    labels.write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(SystemExit, match=r"t10k-labels-idx1-ubyte.gz: expected an undamaged gzip"):
        script.main([str(tmp_path), "--out", str(out)])
    assert not out.exists()


def test_a_missing_file_is_named(tmp_path):
    message = r"nowhere\.npz: expected the MNIST file .*reinstall jaxnets.* got no such file"
    with pytest.raises(ValueError, match=message):
        mnist.read(tmp_path / "nowhere.npz")


def flipped(content, position):
    content = bytearray(content)
    content[position] ^= 0xFF
    return bytes(content)


DAMAGES = {
    "empty": lambda content: b"",
    "page": lambda content: b"<html>not found</html>",
    "half": lambda content: content[: len(content) // 2],
    "cut": lambda content: content[:-1],
    "magic": lambda content: flipped(content, 0),
    "images": lambda content: flipped(content, 5_000_000),
    "end of images": lambda content: flipped(content, 9_630_000),
    "directory": lambda content: flipped(content, -30),
    "encrypted": lambda content: flipped(content, content.rindex(b"PK\x01\x02") + 8),
    "method": lambda content: flipped(content, content.rindex(b"PK\x01\x02") + 10),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "mnist.npz"
    path.write_bytes(damage(BUNDLED.read_bytes()))
    with pytest.raises(ValueError, match=r"mnist\.npz: expected the MNIST file .* got a damaged"):
        mnist.read(path)


def test_a_file_of_other_arrays_is_refused(arrays, tmp_path):
    path = tmp_path / "other.npz"
    np.savez(path, **arrays | {"test_labels": np.zeros(10, np.uint8)})
    with pytest.raises(ValueError, match=r"other.npz: .* got test_labels of uint8\[10\]"):
        mnist.read(path)
    np.savez(path, **arrays | {"train_labels": np.zeros(60000, np.int64)})
    with pytest.raises(ValueError, match=r"other.npz: .* got train_labels of int64\[60000\]"):
        mnist.read(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", b"no array")
    with pytest.raises(ValueError, match=r"other.npz: .* got a damaged file"):
        mnist.read(path)


@pytest.mark.slow
def test_importing_the_data_loads_no_other_framework():
    others = {"tensorflow_datasets", "tensorflow", "torch"}
    command = "import sys, jaxnets.data; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "jaxnets" in loaded
    assert not loaded & others

import gc
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxnets.models import MLP
from jaxnets.training.weights import load_weights, save_weights


def mlp(seed, features=(4, 3, 2)):
    return MLP(features, rngs=nnx.Rngs(seed))


def leaves(model):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model))]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture
def folder(tmp_path):
    save_weights(mlp(0), tmp_path / "weights")
    return tmp_path / "weights"


def test_weights_of_another_network_are_refused_and_all_faults_named(folder):
    model = mlp(0, (4, 5, 2))
    before = leaves(model)
    with pytest.raises(ValueError, match=r"fc1.bias is float32\[3\], not .*\[5\]; fc1.kernel"):
        load_weights(model, folder)
    assert same(before, leaves(model))
    with pytest.raises(ValueError, match=r"fc2.kernel is float32.*, not missing"):
        load_weights(mlp(0, (4, 3)), folder)


def test_a_folder_that_holds_no_weights_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("nowhere", "empty", "file"):
        with pytest.raises(ValueError, match="directory: expected a folder written by save_wei"):
            load_weights(mlp(0), tmp_path / name)


def test_weights_are_not_written_over_anything(folder):
    with pytest.raises(ValueError, match="directory: expected a folder that does not exist yet"):
        save_weights(mlp(0), folder)


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    (tmp_path / f".weights.partial-{int(ended.stdout)}" / "weights").mkdir(parents=True)
    (tmp_path / f".weights.partial-{os.getppid()}").mkdir()  # of a process that is still writing
    (tmp_path / ".weights.partial-notes").mkdir()
    save_weights(mlp(0), tmp_path / "weights")
    left = {f".weights.partial-{os.getppid()}", ".weights.partial-notes", "weights"}
    assert set(os.listdir(tmp_path)) == left


def test_weights_that_cannot_be_written_leave_nothing(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="a folder that can be made, got .*file: File exists"):
        save_weights(mlp(0), tmp_path / "file" / "weights")

    def full(descriptor):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="weights could not be written: No space left on device$"):
        save_weights(mlp(0), tmp_path / "weights")
    assert os.listdir(tmp_path) == ["file"]


def test_a_flipped_bit_anywhere_is_found_and_the_model_stays_as_it_is(folder):
    model = mlp(1)
    before = leaves(model)
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        name = path.relative_to(folder)
        with pytest.raises(ValueError, match=rf"is damaged or has no weights \({name} "):
            load_weights(model, folder)
        path.write_bytes(whole)
    assert same(before, leaves(model))
    load_weights(model, folder)
    assert not same(before, leaves(model))


def test_a_folder_without_a_manifest_still_loads(tmp_path):
    """Earlier versions wrote weights with Orbax alone."""
    model = mlp(1)
    ocp.save(tmp_path / "weights", {
        f"{layer}.{name}": getattr(getattr(mlp(0), layer), name).get_value()
        for layer in ("fc1", "fc2") for name in ("kernel", "bias")
    })  # fmt: skip
    load_weights(model, tmp_path / "weights")
    assert same(leaves(model), leaves(mlp(0)))


def test_a_damaged_list_of_arrays_without_a_manifest_is_refused(folder):
    (folder / "manifest.json").unlink()
    for text in ("{", "{}"):
        (folder / "arrays.json").write_text(text)
        with pytest.raises(ValueError, match="directory: expected a folder written by save_wei"):
            load_weights(mlp(0), folder)


# Orbax abandons its other reads when one fails. Their exceptions are reported when they are garbage
# collected, which must happen here and not during another test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_folder_without_a_manifest_is_refused(tmp_path):
    save_weights(mlp(0, (40, 30, 2)), tmp_path / "weights")
    (tmp_path / "weights" / "manifest.json").unlink()
    other = mlp(1, (40, 30, 2))
    before = leaves(other)
    files = [path for path in (tmp_path / "weights").rglob("*") if path.is_file()]
    biggest = max(files, key=lambda path: path.stat().st_size)
    whole = biggest.read_bytes()
    biggest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="directory: expected a folder written by save_weights"):
        load_weights(other, tmp_path / "weights")
    assert same(before, leaves(other))
    gc.collect()


def test_a_model_without_weights_is_saved_and_loaded(tmp_path):
    class Doubling(nnx.Module):
        def __call__(self, x):
            return x + x

    save_weights(Doubling(), tmp_path / "weights")
    load_weights(Doubling(), tmp_path / "weights")
    assert json.loads((tmp_path / "weights" / "arrays.json").read_text())["shapes"] == {}
    with pytest.raises(ValueError, match="fc1.bias is missing"):
        load_weights(mlp(0), tmp_path / "weights")
    shutil.rmtree(tmp_path / "weights")

import argparse
import collections
import contextlib
import gzip
import io
import os
import pathlib
import pickle
import stat
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from jaxnets.arrays import InputError
from jaxnets.interop import (
    load_torch,
    read_torch,
    save_safetensors,
    save_torch,
    to_numpy,
    to_torch,
)
from jaxnets.models import MLP
from tests import tier

RNGS = nnx.Rngs(0)


def mlp(**options):
    return MLP((3, 4, 2), rngs=RNGS, **options)


def weights(model):
    return {k: v.tobytes() for k, v in to_numpy(model).items()}


def saved_bytes(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


# Reading


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.safetensors", "w"])
@pytest.mark.parametrize("kind", ["torch", "legacy", "checkpoint", "safetensors"])
def test_a_file_is_known_by_its_content(tmp_path, name, kind):
    source, model = mlp(), mlp()
    state = to_torch(source)
    content = {
        "torch": lambda: saved_bytes(state),
        "legacy": lambda: saved_bytes(state, _use_new_zipfile_serialization=False),
        "checkpoint": lambda: saved_bytes(
            {
                "epoch": 3,
                "model_state_dict": {f"module.{k}": v for k, v in state.items()},
                "optimizer": torch.optim.Adam(torch.nn.Linear(2, 2).parameters()).state_dict(),
            }
        ),
        "safetensors": lambda: safetensors.torch.save(dict(state), {"format": "pt"}),
    }[kind]()
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, str(tmp_path / name)):
        report = load_torch(model, path)
        assert weights(model) == weights(source)
        assert report.source == str(path)
        if kind == "checkpoint":
            assert report.wrapping == ("model_state_dict", "module.")
            assert report.aside == ("epoch", "optimizer")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("save", [save_safetensors, save_torch])
def test_written_files_come_back_bit_for_bit(tmp_path, save, dtype):
    source, model = mlp(param_dtype=dtype), mlp(param_dtype=dtype)
    save(source, tmp_path / "weights")
    assert load_torch(model, tmp_path / "weights").conversions == {}
    assert weights(model) == weights(source)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]
    read = safetensors.torch.load_file if save is save_safetensors else torch.load
    twin = read(tmp_path / "weights")
    assert twin.keys() == to_torch(source).keys()
    for name, value in to_torch(source).items():
        assert torch.equal(twin[name], value)


def test_scalars_and_integers_are_written_too(tmp_path):
    model = nnx.BatchNorm(2, rngs=RNGS)
    save_safetensors(model, tmp_path / "w.safetensors")
    found = read_torch(tmp_path / "w.safetensors").arrays
    assert found["num_batches_tracked"].shape == ()
    assert found["num_batches_tracked"].dtype == np.int64
    with safetensors.safe_open(tmp_path / "w.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_safetensors(mlp(), path)
    before = path.read_bytes()

    def fail(arrays, partial, **options):
        Path(partial).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(ValueError, match="path: expected a file that can be written, .*no space"):
        save_safetensors(mlp(), path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    other = mlp()
    save_safetensors(other, path)
    assert list(tmp_path.iterdir()) == [path]
    model = mlp()
    load_torch(model, path)
    assert weights(model) == weights(other)


@pytest.mark.parametrize("save", [save_safetensors, save_torch])
@pytest.mark.parametrize("name", [".", "missing/w.pt"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path, save, name):
    with pytest.raises(ValueError, match="path: expected a file in a folder that exists, got"):
        save(mlp(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_safetensors_need_no_torch(tmp_path):
    source = mlp()
    save_safetensors(source, tmp_path / "in.safetensors")
    code = """
import sys
sys.modules["torch"] = None
from flax import nnx
from jaxnets.interop import load_torch, save_safetensors, to_torch
from jaxnets.models import MLP
from tests import tier
import jax.numpy as jnp
model = MLP((3, 4, 2), rngs=nnx.Rngs(5))
load_torch(model, sys.argv[1])
save_safetensors(model, sys.argv[2])
half = MLP((3, 4, 2), rngs=nnx.Rngs(5), param_dtype=jnp.bfloat16)
save_safetensors(half, sys.argv[2] + ".half")
load_torch(half, sys.argv[2] + ".half")
for needs_torch in (lambda: to_torch(model), lambda: load_torch(model, sys.argv[3])):
    try:
        needs_torch()
    except ImportError as error:
        assert "pip install 'jaxnets[torch]'" in str(error), error
    else:
        raise AssertionError
"""
    save_torch(source, tmp_path / "w.pt")
    files = [tmp_path / "in.safetensors", tmp_path / "out", tmp_path / "w.pt"]
    subprocess.run([sys.executable, "-c", code, *files], check=True)
    model = mlp()
    load_torch(model, tmp_path / "out")
    assert weights(model) == weights(source)


def test_arrays_of_numpy_are_read(tmp_path):
    source, model = mlp(), mlp()
    np.savez(tmp_path / "w.npz", **to_numpy(source))
    assert load_torch(model, tmp_path / "w.npz").loaded
    assert weights(model) == weights(source)


def test_safetensors_come_in_the_order_of_their_header(tmp_path):
    arrays = {f"a{i}": np.full(1, i, np.float32) for i in range(50)}
    safetensors.numpy.save_file(arrays, tmp_path / "w")
    assert list(read_torch(tmp_path / "w").arrays) == sorted(arrays)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_checkpoints_hold_beside_tensors_is_read(tmp_path, legacy):
    source, model = mlp(), mlp()
    before = set(torch.serialization.get_safe_globals())
    history = collections.defaultdict(list)
    history["loss"].append(np.float32(0.5))
    beside = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs/1")),
        "best_acc": np.float64(0.9),
        "classes": np.array(["cat", "dog"]),
        "history": history,
        "order": collections.OrderedDict(a=1),
        "size": torch.ones(2).shape,
        "windows": pathlib.PureWindowsPath("C:/runs"),
    }
    torch.save(
        {"state_dict": to_torch(source)} | beside,
        tmp_path / "w.pt",
        _use_new_zipfile_serialization=not legacy,
    )
    assert load_torch(model, tmp_path / "w.pt").aside == tuple(beside)
    assert weights(model) == weights(source)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("dtype", [">f4", "<f8", "f2", "i8", "?"])
def test_pickled_arrays_are_as_they_were(tmp_path, dtype):
    values = {
        "c": np.arange(6).reshape(2, 3).astype(dtype),
        "f": np.asfortranarray(np.arange(6).reshape(2, 3).astype(dtype)),
        "0": np.ones((), dtype),
    }
    torch.save(values, tmp_path / "w.pt")
    found = read_torch(tmp_path / "w.pt").arrays
    for name, value in values.items():
        assert found[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], value)


class Crafted:
    """A dtype that claims that the numbers of an array are pointers to objects."""

    def __reduce__(self):
        fields = {"a": (np.dtype("i8"), 0)}
        return np.dtype, ("f8", False, True), (3, "<", None, ("a",), fields, 8, 8, 63)


class CraftedArray:
    def __reduce__(self):
        make, arguments, (version, shape, _, order, content) = np.ones(3).__reduce__()
        return make, arguments, (version, shape, Crafted(), order, content)


def test_a_crafted_dtype_is_not_believed(tmp_path):
    torch.save({"a": CraftedArray()}, tmp_path / "w.pt")
    found = read_torch(tmp_path / "w.pt").arrays["a"]
    assert (found.dtype, found.dtype.names, found.dtype.hasobject) == (np.float64, None, False)
    np.testing.assert_array_equal(found, np.ones(3))


def test_files_without_checksums_are_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        save_torch(mlp(), tmp_path / "w.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    load_torch(mlp(), tmp_path / "w.pt")


@pytest.mark.parametrize("save", [save_safetensors, save_torch])
def test_written_files_have_the_usual_mode(tmp_path, save):
    (tmp_path / "usual").touch()
    save(mlp(), tmp_path / "w")
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "w").chmod(0o640)
    save(mlp(), tmp_path / "w")
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o640


# Files that are not what they should be


class Touch:
    """Unpickling it makes a file, as a malicious checkpoint would run its code."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def torchscript():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    return buffer.getvalue()


def float8():
    value = torch.ones(2).to(torch.float8_e4m3fn)
    return safetensors.torch.save({"a": value})


def with_bad_header():
    return (20).to_bytes(8, "little") + b'{"a": nonsense}     ' + b"\0" * 8


STATE = saved_bytes(torch.nn.Linear(2, 2).state_dict())
TENSORS = safetensors.torch.save(torch.nn.Linear(2, 2).state_dict())
INSTEAD = r"save model\.state_dict\(\) instead"
TRUST = r"if you trust the file: load_torch\(model, torch.load\(path, weights_only=False\)\)"
INDEX = b'{"weight_map": {"a": "model-1.safetensors"}}'
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
DAMAGED = "which is damaged or incomplete"
NO_CHECKPOINT = "which is damaged, incomplete or no checkpoint"


def flipped(content):
    place = content.index(b"\x80\x3f")  # in the bytes of a 1.0
    return content[:place] + b"\x81" + content[place + 1 :]


def archive(**records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in records.items():
            file.writestr(name, content)
    return buffer.getvalue()


def objects():
    buffer = io.BytesIO()
    np.savez(buffer, a=np.array([{}], object))
    return buffer.getvalue()


BAD = {
    "empty": (b"", "which is empty"),
    "text": (
        b"epoch,loss\n1,0.5\n",
        r"which begins with 'epoch,loss\\n1,0.5\\n' and looks like no",
    ),
    "one byte": (b"P", "which begins with 'P' and looks like nothing known"),
    "web page": (b"\n<!DOCTYPE html><html>404", "begins with .*DOCTYPE.* looks like a web page"),
    "Git LFS": (LFS, "begins with 'version https://git-lfs.* a pointer of Git LFS: run `git lfs"),
    "gzip": (gzip.compress(STATE), "looks like a gzip archive: unpack it first"),
    "index": (INDEX, 'begins with \'{"weight_map".* JSON: of an index, load the files that it'),
    "truncated zip": (STATE[:700], DAMAGED),
    "cut at the end": (STATE[:-30], DAMAGED),
    "a flipped byte": (
        flipped(saved_bytes({"weight": torch.ones(100)})),
        r"is damaged: the checksum of its record \S+/data/0 is wrong",
    ),
    "bad name": (STATE.replace(b"weight", b"\xff\xffight"), "which is damaged"),
    "zip alone": (b"PK\x03\x04", DAMAGED),
    "another zip": (archive(notes="text"), "which is a zip archive of notes"),
    "pickle": (pickle.dumps({"a": 1}), NO_CHECKPOINT),
    "npz of objects": (objects(), "which is damaged or holds more than plain arrays"),
    "tensor": (saved_bytes(torch.ones(3)), "a state_dict: .*, which holds a Tensor"),
    "list": (saved_bytes([1, 2]), "a state_dict: .*, which holds a list"),
    "module": (saved_bytes(torch.nn.Linear(2, 2)), rf"holds torch.nn.*Linear and not .*{TRUST}"),
    "objects": (saved_bytes({"a": np.array([{}], object)}), "an array of dtype object"),
    "records": (saved_bytes({"a": np.zeros(2, "i4,f4")}), "an array of dtype "),
    "TorchScript": (torchscript(), rf"which is a TorchScript archive; {INSTEAD}"),
    "truncated tensors": (TENSORS[:-5], DAMAGED),
    "header cut": (TENSORS[:20], DAMAGED),
    "bad header": (with_bad_header(), DAMAGED),
    "float8": (float8(), "in which a is of the unknown dtype F8_E4M3"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    model = mlp()
    before = weights(model)
    with pytest.raises(ValueError, match=rf"^source: expected .*{message}") as caught:
        load_torch(model, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert weights(model) == before


WHOLE = {
    "zip": STATE,
    "legacy": saved_bytes(to_torch(mlp()), _use_new_zipfile_serialization=False),
    "safetensors": TENSORS,
}


@pytest.mark.parametrize("content", WHOLE.values(), ids=WHOLE)
@tier.examples(150)
@given(data=st.data())
def test_damage_of_any_kind_is_an_input_error(tmp_path_factory, content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(damaged)
    with contextlib.suppress(InputError):  # damage to a value alone may pass unseen
        read_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("place", ["beside", "alone", "within"])
def test_a_files_code_is_never_run(tmp_path, legacy, place):
    touch, state = Touch(tmp_path / "touched"), dict(to_torch(mlp()))
    value = {
        "beside": {"state_dict": state, "epoch": touch},
        "alone": touch,
        "within": state | {"fc1.bias": touch},
    }[place]
    path = tmp_path / "w.pt"
    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    model = mlp()
    before = weights(model)
    with pytest.raises(
        ValueError, match=r"w.pt, which would run posix.mkdir, as malicious files do"
    ):
        load_torch(model, path)
    assert not touch.path.exists()
    assert weights(model) == before
    torch.load(path, weights_only=False)  # it would have been run
    assert touch.path.exists()


def test_a_script_in_an_archive_is_not_run(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Touch(tmp_path / "touched"), 2))
        archive.writestr("w/version", "3\n")
    with pytest.raises(ValueError, match="w.pt, which"):
        load_torch(mlp(), path)
    assert not (tmp_path / "touched").exists()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source: expected a checkpoint file, .*which is no file"):
        load_torch(mlp(), tmp_path / "none.pt")
    with pytest.raises(ValueError, match="source: expected a checkpoint file, .*which is a folder"):
        load_torch(mlp(), str(tmp_path))


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0+cpu", "unknown"])
def test_an_old_torch_reads_no_files(tmp_path, monkeypatch, version):
    save_torch(mlp(), tmp_path / "w.pt")
    save_safetensors(mlp(), tmp_path / "w.safetensors")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(ValueError, match=r"cannot read safely: .*CVE-2025-32434\); update torch"):
        load_torch(mlp(), tmp_path / "w.pt")
    load_torch(mlp(), tmp_path / "w.safetensors")
    load_torch(mlp(), to_torch(mlp()))


@pytest.mark.parametrize("version", ["2.6.0", "2.10.1+cu128", "3.0.0a0"])
def test_a_newer_torch_reads_files(tmp_path, monkeypatch, version):
    save_torch(mlp(), tmp_path / "w.pt")
    monkeypatch.setattr(torch, "__version__", version)
    load_torch(mlp(), tmp_path / "w.pt")

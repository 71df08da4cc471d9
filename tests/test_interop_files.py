import argparse
import collections
import contextlib
import datetime
import gzip
import io
import itertools
import json
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
    files,
    load_torch,
    optimizer_from_torch,
    optimizer_source,
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


@pytest.mark.slow
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
        assert "pip install -e '.[torch]'" in str(error), error
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


BESIDE = {
    "big": 10**30,
    "bytes": b"\x00\xff",
    "changed": bytearray(b"12"),
    "dates": np.array(["2026-01-01"], "M8[D]"),
    "day": np.datetime64("2026-01-01"),
    "empty": b"",
    "epoch": 3,
    "frozen": frozenset("ab"),
    "none": None,
    "objects": np.array([{}, None], object),
    "order": collections.OrderedDict(a=1),
    "path": pathlib.PurePosixPath("a/b"),
    "records": np.zeros(2, "i4,f4"),
    "share": 0.5,
    "tags": {"x", "y"},
    "text": "é" * 300,
    "texts": np.array(["u", "vv"]),
    "tuple": (1, [True, False]),
    "when": datetime.datetime(2026, 1, 1),
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_files_of_any_pickle_protocol_are_read(tmp_path, protocol, legacy):
    source, model = mlp(), mlp()
    state = to_torch(source)
    torch.save(
        BESIDE | {"again": BESIDE["order"], "model": state, "ema": dict(state)},
        tmp_path / "w.pt",
        pickle_protocol=protocol,
        _use_new_zipfile_serialization=not legacy,
    )
    report = load_torch(model, tmp_path / "w.pt")
    assert set(report.aside) == {*BESIDE, "again", "ema"}
    assert weights(model) == weights(source)


def jax_arrays(model):
    return {name: jnp.asarray(array) for name, array in to_numpy(model).items()}


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [
        *itertools.product([to_numpy, jax_arrays], range(6)),
        *itertools.product([to_torch], range(2, 6)),  # PyTorch needs protocol 2 or later
    ],
)
def test_a_pickle_of_arrays_is_read(tmp_path, kind, protocol):
    source, model = mlp(), mlp()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(BESIDE | {"params": kind(source)}, protocol))
    report = load_torch(model, tmp_path / "w.pkl")
    assert set(report.aside) == set(BESIDE)
    assert weights(model) == weights(source)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "i8", "?", "bfloat16"])
def test_arrays_in_a_pickle_are_as_they_were(tmp_path, protocol, dtype):
    values = np.arange(6).reshape(2, 3).astype(dtype)
    arrays = {"c": values, "f": np.asfortranarray(values), "0": values[0, 0], "e": values[:0]}
    arrays |= {"slices": values[:, ::2], "again": values}
    (tmp_path / "w").write_bytes(pickle.dumps(arrays, protocol))
    found = read_torch(tmp_path / "w").arrays
    assert list(found) == ["c", "f", "e", "slices", "again"]  # a single number is not an array
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype.newbyteorder("=")
        np.testing.assert_array_equal(array, arrays[name])


def test_python_2s_pickles_are_read(tmp_path):
    """Their strings are text or bytes. The pickle is as NumPy 1.16 wrote it in Python 2.7."""
    make = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
    dtype = b"cnumpy\ndtype\n(U\x02f4I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntb"
    content = np.arange(100, dtype="f4").tobytes()
    long = b"T" + len(content).to_bytes(4, "little") + content
    state = b"(I1\n(I100\nt" + dtype + b"I00\n" + long + b"tb"
    (tmp_path / "w").write_bytes(b"\x80\x02}U\x01a" + make + state + b"s.")
    np.testing.assert_array_equal(read_torch(tmp_path / "w").arrays["a"], np.arange(100))


class Stranger:
    """A user-defined class."""


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_more_than_data_is_refused_with_the_remedy(tmp_path, protocol):
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.ones(2), "b": Stranger()}, protocol))
    message = (
        r"contains tests.test_interop_files.Stranger and not just data; if you trust the file: "
        r"load_torch\(model, pickle.load\(open\(path, \"rb\"\)\)\)"
    )
    with pytest.raises(ValueError, match=message):
        read_torch(tmp_path / "w")
    torch.save({"a": torch.ones(2), "b": Stranger()}, tmp_path / "w", pickle_protocol=protocol)
    with pytest.raises(ValueError, match=r"Stranger and .*: load_torch\(model, torch.load\(path"):
        read_torch(tmp_path / "w")


def test_a_needed_array_of_objects_is_named(tmp_path):
    state = to_torch(mlp()) | {"fc2.bias": BESIDE["objects"], "fc1.bias": BESIDE["dates"]}
    torch.save(state, tmp_path / "w.pt")
    message = (
        r"mismatched: fc1.bias is datetime64\[1\], an unsupported dtype, "
        r"fc2.bias is object\[2\], an unsupported dtype"
    )
    with pytest.raises(ValueError, match=message):
        load_torch(mlp(), tmp_path / "w.pt")


# Several files, and dtypes that NumPy lacks


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_a_checkpoint_in_several_files_is_read_by_its_index(tmp_path, ending):
    source, model = mlp(), mlp()
    save = safetensors.torch.save_file if ending == "safetensors" else torch.save
    places = {}
    for number, name in enumerate(to_torch(source)):
        places[name] = f"model-{number % 2}.{ending}"
    for place in set(places.values()):
        state = {n: v for n, v in to_torch(source).items() if places[n] == place}
        save(state, tmp_path / place)
    index = tmp_path / f"model.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    assert load_torch(model, index).loaded
    assert weights(model) == weights(source)
    assert list(read_torch(index).arrays) == list(places)
    index.write_text(json.dumps({"weight_map": places | {"fc3.bias": places["fc1.bias"]}}))
    with pytest.raises(ValueError, match=r"index.json, whose parts lack fc3\.bias"):
        load_torch(model, index)


FOREIGN = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "complex64": torch.complex64,
}


@pytest.mark.parametrize(("name", "dtype"), FOREIGN.items())
@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_an_array_that_numpy_lacks_hides_no_other(tmp_path, name, dtype, ending):
    source, model = mlp(), mlp()
    save = safetensors.torch.save_file if ending == "safetensors" else torch.save
    state, path = to_torch(source), tmp_path / f"w.{ending}"
    save(state | {"extra": torch.ones(2).to(dtype)}, path)
    load_torch(model, path, rename={"extra": None})
    assert weights(model) == weights(source)
    assert read_torch(path).arrays["extra"].shape == (2,)
    save(state | {"fc2.bias": torch.ones(2).to(dtype)}, path)
    before = weights(model)
    name = name if ending == "safetensors" else str(dtype).partition(".")[2]
    if "complex" not in name and ending == "pt":
        name = "a tensor without plain values: .*"
    with pytest.raises(ValueError, match=rf"mismatched: fc2\.bias is .*{name}"):
        load_torch(model, path)
    assert weights(model) == before


def test_arrays_that_numpy_lacks_are_left_aside_where_the_model_has_no_place(tmp_path):
    state = to_torch(mlp())
    state |= {"a": torch.ones(2).to(torch.float8_e5m2), "b": torch.ones(2).to(torch.complex64)}
    safetensors.torch.save_file(state, tmp_path / "w")
    assert set(load_torch(mlp(), tmp_path / "w").aside) == {"a", "b"}


@pytest.mark.parametrize("save", [torch.save, lambda state, path: np.savez(path, **state)])
def test_tensors_of_any_layout_are_read(tmp_path, save):
    base = torch.arange(12.0).reshape(3, 4)
    tied = torch.ones(2, 3)
    state = {
        "transposed": base.T,
        "strided": base[:, ::2],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 1000),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(1.5),
        "tied": tied,
        "again": tied,
        "half": torch.ones(3).half(),
        "n" * 10_000: torch.ones(1),
    }
    save(state, tmp_path / "w.npz")
    found = read_torch(tmp_path / "w.npz").arrays
    assert list(found) == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(np.asarray(found[name]), value.numpy())


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


@pytest.mark.parametrize("protocol", [2, 4])
def test_files_without_checksums_are_read(tmp_path, protocol):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(to_torch(mlp()), tmp_path / "w.pt", pickle_protocol=protocol)
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


# Invalid files


def shared_lists(depth=50):
    """Nested lists whose text would not fit into any memory."""
    found = []
    for _ in range(depth):
        found = [found, found]
    return found


class Calls:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def test_lists_that_are_shared_many_times_are_never_walked(tmp_path):
    source, model = mlp(), mlp()
    torch.save(to_torch(source) | {"a": shared_lists()}, tmp_path / "w.pt")
    assert load_torch(model, tmp_path / "w.pt").aside == ("a",)
    assert weights(model) == weights(source)


@pytest.mark.parametrize("function", [str, list, set, torch.Tensor, np.dtype, bytearray])
def test_no_function_is_called_with_them(tmp_path, function):
    torch.save({"a": Calls(function, (shared_lists(),))}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"\(tuples or lists that contain others too many times\)"):
        read_torch(tmp_path / "w.pt")


@pytest.mark.parametrize("function", [str, list, dict, int, float, range, slice])
def test_unused_tensors_are_not_created(tmp_path, function):
    torch.save(to_torch(mlp()) | {"a": Calls(function, ([[1]],))}, tmp_path / "w.pt")
    assert load_torch(mlp(), tmp_path / "w.pt").aside == ("a",)


class Mapped(Calls):
    """An OrderedDict whose methods are hidden by attributes."""

    def __init__(self, **items):
        hidden = dict.fromkeys(("items", "keys", "values", "get"), 3)
        super().__init__(collections.OrderedDict, (), hidden, None, iter(items.items()))


@pytest.mark.parametrize("key", ["fc1.weight", "other"])
def test_attributes_of_a_mapping_in_a_pickle_are_not_asked(tmp_path, key):
    source, model = mlp(), mlp()
    state = to_torch(source)
    torch.save({"net": state, "other": Mapped(**{key: state["fc1.weight"]})}, tmp_path / "w.pt")
    assert load_torch(model, tmp_path / "w.pt").aside == ("other",)
    assert weights(model) == weights(source)
    torch.save(Mapped(**{key: 3}), tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"without tensors, with the keys {key}$"):
        load_torch(model, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"w.pt, which has {key}$"):
        optimizer_from_torch(tmp_path / "w.pt")


def shared_tuples(depth=50):
    found = ()
    for _ in range(depth):
        found = (found, found)
    return found


@pytest.mark.parametrize(
    "value", [shared_tuples(), {"a": [shared_tuples()]}, Calls(frozenset, ([shared_tuples()],))]
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("kind", ["pickle", "archive", "legacy"])
def test_tuples_that_are_shared_many_times_are_refused_unhashed(tmp_path, value, protocol, kind):
    if kind == "pickle":
        (tmp_path / "w").write_bytes(pickle.dumps(value, protocol))
    else:
        zipped = kind == "archive"
        options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": max(protocol, 2)}
        torch.save({"a": torch.ones(2), "b": value}, tmp_path / "w", **options)
    with pytest.raises(ValueError, match=r"\(tuples or lists that contain others too many times\)"):
        read_torch(tmp_path / "w")


@pytest.mark.parametrize("legacy", [False, True])
def test_no_memory_is_taken_because_a_file_says_so(tmp_path, legacy):
    torch.save(
        to_torch(mlp()) | {"a": Calls(bytearray, (2**62,))},
        tmp_path / "w",
        _use_new_zipfile_serialization=not legacy,
    )
    assert load_torch(mlp(), tmp_path / "w").aside == ("a",)
    (tmp_path / "w").write_bytes(pickle.dumps({"a": Calls(bytearray, (2**62,))}, 2))
    with pytest.raises(ValueError, match="with the keys a$"):
        read_torch(tmp_path / "w")


def test_long_tuples_and_some_that_are_shared_are_read(tmp_path):
    pair = (1, 2)
    state = {"a": torch.ones(2), "b": tuple(range(10**5)), "c": [[pair] * 100] * 100}
    torch.save(state | {"d": ((pair,) * 1000,) * 100}, tmp_path / "w")
    assert read_torch(tmp_path / "w").aside == ("b", "c", "d")


@pytest.mark.parametrize("code", [["f4"], "f4" * 10**6, 3, b"f4"])
def test_a_dtype_without_a_name_is_refused(tmp_path, code):
    torch.save({"a": Calls(np.dtype, (code,))}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint \(a dtype without a name\)"):
        read_torch(tmp_path / "w.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_an_index_of_the_memo_costs_no_memory(tmp_path, protocol):
    put = b"r" + (2**32 - 1).to_bytes(4, "little")
    (tmp_path / "w").write_bytes(bytes([128, protocol]) + b"}" + put + b"X\1\0\0\0aK\1s.")
    with pytest.raises(ValueError, match="with the keys a$"):
        read_torch(tmp_path / "w")


def test_a_file_that_unpacks_to_much_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_MOST_UNPACKED", 1000)
    np.savez_compressed(tmp_path / "w.npz", a=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"w.npz, which would unpack to 8,000,\d+ bytes"):
        read_torch(tmp_path / "w.npz")


class Touch:
    """Creates a file when it is unpickled, as a malicious checkpoint would run code."""

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


def with_bad_header():
    return (20).to_bytes(8, "little") + b'{"a": nonsense}     ' + b"\0" * 8


def index(part):
    return json.dumps({"weight_map": {"a": part}}).encode()


STATE = saved_bytes(torch.nn.Linear(2, 2).state_dict())
TENSORS = safetensors.torch.save(torch.nn.Linear(2, 2).state_dict())
INSTEAD = r"save model\.state_dict\(\) instead"
TRUST = r"if you trust the file: load_torch\(model, torch.load\(path, weights_only=False\)\)"
INDEX = index("model-1.safetensors")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
DAMAGED = "which is damaged or incomplete"
NO_CHECKPOINT = "which is damaged, incomplete or not a checkpoint"


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
        r"which begins with 'epoch,loss\\n1,0.5\\n': no known format",
    ),
    "one byte": (b"P", "which begins with 'P': no known format"),
    "web page": (b"\n<!DOCTYPE html><html>404", "begins with .*DOCTYPE.*: a web page"),
    "Git LFS": (LFS, "begins with 'version https://git-lfs.* a pointer of Git LFS: run `git lfs"),
    "gzip": (gzip.compress(STATE), ": a gzip archive: unpack it first"),
    "JSON": (b'{"a": 1}', "begins with .* JSON, but not the index of a checkpoint in several"),
    "deep JSON": (b'{"weight_map": ' + b"[" * 10**5, "JSON, but not the index of a checkpoint"),
    "index": (INDEX, "whose part model-1.safetensors is not in the same folder"),
    "index of other folders": (index("../w.pt"), "names '../w.pt', a file in another folder"),
    "index of itself": (index("w.pt"), "begins with .* JSON, but not the index"),
    "truncated zip": (STATE[:700], DAMAGED),
    "cut at the end": (STATE[:-30], DAMAGED),
    "a flipped byte": (
        flipped(saved_bytes({"weight": torch.ones(100)})),
        r"is damaged: the checksum of its record \S+/data/0 is wrong",
    ),
    "bad name": (STATE.replace(b"weight", b"\xff\xffight"), "which is damaged"),
    "zip alone": (b"PK\x03\x04", DAMAGED),
    "another zip": (archive(notes="text"), "which is a zip archive of notes"),
    "pickle": (pickle.dumps({"a": 1}), "a mapping without tensors, with the keys a$"),
    "cut pickle": (pickle.dumps({"a": np.ones(9)})[:-9], NO_CHECKPOINT),
    "no pickle": (b"(see the notes)", ": no known format"),
    "npz of objects": (objects(), r"a mapping without tensors, with the keys a \(object\[\]\)"),
    "tensor": (saved_bytes(torch.ones(3)), "a state_dict: .*, which contains a Tensor"),
    "list": (saved_bytes([1, 2]), "a state_dict: .*, which contains a list"),
    "module": (saved_bytes(torch.nn.Linear(2, 2)), rf"contains torch.*Linear and not .*{TRUST}"),
    "objects": (saved_bytes({"a": np.array([{}], object)}), r"with the keys a \(object\[1\]\)"),
    "records": (saved_bytes({"a": np.zeros(2, "i4,f4")}), r"with the keys a \(\|V8\[2\]\)"),
    "TorchScript": (torchscript(), rf"which is a TorchScript archive; {INSTEAD}"),
    "truncated tensors": (TENSORS[:-5], DAMAGED),
    "header cut": (TENSORS[:20], DAMAGED),
    "bad header": (with_bad_header(), DAMAGED),
    "unknown dtype": (TENSORS.replace(b"F32", b"F31"), "the dtype F31: update safetensors"),
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
    "protocol 4": saved_bytes(to_torch(mlp()), pickle_protocol=4),
    "pickle": pickle.dumps(to_numpy(mlp()), 5),
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
    with contextlib.suppress(InputError):  # damage to a value may not be detected
        read_torch(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("place", ["beside", "alone", "within"])
def test_a_files_code_is_never_run(tmp_path, legacy, protocol, place):
    touch, state = Touch(tmp_path / "touched"), dict(to_torch(mlp()))
    value = {
        "beside": {"state_dict": state, "epoch": touch},
        "alone": touch,
        "within": state | {"fc1.bias": touch},
    }[place]
    path = tmp_path / "w.pt"
    new = not legacy
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    model = mlp()
    before = weights(model)
    with pytest.raises(
        ValueError, match=r"w.pt, which would run posix.mkdir, as malicious files do"
    ):
        load_torch(model, path)
    assert not touch.path.exists()
    assert weights(model) == before
    torch.load(path, weights_only=False)  # shows that the code would run
    assert touch.path.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickles_code_is_never_run(tmp_path, protocol):
    touch = Touch(tmp_path / "touched")
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.ones(2), "b": touch}, protocol))
    with pytest.raises(ValueError, match="w, which would run posix.mkdir, as malicious files do"):
        read_torch(tmp_path / "w")
    assert not touch.path.exists()


def test_a_script_in_an_archive_is_not_run(tmp_path):
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w/data.pkl", pickle.dumps(Touch(tmp_path / "touched"), 2))
        archive.writestr("w/version", "3\n")
    with pytest.raises(ValueError, match="w.pt, which"):
        load_torch(mlp(), path)
    assert not (tmp_path / "touched").exists()


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source: expected a checkpoint file, .* does not exist"):
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


@pytest.mark.parametrize("read", [read_torch, optimizer_source.read])
def test_a_checkpoint_that_repeats_its_own_values_is_looked_through_once(tmp_path, read):
    tree = {"loss": 1.0}
    for _ in range(4):
        tree = {str(key): tree for key in range(100)}
    torch.save(tree, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"source: expected (a|the) state_dict.*, got .*a\.pt"):
        read(tmp_path / "a.pt")

"""Safe replacements for the callables that rebuild a pickle's objects other than tensors.

A pickle names the callables that rebuild its objects. NumPy's callables are not safe for malicious
files: the state of a dtype can declare that numbers are pointers. Each is therefore replaced by a
callable that accepts plain values only. ``torch.load`` rejects every other name.
"""

import argparse
import io
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxnets.interop import pickles
from jaxnets.interop.conversion import Unreadable

#: Names that are rebuilt as None: factories of defaultdicts, and values that no caller uses.
_UNREAD = (
    *("builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.str"),
    *("builtins.range", "builtins.slice", "datetime.date", "datetime.datetime", "datetime.time"),
    *("datetime.timedelta", "datetime.timezone"),
)
_BFLOAT16 = np.dtype(jnp.bfloat16)
_LONGEST_CODE = 20  # characters of a dtype's code, such as "U1000000"


class PickledDtype:
    """Replaces ``np.dtype`` in a pickle; only the type code and the byte order are read.

    Attributes:
        name: the name of the dtype, for messages.
        dtype: the NumPy dtype, or None if its values are not numbers, booleans or texts.
    """

    def __init__(self, code: str | type, *_: Any) -> None:
        named = type(code) is str and len(code) <= _LONGEST_CODE
        if not named and code is not _BFLOAT16.type:
            raise ValueError("a dtype without a name")
        dtype = np.dtype(code)
        plain = dtype.kind in "biufcSU" or dtype == _BFLOAT16
        self.name = str(dtype)
        self.dtype = dtype if plain and not (dtype.shape or dtype.names) else None

    def __setstate__(self, state: tuple) -> None:
        _, order, *_ = state
        if order in ("<", ">") and self.dtype is not None:
            self.dtype = self.dtype.newbyteorder(order)


class PickledArray(np.ndarray):
    """A NumPy array that can be rebuilt from a pickle with plain values only.

    Attributes:
        unreadable: a placeholder if the values are not plain (objects, dates, records), else None.
    """

    unreadable: Unreadable | None = None

    def __new__(cls, *_: Any) -> "PickledArray":  # noqa: D102
        return np.zeros(0, np.uint8).view(cls)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        # Checked first, as NumPy accepts a list of objects as the content for some dtypes.
        if type(dtype) is not PickledDtype:
            raise ValueError("an array of something other than plain values")
        if dtype.dtype is None:
            self.unreadable = Unreadable(dtype.name, tuple(map(int, shape)))
            return
        if type(content) is str:  # bytes written by Python 2
            content = content.encode("latin-1")
        if type(content) is not bytes:
            raise ValueError("an array of something other than plain values")
        # The version 1 is fixed, so that the pickle cannot choose another format.
        super().__setstate__((1, shape, dtype.dtype, is_fortran, content))


def _array(*_: Any) -> PickledArray:
    return PickledArray()


def _from_buffer(content: bytes, dtype: PickledDtype, shape: Any, order: str) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == "F", bytes(content)))
    return array


def _jax_array(make: Any, arguments: Any, state: tuple, *_: Any) -> PickledArray:
    array = PickledArray()
    array.__setstate__(state)
    return array


def _scalar(dtype: PickledDtype, content: bytes) -> Any:
    if dtype.dtype is None:
        return Unreadable(dtype.name)
    # Python 2 wrote bytes as str.
    content = content.encode("latin-1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _mapping(*_: Any) -> dict:
    return {}  # replaces a defaultdict, without its default factory


def _no_bytes(*_: Any) -> bytes:
    return b""  # protocol 2 writes empty bytes as a call of bytes()


def _nothing(*_: Any) -> None:
    """Replaces callables whose results are unused, as ``str`` would expand shared nested lists."""


def _storage(content: bytes) -> Any:
    """Loads the storage of a tensor that was pickled without torch.save."""
    import torch

    if not pickles.is_legacy(content):
        raise ValueError("a storage that torch.save did not write")
    if not pickles.is_read_of_legacy(io.BytesIO(content)):
        content = pickles.legacy_in_protocol_2(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def safe_globals() -> list[tuple[Callable[..., Any], str]]:
    """Returns safe callables, each with the name in a pickle for which ``torch.load`` uses it."""
    found: list[tuple[Callable[..., Any], str]] = [
        (argparse.Namespace, "argparse.Namespace"),  # safe: it only sets attributes
        (PickledDtype, "numpy.dtype"),
        (PickledArray, "numpy.ndarray"),
        (_mapping, "collections.defaultdict"),
        (_jax_array, "jax._src.array._reconstruct_array"),
        (_BFLOAT16.type, "ml_dtypes.bfloat16"),
        (_no_bytes, "builtins.bytes"),
        (tuple, "builtins.frozenset"),
        (_storage, "torch.storage._load_from_bytes"),
    ]
    for core in ("core", "_core"):  # NumPy 1 and 2
        found.append((_array, f"numpy.{core}.multiarray._reconstruct"))
        found.append((_scalar, f"numpy.{core}.multiarray.scalar"))
        found.append((_from_buffer, f"numpy.{core}.numeric._frombuffer"))
    for module in ("pathlib", "pathlib._local"):
        # Pure paths are names without file access and exist on every operating system.
        for name, kind in (("Posix", PurePosixPath), ("Windows", PureWindowsPath)):
            found += [(kind, f"{module}.{name}Path"), (kind, f"{module}.Pure{name}Path")]
    found += [(_nothing, name) for name in _UNREAD]
    return found

"""What checkpoints hold beside tensors and can do no harm: rebuilt by code of ours alone.

A pickle names the callables that rebuild its objects. Those of NumPy were not written for hostile
files (the state of a dtype can claim that numbers are pointers), so each is replaced by one that
takes plain numbers only; ``torch.load`` refuses every other name.
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

#: What defaultdicts name as the maker of their values, and what is of no use beside weights.
_UNREAD = (
    *("builtins.list", "builtins.dict", "builtins.int", "builtins.float", "builtins.str"),
    *("builtins.range", "builtins.slice", "datetime.date", "datetime.datetime", "datetime.time"),
    *("datetime.timedelta", "datetime.timezone"),
)
_BFLOAT16 = np.dtype(jnp.bfloat16)
_LONGEST_CODE = 20  # of a dtype: "U1000000"


class PickledDtype:
    """Stands for ``np.dtype`` in a pickle, of which it takes the kind and the order of bytes.

    Attributes:
        name: what to call it.
        dtype: NumPy's, if its values are plain: numbers, booleans, texts.
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
    """An array of plain values from a pickle; ``np.ndarray`` except for how it is rebuilt.

    Attributes:
        unreadable: stands for it if its values are not plain: objects, dates, records.
    """

    unreadable: Unreadable | None = None

    def __new__(cls, *_: Any) -> "PickledArray":  # noqa: D102
        return np.zeros(0, np.uint8).view(cls)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        # Looked at first, as NumPy takes a list of objects for some dtypes.
        if type(dtype) is not PickledDtype:
            raise ValueError("an array of something other than plain values")
        if dtype.dtype is None:
            self.unreadable = Unreadable(dtype.name, tuple(map(int, shape)))
            return
        if type(content) is str:  # of Python 2
            content = content.encode("latin-1")
        if type(content) is not bytes:
            raise ValueError("an array of something other than plain values")
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
    content = content.encode("latin-1") if isinstance(content, str) else content  # of Python 2
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _mapping(*_: Any) -> dict:
    return {}  # a defaultdict's, without what would make up values


def _no_bytes(*_: Any) -> bytes:
    return b""  # which protocol 2 has no other words for


def _nothing(*_: Any) -> None:
    """Takes the place of what nobody reads; ``str`` would write out lists that share others."""


def _storage(content: bytes) -> Any:
    """The numbers of a tensor that was pickled without torch.save."""
    import torch

    if not pickles.is_legacy(content):
        raise ValueError("numbers that torch.save has not written")
    if not pickles.is_read_of_legacy(io.BytesIO(content)):
        content = pickles.legacy_in_protocol_2(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def safe_globals() -> list[tuple[Callable[..., Any], str]]:
    """Callables, each with the name for which ``torch.load`` is to take it."""
    found: list[tuple[Callable[..., Any], str]] = [
        (argparse.Namespace, "argparse.Namespace"),  # sets attributes, and has no hooks
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
        # Pure: a name alone, on whichever system it was written.
        for name, kind in (("Posix", PurePosixPath), ("Windows", PureWindowsPath)):
            found += [(kind, f"{module}.{name}Path"), (kind, f"{module}.Pure{name}Path")]
    found += [(_nothing, name) for name in _UNREAD]
    return found

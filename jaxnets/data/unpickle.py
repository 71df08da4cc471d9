"""Pickles of plain data alone: nothing that a file names is ever called.

A pickle is a program, and ``pickle.load`` runs it. Here the few names that NumPy's arrays need
stand for records of our own; any other name is refused before it is even imported.
"""

import io
import pickle
from typing import Any

import numpy as np

from jaxnets.arrays import InputError

_DAMAGE = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError,
    ImportError, ArithmeticError, MemoryError, RecursionError,
)  # fmt: skip


def loads(data: bytes, name: str = "data") -> Any:
    """Reads a pickle of dicts, lists, tuples, strings, bytes, numbers and NumPy arrays.

    Strings of Python 2 are bytes in the result.

    Args:
        data: the whole pickle.
        name: what an error message calls it, such as the file's path.

    Raises:
        InputError: if it is damaged, or asks for anything else; which is not run then.
    """
    try:
        return _finish(_Unpickler(io.BytesIO(data), encoding="bytes").load())
    except _Refused as error:
        raise InputError(name, "a pickle of plain data and NumPy arrays", str(error)) from error
    except _DAMAGE as error:
        raise InputError(name, "an undamaged pickle", f"{error!r}") from error


class _Refused(Exception):
    """The pickle asks for more than plain data."""


class _DType:
    """Stands for ``numpy.dtype`` and its state."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        self.order = order.decode("ascii") if isinstance(order, bytes) else order

    def finish(self) -> np.dtype:
        dtype = np.dtype(str(self.code))
        if dtype.kind not in "biuf":
            raise _Refused(f"an array of {dtype}")
        return dtype.newbyteorder(">") if self.order == ">" else dtype


class _Array:
    """Stands for an array: ``numpy.core.multiarray._reconstruct`` and what follows it."""

    def __init__(self, *made_of: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def finish(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self.state
        return _array(content, dtype, shape, "F" if fortran else "C")


class _Buffer:
    """Stands for an array of protocol 5: ``numpy.core.numeric._frombuffer``."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.made_of = content, dtype, shape, order

    def finish(self) -> np.ndarray:
        return _array(*self.made_of)


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise _Refused("an array that is not one of numbers")
    array = np.frombuffer(content, dtype.finish()).reshape(shape, order=order)
    return array.astype(array.dtype.newbyteorder("="))


def _encoded(text: Any, encoding: Any) -> bytes:
    """Stands for ``_codecs.encode``, by which Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise _Refused(f"the encoding {encoding!r}")
    return str(text).encode("latin1")


def _no_bytes(*content: Any) -> bytes:
    """Stands for ``bytes``, by which Python 3 writes empty ones for Python 2."""
    if content:
        raise _Refused("one that calls bytes")
    return b""


# What numpy.ndarray itself stands for is never called: it is the first argument of _reconstruct.
_STANDINS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STANDINS:
            raise _Refused(f"one that calls {module}.{name}")
        return _STANDINS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("one that refers to another file")


def _finish(value: Any) -> Any:
    """The value with every record replaced by what it stands for."""
    if isinstance(value, dict):
        return {_finish(key): _finish(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finish(entry) for entry in value]
    if isinstance(value, tuple):
        return tuple(_finish(entry) for entry in value)
    if isinstance(value, _Array | _Buffer):
        return value.finish()
    if value is None or isinstance(value, str | bytes | bool | int | float):
        return value
    raise _Refused(f"a {type(value).__name__.strip('_')}")

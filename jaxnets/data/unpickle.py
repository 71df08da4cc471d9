"""Safe reading of pickles of plain data and NumPy arrays.

A pickle is a program, and ``pickle.load`` runs it: a file may call any function. Here the few names
that NumPy's arrays need are replaced by stand-in classes. Any other name is rejected before it is
imported. A small pickle cannot use much memory or time either: its steps are counted, a value that
occurs several times is converted once, and all arrays together are at most as large as the file.
"""

import io
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, printable

_MOST_STEPS = 2**21  # instructions of a pickle; CIFAR-100's have about 300,000
_MOST_ARGUMENTS = 16  # arguments of a call; NumPy's arrays need fewer
_LONGEST = 150  # characters of a file that an error message shows
_CODE = re.compile(r"[<>=|]?[A-Za-z]\d{0,9}")


def loads(data: bytes, name: str = "data") -> Any:
    """Reads a pickle of dicts, lists, tuples, strings, bytes, numbers and NumPy arrays.

    Strings of Python 2 become bytes, NumPy scalars become Python numbers.

    Args:
        data: the whole pickle.
        name: name of the pickle in error messages, such as the file's path.

    Raises:
        InputError: if the pickle is damaged or contains anything else, which is not executed.
    """
    try:
        return _Finisher(len(data)).finish(_Unpickler(data).load())
    except _Refused as error:
        raise InputError(name, "a pickle of plain data and NumPy arrays", str(error)) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise InputError(
            name, "an undamaged pickle", printable(repr(error), limit=_LONGEST)
        ) from error


class _Refused(Exception):
    """Raised if a pickle contains more than plain data."""


class _DType:
    """Stand-in for ``numpy.dtype`` and its state."""

    def __init__(self, code: Any, *rest: Any) -> None:
        self.code = _word(code)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _word(state[1])

    def finish(self) -> np.dtype:
        if not _CODE.fullmatch(self.code):
            raise _Refused(f"an array of {printable(self.code, limit=_LONGEST)}")
        dtype = np.dtype(self.code)
        if dtype.kind not in "biuf":
            raise _Refused(f"an array of {dtype}")
        return dtype.newbyteorder(">") if self.order == ">" else dtype


class _Array:
    """Stand-in for an array made by ``numpy.core.multiarray._reconstruct`` and its state."""

    def __init__(self, *made_of: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def finish(self) -> np.ndarray:
        _, shape, dtype, fortran, content = self.state
        return _array(content, dtype, shape, "F" if fortran else "C")


class _Buffer:
    """Stand-in for an array of protocol 5, made by ``numpy.core.numeric._frombuffer``."""

    def __init__(self, content: Any, dtype: Any, shape: Any, order: Any) -> None:
        self.made_of = content, dtype, shape, order

    def finish(self) -> np.ndarray:
        return _array(*self.made_of)


class _Scalar:
    """Stand-in for a NumPy scalar, made by ``numpy.core.multiarray.scalar``."""

    def __init__(self, dtype: Any, content: Any = b"") -> None:
        self.made_of = content, dtype, (1,), "C"

    def finish(self) -> float | int | bool:
        return _array(*self.made_of).item()


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(content, bytes | bytearray):
        raise _Refused("an array of other values than numbers")
    if type(shape) is not tuple or not all(type(side) is int for side in shape):
        raise _Refused("an array without a shape")
    array = np.frombuffer(content, dtype.finish())
    array = array.reshape(shape, order="F" if _word(order) == "F" else "C")
    return array.astype(array.dtype.newbyteorder("="))


def _word(text: Any) -> str:
    """Returns a short string, which Python 2 writes as bytes."""
    word = text.decode("ascii") if isinstance(text, bytes) else text
    if type(word) is not str:
        raise _Refused("an array of an unknown kind")
    return word


def _no_bytes(*content: Any) -> bytes:
    """Stand-in for ``bytes``, which Python 3 calls to write empty bytes for Python 2."""
    if content:
        raise _Refused("one that calls bytes")
    return b""


# The stand-in of numpy.ndarray is never called: it is only the first argument of _reconstruct.
_STANDINS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): "ndarray",
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Buffer for core in ("core", "_core")},
}


class _Steps(dict[int, Callable[..., None]]):
    """The functions of a pickle's instructions, which counts the lookups to limit their number."""

    def __init__(self, functions: Mapping[int, Callable[..., None]]) -> None:
        super().__init__(functions)
        self.left = _MOST_STEPS

    def __getitem__(self, code: int) -> Callable[..., None]:
        self.left -= 1
        if self.left < 0:
            raise _Refused(f"one of more than {_MOST_STEPS:,} steps")
        return super().__getitem__(code)


# The unpickler written in Python: the one in C allocates memory for the largest memo index, and its
# instructions cannot be overridden.
_InPython: Any = pickle._Unpickler


class _Unpickler(_InPython):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self.dispatch = _Steps(_FUNCTIONS)
        self.left_to_encode = len(data)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self.encoded
        if (module, name) not in _STANDINS:
            raise _Refused(f"one that calls {printable(f'{module}.{name}', limit=_LONGEST)}")
        return _STANDINS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("one that refers to another file")

    def encoded(self, text: Any, encoding: Any) -> bytes:
        """Stand-in for ``_codecs.encode``, which Python 3 calls to write bytes for Python 2."""
        if _word(encoding) != "latin1":
            raise _Refused(f"the encoding {printable(repr(_word(encoding)), limit=_LONGEST)}")
        self.left_to_encode -= len(text)
        if type(text) is not str or self.left_to_encode < 0:
            raise _Refused("one that encodes more than its own text")
        return text.encode("latin1")

    def load_reduce(self) -> None:
        arguments = self.stack[-1]
        if type(arguments) is not tuple or len(arguments) > _MOST_ARGUMENTS:
            raise _Refused("one that calls something with too many arguments")
        super().load_reduce()

    def load_build(self) -> None:
        state, record = self.stack[-1], self.stack[-2]
        if type(record) not in (_Array, _DType) or type(state) is not tuple:
            raise _Refused("one that sets the attributes of an object")
        super().load_build()

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(self.with_items({}, items))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.with_items(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self.with_items(self.stack[-1], items)

    def with_items(self, mapping: Any, items: list[Any]) -> Any:
        """Sets items whose keys are text: hashing or comparing other keys may take any time."""
        if type(mapping) is not dict or not all(type(key) in (str, bytes) for key in items[::2]):
            raise _Refused("a dict with keys other than text")
        mapping.update(zip(items[::2], items[1::2], strict=True))
        return mapping

    def load_bytearray8(self) -> None:
        self.load_binbytes8()  # allocates no more memory than the pickle has bytes
        self.stack[-1] = bytearray(self.stack[-1])

    def refuse(self) -> None:
        raise _Refused("a set, or an object other than an array")


_REFUSED = (
    pickle.EMPTY_SET, pickle.FROZENSET, pickle.ADDITEMS, pickle.NEWOBJ, pickle.NEWOBJ_EX,
    pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4,
)  # fmt: skip
_FUNCTIONS: dict[int, Callable[..., None]] = {
    **_InPython.dispatch,
    ord(pickle.REDUCE): _Unpickler.load_reduce,
    ord(pickle.BUILD): _Unpickler.load_build,
    ord(pickle.DICT): _Unpickler.load_dict,
    ord(pickle.SETITEM): _Unpickler.load_setitem,
    ord(pickle.SETITEMS): _Unpickler.load_setitems,
    ord(pickle.BYTEARRAY8): _Unpickler.load_bytearray8,
    **dict.fromkeys(map(ord, _REFUSED), _Unpickler.refuse),
}


_UNDER_WAY = object()


class _Finisher:
    """Replaces each stand-in by its value.

    Args:
        most: largest total size of all arrays, in bytes.
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self.finished: dict[int, Any] = {}  # by identity: a value may occur very many times

    def finish(self, value: Any) -> Any:
        """Returns the value with every stand-in replaced."""
        if value is None or isinstance(value, str | bytes | bool | int | float):
            return value
        if id(value) not in self.finished:
            self.finished[id(value)] = _UNDER_WAY
            self.finished[id(value)] = self._made(value)
        made = self.finished[id(value)]
        if made is _UNDER_WAY:
            raise ValueError("a value that contains itself")
        return made

    def _made(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.finish(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.finish(entry) for entry in value]
        if isinstance(value, tuple):
            return tuple(self.finish(entry) for entry in value)
        if isinstance(value, _Array | _Buffer | _Scalar):
            return self._array(value)
        raise _Refused("a function" if callable(value) else f"a {type(value).__name__.strip('_')}")

    def _array(self, record: _Array | _Buffer | _Scalar) -> Any:
        made = record.finish()
        self.left -= made.nbytes if isinstance(made, np.ndarray) else 0
        if self.left < 0:
            raise _Refused("arrays that share their data")
        return made

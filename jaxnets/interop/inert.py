"""What checkpoints hold beside tensors and can do no harm: rebuilt by code of ours alone.

A pickle names the callables that rebuild its objects. Those of NumPy were not written for hostile
files (the state of a dtype can claim that numbers are pointers), so each is replaced by one that
takes plain numbers only; ``torch.load`` refuses every other name.
"""

import argparse
from collections.abc import Callable
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np


class PickledDtype:
    """Stands for ``np.dtype`` in a pickle, of which it takes the kind and the order of bytes."""

    def __init__(self, code: str, *_: Any) -> None:
        self.dtype = np.dtype(str(code))
        if self.dtype.kind not in "biufcSU" or self.dtype.shape or self.dtype.names:
            raise ValueError(f"an array of dtype {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        _, order, *_ = state
        if order in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(order)


class PickledArray(np.ndarray):
    """An array of plain values from a pickle; ``np.ndarray`` but for how it is rebuilt."""

    def __new__(cls, *_: Any) -> "PickledArray":  # noqa: D102
        return np.zeros(0, np.uint8).view(cls)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, content = state
        # Looked at first, as NumPy takes a list of objects for some dtypes.
        if type(dtype) is not PickledDtype or type(content) is not bytes:
            raise ValueError("an array of something other than plain values")
        super().__setstate__((1, shape, dtype.dtype, is_fortran, content))


def _array(*_: Any) -> PickledArray:
    return PickledArray()


def _scalar(dtype: PickledDtype, content: bytes) -> np.generic:
    return np.frombuffer(content, dtype.dtype, count=1)[0]


def _mapping(*_: Any) -> dict:
    return {}  # a defaultdict's, without what would make up values


def safe_globals() -> list[tuple[Callable[..., Any], str]]:
    """Callables, each with the name for which ``torch.load`` is to take it."""
    found: list[tuple[Callable[..., Any], str]] = [
        (argparse.Namespace, "argparse.Namespace"),  # sets attributes, and has no hooks
        (PickledDtype, "numpy.dtype"),
        (PickledArray, "numpy.ndarray"),
        (_mapping, "collections.defaultdict"),
    ]
    for core in ("core", "_core"):  # NumPy 1 and 2
        found.append((_array, f"numpy.{core}.multiarray._reconstruct"))
        found.append((_scalar, f"numpy.{core}.multiarray.scalar"))
    for module in ("pathlib", "pathlib._local"):
        # Pure: a name alone, on whichever system it was written.
        for name, kind in (("Posix", PurePosixPath), ("Windows", PureWindowsPath)):
            found += [(kind, f"{module}.{name}Path"), (kind, f"{module}.Pure{name}Path")]
    # What defaultdicts name as the maker of their values.
    found += [(kind, f"builtins.{kind.__name__}") for kind in (list, dict, int, float, str)]
    return found

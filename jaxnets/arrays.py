"""Array types, checks of arguments, and the error for invalid ones."""

import builtins
import inspect
import math
import os
import reprlib
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import FlaxError

Choice = TypeVar("Choice", bound=str)

#: Invisible characters that are needed to write some languages and emoji.
_JOINERS = "\u200c\u200d"

_INT32 = np.iinfo(np.int32)  # the dtype of step counts and indices
_FLOAT32 = float(np.finfo(np.float32).max)

#: An array that a user may pass: on the host or on a device.
ArrayLike = jax.Array | np.ndarray


_LONGEST = 299  # characters of a message
_LEAST = 100  # characters of the invalid value that a message always has room for


class InputError(ValueError):
    """Raised for an invalid argument, as in ``lr: expected a positive number, got -0.1``.

    The message has fewer than 300 characters, not counting paths: the middle of a long part is
    replaced by an ellipsis.

    Args:
        argument: the name of the argument, as the caller wrote it.
        expected: a description of valid values.
        got: the invalid value. A string is printed unchanged, any other value by ``shown``.
        whole: whether to print ``got`` in full, for a list of errors.
    """

    def __init__(self, argument: str, expected: str, got: Any, *, whole: bool = False) -> None:
        super().__init__(argument, expected, got)
        self.argument, self.expected, self.got = argument, expected, got
        self.whole = whole

    def __str__(self) -> str:
        got = self.got if isinstance(self.got, str) else shown(self.got)
        if self.whole:
            message = f"{self.argument}: expected {self.expected}, got {got}"
            return printable(message, limit=None, lines=True)
        argument, expected, got = (
            printable(part, limit=None) for part in (self.argument, self.expected, got)
        )
        room = _LONGEST + sum(map(_length_of_path, " ".join((argument, expected, got)).split()))
        argument = _cut(argument, room - 2 * _LEAST)
        room -= len(f"{argument}: expected , got ")
        got = _cut(got, max(_LEAST, room - len(expected)))
        return f"{argument}: expected {_cut(expected, room - len(got))}, got {got}"


def printable(text: Any, *, limit: int | None = 200, lines: bool = False) -> str:
    r"""Escapes a text, such as a class name from a file, so that it is safe to print on a terminal.

    Characters that control a terminal (escape sequences, changes of the writing direction) are
    replaced by escapes such as ``\x1b``, as in Python's literals.

    Args:
        text: the text, or an object that ``str`` converts to one.
        limit: the largest number of characters; the middle of a longer text becomes ``…``. None
            for no limit.
        lines: whether to keep line breaks and tabs.
    """
    text, kept = str(text), _JOINERS + ("\n\t" if lines else "")
    if limit is not None and len(text) > limit:
        half = (limit - 1) // 2
        text = f"{text[: limit - 1 - half]}…{text[len(text) - half :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in kept else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def describe(array: Any) -> str:
    """Describes an array for an error message: ``float32[64, 10]``."""
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def shown(value: Any) -> str:
    """Formats a value for an error message: a short ``repr``, and dtype and shape of an array."""
    return _SHORT.repr(value)


def _is_array(x: Any) -> bool:
    if isinstance(x, type | np.generic | np.dtype):
        return False
    return isinstance(getattr(x, "shape", None), tuple) and hasattr(x, "dtype")


def _is_number(x: Any) -> bool:
    return isinstance(x, np.ndarray | jax.Array) and jnp.issubdtype(x.dtype, np.number)


def _cut(text: str, most: int) -> str:
    """Replaces the middle of a text by an ellipsis if it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1]}…{text[-end:]}"


def _length_of_path(word: str) -> int:
    return len(word) if os.sep in word and len(word) < _LONGEST else 0


class _Short(reprlib.Repr):
    """A short ``repr``: arrays as dtype and shape, long sequences as their first elements."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = _LEAST
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        """Formats a value, which may be nested in others."""
        if isinstance(x, jax.core.Tracer):
            return f"a traced {describe(x)}"
        if not _is_array(x):
            return super().repr1(x, level)
        if not x.shape and _is_number(x):
            return builtins.repr(x)
        kind = type(x)
        supported = issubclass(kind, np.ndarray | jax.Array)
        name = "" if supported else f"a {kind.__module__.partition('.')[0]} {kind.__name__} "
        return f"{name}{_cut(describe(x), _LEAST // 2)}"

    def repr_int(self, x: int, level: int) -> str:
        """Formats an integer; Python does not convert very long ones to text."""
        long = x.bit_length() > 300
        return f"an integer of {x.bit_length()} bits" if long else builtins.repr(x)

    def repr_instance(self, x: Any, level: int) -> str:
        """Formats any other object: by its type if its ``repr`` has several lines or fails."""
        try:
            text = builtins.repr(x)
        except Exception:
            text = "\n"
        if isinstance(x, bytes | str):
            return _cut(text, self.maxother)
        if inspect.ismodule(x):
            return f"the module {x.__name__}"
        if "\n" in text or "array(" in text.lower() or "tensor(" in text:
            return f"a {type(x).__name__}"
        return _cut(text, self.maxother)


_SHORT = _Short()


def shortened(names: Sequence[str], most: int = 60) -> str:
    """Joins names with commas, cut to ``most`` characters with an ellipsis at the end."""
    whole = ", ".join(printable(name, limit=None) for name in names)
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip(', ')}…"


def check_floats(argument: str, array: Any, shape: tuple[int | str, ...]) -> None:
    """Checks that an array has a floating-point dtype and the given shape.

    Args:
        argument: the name of the argument, for error messages.
        array: the array to check.
        shape: the size of each axis. A word stands for an axis of any size, and ``"..."`` as the
            first entry for any number of axes.

    Raises:
        InputError: if the dtype or the shape differs.
    """
    expected = f"a floating-point array [{', '.join(map(str, shape))}]"
    check_usable(argument, expected, array)
    wanted, given = shape, array.shape
    if shape[0] == "...":
        wanted = shape[1:]
        given = given[max(len(given) - len(wanted), 0) :]
    fits = len(given) == len(wanted) and all(
        isinstance(want, str) or want == have for want, have in zip(wanted, given, strict=True)
    )
    if not fits or not jnp.issubdtype(array.dtype, jnp.floating):
        pixels = " pixels, which transform=ToFloat() converts" if array.dtype == np.uint8 else ""
        raise InputError(argument, expected, f"{describe(array)}{pixels}")


def check_usable(argument: str, expected: str, array: Any) -> None:
    """Checks that a value is a NumPy or JAX array whose dtype JAX supports.

    Args:
        argument: the name of the argument, for error messages.
        expected: a description of valid values, for error messages.
        array: the value to check.

    Raises:
        InputError: if the value is not such an array. Where possible the message gives the
            conversion.
    """
    if not isinstance(array, np.ndarray) and hasattr(array, "__jax_array__"):  # a Flax variable
        return
    if isinstance(array, np.ma.MaskedArray):
        got = f"a masked {describe(array)}, whose filled(value) has no mask"
    elif is_tensor(array):
        got = f"{shown(array)}, whose detach().cpu().numpy() is an array"
    elif not isinstance(array, np.ndarray | jax.Array):
        got = type(array).__name__
    elif not is_plain(array.dtype):
        numbers = np.issubdtype(array.dtype, np.number)
        remedy = ", which astype(np.float32) converts" if numbers else ""
        got = f"{shown(array)}{remedy}"
    else:
        return
    raise InputError(argument, expected, got)


def is_tensor(value: Any) -> bool:
    """Whether a value is a PyTorch tensor; does not import torch."""
    return hasattr(type(value), "detach") and hasattr(type(value), "numpy")


def is_plain(dtype: Any) -> bool:
    """Whether JAX supports a dtype. Objects, dates and foreign byte orders are not supported."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return True
    wide = dtype.itemsize > {"f": 8, "c": 16}.get(dtype.kind, dtype.itemsize)
    kinds = (np.number, np.bool_, jnp.floating, jnp.integer)
    return dtype.isnative and not wide and any(jnp.issubdtype(dtype, kind) for kind in kinds)


def check_fits(argument: str, array: Any, dtype: Any = None) -> None:
    """Checks that an array can be converted to another dtype without overflow.

    Rounding is allowed, and so are infinities and NaN in the array.

    Args:
        argument: the name of the argument, for error messages.
        array: a NumPy array or scalar; other values are not checked.
        dtype: the other dtype. The default is the dtype of the array in JAX: 32 bits for an array
            of 64 bits, unless ``jax_enable_x64`` is set.

    Raises:
        InputError: if a number overflows; the message gives the first such number and its row.
    """
    if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind not in "iuf":
        return
    array = np.asarray(array)
    if dtype is None:
        dtype = jax.dtypes.canonicalize_dtype(f"{array.dtype.kind}{min(array.dtype.itemsize, 8)}")
    dtype = np.dtype(dtype)
    if array.size == 0 or np.can_cast(array.dtype, dtype) or dtype.kind not in "iuf":
        return
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    least, most = array.min(), array.max()
    if limits.min <= least and most <= limits.max:
        return
    beyond = ((array < limits.min) | (array > limits.max)) & np.isfinite(array)
    if beyond.any():
        place = np.argwhere(beyond)[0].tolist()
        row = f" in row {place[0]} (counted from 0)" if place else ""
        got = f"{array[tuple(place)]}{row}"
        raise InputError(argument, f"numbers that fit into {dtype}", got)


def narrowed(argument: str, array: np.ndarray, dtype: Any) -> np.ndarray:
    """Converts an array to another dtype.

    Raises:
        InputError: if a number overflows; see ``check_fits``.
    """
    check_fits(argument, array, dtype)
    return array.astype(dtype)


def as_array(argument: str, value: Any) -> jax.Array:
    """Converts a value to a JAX array.

    Raises:
        InputError: if the value is not an array, or its numbers overflow the dtype in JAX.
    """
    if isinstance(value, np.ndarray):
        check_usable(argument, "an array", value)
    check_fits(argument, np.float64(value) if isinstance(value, float) else value)
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if is_tensor(value):  # a tensor that requires a gradient, which NumPy does not convert
            check_usable(argument, "an array", value)
        raise InputError(argument, "an array", value) from error


def as_host_array(argument: str, value: Any) -> np.ndarray:
    """Converts an array or a nested list of numbers to a NumPy array.

    Raises:
        InputError: if the value is not an array of a dtype that JAX supports.
    """
    if isinstance(value, list | tuple):
        try:
            value = np.asarray(value)
        except ValueError as error:  # rows of different lengths
            raise InputError(argument, "an array [examples, …]", value) from error
    check_usable(argument, "an array [examples, …]", value)
    return np.asarray(value)


def entries(value: Any) -> tuple[Any, ...] | None:
    """Returns the entries of a sequence or vector; None for other values, including strings."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, np.ndarray | jax.Array):
        return tuple(np.asarray(value)) if value.ndim == 1 else None
    words = isinstance(value, str | bytes | bytearray | memoryview)
    return tuple(value) if isinstance(value, Sequence) and not words else None


def check_number(
    argument: str,
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    finite: bool = True,
) -> float:
    """Checks that a value is a number in a range, and returns it as a Python float.

    Args:
        argument: the name of the argument, for error messages.
        value: a Python number, or a NumPy or JAX scalar.
        least: the smallest allowed value.
        most: the largest allowed value.
        above: the lower limit, which is not allowed itself.
        below: the upper limit, which is not allowed itself.
        finite: whether infinity is invalid. NaN always is.

    Raises:
        InputError: if the value is not a number, or out of range.
    """
    number = _as_float(value)
    within = (
        (math.isfinite(number) if finite else not math.isnan(number))
        and (least is None or number >= least)
        and (most is None or number <= most)
        and (above is None or number > above)
        and (below is None or number < below)
    )
    if not within:
        raise InputError(argument, _range(least, most, above, below, finite), value)
    narrow = jax.dtypes.canonicalize_dtype(np.float64) == np.float32
    if finite and narrow and abs(number) > _FLOAT32:
        raise InputError(argument, "a number in the range of float32", value)
    return number


def _as_float(value: Any) -> float:
    """Converts a value to a float; NaN if it is not a real number or too large for a float."""
    if isinstance(value, np.ndarray | jax.Array) and not isinstance(value, jax.core.Tracer):
        kinds = jnp.floating, jnp.integer
        real = value.ndim == 0 and any(jnp.issubdtype(value.dtype, kind) for kind in kinds)
    else:
        real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        return float(value) if real else math.nan
    except OverflowError:
        return math.nan


def _range(
    least: float | None, most: float | None, above: float | None, below: float | None, finite: bool
) -> str:
    """Describes a range for an error message: a number in [0, 1), a finite number >= 0."""
    signs = {">=": least, ">": above, "<=": most, "<": below}
    ends = [(sign, end) for sign, end in signs.items() if end is not None]
    if len(ends) == 2:
        (lower, low), (upper, high) = ends
        left, right = "[" if lower == ">=" else "(", "]" if upper == "<=" else ")"
        return f"a number in {left}{low:g}, {high:g}{right}"
    return " ".join(["a finite number" if finite else "a number", *(f"{s} {e:g}" for s, e in ends)])


def check_integer(
    argument: str, value: Any, *, least: int | None = None, most: int | None = None
) -> int:
    """Checks that a value is an integer in a range, and returns it as a Python integer.

    Args:
        argument: the name of the argument, for error messages.
        value: a Python or NumPy integer.
        least: the smallest allowed value; None for the smallest int32.
        most: the largest allowed value; None for the largest int32.

    Raises:
        InputError: if the value is not an integer, or out of range.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise InputError(argument, _integers(least, most), value)
    if (least is not None and value < least) or (most is not None and value > most):
        raise InputError(argument, _integers(least, most), value)
    if (least is None or most is None) and not _INT32.min <= value <= _INT32.max:
        raise InputError(argument, "an integer of 32 bits", value)
    return int(value)


def _integers(least: int | None, most: int | None) -> str:
    if least is None:
        return "an integer" if most is None else f"an integer <= {most}"
    if most is not None:
        return f"an integer from {least} to {most}"
    return "a positive integer" if least == 1 else f"an integer >= {least}"


def check_positive(argument: str, value: Any) -> int:
    """Checks that a value is a positive 32-bit integer, and returns it as a Python integer.

    Raises:
        InputError: if it is not.
    """
    return check_integer(argument, value, least=1)


def check_seed(argument: str, value: Any) -> int:
    """Checks that a value is a random seed: JAX makes keys from 32 bits.

    Raises:
        InputError: if the value is not an integer from 0 to 2³² - 1.
    """
    return check_integer(argument, value, least=0, most=2**32 - 1)


def check_bool(argument: str, value: Any) -> bool:
    """Checks that a value is a Python or NumPy bool; a string such as "no" would count as true.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(argument, "True or False", value)
    return bool(value)


def check_choice(argument: str, value: Choice, choices: Sequence[Choice]) -> Choice:
    """Checks that a value is one of the given strings.

    Raises:
        InputError: if it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(argument, f"one of {', '.join(choices)}", value)
    return value


def check_function(argument: str, value: Any, expected: str) -> Any:
    """Checks that a value is a function or callable object, not a class and not from PyTorch.

    Args:
        argument: the name of the argument, for error messages.
        value: the value to check.
        expected: a description of valid values, for error messages.

    Raises:
        InputError: if the value is not callable, is a class instead of an instance, or is a
            function of PyTorch.
    """
    if not callable(value) or isinstance(value, type):
        raise InputError(argument, expected, shown(value))
    if str(getattr(value, "__module__", "")).startswith("torch"):
        raise InputError(argument, expected, f"PyTorch's {shown(value)}")
    return value


def check_path(argument: str, value: Any, expected: str = "a path") -> Path:
    """Checks that a value is a path, a string or ``os.PathLike``, and returns it as a ``Path``.

    Raises:
        InputError: if it is not a path.
    """
    path = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(argument, expected, shown(value))
    try:
        Path(path).exists()
    except OSError as error:  # a name that is too long
        raise InputError(argument, expected, f"{shown(value)}: {error.strerror}") from error
    return Path(path)


_MISTAKES = TypeError, ValueError, AttributeError, LookupError, RuntimeError


def called(argument: str, expected: str, function: Any, *given: Any, got: Any = None) -> Any:
    """Calls a user's function, and converts the errors that it raises to an ``InputError``.

    Args:
        argument: the name of the argument to report if the function fails.
        expected: a description of valid values, for error messages.
        function: the function to call.
        given: the arguments of the call.
        got: the invalid value, for error messages; None for the function itself.

    Raises:
        InputError: if the function does not accept the arguments, or raises one of the common
            errors of a programming mistake.
    """
    try:
        return function(*given)
    except (InputError, jax.errors.JaxRuntimeError, jax.errors.JAXTypeError):
        raise
    except (*_MISTAKES, FlaxError) as error:
        reason = str(error).partition("\n")[0]
        came = shown(function) if got is None else got
        raise InputError(
            argument, expected, f"{came} ({type(error).__name__}: {reason})"
        ) from error


def check_float_dtype(argument: str, value: Any) -> np.dtype:
    """Checks that a value is a floating-point dtype or its name, such as "float32".

    Raises:
        InputError: if it is not.
    """
    try:
        # np.dtype would accept None as its default, and an array as the dtype of the array.
        dtype = None if value is None or _is_array(value) else jnp.dtype(value)
    except (TypeError, ValueError, OverflowError):
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating) or not is_plain(dtype):
        raise InputError(argument, "a floating-point dtype", value)
    return dtype

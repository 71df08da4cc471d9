"""The array types, the checks of arguments, and the one way in which a bad one is reported."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Choice = TypeVar("Choice", bound=str)

_INT32 = np.iinfo(np.int32)  # the dtype of counts of steps and of indices

#: An array as a user may hand it over: on the host or on a device.
ArrayLike = jax.Array | np.ndarray


class InputError(ValueError):
    """A bad argument, said in one sentence: ``lr: expected a positive number, got -0.1``.

    Args:
        argument: the name of the argument, as the caller wrote it.
        expected: what it should have been, in words.
        got: what came: a string is shown as it is, anything else by ``repr``.
    """

    def __init__(self, argument: str, expected: str, got: Any) -> None:
        super().__init__(argument, expected, got)
        self.argument, self.expected, self.got = argument, expected, got

    def __str__(self) -> str:
        got = self.got if isinstance(self.got, str) else repr(self.got)
        return f"{self.argument}: expected {self.expected}, got {got}"


def describe(array: Any) -> str:
    """Describes an array for an error message: ``float32[64, 10]``."""
    return f"{array.dtype}[{', '.join(map(str, array.shape))}]"


def shortened(names: Sequence[str], most: int = 60) -> str:
    """The first of some names, as many as so many letters hold, and a sign that there are more."""
    # a name may hold what moves a terminal's cursor
    shown = (n if n.isprintable() else n.encode("unicode_escape").decode() for n in names)
    whole = ", ".join(shown)
    return whole if len(whole) <= most else f"{whole[: most - 1].rstrip(', ')}…"


def check_floats(argument: str, array: Any, shape: tuple[int | str, ...]) -> None:
    """Checks that an array holds floating-point values and has this shape.

    Args:
        argument: the name of the argument, for the message.
        array: what came.
        shape: the size of each axis; a word names an axis of any size, and ``"..."``, in the first
            place, any number of axes.

    Raises:
        InputError: if the array differs.
    """
    expected = f"a floating-point array [{', '.join(map(str, shape))}]"
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise InputError(argument, expected, type(array).__name__)
    wanted, given = shape, array.shape
    if shape[0] == "...":
        wanted = shape[1:]
        given = given[max(len(given) - len(wanted), 0) :]
    fits = len(given) == len(wanted) and all(
        isinstance(want, str) or want == have for want, have in zip(wanted, given, strict=True)
    )
    if not fits or not jnp.issubdtype(array.dtype, jnp.floating):
        raise InputError(argument, expected, describe(array))


def as_array(argument: str, value: Any) -> jax.Array:
    """The value as an array of JAX.

    Raises:
        InputError: if it is none.
    """
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(argument, "an array", value) from error


def entries(value: Any) -> tuple[Any, ...] | None:
    """The entries of a sequence or vector; None of anything else, a string included."""
    if isinstance(value, jax.core.Tracer):
        return None
    if isinstance(value, np.ndarray | jax.Array):
        return tuple(np.asarray(value)) if value.ndim == 1 else None
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else None


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
    """A number, which may be a scalar of NumPy or JAX, as a Python float.

    Args:
        argument: the name of the argument, for the message.
        value: what came.
        least: the lower end, itself allowed.
        most: the upper end, itself allowed.
        above: the lower end, itself not allowed.
        below: the upper end, itself not allowed.
        finite: whether infinity is refused. NaN always is.

    Raises:
        InputError: if the value is no number, or not within the ends.
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
    return number


def _as_float(value: Any) -> float:
    """The number as a float; NaN of what is none, or too large for a float."""
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
    """The expectation in words: a number in [0, 1), a finite number >= 0."""
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
    """An integer, which may be NumPy's, as a Python integer.

    Args:
        argument: the name of the argument, for the message.
        value: what came.
        least: the smallest allowed; if None, the least that an int32 holds.
        most: the largest allowed; if None, the largest that an int32 holds.

    Raises:
        InputError: if the value is no integer, or beyond a limit.
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
    """A positive integer of 32 bits, which may be NumPy's, as a Python integer.

    Raises:
        InputError: if it is not.
    """
    return check_integer(argument, value, least=1)


def check_seed(argument: str, value: Any) -> int:
    """A number that can seed a random key: JAX's keys are made of 32 bits.

    Raises:
        InputError: if it is not an integer from 0 to 2³² - 1.
    """
    return check_integer(argument, value, least=0, most=2**32 - 1)


def check_bool(argument: str, value: Any) -> bool:
    """True or False, which may be NumPy's; a word such as "no" would count as true.

    Raises:
        InputError: if it is neither.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(argument, "True or False", value)
    return bool(value)


def check_choice(argument: str, value: Choice, choices: Sequence[Choice]) -> Choice:
    """One of a few words.

    Raises:
        InputError: if it is another.
    """
    if not isinstance(value, str) or value not in choices:
        raise InputError(argument, f"one of {', '.join(choices)}", value)
    return value


def check_float_dtype(argument: str, value: Any) -> np.dtype:
    """A floating-point dtype, or what stands for one, such as "float32".

    Raises:
        InputError: if it is none.
    """
    try:
        # NumPy takes None for its own default.
        dtype = None if value is None else jnp.dtype(value)
    except (TypeError, ValueError, OverflowError):
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise InputError(argument, "a floating-point dtype", value)
    return dtype

"""What every layer with a sliding window checks: its options and its input."""

from collections.abc import Sequence

import numpy as np

from jaxnets.arrays import ArrayLike, InputError, check_floats, describe

#: One integer for every spatial axis, or one for each.
PerAxis = int | Sequence[int]


def per_axis(argument: str, value: PerAxis, axes: int, least: int = 1) -> tuple[int, ...]:
    """Spreads an option over the spatial axes: 3 becomes (3, 3) for two of them.

    Args:
        argument: the option's name.
        value: an integer, or one for each axis.
        axes: the number of spatial axes.
        least: the smallest integer allowed.

    Returns:
        A tuple of ``axes`` integers.

    Raises:
        InputError: if the value is anything else.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * axes
    if len(values) != axes or not all(_is_integer(v) and v >= least for v in values):
        several = f", or {axes} of them" if axes > 1 else ""
        raise InputError(argument, f"an integer of at least {least}{several}", value)
    return tuple(int(v) for v in values)


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_input(x: ArrayLike, axes: int, channels: int | str = "C") -> None:
    """Checks an input [N, ..., C], its channels last.

    Args:
        x: the input.
        axes: the number of spatial axes, 1 or 2, none of which may be empty.
        channels: the number of channels; a word where any number will do.

    Raises:
        InputError: if the rank, the channels or a spatial size is wrong, or x is not floating.
    """
    check_floats("x", x, ("N", *(["L"] if axes == 1 else ["H", "W"]), channels))
    if 0 in x.shape[1:-1]:
        raise InputError("x", "at least one position along every spatial axis", describe(x))

"""Checks of the options and inputs of layers with sliding windows."""

from collections.abc import Sequence

from jaxnets.arrays import ArrayLike, InputError, check_floats, check_integer, describe, entries

#: One integer for every spatial axis, or one for each.
PerAxis = int | Sequence[int]

#: The names of the spatial axes, by their number.
AXES = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}


def per_axis(argument: str, value: PerAxis, axes: int, least: int | None = 1) -> tuple[int, ...]:
    """Checks an option and spreads it over the spatial axes: 3 becomes (3, 3) for two axes.

    Args:
        argument: the name of the option, for error messages.
        value: an integer, or one for each axis.
        axes: the number of spatial axes.
        least: the smallest integer allowed; None for any.

    Returns:
        A tuple of ``axes`` integers.

    Raises:
        InputError: if the value is anything else.
    """
    given = entries(value)
    values = (value,) * axes if given is None else given
    several = f", or {axes} of them" if axes > 1 else ""  # such as "an integer, or 2 of them"
    if len(values) != axes:
        raise InputError(argument, f"an integer{several}", value)
    try:
        return tuple(check_integer(argument, v, least=least) for v in values)
    except InputError as error:
        raise InputError(argument, f"{error.expected}{several}", value) from None


def check_input(x: ArrayLike, axes: int, channels: int | str = "C", *, argument: str = "x") -> None:
    """Checks an input [N, ..., C] with channels last.

    Args:
        x: the input.
        axes: the number of spatial axes, from 1 to 3, none of which may be empty.
        channels: the number of channels; a string if any number is valid.
        argument: the name of the input, for error messages.

    Raises:
        InputError: if the rank, the channels or a spatial size is wrong, or x is not floating.
    """
    check_floats(argument, x, ("N", *AXES[axes], channels))
    if 0 in x.shape[1:-1]:
        raise InputError(argument, "at least one position along every spatial axis", describe(x))


def spatial_sizes(output_size: PerAxis, axes: int) -> tuple[int, ...]:
    """Returns the spatial sizes of an output, given the sizes or the whole shape [N, ..., C].

    Args:
        output_size: one integer for each spatial axis, or a shape.
        axes: the number of spatial axes.

    Raises:
        InputError: if ``output_size`` is neither.
    """
    given = entries(output_size)
    whole = given is not None and len(given) == axes + 2
    return per_axis("output_size", given[1:-1] if given and whole else output_size, axes)

"""The columns of a split: the names of their arrays, and the shape and dtype of an example."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxnets.arrays import InputError, describe


class ElementSpec(NamedTuple):
    """The shape and dtype of one example and of its label.

    Attributes:
        inputs: a ``jax.ShapeDtypeStruct``, or a tuple or dictionary of them.
        labels: a ``jax.ShapeDtypeStruct``, or a tuple or dictionary of them; None without labels.
    """

    inputs: Any
    labels: Any


def named(argument: str, column: Any) -> dict[str, Any]:
    """Returns the arrays of a column by name, such as ``inputs``, ``inputs[0]``, ``inputs.image``.

    They are in the order of ``jax.tree.leaves``.

    Raises:
        InputError: if a tuple or dictionary is empty, or a name is not an identifier.
    """
    if not isinstance(column, dict | tuple):
        return {argument: column}
    if not column:
        raise InputError(argument, "at least one array", "none")
    if isinstance(column, tuple):
        return {f"{argument}[{place}]": array for place, array in enumerate(column)}
    for name in column:
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(argument, "names such as 'image'", name)
    return {f"{argument}.{name}": column[name] for name in sorted(column)}


def map_named(function: Callable[[str, Any], Any], argument: str, column: Any) -> Any:
    """Applies a function of name and array to each array of a column.

    Raises:
        InputError: see ``named``.
    """
    made = [function(name, array) for name, array in named(argument, column).items()]
    if isinstance(column, dict):
        return dict(zip(sorted(column), made, strict=True))
    return tuple(made) if isinstance(column, tuple) else made[0]


def same_structure(column: Any, other: Any) -> bool:
    """Whether two columns have the same pytree structure."""
    structures: list[Any] = [jax.tree.structure(each) for each in (column, other)]
    return bool(structures[0] == structures[1])


def single(argument: str, column: Any) -> Any:
    """Checks that a column is one array, and returns it.

    Raises:
        InputError: if the column has several arrays or is None.
    """
    if column is None or isinstance(column, dict | tuple):
        parts = ", ".join(named(argument, column))
        raise InputError(argument, "one array", "none" if column is None else parts)
    return column


def spec_of(array: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of one example of an array [N, …]."""
    return jax.ShapeDtypeStruct(array.shape[1:], array.dtype)


def column_spec(spec: ElementSpec) -> dict[str, Any]:
    """Returns the shapes and dtypes of one example's columns by name."""
    named = {"inputs": spec.inputs, "labels": spec.labels}
    return {name: column for name, column in named.items() if column is not None}


def described(spec: Any) -> str:
    """Formats a shape and dtype, or those in a tuple or dictionary."""
    if isinstance(spec, dict):
        return f"{{{', '.join(f'{name}: {described(part)}' for name, part in spec.items())}}}"
    if isinstance(spec, tuple):
        return f"({', '.join(map(described, spec))})"
    return "none" if spec is None else describe(spec)


def describe_examples(count: int, spec: ElementSpec) -> str:
    """Formats the number and spec of examples.

    For example ``60,000 examples: inputs uint8[28, 28, 1], labels int32[]``.
    """
    parts = [f"{name} {described(column)}" for name, column in column_spec(spec).items()]
    return f"{count:,} examples: {', '.join(parts)}"

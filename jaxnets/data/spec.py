"""The shape and dtype of an example."""

from typing import Any, NamedTuple

from jaxnets.arrays import describe


class ElementSpec(NamedTuple):
    """The shape and dtype of one example and of its label.

    Attributes:
        inputs: of an example: a ``jax.ShapeDtypeStruct``, or a tuple or dictionary of them.
        labels: of a label, likewise; None if there are none.
    """

    inputs: Any
    labels: Any


def column_spec(spec: ElementSpec) -> dict[str, Any]:
    """The shape and dtype of one example's columns, by name."""
    named = {"inputs": spec.inputs, "labels": spec.labels}
    return {name: column for name, column in named.items() if column is not None}


def described(spec: Any) -> str:
    """A shape and dtype in words; of a tuple or dictionary, those of its parts."""
    if isinstance(spec, dict):
        return f"{{{', '.join(f'{name}: {described(part)}' for name, part in spec.items())}}}"
    if isinstance(spec, tuple):
        return f"({', '.join(map(described, spec))})"
    return "none" if spec is None else describe(spec)


def describe_examples(count: int, spec: ElementSpec) -> str:
    """So many examples in words: ``60,000 examples: inputs uint8[28, 28, 1], labels int32[]``."""
    parts = [f"{name} {described(column)}" for name, column in column_spec(spec).items()]
    return f"{count:,} examples: {', '.join(parts)}"

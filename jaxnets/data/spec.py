"""The shape and dtype of an example."""

from typing import NamedTuple

import jax

from jaxnets.arrays import describe


class ElementSpec(NamedTuple):
    """The shape and dtype of one example and of its label.

    Attributes:
        inputs: of an example.
        labels: of a label.
    """

    inputs: jax.ShapeDtypeStruct
    labels: jax.ShapeDtypeStruct


def describe_examples(count: int, spec: ElementSpec) -> str:
    """So many examples in words: ``60,000 examples: inputs uint8[28, 28, 1], labels int32[]``."""
    return f"{count:,} examples: inputs {describe(spec.inputs)}, labels {describe(spec.labels)}"

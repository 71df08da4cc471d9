"""The shape and dtype of an example."""

from typing import NamedTuple

import jax


class ElementSpec(NamedTuple):
    """The shape and dtype of one example and of its label.

    Attributes:
        inputs: of an example.
        labels: of a label.
    """

    inputs: jax.ShapeDtypeStruct
    labels: jax.ShapeDtypeStruct

"""The integers by which a model looks up rows of embeddings, checked where they have values."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.layers import Embedding
from jaxnets.layers.embedding import noted_lookups
from jaxnets.training.state import Program, TrainState, outputs

# So many examples are looked at at a time, where indices are computed from the inputs.
_CHUNK = 1024


def has_embeddings(model: nnx.Module) -> bool:
    """Whether a model may look up rows."""
    return any(isinstance(node, Embedding) for _, node in nnx.iter_graph(model))


class Lookups:
    """The lookups of a model in the inputs that it is given.

    A compiled program cannot refuse an index without a row, as PyTorch does: its row is NaN.

    Args:
        program: the model.
        state: its arrays.
        inputs: shape and dtype of some examples.

    Attributes:
        outputs: shapes of what the model makes of these.

    Raises:
        InputError: if the inputs do not fit the model.
    """

    def __init__(self, program: Program, state: TrainState, inputs: jax.ShapeDtypeStruct) -> None:
        self._program, self._state = program, state
        self._rows: list[int] = []
        self._rows_of_computed: list[int] = []
        self.outputs = jax.eval_shape(self._look, state, inputs)

    def check(self, argument: str, inputs: np.ndarray) -> None:
        """Looks at examples.

        Raises:
            InputError: if one of their indices has no row.
        """
        if not inputs.size:
            return
        if self._rows:
            _check(argument, inputs.min(), inputs.max(), min(self._rows))
        for start in range(0, len(inputs), _CHUNK) if self._rows_of_computed else ():
            last = max(0, len(inputs) - _CHUNK)  # so that all chunks have the same size
            chunk = inputs[min(start, last) :][:_CHUNK]
            ends = jax.device_get(self._ends(self._state, chunk))
            for (low, high), rows in zip(ends, self._rows_of_computed, strict=True):
                _check(argument, low, high, rows)

    def _look(self, state: TrainState, inputs: jax.Array) -> Any:
        with noted_lookups() as found:
            made = outputs(self._program, state, inputs)
        self._rows = [one.rows for one in found if one.indices is inputs]
        others = [one for one in found if one.indices is not inputs]
        self._rows_of_computed = [one.rows for one in others if _ends(one.indices) is not None]
        return made

    @functools.cached_property
    def _ends(self) -> Any:
        """A program that finds the least and the greatest of indices that are computed."""

        def ends(state: TrainState, inputs: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
            with noted_lookups() as found:
                outputs(self._program, state, inputs)
            pairs = [_ends(one.indices) for one in found if one.indices is not inputs]
            return [pair for pair in pairs if pair is not None]

        return jax.jit(ends)


def _ends(indices: jax.Array) -> tuple[jax.Array, jax.Array] | None:
    """The least and the greatest; None of none, or of an inner program such as a loop."""
    try:
        return (indices.min(), indices.max()) if indices.size else None
    except jax.errors.UnexpectedTracerError:
        return None


def _check(argument: str, low: Any, high: Any, rows: int) -> None:
    if not 0 <= low <= high < rows:
        expected = f"indices in [0, {rows - 1}], as the model's embedding has {rows} rows"
        raise InputError(argument, expected, f"{low} to {high}")

"""Range checks of embedding indices and labels, on the host, where their values are known."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.data.spec import named
from jaxnets.kernels import native
from jaxnets.kernels.graph import Graph
from jaxnets.layers import Embedding
from jaxnets.layers.embedding import noted_lookups
from jaxnets.losses.labels import noted_labels
from jaxnets.training.labels import Classes, Labels
from jaxnets.training.state import TrainState

# Number of examples checked at a time if indices are computed from the inputs.
_CHUNK = 1024


def has_embeddings(model: nnx.Module) -> bool:
    """Whether a model has embeddings, which look up rows by index."""
    return any(isinstance(node, Embedding) for _, node in nnx.iter_graph(model))


class Checks:
    """Finds the columns that a function uses as embedding indices and labels, to check their range.

    A compiled program cannot raise for an index out of range, as PyTorch does: the row is NaN. So
    the function is traced once here. ``noted_lookups`` records the tracers that embeddings use as
    indices. If such a tracer is a column of the batch itself, its values are checked on the host;
    if it is computed from the inputs, a second program computes its range.

    Args:
        function: a function of (state, batch).
        state: the training state.
        batch: shape and dtype of each column.

    Attributes:
        outputs: the shapes of the function's outputs.
        labels: the valid labels, by the name of their column.
    """

    def __init__(
        self,
        function: Callable[[TrainState, Any], Any],
        state: TrainState,
        batch: Mapping[str, Any],
    ) -> None:
        self._function, self._state, self._spec = function, state, dict(batch)
        self._rows: dict[str, int] = {}
        self._rows_of_computed: list[int] = []
        self._in_range = False  # indices that do not depend on the batch have been checked
        self.labels: dict[str, Labels] = {}
        self.outputs = jax.eval_shape(self._trace, state, dict(batch))

    def check(self, argument: str, batch: Mapping[str, Any]) -> None:
        """Checks the indices and labels of some examples.

        Args:
            argument: the split's name in error messages; ``""`` names only the column.
            batch: the columns.

        Raises:
            InputError: if an index has no row in an embedding, or a label is invalid for the loss.
        """
        columns = _named(batch)
        prefix = f"{argument}." if argument else ""
        for name, rows in self._rows.items():
            if columns[name].size:
                _check(f"{prefix}{name}", columns[name].min(), columns[name].max(), rows)
        for name, labels in self.labels.items():
            labels.check(f"{prefix}{name}", columns[name])
        count = len(next(iter(columns.values()), ()))
        computed = self._rows_of_computed and not self._in_range
        for start in range(0, count, _CHUNK) if computed else ():
            first = min(start, max(0, count - _CHUNK))  # chunks of one size need one program
            chunk = jax.tree.map(lambda x, first=first: x[first:][:_CHUNK], dict(batch))
            ends = jax.device_get(self._ends(self._state, chunk))
            for (low, high), rows in zip(ends, self._rows_of_computed, strict=True):
                _check(f"{prefix}inputs", low, high, rows)
            if not self._depend_on_batch:  # the same for every batch, so one check is enough
                self._in_range = True
                break

    def _trace(self, state: TrainState, batch: dict[str, Any]) -> Any:
        # Without kernels, whose rewrite traces the function with other tracers.
        with native.aside(), noted_lookups() as found, noted_labels() as read:
            made = self._function(state, batch)
        # By identity: a column that a transform has changed is another tracer.
        names = {id(column): name for name, column in _named(batch).items()}
        others = []
        for one in found:
            name = names.get(id(one.indices))
            if name is not None:
                self._rows[name] = min(one.rows, self._rows.get(name, one.rows))
            elif _ends(one.indices) is not None:
                others.append(one.rows)
        self._rows_of_computed = others
        for label in read:
            name = names.get(id(label.labels))
            if name is not None:
                self.labels.setdefault(name, Classes(label.classes, label.ignored))
        return made

    @functools.cached_property
    def _ends(self) -> Any:
        """A program that finds the smallest and largest of the computed indices."""

        def ends(state: TrainState, batch: dict[str, Any]) -> list[tuple[jax.Array, jax.Array]]:
            with native.aside(), noted_lookups() as found:
                self._function(state, batch)
            columns = {id(column) for column in jax.tree.leaves(batch)}
            pairs = [_ends(one.indices) for one in found if id(one.indices) not in columns]
            return [pair for pair in pairs if pair is not None]

        return jax.jit(ends)

    @functools.cached_property
    def _depend_on_batch(self) -> bool:
        """Whether the computed indices depend on the batch; the positions of tokens do not."""
        graph = Graph(self._ends.trace(self._state, self._spec).jaxpr)
        columns = set(graph.inputs[len(jax.tree.leaves(self._state)) :])
        return any(columns & graph.origins(value) for value in graph.outputs)


def _named(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of a batch by names such as ``inputs``, ``inputs.image``."""
    return {name: array for part in batch for name, array in named(part, batch[part]).items()}


def _ends(indices: jax.Array) -> tuple[jax.Array, jax.Array] | None:
    """Returns the smallest and largest index.

    None if there are no indices, or if they are tracers of an inner program such as a loop.
    """
    try:
        return (indices.min(), indices.max()) if indices.size else None
    except jax.errors.UnexpectedTracerError:
        return None


def _check(argument: str, low: Any, high: Any, rows: int) -> None:
    if not 0 <= low <= high < rows:
        expected = f"indices in [0, {rows - 1}], as the model's embedding has {rows} rows"
        raise InputError(argument, expected, f"{low} to {high}")

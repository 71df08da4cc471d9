"""Embeddings: tables of vectors that are looked up by index."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_floats,
    check_integer,
    check_number,
    check_positive,
    describe,
)
from jaxnets.layers.parameters import check_harmless, check_others, check_parameters


class Lookup(NamedTuple):
    """A lookup in an embedding, recorded while a function is traced.

    Attributes:
        indices: the traced indices, without values.
        rows: the number of rows of the table.
    """

    indices: jax.Array
    rows: int


_noted: ContextVar[list[Lookup] | None] = ContextVar("lookups", default=None)


@contextlib.contextmanager
def noted_lookups() -> Iterator[list[Lookup]]:
    """Records the lookups of functions that are traced within the context.

    Traced indices have no values to check. A caller traces a model once with this context, and then
    checks the values of the recorded indices outside of jit.

    Yields:
        The list to which each ``Lookup`` is appended.
    """
    found: list[Lookup] = []
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


class Embedding(nnx.Embed):
    """``torch.nn.Embedding``: row i of a table for each index i.

    Parameter: ``embedding`` [num_embeddings, embedding_dim], PyTorch's weight; it starts as
    N(0, 1), its padding row as zeros.

    Args:
        num_embeddings: the number of rows.
        embedding_dim: the size of each row.
        padding_idx: the index of a row that starts at zero and receives no gradient; a negative
            number counts from the end.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the table.

    Examples:
        >>> embedding = Embedding(100, 8, padding_idx=0, rngs=nnx.Rngs(0))
        >>> rows = embedding(jnp.array([[5, 7, 0]]))
        >>> rows.shape, bool((rows[0, 2] == 0).all())
        ((1, 3, 8), True)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
        check_positive("num_embeddings", num_embeddings)
        check_positive("embedding_dim", embedding_dim)
        rngs = check_parameters(rngs, param_dtype)
        super().__init__(
            num_embeddings,
            embedding_dim,
            embedding_init=initializers.normal(),
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.padding_idx = check_padding(padding_idx, num_embeddings)
        if self.padding_idx is not None:
            self.embedding[...] = self.embedding[...].at[self.padding_idx].set(0)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim

    def __call__(self, indices: jax.Array) -> jax.Array:
        """Looks up one row per index.

        Args:
            indices: integers in [0, num_embeddings), of any shape.

        Returns:
            [*indices.shape, embedding_dim]. Under ``jax.jit`` indices cannot be checked, and the
            row for an index out of range is NaN. ``fit``, ``evaluate``, ``predict`` and
            ``predictor`` raise an error for such an index before they call the model.

        Raises:
            InputError: if the indices are not integers or, outside ``jax.jit``, out of range.
        """
        check_indices("indices", indices, self.num_embeddings)
        return _looked_up(self.embedding[...], jnp.asarray(indices), self.padding_idx)


def embedding(
    input: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> jax.Array:
    """``torch.nn.functional.embedding``: row i of a table for each index i.

    Args:
        input: integers in [0, rows), of any shape.
        weight: the table [rows, features].
        padding_idx: the index of a row that receives no gradient; a negative number counts from the
            end.
        max_norm: must be None; limiting the norm of rows is not supported.
        norm_type: accepted for compatibility with PyTorch; has no effect.
        scale_grad_by_freq: must be False; dividing gradients by counts is not supported.
        sparse: must be False; sparse gradients are not supported.

    Returns:
        [*input.shape, features]; under ``jax.jit`` NaN for an index out of range.

    Raises:
        InputError: if an argument is invalid or, outside ``jax.jit``, an index is out of range.
    """
    check_lookup(max_norm, norm_type, scale_grad_by_freq, sparse)
    check_floats("weight", weight, ("rows", "features"))
    padding_idx = check_padding(padding_idx, weight.shape[0])
    check_indices("input", input, weight.shape[0])
    return _looked_up(jnp.asarray(weight[...]), jnp.asarray(input), padding_idx)


def _looked_up(table: jax.Array, indices: jax.Array, padding: int | None) -> jax.Array:
    rows = rows_of(table, indices)
    if padding is None:
        return rows
    return jnp.where((indices == padding)[..., None], lax.stop_gradient(rows), rows)


def check_lookup(max_norm: Any, norm_type: Any, scale_grad_by_freq: Any, sparse: Any) -> None:
    """Checks that the arguments of PyTorch that are not supported have their default values.

    Raises:
        InputError: if one has another value.
    """
    check_harmless("max_norm", max_norm)
    check_number("norm_type", norm_type, finite=False)
    check_harmless("scale_grad_by_freq", scale_grad_by_freq)
    check_harmless("sparse", sparse)


def check_padding(padding_idx: int | None, rows: int) -> int | None:
    """Checks the index of the padding row, and returns it as a nonnegative integer, or None.

    Raises:
        InputError: if the index is out of range.
    """
    if padding_idx is None:
        return None
    return check_integer("padding_idx", padding_idx, least=-rows, most=rows - 1) % rows


def check_indices(argument: str, indices: ArrayLike, rows: int) -> None:
    """Checks the indices of a lookup; traced indices are recorded for ``noted_lookups``.

    Args:
        argument: the name of the argument, for error messages.
        indices: the indices, integers of any shape.
        rows: the number of rows of the table.

    Raises:
        InputError: if the indices are not integers or, outside ``jax.jit``, out of range.
    """
    if not isinstance(indices, jax.Array | np.ndarray):
        raise InputError(argument, "an array of integers", type(indices).__name__)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise InputError(argument, "an array of integers", describe(indices))
    if isinstance(indices, jax.core.Tracer):
        if (noted := _noted.get()) is not None:
            noted.append(Lookup(indices, rows))
        return
    values = np.asarray(indices)
    if values.size and not 0 <= values.min() <= values.max() < rows:
        got = f"{values.min()} to {values.max()}"
        raise InputError(argument, f"indices in [0, {rows})", got)


def rows_of(table: jax.Array, indices: jax.Array) -> jax.Array:
    """Looks up rows of a table; NaN for an index out of range, including negative ones."""
    return table.at[indices].get(mode="fill", wrap_negative_indices=False)


class TiedLinear(nnx.Module):
    """A linear layer that shares its weight E with an embedding: y = x Eᵀ + b.

    In PyTorch: ``linear.weight = embedding.weight``. Both modules have the same variable, whose
    gradient is the sum of both uses.

    Parameters: ``weight`` [num_embeddings, embedding_dim], the embedding's own variable, and
    ``bias`` [num_embeddings].

    Args:
        embedding: the embedding.
        bias: the variable b, or None for no bias.

    Raises:
        InputError: if ``embedding`` is not an Embedding; on a call, if x is not floating or its
            last axis has another size.

    Examples:
        >>> embedding = Embedding(100, 8, rngs=nnx.Rngs(0))
        >>> TiedLinear(embedding)(jnp.ones((2, 8))).shape
        (2, 100)
    """

    def __init__(self, embedding: Embedding, bias: nnx.Variable | None = None) -> None:
        if not isinstance(embedding, nnx.Embed):
            raise InputError("embedding", "an Embedding", embedding)
        if bias is not None and not isinstance(bias, nnx.Variable):
            raise InputError("bias", "a variable or None", bias)
        self.weight = embedding.embedding
        self.bias = bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes [..., num_embeddings] from x, [..., embedding_dim]."""
        check_floats("x", x, ("...", self.weight.shape[1]))
        y = jnp.asarray(x) @ self.weight[...].T
        return y if self.bias is None else y + jnp.broadcast_to(self.bias[...], y.shape)

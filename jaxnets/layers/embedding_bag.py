"""Embedding bags: the sum, mean or maximum of the rows of a table for each bag of indices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_choice,
    check_floats,
    describe,
)
from jaxnets.layers.embedding import (
    Embedding,
    check_indices,
    check_lookup,
    check_padding,
    rows_of,
)
from jaxnets.layers.parameters import check_others

_MODES = ("sum", "mean", "max")


def embedding_bag(
    input: ArrayLike,
    weight: ArrayLike,
    offsets: ArrayLike | None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: ArrayLike | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> jax.Array:
    """``torch.nn.functional.embedding_bag``: the sum, mean or maximum of each bag of rows.

    Args:
        input: indices [B, L], where each row is a bag, or [n], the concatenated bags.
        weight: the table [rows, features].
        offsets: for [n] indices, the position where each bag starts: nondecreasing integers [B],
            the first of them 0. The result for an empty bag is zeros.
        max_norm: must be None; limiting the norm of rows is not supported.
        norm_type: accepted for compatibility with PyTorch; has no effect.
        scale_grad_by_freq: must be False; dividing gradients by counts is not supported.
        mode: "sum", "mean" or "max". The first of equal maxima receives the gradient.
        sparse: must be False; sparse gradients are not supported.
        per_sample_weights: the factor of each row, of the input's shape; only for mode "sum".
        include_last_offset: whether the offsets have a last entry n.
        padding_idx: an index that is ignored, also in the count of a mean; a negative number counts
            from the end of the table.

    Returns:
        [B, features]. Under ``jax.jit`` indices cannot be checked, and the result for a bag with an
        index out of range is NaN.

    Raises:
        InputError: if a shape is invalid or, outside ``jax.jit``, a value is.
    """
    check_lookup(max_norm, norm_type, scale_grad_by_freq, sparse)
    check_choice("mode", mode, _MODES)
    check_floats("weight", weight, ("rows", "features"))
    padding = check_padding(padding_idx, weight.shape[0])
    last = check_bool("include_last_offset", include_last_offset)
    check_indices("input", input, weight.shape[0])
    bags = _bags("input", input, offsets, last)
    _check_weights(per_sample_weights, input, mode)
    table = jnp.asarray(weight[...])
    return _reduced(table, jnp.asarray(input), bags, per_sample_weights, mode, padding)


class EmbeddingBag(Embedding):
    """``torch.nn.EmbeddingBag``: the sum, mean or maximum of the rows of each bag of indices.

    Parameter: ``embedding`` [num_embeddings, embedding_dim], PyTorch's weight; it starts as
    N(0, 1), its padding row as zeros.

    Args:
        num_embeddings: the number of rows.
        embedding_dim: the size of each row.
        mode: "sum", "mean" or "max".
        include_last_offset: whether the offsets of a call have a last entry, the number of indices.
        padding_idx: an index that is ignored; a negative number counts from the end.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the table.

    Examples:
        >>> layer = EmbeddingBag(10, 3, mode="sum", rngs=nnx.Rngs(0))
        >>> layer(jnp.array([1, 2, 4, 5, 4]), jnp.array([0, 3])).shape  # bags of 3 and of 2
        (2, 3)
        >>> layer(jnp.array([[1, 2], [4, 5]])).shape
        (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
        **others: Any,
    ) -> None:
        check_others(self, others, "max_norm", "norm_type", "scale_grad_by_freq", "sparse")
        self.mode = check_choice("mode", mode, _MODES)
        self.include_last_offset = check_bool("include_last_offset", include_last_offset)
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, rngs=rngs, param_dtype=param_dtype
        )

    def __call__(
        self,
        indices: ArrayLike,
        offsets: ArrayLike | None = None,
        per_sample_weights: ArrayLike | None = None,
    ) -> jax.Array:
        """Computes the sum, mean or maximum of the rows of each bag, [B, embedding_dim].

        Args:
            indices: integers in [0, num_embeddings): [B, L], where each row is a bag, or [n].
            offsets: for [n] indices, the position where each bag starts; see ``embedding_bag``.
            per_sample_weights: the factor of each row, of the shape of the indices; only for mode
                "sum".

        Raises:
            InputError: if a shape is invalid or, outside ``jax.jit``, a value is. Under ``jax.jit``
                the result for a bag with an index out of range is NaN.
        """
        check_indices("indices", indices, self.num_embeddings)
        bags = _bags("indices", indices, offsets, self.include_last_offset)
        _check_weights(per_sample_weights, indices, self.mode)
        table, indices = self.embedding[...], jnp.asarray(indices)
        return _reduced(table, indices, bags, per_sample_weights, self.mode, self.padding_idx)


def _reduced(
    table: jax.Array,
    indices: jax.Array,
    bags: tuple[jax.Array, int],
    weights: ArrayLike | None,
    mode: str,
    padding: int | None,
) -> jax.Array:
    """Computes the sum, mean or maximum of the rows of each bag.

    Args:
        table: [rows, features].
        indices: n integers of any shape.
        bags: the bag of each index [n], and the number of bags.
        weights: the factors of the rows, of the shape of the indices, or None.
        mode: "sum", "mean" or "max".
        padding: the index that is ignored, or None.
    """
    indices, (bag, count) = indices.reshape(-1), bags
    rows = rows_of(table, indices)
    counts = jnp.ones(indices.shape, bool) if padding is None else indices != padding
    if weights is not None:
        rows = rows * jnp.asarray(weights).reshape(-1, 1)
    if mode == "max":
        invalid = (indices < 0) | (indices >= table.shape[0])
        return _largest(rows, counts, invalid, bag, count)
    total = jax.ops.segment_sum(jnp.where(counts[:, None], rows, 0), bag, count)
    if mode == "sum":
        return total
    sizes = jax.ops.segment_sum(counts.astype(rows.dtype), bag, count)
    return total / jnp.maximum(sizes, 1)[:, None]


def _largest(
    rows: jax.Array, counts: jax.Array, invalid: jax.Array, bag: jax.Array, count: int
) -> jax.Array:
    """Computes the maximum of each bag.

    As in PyTorch, a NaN is the maximum only if its row is the first of the bag. ``invalid`` marks
    indices out of range, whose NaN always is the maximum.
    """
    places, none = jnp.arange(rows.shape[0]), rows.shape[0]
    first = jax.ops.segment_min(jnp.where(counts, places, none), bag, count)
    leads = (places == first[bag]) | invalid
    # A NaN has rank ∞ if it is to be the maximum, and -∞ otherwise.
    ranks = jnp.where(jnp.isnan(rows), jnp.where(leads, jnp.inf, -jnp.inf)[:, None], rows)
    ranks = jnp.where(counts[:, None], jax.lax.stop_gradient(ranks), -jnp.inf)
    highest = counts[:, None] & (ranks == jax.ops.segment_max(ranks, bag, count)[bag])
    # The first of equal maxima is taken by its index, so that it alone receives the gradient.
    best = jax.ops.segment_min(jnp.where(highest, places[:, None], none), bag, count)
    best = jnp.minimum(best, none)  # for an empty bag segment_min is the largest integer
    return jnp.take_along_axis(rows, best, axis=0, mode="fill", fill_value=0)


def _bags(
    argument: str, indices: ArrayLike, offsets: ArrayLike | None, last: bool
) -> tuple[jax.Array, int]:
    """Returns the bag of each index, and the number of bags."""
    if indices.ndim == 2:
        if offsets is not None:
            raise InputError("offsets", f"None with {argument} [B, L]", type(offsets).__name__)
        count, length = indices.shape
        bag = jnp.broadcast_to(jnp.arange(count)[:, None], (count, length))
        return bag.reshape(-1), count
    if indices.ndim != 1:
        raise InputError(argument, "an array of integers [B, L] or [n]", describe(indices))
    expected = f"nondecreasing integers [B] that start with 0, for {argument} [n]"
    if not isinstance(offsets, jax.Array | np.ndarray):
        raise InputError("offsets", expected, type(offsets).__name__)
    whole = jnp.issubdtype(offsets.dtype, jnp.integer)
    if not whole or offsets.ndim != 1 or len(offsets) < last:
        raise InputError("offsets", expected, describe(offsets))
    if not isinstance(offsets, jax.core.Tracer):
        _check_offsets(np.asarray(offsets), len(indices), last, expected)
    places = jnp.arange(indices.shape[0])
    bag = jnp.searchsorted(jnp.asarray(offsets), places, side="right") - 1
    return bag, len(offsets) - last


def _check_offsets(offsets: np.ndarray, count: int, last: bool, expected: str) -> None:
    if offsets.size and (offsets[0] != 0 or (np.diff(offsets) < 0).any()):
        raise InputError("offsets", expected, str(offsets[:9].tolist()))
    if offsets.size and (offsets[-1] > count or (last and offsets[-1] != count)):
        end = f"at most {count}" if not last else f"{count}"
        expected = f"a last entry of {end}, the number of indices"
        raise InputError("offsets", expected, int(offsets[-1]))


def _check_weights(weights: ArrayLike | None, indices: ArrayLike, mode: str) -> None:
    if weights is None:
        return
    if mode != "sum":
        raise InputError("per_sample_weights", f'None with mode "{mode}"', type(weights).__name__)
    check_floats("per_sample_weights", weights, indices.shape)

"""Sums, means and maxima of the rows of a table, for bags of indices."""

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
        input: indices [B, L], a bag each row, or [n], the bags one after the other.
        weight: the table [rows, features].
        offsets: where each bag begins in [n] indices: [B] integers that begin with 0 and never
            decrease. A bag without indices is zeros.
        max_norm: None, as no row is scaled down in a call.
        norm_type: PyTorch's, which changes nothing here.
        scale_grad_by_freq: False, as gradients are not divided by counts.
        mode: "sum", "mean" or "max". Of equal maxima the first gets the gradient.
        sparse: False, as gradients are dense.
        per_sample_weights: what each row is multiplied by, of the input's shape; for sums only.
        include_last_offset: whether the offsets end with n.
        padding_idx: indices that do not count, also not in the mean; a negative number counts
            from the end of the table.

    Returns:
        [B, features].

    Raises:
        InputError: if a shape or a value does not fit. Under ``jax.jit``, where no value can be
            looked at, a bag with an index out of range is NaN.
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
        include_last_offset: whether the offsets of a call end with the number of indices.
        padding_idx: an index that does not count; a negative number counts from the end.
        rngs: where the initial values are drawn from.
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
        """Looks up the rows of each bag and puts them together, [B, embedding_dim].

        Args:
            indices: integers in [0, num_embeddings): [B, L], a bag each row, or [n].
            offsets: where each bag begins in [n] indices, as of ``embedding_bag``.
            per_sample_weights: what each row is multiplied by, of the shape of the indices; for
                sums only.

        Raises:
            InputError: if a shape or, outside ``jax.jit``, a value does not fit. Under
                ``jax.jit`` a bag with an index out of range is NaN.
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
    """The rows of each bag put together.

    Args:
        table: [rows, features].
        indices: of any shape, n in all.
        bags: the bag of each index [n], and how many bags there are.
        weights: of the shape of the indices, or None.
        mode: how rows are put together.
        padding: the index that does not count, if any.
    """
    indices, (bag, count) = indices.reshape(-1), bags
    rows = rows_of(table, indices)
    counts = jnp.ones(indices.shape, bool) if padding is None else indices != padding
    if weights is not None:
        rows = rows * jnp.asarray(weights).reshape(-1, 1)
    if mode == "max":
        strange = (indices < 0) | (indices >= table.shape[0])
        return _largest(rows, counts, strange, bag, count)
    total = jax.ops.segment_sum(jnp.where(counts[:, None], rows, 0), bag, count)
    if mode == "sum":
        return total
    sizes = jax.ops.segment_sum(counts.astype(rows.dtype), bag, count)
    return total / jnp.maximum(sizes, 1)[:, None]


def _largest(
    rows: jax.Array, counts: jax.Array, strange: jax.Array, bag: jax.Array, count: int
) -> jax.Array:
    """The maximum of each bag, as PyTorch finds it: NaN is taken only where it comes first."""
    places, none = jnp.arange(rows.shape[0]), rows.shape[0]
    first = jax.ops.segment_min(jnp.where(counts, places, none), bag, count)
    leads = (places == first[bag]) | strange
    ranks = jnp.where(jnp.isnan(rows), jnp.where(leads, jnp.inf, -jnp.inf)[:, None], rows)
    ranks = jnp.where(counts[:, None], jax.lax.stop_gradient(ranks), -jnp.inf)
    highest = counts[:, None] & (ranks == jax.ops.segment_max(ranks, bag, count)[bag])
    best = jax.ops.segment_min(jnp.where(highest, places[:, None], none), bag, count)
    best = jnp.minimum(best, none)  # a bag without indices has none
    return jnp.take_along_axis(rows, best, axis=0, mode="fill", fill_value=0)


def _bags(
    argument: str, indices: ArrayLike, offsets: ArrayLike | None, last: bool
) -> tuple[jax.Array, int]:
    """The bag of each index, and how many bags there are."""
    if indices.ndim == 2:
        if offsets is not None:
            raise InputError("offsets", f"None with {argument} [B, L]", type(offsets).__name__)
        count, length = indices.shape
        bag = jnp.broadcast_to(jnp.arange(count)[:, None], (count, length))
        return bag.reshape(-1), count
    if indices.ndim != 1:
        raise InputError(argument, "an array of integers [B, L] or [n]", describe(indices))
    expected = f"integers [B] that begin with 0 and never decrease, for {argument} [n]"
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
        raise InputError("offsets", f"{end} at the end, the number of indices", int(offsets[-1]))


def _check_weights(weights: ArrayLike | None, indices: ArrayLike, mode: str) -> None:
    if weights is None:
        return
    if mode != "sum":
        raise InputError("per_sample_weights", f'None with mode "{mode}"', type(weights).__name__)
    check_floats("per_sample_weights", weights, indices.shape)

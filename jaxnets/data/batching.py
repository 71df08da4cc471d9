"""The order of examples and their division into batches, as pure functions on the host."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_positive

#: Number of consecutive batches within which examples are grouped by width.
CHUNK = 32
_LARGEST_KEY = 2**64 - 1  # seed and epoch are one 64-bit word each of the generator's key


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """The batches of one epoch.

    A smaller last batch is separate and not padded, as in PyTorch: padding would change the batch
    statistics of BatchNorm.

    Args:
        full: indices of the examples in each full batch, int32 [number of full batches,
            batch_size].
        rest: indices of the examples in the smaller last batch, int32 [r] with
            0 ≤ r < batch_size.
        widths: length to which the first axis of each full batch's inputs is cut, int32 [number of
            full batches]; None for no cut. The last batch is not cut.
    """

    full: np.ndarray
    rest: np.ndarray
    widths: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"Plan of {self.steps:,} batches"

    @property
    def steps(self) -> int:
        """Number of batches, the smaller last one included."""
        return len(self.full) + (len(self.rest) > 0)


def epoch_plan(
    count: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    drop_last: bool = False,
    widths: np.ndarray | None = None,
) -> Plan:
    """Plans the batches of one epoch, like ``torch.utils.data.DataLoader``, as a pure function.

    The order depends only on (seed, epoch), so training can resume from the number of the epoch.
    It differs from the order that PyTorch draws from the same seed.

    Args:
        count: number of examples.
        batch_size: number of examples in a batch.
        seed: seed of the run, from 0.
        epoch: number of the epoch, from 0.
        shuffle: whether the order is random; otherwise it is 0, 1, 2, …
        drop_last: whether a smaller last batch is left out.
        widths: the width that each example needs, integers [count], as ``bucketed`` returns; None
            if all need the same. With ``shuffle``, most batches then have examples of one width: in
            each ``CHUNK`` of batches, examples are grouped by width, in random order of the widths.

    Returns:
        A plan with every index below ``count`` once, without those that are left out.

    Raises:
        InputError: if ``count`` or ``batch_size`` is not a positive integer, ``seed`` or ``epoch``
            is not an integer from 0 to 2⁶⁴ - 1, or ``widths`` are not positive integers [count].

    Examples:
        >>> plan = epoch_plan(5, 2, seed=0, epoch=0, shuffle=False)
        >>> plan.full
        array([[0, 1],
               [2, 3]], dtype=int32)
        >>> plan.rest
        array([4], dtype=int32)
    """
    check_positive("count", count)
    check_positive("batch_size", batch_size)
    check_integer("seed", seed, least=0, most=_LARGEST_KEY)
    check_integer("epoch", epoch, least=0, most=_LARGEST_KEY)
    check_bool("shuffle", shuffle)
    check_bool("drop_last", drop_last)
    order = _permutation(count, seed, epoch) if shuffle else np.arange(count, dtype=np.int32)
    end = count - count % batch_size
    full = order[:end].reshape(-1, batch_size)
    rest = order[end:end] if drop_last else order[end:]
    if widths is None:
        return Plan(full, rest)
    _check_widths(widths, count)
    if shuffle:
        full = _grouped(full, widths, _generator(seed, epoch).jumped())
    return Plan(full, rest, widths[full].max(axis=1).astype(np.int32))


def bucketed(lengths: np.ndarray, longest: int, buckets: int) -> np.ndarray:
    """Assigns examples to a few padded widths.

    The widths are quantiles of the lengths, so each bucket has about the same number of examples.

    Args:
        lengths: lengths of the examples, integers [N], at most ``longest``.
        longest: width of the last bucket.
        buckets: number of buckets; there are fewer if quantiles are equal.

    Returns:
        The smallest width that is at least each example's length, int32 [N].

    Raises:
        InputError: if ``buckets`` or ``longest`` is not a positive integer, or a length is not an
            integer up to ``longest``.

    Examples:
        >>> bucketed(np.array([1, 5, 2, 9, 3, 4]), longest=12, buckets=3)
        array([ 3,  5,  3, 12,  3,  5], dtype=int32)
    """
    check_positive("buckets", buckets)
    check_positive("longest", longest)
    if not _are_integers(lengths) or not len(lengths) or lengths.max() > longest:
        raise InputError("lengths", f"integers [N], at most {longest}", lengths)
    shares = np.arange(1, buckets) / buckets
    quantiles = np.quantile(lengths, shares, method="higher")
    ends = np.append(np.maximum(quantiles, 1), longest).astype(np.int32)
    return ends[np.searchsorted(ends, lengths)]


def _check_widths(widths: np.ndarray, count: int) -> None:
    expected = f"positive integers [{count}]"
    if not _are_integers(widths) or len(widths) != count:
        raise InputError("widths", expected, widths)
    if widths.min() < 1:
        raise InputError("widths", expected, f"a width of {widths.min()}")


def _are_integers(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.ndim == 1 and array.dtype.kind in "ui"


def _grouped(full: np.ndarray, widths: np.ndarray, generator: np.random.Philox) -> np.ndarray:
    """Groups examples by width in each chunk of batches.

    Within a chunk and a width the random order is kept. The order of the widths is random too, so
    that training does not always go from short to long examples.
    """
    kinds, kind = np.unique(widths, return_inverse=True)
    chunks = [full[start : start + CHUNK] for start in range(0, len(full), CHUNK)]
    ranks = generator.random_raw(len(chunks) * len(kinds)).reshape(-1, len(kinds))
    grouped = [
        np.ravel(chunk)[np.argsort(rank[kind[np.ravel(chunk)]], kind="stable")]
        for chunk, rank in zip(chunks, ranks, strict=True)
    ]
    return np.concatenate([full[:0].ravel(), *grouped]).reshape(full.shape)


def _generator(seed: int, epoch: int) -> np.random.Philox:
    return np.random.Philox(key=np.array([seed, epoch], np.uint64))


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    # NumPy promises that Philox's raw bits never change; it does not promise that of
    # Generator.permutation. Sorting 64-bit draws makes the same order under every version; two
    # equal draws, whose order the sort leaves open, have a chance of 1e-10 at 60,000 examples.
    return np.argsort(_generator(seed, epoch).random_raw(count)).astype(np.int32)

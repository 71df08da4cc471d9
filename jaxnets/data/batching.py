"""Which examples make up which batch: pure functions on the host, the same on every backend."""

from dataclasses import dataclass

import numpy as np

from jaxnets.arrays import check_bool, check_integer, check_positive

_LARGEST_KEY = 2**64 - 1  # seed and epoch are a word each of the generator's key


@dataclass(frozen=True, eq=False)
class Plan:
    """The batches of one epoch.

    The last, smaller batch is kept apart and trained on at its true size, as in PyTorch: padded to
    the size of the others it would change BatchNorm's statistics.

    Args:
        full: indices of the examples in each full batch, int32 [number of full batches,
            batch_size].
        rest: indices of the examples left over, int32 [r] with 0 ≤ r < batch_size.
    """

    full: np.ndarray
    rest: np.ndarray

    @property
    def steps(self) -> int:
        """The number of batches, the smaller last one included."""
        return len(self.full) + (len(self.rest) > 0)


def epoch_plan(
    count: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    shuffle: bool = True,
    drop_last: bool = False,
) -> Plan:
    """The batches of one epoch: what ``torch.utils.data.DataLoader`` does, as a pure function.

    The order follows from (seed, epoch) alone, so training resumes exactly from the epoch's
    number. It is not the order that PyTorch draws from the same seed.

    >>> epoch_plan(5, 2, seed=0, epoch=0, shuffle=False)
    Plan(full=array([[0, 1],
           [2, 3]], dtype=int32), rest=array([4], dtype=int32))

    Args:
        count: number of examples.
        batch_size: number of examples in a batch.
        seed: of the whole training, from 0.
        epoch: number of the epoch, from 0.
        shuffle: whether the order is random; otherwise it is 0, 1, 2, …
        drop_last: whether a last, smaller batch is left out.

    Returns:
        A plan that has every index below ``count`` once (but for those left out).

    Raises:
        InputError: if count or batch_size is not a positive integer, or seed or epoch not an
            integer from 0 to 2⁶⁴ - 1.
    """
    check_positive("count", count)
    check_positive("batch_size", batch_size)
    check_integer("seed", seed, least=0, most=_LARGEST_KEY)
    check_integer("epoch", epoch, least=0, most=_LARGEST_KEY)
    check_bool("shuffle", shuffle)
    check_bool("drop_last", drop_last)
    order = _permutation(count, seed, epoch) if shuffle else np.arange(count, dtype=np.int32)
    end = count - count % batch_size
    rest = order[end:end] if drop_last else order[end:]
    return Plan(order[:end].reshape(-1, batch_size), rest)


def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    # NumPy promises that Philox's raw bits never change; it does not promise that of
    # Generator.permutation. Sorting 64-bit draws makes the same order under every version; two
    # equal draws, whose order the sort leaves open, have a chance of 1e-10 at 60,000 examples.
    draws = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(draws).astype(np.int32)

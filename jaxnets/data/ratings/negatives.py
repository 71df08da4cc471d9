"""Negatives: items that a user has not rated, drawn in the compiled training step."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxnets.arrays import InputError, check_positive
from jaxnets.data.ratings.rated import Rated
from jaxnets.data.transforms.checks import check_key
from jaxnets.data.transforms.transform import PairTransform


@dataclass(frozen=True, eq=False)
class SampleNegatives(PairTransform):
    """Adds items that the user has not rated to each pair of a batch, with the label 0.

    An augmentation for implicit feedback; see ``fit``. Each step draws from its own key. The draws
    are uniform over the items that the user has not rated.

    Source: He et al., "Neural Collaborative Filtering", 2017, section 4.1.

    Args:
        rated: the items that each user has rated, as ``RatingsDataset.rated`` returns them.
        count: the number of negatives for each pair.

    Raises:
        InputError: if ``rated`` is not a ``Rated``, ``count`` is not a positive integer, or a user
            has rated every item; on a call, if the inputs are not ``user`` and ``item``.

    Examples:
        >>> import numpy as np
        >>> pairs = np.array([[0, 0, 0, 1], [0, 1, 3, 2]])
        >>> sample = SampleNegatives(Rated.of(*pairs, num_users=2, num_items=4), count=2)
        >>> batch = {"user": np.array([0]), "item": np.array([3])}
        >>> inputs, labels = sample(batch, np.ones(1, np.float32), jax.random.key(0))
        >>> print(inputs["item"], labels)  # user 0 has rated all other items than 2
        [3 2 2] [1. 0. 0.]
    """

    rated: Rated
    count: int = 4

    def __post_init__(self) -> None:
        """Checks the arguments."""
        if not isinstance(self.rated, Rated):
            raise InputError("rated", "what RatingsDataset.rated returns", self.rated)
        check_positive("count", self.count)
        if self.rated.unrated.min() < 1:
            raise InputError("rated", "for each user an item that is not rated", "all items of one")

    def __call__(self, x: Any, labels: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        """Adds negatives to a batch.

        Args:
            x: ``user`` and ``item``, integers [B] each.
            labels: labels [B]; only their dtype is used.
            key: the random key.

        Returns:
            ``user`` and ``item`` [B · (1 + count)], in which each pair is followed by its
            negatives, and labels 1 and 0 in the dtype of ``labels``.
        """
        if not isinstance(x, dict) or set(x) != {"user", "item"}:
            raise InputError("x", "a dictionary of user and item", x)
        user, dtype = jnp.asarray(x["user"]), jnp.asarray(labels).dtype
        unrated = jnp.asarray(self.rated.unrated)[user][:, None]
        ranks = jax.random.randint(check_key(key), (len(user), self.count), 0, unrated)
        item = jnp.concatenate([x["item"][:, None], self._unrated_item(user, ranks)], axis=1)
        is_pair = jnp.arange(1 + self.count) == 0
        made = {"item": item.reshape(-1), "user": jnp.repeat(user, 1 + self.count)}
        return made, jnp.tile(is_pair.astype(dtype), len(user))

    def _unrated_item(self, user: jax.Array, ranks: jax.Array) -> jax.Array:
        """Returns the unrated items of each user with these ranks, [B, count]; see ``Rated``."""
        before, starts = jnp.asarray(self.rated.before), jnp.asarray(self.rated.starts)
        first, end = starts[user][:, None], starts[user + 1][:, None]
        low, high = (jnp.broadcast_to(edge, ranks.shape) for edge in (first, end))
        most = int((self.rated.starts[1:] - self.rated.starts[:-1]).max())
        for _ in range(most.bit_length()):  # binary search for the first larger entry
            middle = (low + high) // 2
            after = (low < high) & (before[middle] <= ranks)
            low, high = jnp.where(after, middle + 1, low), jnp.where(after, high, middle)
        return ranks + low - first

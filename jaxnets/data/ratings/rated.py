"""The items that each user has rated, and draws from those that the user has not."""

from dataclasses import dataclass

import numpy as np

from jaxnets.arrays import InputError, check_positive, describe


@dataclass(frozen=True, eq=False)
class Rated:
    """The items that each user has rated, as one sorted list (compressed sparse rows).

    Args:
        items: the items of user 0 in ascending order, then those of user 1, and so on, int32 [N].
        starts: where each user's items start, and the end of the list, int32 [users + 1].
        num_items: the number of items.

    Raises:
        InputError: if the arrays are not such a list.
    """

    items: np.ndarray
    starts: np.ndarray
    num_items: int

    def __post_init__(self) -> None:
        """Checks the arrays."""
        check_positive("num_items", self.num_items)
        for name in ("items", "starts"):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
                got = describe(array) if isinstance(array, np.ndarray) else array
                raise InputError(name, "an int32 array [N]", got)
        if len(self.items) and not 0 <= self.items.min() <= self.items.max() < self.num_items:
            got = f"{self.items.min()} to {self.items.max()}"
            raise InputError("items", f"numbers in [0, {self.num_items})", got)
        ends = self.starts[[0, -1]].tolist() if len(self.starts) > 1 else []
        if ends != [0, len(self.items)] or (np.diff(self.starts) < 0).any():
            raise InputError("starts", f"ascending numbers from 0 to {len(self.items)}", ends)

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, num_users: int, num_items: int) -> "Rated":
        """Makes the list from pairs of a user and an item; repeated pairs count once.

        Args:
            users: integers [N] in [0, num_users).
            items: integers [N] in [0, num_items).
            num_users: the number of users.
            num_items: the number of items.
        """
        pairs = np.unique(users.astype(np.int64) * num_items + items)
        starts = np.searchsorted(pairs, np.arange(num_users + 1) * num_items)
        return cls((pairs % num_items).astype(np.int32), starts.astype(np.int32), num_items)

    def by(self, user: int) -> np.ndarray:
        """Returns the items that a user has rated, in ascending order, int32 [n]."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    @property
    def unrated(self) -> np.ndarray:
        """The number of items that each user has not rated, int32 [users]."""
        return np.int32(self.num_items) - np.diff(self.starts)

    @property
    def before(self) -> np.ndarray:
        """The number of unrated items with a smaller number than each rated one, int32 [N].

        The r-th unrated item of a user, counted from 0, is r plus the number of the user's entries
        that are at most r, because their items precede it. A binary search therefore makes a
        uniform draw from the unrated items, without rejection.
        """
        place = np.arange(len(self.items), dtype=np.int32)
        return self.items - (place - np.repeat(self.starts[:-1], np.diff(self.starts)))

    def draw(self, users: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
        """Draws different items that each user has not rated, int32 [len(users), count].

        Args:
            users: integers [n]; a user that occurs twice gets independent draws.
            count: the number of items for each user.
            seed: the random seed.

        Raises:
            InputError: if a user has fewer than ``count`` unrated items.
        """
        check_positive("count", count)
        fewest = int(self.unrated[users].min())
        if fewest < count:
            expected = f"at most {fewest}, the items that some user has not rated"
            raise InputError("negatives", expected, count)
        generator, before = np.random.Generator(np.random.Philox(key=seed)), self.before
        drawn = np.empty((len(users), count), np.int32)
        for row, user in zip(drawn, users.tolist(), strict=True):
            own = before[self.starts[user] : self.starts[user + 1]]
            ranks = generator.choice(self.num_items - len(own), count, replace=False)
            row[:] = ranks + np.searchsorted(own, ranks, side="right")
        return drawn

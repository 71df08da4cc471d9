"""Ratings as a data set: two columns of indices, and the ids that they encode."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, shown
from jaxnets.data.dataset import Dataset, Split, in_memory
from jaxnets.data.ratings.rated import Rated
from jaxnets.json_files import WRONG, read_object, reason


@dataclass(frozen=True)
class RatingsEncoder:
    """Turns the ids of users and items into indices, and back.

    Args:
        users: the id of each user, in the order of their indices.
        items: the id of each item, in the order of their indices.
        titles: the title of each item, in the same order; None if titles are not known.

    Raises:
        InputError: if the ids are not different strings, there are no ids, or the number of titles
            differs from the number of items.

    Examples:
        >>> encode = RatingsEncoder(("ann", "bob"), ("50", "181", "258"))
        >>> encode(["bob", "ann"], ["50", "258"])
        {'user': array([1, 0], dtype=int32), 'item': array([0, 2], dtype=int32)}
    """

    users: tuple[str, ...]
    items: tuple[str, ...]
    titles: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks the ids and the titles."""
        for name in ("users", "items"):
            ids = getattr(self, name)
            strings = isinstance(ids, tuple) and all(isinstance(each, str) for each in ids)
            if not strings or not ids or len(set(ids)) < len(ids):
                raise InputError(name, "a tuple of different strings", shown(ids))
        titles = self.titles
        if titles is not None and (
            not isinstance(titles, tuple)
            or not all(isinstance(each, str) for each in titles)
            or len(titles) != len(self.items)
        ):
            raise InputError("titles", f"{len(self.items)} strings, or None", shown(titles))

    @cached_property
    def _indices(self) -> dict[str, dict[str, int]]:
        return {
            "user": {each: index for index, each in enumerate(self.users)},
            "item": {each: index for index, each in enumerate(self.items)},
        }

    def __call__(self, users: Sequence[Any], items: Sequence[Any]) -> dict[str, np.ndarray]:
        """Returns the indices of users and items, int32 [N] each, as inputs of a network.

        Args:
            users: ids, as strings or integers.
            items: ids, as strings or integers.

        Raises:
            InputError: if an id is not known, or the numbers of users and items differ.
        """
        if len(users) != len(items):
            raise InputError("items", f"{len(users)} ids, one for each user", f"{len(items)}")
        return {"user": self.numbered("user", users), "item": self.numbered("item", items)}

    def numbered(self, kind: str, ids: Sequence[Any]) -> np.ndarray:
        """Returns the indices of ids, int32 [N].

        Args:
            kind: ``"user"`` or ``"item"``.
            ids: strings or integers.

        Raises:
            InputError: if an id is not known.
        """
        known = self._indices[kind]
        try:
            return np.array([known[str(each)] for each in ids], np.int32)
        except KeyError as error:
            some = ", ".join(list(known)[:3])
            expected = f"one of the {len(known):,} {kind}s of the data, such as {some}"
            raise InputError(kind, expected, shown(error.args[0])) from None

    def save(self, path: Path | str) -> None:
        """Writes the ids and the titles as JSON."""
        ids = {"users": self.users, "items": self.items, "titles": self.titles}
        Path(path).write_text(json.dumps(ids, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | str) -> "RatingsEncoder":
        """Reads a file that ``save`` has written.

        Raises:
            InputError: if the file is missing or has another content.
        """
        try:
            found = read_object(Path(path))
            titles = found["titles"]
            titles = None if titles is None else tuple(titles)
            return cls(tuple(found["users"]), tuple(found["items"]), titles)
        except WRONG as error:
            expected = "a file written by RatingsEncoder.save"
            raise InputError("path", expected, f"{path}: {reason(error)}") from error


@dataclass(frozen=True, eq=False, repr=False)
class RatingsDataset(Dataset):
    """A ``Dataset`` of ratings: inputs ``user`` and ``item``, int32 [N], and labels float32 [N].

    With explicit feedback, the labels are the ratings. With implicit feedback, all training pairs
    have the label 1. A test example then consists of one item that the user has rated, with label
    1, followed by ``candidates - 1`` items that the user has not rated, with label 0.

    Args:
        encoder: the ids of the users and items.
        candidates: for implicit feedback, the number of rows in one test example; None for explicit
            feedback.

    Raises:
        InputError: if an index has no id, or the rows of a test example are incomplete; see also
            ``Dataset``.
    """

    encoder: RatingsEncoder = field(kw_only=True)
    candidates: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Checks the columns."""
        super().__post_init__()
        if not isinstance(self.encoder, RatingsEncoder):
            raise InputError("encoder", "a RatingsEncoder", self.encoder)
        sizes = {"user": len(self.encoder.users), "item": len(self.encoder.items)}
        for name, split in self.splits.items():
            inputs = in_memory(split).inputs
            if not isinstance(inputs, dict) or set(inputs) != set(sizes):
                got = sorted(inputs) if isinstance(inputs, dict) else "one array"
                raise InputError(f"{name} inputs", "a dictionary of user and item", got)
            for column, size in sizes.items():
                low, high = int(inputs[column].min()), int(inputs[column].max())
                if low < 0 or high >= size:
                    expected = f"numbers in [0, {size - 1}]"
                    raise InputError(f"{name} inputs.{column}", expected, f"{low} to {high}")
        if self.candidates is not None and self.test is not None:
            self._check_candidates(self.candidates, in_memory(self.test))

    def _check_candidates(self, count: int, test: Split) -> None:
        if not isinstance(count, int) or count < 2 or len(test) % count:
            expected = f"2 or more, of which the {len(test)} rows of the test are a multiple"
            raise InputError("candidates", expected, count)
        groups = test.labels.reshape(-1, count)
        if not ((groups[:, 0] == 1) & (groups[:, 1:] == 0).all(1)).all():
            expected = f"1 followed by {count - 1} zeros in each test example"
            raise InputError("test labels", expected, "other labels")

    def _lines(self) -> list[str]:
        users, items = len(self.encoder.users), len(self.encoder.items)
        lines = [*super()._lines(), f"{users:,} users, {items:,} items"]
        if self.candidates is not None:
            count = self.candidates - 1
            lines.append(f"implicit feedback; {count} items not rated in each test example")
        return lines

    def rated(self, which: str = "all") -> Rated:
        """Returns the items that each user has rated.

        Args:
            which: ``"train"`` for the training split, ``"all"`` for both splits.
        """
        parts = [in_memory(self.train)]
        if which == "all" and self.test is not None:
            test = in_memory(self.test)
            own = None if self.candidates is None else np.arange(0, len(test), self.candidates)
            parts.append(test if own is None else test.chosen(own))
        users, items = (
            np.concatenate([part.inputs[name] for part in parts]) for name in ("user", "item")
        )
        return Rated.of(users, items, len(self.encoder.users), len(self.encoder.items))

    @property
    def mean(self) -> float:
        """The mean label of the training split."""
        return float(np.mean(in_memory(self.train).labels, dtype=np.float64))

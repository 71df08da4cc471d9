"""Sets of positions of axes that can only be removed together."""

import numpy as np

#: The label of a position that is never removed, such as one of an image or of a batch.
FIXED = 0


class Atoms:
    """A union-find structure over the labels of positions of axes.

    Positions of one set are removed together. A set can be fixed, with a reason, so that it is not
    removed.
    """

    def __init__(self) -> None:
        self._parents = [FIXED]
        self._fixed: dict[int, str] = {FIXED: ""}

    def new(self, size: int) -> np.ndarray:
        """Returns new labels for the positions of an axis; an axis of size 1 is fixed."""
        if size < 2:
            return np.zeros(size, np.int64)
        start = len(self._parents)
        self._parents.extend(range(start, start + size))
        return np.arange(start, start + size)

    def _root(self, label: int) -> int:
        """Returns the representative of a label's set, with path compression."""
        path = []
        while (above := self._parents[label]) != label:
            path.append(label)
            label = above
        for each in path:
            self._parents[each] = label
        return label

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """Replaces labels by the representatives of their sets."""
        some, places = np.unique(labels, return_inverse=True)
        found = np.array([self._root(label) for label in some.tolist()], np.int64)
        return found[places.reshape(labels.shape)]

    def removable(self, labels: np.ndarray) -> np.ndarray:
        """Whether positions may be removed, for each label."""
        return ~np.isin(self.roots(labels), list(self._fixed))

    def why(self, labels: np.ndarray) -> str:
        """Returns the reason why some of the positions are fixed; "" if none is known."""
        reasons = (self._fixed.get(root, "") for root in self.roots(labels).tolist())
        return next(filter(None, reasons), "")

    def fix(self, labels: np.ndarray, why: str) -> None:
        """Fixes the sets of some positions.

        Args:
            labels: the labels of the positions.
            why: the reason, for messages.
        """
        for root in np.unique(self.roots(labels)).tolist():
            if root != FIXED and not self._fixed.get(root):
                self._fixed[root] = why

    def unite(self, some: np.ndarray, others: np.ndarray, why: str = "") -> None:
        """Unites the sets of corresponding positions of two axes.

        Args:
            some: the labels of one axis.
            others: the labels of the other axis.
            why: the reason to fix a set if the other one is fixed.
        """
        for pair in {*zip(some.tolist(), others.tolist(), strict=True)}:
            one, other = map(self._root, pair)
            if FIXED in (one, other):
                self.fix(np.array([one, other]), why)
            elif one != other:
                self._parents[other] = one
                if other in self._fixed:
                    self._fixed[one] = self._fixed.get(one) or self._fixed[other]

    def unite_rows(self, table: np.ndarray, why: str = "") -> np.ndarray:
        """Unites the sets of the labels in each column of a table; returns the first row."""
        for row in table[1:]:
            self.unite(table[0], row, why)
        return table[0]

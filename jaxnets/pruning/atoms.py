"""Sets of positions that are removed together, or not at all."""

import numpy as np

#: The label of a position that nothing removes, such as one of an image or of a batch.
FIXED = 0


class Atoms:
    """A union-find over labels, which positions of axes have.

    Positions of one set are removed together. Some sets are fixed, each for a reason.
    """

    def __init__(self) -> None:
        self._parents = [FIXED]
        self._fixed: dict[int, str] = {FIXED: ""}

    def new(self, size: int) -> np.ndarray:
        """Labels of their own for the positions of an axis; an axis of one position is fixed."""
        if size < 2:
            return np.zeros(size, np.int64)
        start = len(self._parents)
        self._parents.extend(range(start, start + size))
        return np.arange(start, start + size)

    def _root(self, label: int) -> int:
        path = []
        while (above := self._parents[label]) != label:
            path.append(label)
            label = above
        for each in path:
            self._parents[each] = label
        return label

    def roots(self, labels: np.ndarray) -> np.ndarray:
        """One label for all of a set."""
        some, places = np.unique(labels, return_inverse=True)
        found = np.array([self._root(label) for label in some.tolist()], np.int64)
        return found[places.reshape(labels.shape)]

    def removable(self, labels: np.ndarray) -> np.ndarray:
        """Whether positions may be removed."""
        return ~np.isin(self.roots(labels), list(self._fixed))

    def why(self, labels: np.ndarray) -> str:
        """Why some of the positions are fixed; empty if no reason is known."""
        reasons = (self._fixed.get(root, "") for root in self.roots(labels).tolist())
        return next(filter(None, reasons), "")

    def fix(self, labels: np.ndarray, why: str) -> None:
        """Fixes the sets of positions."""
        for root in np.unique(self.roots(labels)).tolist():
            if root != FIXED and not self._fixed.get(root):
                self._fixed[root] = why

    def unite(self, some: np.ndarray, others: np.ndarray, why: str = "") -> None:
        """Makes one set of each position of an axis and that of another."""
        for pair in {*zip(some.tolist(), others.tolist(), strict=True)}:
            one, other = map(self._root, pair)
            if FIXED in (one, other):
                self.fix(np.array([one, other]), why)
            elif one != other:
                self._parents[other] = one
                if other in self._fixed:
                    self._fixed[one] = self._fixed.get(one) or self._fixed[other]

    def unite_rows(self, table: np.ndarray, why: str = "") -> np.ndarray:
        """Makes one set of each column of a table of labels; returns the first row."""
        for row in table[1:]:
            self.unite(table[0], row, why)
        return table[0]

"""The differences between a PyTorch network and its port, and the verdict."""

import math
from dataclasses import dataclass
from typing import Any

from jaxnets.arrays import printable

#: The largest allowed relative differences in (float32, float64). Differences of outputs and
#: buffers are relative to the largest value of the array, those of gradients and of weights after
#: training to the largest value of the whole network.
TOLERANCES = {
    "outputs": (1e-5, 1e-8),
    "gradients": (1e-5, 1e-7),
    "buffers": (1e-6, 1e-8),
    "weights": (1e-4, 1e-6),
}


@dataclass(frozen=True)
class Measure:
    """One comparison of arrays of both networks.

    Attributes:
        what: the kind of arrays: "outputs", "gradients", "buffers", or "weights" after training.
        mode: "train" or "eval".
        inputs: the inputs: "as given", or another batch size such as "batch 3".
        dtype: the dtype of the computation.
        difference: the largest relative difference; infinite if shapes or names differ.
        tolerance: the largest allowed difference.
        where: the name of the output, parameter or buffer with the largest difference.
    """

    what: str
    mode: str
    inputs: str
    dtype: str
    difference: float
    tolerance: float
    where: str

    @property
    def holds(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class Proof:
    """The result of comparing a network with its port.

    Attributes:
        network: the name of the network's class.
        measures: all comparisons.
        failure: the reason why the comparison failed, or the first difference; empty if all
            comparisons agree.
        notes: remarks for the user.
        sizes: further input shapes for which the port agrees with PyTorch.
        fixed: input shapes that PyTorch accepts but the port does not.
    """

    network: str
    measures: tuple[Measure, ...]
    failure: str = ""
    notes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """``"exact"``, ``"different"``, or ``"failed"`` if the networks could not be compared."""
        if not self.measures or self.failure.startswith("failed "):
            return "failed"
        return "exact" if all(one.holds for one in self.measures) else "different"

    @property
    def worst(self) -> Measure | None:
        """The comparison with the largest ratio of difference to tolerance, or None."""
        return max(self.measures, key=lambda one: one.difference / one.tolerance, default=None)

    def __str__(self) -> str:
        head = ("", "mode", "inputs", "dtype", "difference", "at most", "where")
        rows = [head] + [
            (
                *(one.what, one.mode, one.inputs, one.dtype),
                f"{one.difference:.1e}",
                f"{one.tolerance:.0e}" + ("" if one.holds else "  <-"),
                printable(one.where),
            )
            for one in self.measures
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        lines = lines if self.measures else []
        if self.sizes:
            lines.append(f"also equal with {', '.join(self.sizes)}")
        if self.fixed:
            lines.append(f"accepted by PyTorch but not by the port: {', '.join(self.fixed)}")
        lines += [f"note: {note}" for note in self.notes]
        lines.append(f"{self.network}: {self.verdict}{f': {self.failure}' * bool(self.failure)}")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Returns the result as values that JSON supports."""
        return {
            "network": self.network,
            "verdict": self.verdict,
            "failure": self.failure,
            "notes": list(self.notes),
            "sizes": list(self.sizes),
            "fixed": list(self.fixed),
            "measures": [
                {**vars(one), "difference": _plain(one.difference), "holds": one.holds}
                for one in self.measures
            ],
        }


def _plain(number: float) -> float | None:
    return number if math.isfinite(number) else None

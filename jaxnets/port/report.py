"""What the port of a network is, in words and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxnets.arrays import printable
from jaxnets.port.check import Order, Proof

#: What an input's order of axes is called.
_NAMES = {(0, 2, 3, 1): "NHWC", (0, 2, 3, 4, 1): "NDHWC", (0, 2, 1): "channels last"}


class Found(Protocol):
    """What the report needs of a port.

    Attributes:
        source: the emitted file.
        inputs: the orders of the inputs' axes.
        notes: what the reader should know.
    """

    source: str
    inputs: Any
    notes: list[str]

    @property
    def refusals(self) -> Sequence[Any]:
        """What cannot be ported."""


@dataclass(frozen=True)
class Report:
    """A port, and its proof.

    Attributes:
        target: which network it is.
        ported: the port.
        proof: what the comparison with PyTorch found; None where nothing was compared.
    """

    target: str
    ported: Found
    proof: Proof | None = None

    @property
    def verdict(self) -> str:
        """``"refused"``, ``"unchecked"``, or the proof's: "exact", "different" or "failed"."""
        if self.ported.refusals:
            return "refused"
        return "unchecked" if self.proof is None else self.proof.verdict

    def __str__(self) -> str:
        if self.ported.refusals:
            each = [f"  {printable(one, limit=None)}" for one in self.ported.refusals]
            return "\n".join([f"{self.target} cannot be ported:", *each])
        lines = [
            f"{self.target}: {self._lines()} lines; {_orders(self.ported.inputs)}",
            *(f"note: {printable(note, limit=None)}" for note in self.ported.notes),
        ]
        if self.proof is None:
            lines.append("not compared with PyTorch")
        return "\n".join(lines if self.proof is None else [*lines, str(self.proof)])

    def as_json(self) -> str:
        """The same as one JSON object."""
        return json.dumps(
            {
                "target": self.target,
                "verdict": self.verdict,
                "lines": self._lines(),
                "inputs": self.ported.inputs,
                "notes": list(self.ported.notes),
                "refusals": [str(one) for one in self.ported.refusals],
                "proof": None if self.proof is None else self.proof.as_json(),
            },
            indent=2,
        )

    def _lines(self) -> int:
        return len(self.ported.source.splitlines())


def _orders(orders: Any) -> str:
    """How the inputs are laid out, where that is not PyTorch's order."""
    named = [_named(order) for order in orders]
    if not any(named):
        return "its inputs have PyTorch's order of axes"
    each = [f"input {place} is {name}" for place, name in enumerate(named, start=1) if name]
    return ", ".join(each)


def _named(order: Order | None) -> str:
    if order is None or not all(isinstance(axis, int) for axis in order):
        return ""
    if tuple(order) == tuple(range(len(order))):
        return ""
    return _NAMES.get(tuple(order), f"in the order {tuple(order)} of PyTorch's axes")

"""The report of a ported network, as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jaxnets.arrays import printable
from jaxnets.port.proof import Proof
from jaxnets.port.sides import Order

#: Names of common orders of axes.
_NAMES = {(0, 2, 3, 1): "NHWC", (0, 2, 3, 4, 1): "NDHWC", (0, 2, 1): "channels last"}


class Found(Protocol):
    """The attributes of a port that the report uses.

    Attributes:
        source: the source code of the ported network.
        inputs: the order of the axes of each input.
        notes: remarks for the user.
    """

    source: str
    inputs: Any
    notes: list[str]

    @property
    def refusals(self) -> Sequence[Any]:
        """The constructs that cannot be ported."""


@dataclass(frozen=True)
class Report:
    """A ported network and its comparison with PyTorch.

    Attributes:
        target: the name of the network, as the user gave it.
        ported: the port.
        proof: the comparison with PyTorch, or None if the networks were not compared.
    """

    target: str
    ported: Found
    proof: Proof | None = None

    @property
    def verdict(self) -> str:
        """One of ``"refused"``, ``"unchecked"``, ``"exact"``, ``"different"`` and ``"failed"``."""
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
        """Returns the report as a JSON object."""
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
    """Describes the order of the axes of each input that differs from PyTorch's."""
    named = [_named(order) for order in orders]
    if not any(named):
        return "the inputs have PyTorch's order of axes"
    each = [f"input {place} is {name}" for place, name in enumerate(named, start=1) if name]
    return ", ".join(each)


def _named(order: Order | None) -> str:
    if order is None or not all(isinstance(axis, int) for axis in order):
        return ""
    if tuple(order) == tuple(range(len(order))):
        return ""
    return _NAMES.get(tuple(order), f"in the order {tuple(order)} of PyTorch's axes")

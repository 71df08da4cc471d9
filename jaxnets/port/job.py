"""The state of porting a network: observations, notes and refusals."""

from dataclasses import dataclass, field
from typing import Any

from jaxnets.port.instances import Instances
from jaxnets.port.observe import Facts
from jaxnets.port.sources import Sources

#: The message for code that did not run on the example inputs.
NOT_RUN = "not run by the example input"


@dataclass(frozen=True)
class Refusal:
    """One construct that cannot be ported.

    Attributes:
        place: the file and line.
        where: the class and method.
        construct: the source code of the construct.
        why: the reason, in a sentence.
        what_to_do: a suggestion, in a sentence; empty without one.
    """

    place: str
    where: str
    construct: str
    why: str
    what_to_do: str = ""

    def __str__(self) -> str:
        parts = (self.place, self.where, self.construct, self.why, self.what_to_do)
        return " | ".join(part for part in parts if part)


class NotSeen(Exception):
    """Raised for a node that did not run on the example inputs, so that nothing is known of it."""


@dataclass
class Job:
    """The state that is shared while all definitions of a network are rewritten.

    Attributes:
        sources: the user's files.
        facts: the observations of the run.
        needs: numbers of the functions and classes that take ``rngs``.
        refusals: the constructs that cannot be ported.
        notes: remarks for the user.
        imports: the (module, name) pairs that rules import.
        reached: classes and functions that are accessed as attributes of a module, by name.
        conflicts: numbers of the functions that cannot be written once for all their calls.
        eager: whether control flow depends on array values, which jax.jit does not support.
        empty: numbers of the functions with an empty body, such as those that set weights.
        instances: the objects of the network, if constructors are generated from them.
        layers: the layers that rules added to each class, if constructors are generated.
    """

    sources: Sources
    facts: Facts
    needs: set[int] = field(default_factory=set)
    refusals: dict[tuple[str, str], Refusal] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    imports: set[tuple[str, str]] = field(default_factory=set)
    reached: dict[str, Any] = field(default_factory=dict)
    conflicts: set[int] = field(default_factory=set)
    eager: bool = False
    empty: set[int] = field(default_factory=set)
    instances: Instances | None = None
    layers: dict[type, dict[str, str]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Adds a remark for the user, once."""
        if text not in self.notes:
            self.notes.append(text)

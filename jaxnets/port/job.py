"""What is known while a network's definitions are rewritten, and what cannot be."""

from dataclasses import dataclass, field
from typing import Any

from jaxnets.port.instances import Instances
from jaxnets.port.observe import Facts
from jaxnets.port.sources import Sources

#: The message for code that the example did not reach.
NOT_RUN = "not run by the example input"


@dataclass(frozen=True)
class Refusal:
    """One construct that cannot be ported.

    Attributes:
        place: file and line.
        where: class and method.
        construct: the source.
        why: a sentence.
        what_to_do: a sentence.
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
    """The example did not come by here, and without it nothing can be said."""


@dataclass
class Job:
    """What is known while all definitions are rewritten.

    Attributes:
        sources: the user's files.
        facts: what was seen.
        needs: numbers of the functions and classes whose constructors take ``rngs``.
        refusals: what cannot be ported.
        notes: what the user should know.
        imports: what the rules use.
        reached: classes and functions that were named through a module, by their names.
        conflicts: numbers of the functions that cannot be written once for all their calls.
        eager: whether Python decides by values, which jax.jit cannot.
        empty: numbers of functions of which nothing is left, such as those that set weights.
        instances: what the network is made of, where constructors are written from that.
        layers: what the rules added to each class then.
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
        """Tells the user something, once."""
        if text not in self.notes:
            self.notes.append(text)

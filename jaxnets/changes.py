"""What was done to a network after its training, as the folder of a run records it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flax import nnx

from jaxnets import pruning, quantization
from jaxnets.arrays import InputError, called
from jaxnets.ensembles import repeated
from jaxnets.transfer import lora


@dataclass(frozen=True)
class Change:
    """One change of a trained network, such as its quantization.

    Attributes:
        name: a key of ``CHANGES``, or a word for a change of values alone.
        settings: what makes the changed structure again, of what JSON can hold. Empty where only
            values changed.
    """

    name: str
    settings: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """The change, ready for JSON."""
        return asdict(self)

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Change":
        """The change that ``record`` wrote.

        Raises:
            InputError: if its structure cannot be made again by this version.
            LookupError: if a part is missing.
        """
        name, settings = record["name"], record["settings"]
        if settings and name not in CHANGES:
            raise InputError("changes", f"one of {', '.join(CHANGES)}", name)
        return Change(name, settings)


#: By the name of a change: (network, settings) → network of the changed structure, of any values:
#: the weights are read after it.
CHANGES: dict[str, Callable[[nnx.Module, Mapping[str, Any]], nnx.Module]] = {
    "pruning": pruning.restructured,
    "quantization": quantization.restructured,
    "ensemble": repeated,
    "lora": lambda model, settings: lora(model, **settings),
}


def restructured(model: nnx.Module, changes: Sequence[Change]) -> nnx.Module:
    """A network of the structure that the changes leave, ready for the changed weights.

    Args:
        model: of the structure that was trained.
        changes: in the order in which they were made.
    """
    for change in changes:
        if change.settings:
            make = CHANGES[change.name]
            expected = f"settings of {change.name}, as jaxnets writes them"
            model = called("changes", expected, make, model, change.settings, got=change.settings)
    return model

"""Records of changes to a network after training, such as quantization, in a run directory."""

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
    """A change to a network after training, such as quantization.

    Attributes:
        name: a key of ``CHANGES``, or any word for a change that keeps the structure.
        settings: the arguments that rebuild the changed structure, as JSON values. Empty if only
            values changed.
    """

    name: str
    settings: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Returns the change as a dictionary of JSON values."""
        return asdict(self)

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Change":
        """Returns the change for a dictionary that ``Change.record`` returned.

        Raises:
            InputError: if this version cannot rebuild the structure.
            LookupError: if a key is missing.
        """
        name, settings = record["name"], record["settings"]
        if settings and name not in CHANGES:
            raise InputError("changes", f"one of {', '.join(CHANGES)}", name)
        return Change(name, settings)


#: For the name of each change, a function (network, settings) → network of the changed structure.
#: The values of the new network do not matter, because weights are loaded into it afterwards.
CHANGES: dict[str, Callable[[nnx.Module, Mapping[str, Any]], nnx.Module]] = {
    "pruning": pruning.restructured,
    "quantization": quantization.restructured,
    "ensemble": repeated,
    "lora": lambda model, settings: lora(model, **settings),
}


def restructured(model: nnx.Module, changes: Sequence[Change]) -> nnx.Module:
    """Returns a network with the structure after all changes, ready to load weights into.

    Args:
        model: a network of the structure that was trained.
        changes: the changes, in the order in which they were made.
    """
    for change in changes:
        if change.settings:
            make = CHANGES[change.name]
            expected = f"settings of {change.name}, as jaxnets writes them"
            model = called("changes", expected, make, model, change.settings, got=change.settings)
    return model

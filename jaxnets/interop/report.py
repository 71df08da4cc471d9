"""What loading weights has found, and the error that says what was wrong."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jaxnets.arrays import InputError, printable

_LONGEST = 500  # characters of an item in a message
_SHOWN = 20  # of a list in a message; the report itself holds all


@dataclass(frozen=True)
class Report:
    """How every array of a source and every weight of a model were used.

    Attributes:
        source: the file, or "state_dict".
        model: the kind of model.
        loaded: PyTorch's names of the arrays that filled the model.
        kept: optional names that the source lacks; the model keeps its own values.
        missing: names that the source lacks, each with the shape it should have.
        unexpected: names that the model has no place for, each with its shape.
        mismatched: names that do not fit, each with the reason.
        conversions: names of arrays that were not merely laid out anew, each with what was done,
            such as "float64 to float32".
        wrapping: what was taken off the names and from around them, outermost first.
        aside: entries of the file that are no weights of the model: an epoch, an optimizer.
        hints: what may help where something is wrong.
    """

    source: str
    model: str
    loaded: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    unexpected: Mapping[str, str] = field(default_factory=dict)
    mismatched: Mapping[str, str] = field(default_factory=dict)
    conversions: Mapping[str, str] = field(default_factory=dict)
    wrapping: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, a line for each kind; empty if nothing is."""
        kinds = {"missing": self.missing, "unexpected": self.unexpected}
        kinds["mismatched"] = self.mismatched
        return [
            f"{kind}: {listed(f'{printable(name)} {what}' for name, what in found.items())}"
            for kind, found in kinds.items()
            if found
        ]

    def __str__(self) -> str:
        lines = [f"{len(self.loaded)} arrays of {self.source} loaded into {self.model}"]
        if self.wrapping:
            lines.append(f"taken off: {listed(self.wrapping)}")
        if self.aside:
            lines.append(f"left aside: {listed(self.aside)}")
        if self.kept:
            lines.append(f"kept: {listed(self.kept)}")
        for change in dict.fromkeys(self.conversions.values()):
            names = [name for name, what in self.conversions.items() if what == change]
            lines.append(f"{change}: {listed(names)}")
        return printable("\n  ".join([*lines, *self.faults]), limit=None, lines=True)


class WeightsError(InputError):
    """A state_dict does not fit a model; the message lists every fault.

    Attributes:
        report: what was found, name by name.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.source, f"the weights of {report.model}", "; ".join(report.faults))
        self.args, self.report = (report,), report

    def __str__(self) -> str:
        faults = ";\n  ".join(self.report.faults)
        lines = [f"{self.argument}: expected {self.expected}, got", faults]
        if self.report.wrapping:
            lines.append(f"(taken off: {listed(self.report.wrapping)})")
        text = "\n  ".join([*lines, *(f"({hint})" for hint in self.report.hints)])
        return printable(text, limit=None, lines=True)


def listed(items: Iterable[str]) -> str:
    """Some words in a row; of a long list, the first."""
    items = list(items)
    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return ", ".join([*(printable(item, limit=_LONGEST) for item in items[:_SHOWN]), *more])

"""The report of loading weights, and the error for weights that do not fit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jaxnets.arrays import InputError, printable

_LONGEST = 500  # characters of an item in a message
_SHOWN = 20  # items of a list in a message; the report itself contains all


@dataclass(frozen=True)
class Report:
    """The use of every array of a source and of every weight of a model.

    Attributes:
        source: the file, or "state_dict".
        model: the name of the model's class.
        loaded: PyTorch's names of the loaded arrays.
        kept: optional names that the source lacks; the model keeps its current values.
        missing: required names that the source lacks, each with the expected shape.
        unexpected: names that the model lacks, each with its shape.
        mismatched: names of arrays that do not fit, each with the reason.
        conversions: names of arrays that were changed in more than their layout, each with the
            change, such as "float64 to float32".
        wrapping: removed checkpoint keys and name parts, outermost first.
        aside: entries of the file that are not weights, such as an epoch or an optimizer's state.
        hints: suggestions for fixing errors.
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
        """One line for each kind of error; empty if there is no error."""
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
            lines.append(f"unwrapped: {listed(self.wrapping)}")
        if self.aside:
            lines.append(f"ignored: {listed(self.aside)}")
        if self.kept:
            lines.append(f"kept: {listed(self.kept)}")
        for change in dict.fromkeys(self.conversions.values()):
            names = [name for name, what in self.conversions.items() if what == change]
            lines.append(f"{change}: {listed(names)}")
        return printable("\n  ".join([*lines, *self.faults]), limit=None, lines=True)


class WeightsError(InputError):
    """Raised if a state_dict does not fit a model; the message lists every error.

    Attributes:
        report: the details by name.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(report.source, f"the weights of {report.model}", "; ".join(report.faults))
        self.args, self.report = (report,), report

    def __str__(self) -> str:
        faults = ";\n  ".join(self.report.faults)
        lines = [f"{self.argument}: expected {self.expected}, got", faults]
        if self.report.wrapping:
            lines.append(f"(unwrapped: {listed(self.report.wrapping)})")
        text = "\n  ".join([*lines, *(f"({hint})" for hint in self.report.hints)])
        return printable(text, limit=None, lines=True)


def listed(items: Iterable[str]) -> str:
    """Joins texts with commas; a long list is shortened to its first items."""
    items = list(items)
    more = [f"and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return ", ".join([*(printable(item, limit=_LONGEST) for item in items[:_SHOWN]), *more])

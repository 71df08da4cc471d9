"""The summary of a report, as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxnets.pages.wording import percent
from jaxnets.reports.records import Classification, Detection, Regression
from jaxnets.reports.wording import described, measured

if TYPE_CHECKING:
    from jaxnets.reports.report import Report

_CLASSES = 20  # largest number of classes to list
_WIDEST = 24


def summary(report: "Report") -> str:
    """Returns the scores of a report, and those of each class or value, for a terminal."""
    lines = [f"{report.name} on {report.data}, {described(report)}"]
    lines += [f"  {name:<22}{value:>10}" for name, value in measured(report)]
    if isinstance(report.found, Classification):
        lines += _classes(report.found)
    elif isinstance(report.found, Detection):
        lines += _detected(report.found)
    elif isinstance(report.found, Regression) and len(report.found.names) > 1:
        lines += _values(report.found)
    return "\n".join(lines)


def _classes(found: Classification) -> Iterator[str]:
    count = len(found.class_names)
    shown = range(count) if count <= _CLASSES else found.classes.f1.argsort()[:_CLASSES].tolist()
    names = {k: _cut(found.class_names[k]) for k in shown}
    width = max(8, *map(len, names.values()))
    yield ""
    if count > _CLASSES:
        yield f"the {_CLASSES} of {count} classes with the lowest F1:"
    yield f"{'class':<{width}}  precision   recall       F1  examples"
    for k, name in names.items():
        precision, recall, f1, support = (part[k] for part in found.classes[:4])
        shares = f"{percent(precision):>9}{percent(recall):>9}{percent(f1):>9}"
        yield f"{name:<{width}}  {shares}{support:>10,}"
    for average in ("macro", "weighted"):
        shares = "".join(f"{percent(share):>9}" for share in found.classes.average(average))
        yield f"{average:<{width}}  {shares}{found.predictions:>10,}"
    confused = found.confused(3)
    if confused:
        pairs = "; ".join(f"{_cut(a)} as {_cut(b)} ({n:,})" for a, b, n in confused)
        yield f"most frequent confusions: {pairs}"


def _detected(found: Detection) -> Iterator[str]:
    width = max(8, *(len(_cut(name)) for name in found.class_names))
    yield ""
    yield f"{'class':<{width}}        AP      AP50      AP75    recall   objects"
    for name, *shares, objects in found.rows():
        yield f"{_cut(name):<{width}}{''.join(f'{percent(x):>10}' for x in shares)}{objects:>10,}"


def _values(found: Regression) -> Iterator[str]:
    yield ""
    yield f"{'':<12}{'RMSE':>10}{'MAE':>10}{'R²':>10}"
    for name, rmse, mae, r2 in zip(found.names, *found.scores, strict=True):
        yield f"{name:<12}{rmse:>10.4g}{mae:>10.4g}{r2:>10.4f}"


def _cut(name: str) -> str:
    return name if len(name) <= _WIDEST else f"{name[: _WIDEST - 1]}…"

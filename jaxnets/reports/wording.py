"""Formats the names and values of scores."""

from typing import TYPE_CHECKING

from jaxnets.pages.wording import minus, percent, several
from jaxnets.reports.records import Classification

if TYPE_CHECKING:
    from jaxnets.reports.report import Report

_NAMES = {
    "brier_score": "Brier score",
    "ece": "ECE",
    "f1": "F1",
    "mae": "MAE",
    "map": "mAP@[.50:.95]",
    "map_50": "mAP@.50",
    "map_75": "mAP@.75",
    "map_small": "mAP, small objects",
    "map_medium": "mAP, medium objects",
    "map_large": "mAP, large objects",
    "mar_1": "recall, 1 detection",
    "mar_10": "recall, 10 detections",
    "mar_100": "recall, 100 detections",
    "mar_small": "recall, small objects",
    "mar_medium": "recall, medium objects",
    "mar_large": "recall, large objects",
    "r2": "R²",
    "rmse": "RMSE",
}
_CUTOFFS = {"hit_rate": "hit rate", "ndcg": "NDCG"}  # followed by a number of items
_SHARES = ("accuracy", "precision", "recall", "f1", "ece")


def called(score: str) -> str:
    """Formats the name of a score, such as ``macro F1`` or ``top-3 accuracy``."""
    if score.startswith("top_"):
        _, k, what = score.split("_", 2)
        return f"top-{k} {what}"
    for name, word in _CUTOFFS.items():
        if score.startswith(f"{name}_"):
            k, _, among = score.removeprefix(f"{name}_").partition("_")
            return f"{word}@{k}" + (f", {among.replace('_', ' ')}" if among else "")
    average, _, what = score.partition("_")
    if average in ("macro", "weighted"):
        return f"{average} {called(what)}"
    return _NAMES.get(score, score.replace("_", " "))


def valued(score: str, value: float) -> str:
    """Formats a score: a share in percent, such as ``97.91 %``, others with four digits."""
    if score.endswith(_SHARES) or score.startswith(("hit_rate", "map", "mar_")):
        return percent(value)
    return minus(f"{value:.4f}" if 1e-3 <= abs(value) < 1 else f"{value:.4g}")


def measured(report: "Report") -> list[tuple[str, str]]:
    """Returns the name and value of each score, except for averages over the classes."""
    return [
        (f"ECE ({_bins(report)} bins)" if name == "ece" else called(name), valued(name, value))
        for name, value in report.scores.items()
        if not name.startswith(("macro", "weighted"))  # in the table of the classes
    ]


def _bins(report: "Report") -> int:
    return len(report.found.calibration.count) if isinstance(report.found, Classification) else 0


def described(report: "Report") -> str:
    """Describes the examples of a report, such as ``test split, 10,000 examples``."""
    which = {"all": "whole"}.get(report.split, report.split)
    return f"{which} split, {several(report.examples, 'example')}"

"""Scores in words: one way to write each."""

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
    "r2": "R²",
    "rmse": "RMSE",
}
_CUTOFFS = {"hit_rate": "hit rate", "ndcg": "NDCG"}  # followed by a number of items
_SHARES = ("accuracy", "precision", "recall", "f1", "ece")


def called(score: str) -> str:
    """``macro F1``, ``top-3 accuracy``."""
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
    """``97.91 %`` of a share, else with the digits that count."""
    if score.endswith(_SHARES) or score.startswith("hit_rate"):
        return percent(value)
    return minus(f"{value:.4f}" if 1e-3 <= abs(value) < 1 else f"{value:.4g}")


def measured(report: "Report") -> list[tuple[str, str]]:
    """Each score by its name, in words."""
    return [
        (f"ECE ({_bins(report)} bins)" if name == "ece" else called(name), valued(name, value))
        for name, value in report.scores.items()
        if not name.startswith(("macro", "weighted"))  # which stand beside those of each class
    ]


def _bins(report: "Report") -> int:
    return len(report.found.calibration.count) if isinstance(report.found, Classification) else 0


def said(report: "Report") -> str:
    """``test split, 10,000 examples``."""
    which = {"all": "whole"}.get(report.split, report.split)
    return f"{which} split, {several(report.examples, 'example')}"

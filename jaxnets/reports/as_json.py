"""Writes a report as JSON."""

from typing import TYPE_CHECKING, Any

from jaxnets.pages.plain import dumped
from jaxnets.reports.records import Classification, Detection, Regression
from jaxnets.training.records import history_rows

if TYPE_CHECKING:
    from jaxnets.reports.report import Report

_FORMAT = "jaxnets evaluation 1"
_PLAIN = ("name", "data", "split", "examples", "parameters", "date", "scores")
_DETECTED = ("class", "ap", "ap_50", "ap_75", "recall", "objects")
_TRAINING = ("settings", "versions", "machine", "command")


def as_json(report: "Report") -> str:
    """Returns all numbers of a report, except for the single predictions, as one line of JSON."""
    record = {"format": _FORMAT, **{name: getattr(report, name) for name in _PLAIN}}
    if isinstance(report.found, Classification):
        record |= _of_classes(report.found)
    elif isinstance(report.found, Detection):
        record |= {
            "classes": [dict(zip(_DETECTED, row, strict=True)) for row in report.found.rows()]
        }
    elif isinstance(report.found, Regression):
        record |= _of_values(report.found)
    record |= {"history": history_rows(report.history), "learning_rate": report.rates}
    return dumped(record | {name: getattr(report, name) for name in _TRAINING})


def _of_classes(found: Classification) -> dict[str, Any]:
    classes = zip(found.class_names, *found.classes, strict=True)
    bins = found.calibration
    return {
        "classes": [
            dict(zip(("class", *found.classes._fields), values, strict=True)) for values in classes
        ],
        "confusion": found.confusion,
        "calibration": {
            "bins": len(bins.count),
            "edges": bins.edges,
            "count": bins.count,
            "confidence": bins.confidence,
            "accuracy": bins.accuracy,
        },
        "mistakes": [
            {
                name: getattr(each, name)
                for name in ("index", "label", "predicted", "probability", "of_label", "text")
            }
            for each in found.mistakes
        ],
    }


def _of_values(found: Regression) -> dict[str, Any]:
    values = zip(found.names, *found.scores, strict=True)
    names = ("value", *found.scores._fields)
    worst = [
        {"index": index, "true": found.true[index], "predicted": found.predicted[index]}
        | {"text": text}
        for index, text in found.texts.items()
    ]
    return {"values": [dict(zip(names, each, strict=True)) for each in values], "worst": worst}

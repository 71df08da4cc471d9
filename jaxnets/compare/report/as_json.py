"""Writes a comparison as JSON, and reads it."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_path
from jaxnets.compare.records import (
    Comparison,
    Control,
    Disagreement,
    Finding,
    Pair,
    Side,
    Timing,
)
from jaxnets.compare.step_records import Course, StepComparison
from jaxnets.json_files import WRONG, read_object, reason
from jaxnets.pages.plain import dumped

_FORMAT = "jaxnets comparison 1"
_OF_STEPS = "jaxnets comparison of steps 1"


def as_json(comparison: Comparison | StepComparison) -> str:
    """Returns all numbers of a comparison as JSON, including those of each step.

    Numbers that are not finite are null. Derived values (``equivalence``, ``agreement``,
    ``measure``) are included.
    """
    if isinstance(comparison, StepComparison):
        each = {
            metric: {
                "equivalence": dataclasses.asdict(comparison.equivalence(metric)),
                "divergence": _as_dict(comparison.divergence(metric)),
            }
            for metric in comparison.metrics
        }
        return dumped({"format": _OF_STEPS, "metrics": each, **dataclasses.asdict(comparison)})
    equivalence = comparison.equivalence
    follows = {
        "measure": comparison.measure,
        "equivalence": dataclasses.asdict(equivalence) | {"equivalent": equivalence.equivalent},
        "agreement": comparison.agreement,
    }
    return dumped({"format": _FORMAT, **follows, **dataclasses.asdict(comparison)})


def _as_dict(value: Any) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)


def read(path: Path | str) -> Any:
    """Reads the ``Comparison`` or ``StepComparison`` in a ``report.json``.

    Args:
        path: the file.

    Raises:
        ValueError: if the file cannot be read or is not a report of a comparison.
    """
    expected = "a report.json of a comparison"
    place = check_path("path", path, expected)
    try:
        record = read_object(place)
        if record.get("format") == _FORMAT:
            return _comparison(record)
        if record.get("format") == _OF_STEPS:
            return _comparison_of_steps(record)
    except WRONG as error:
        raise InputError("path", expected, f"{str(path)!r}: {reason(error)}") from error
    raise InputError("path", expected, f"{str(path)!r}, which is another file")


def _comparison(record: dict[str, Any]) -> Comparison:
    names = {field.name for field in dataclasses.fields(Comparison)}
    values = {name: value for name, value in record.items() if name in names}
    control = values["control"]
    names_of_classes = values["class_names"]
    return Comparison(
        **values
        | {
            "pairs": tuple(
                Pair(_side(pair["ours"]), _side(pair["theirs"])) for pair in values["pairs"]
            ),
            "control": control
            and Control(threads=tuple(control["threads"]), run=_side(control["run"])),
            "timings": tuple(
                Timing(**each | {"epoch_seconds": tuple(each["epoch_seconds"])})
                for each in values["timings"]
            ),
            "findings": tuple(Finding(**each) for each in values["findings"]),
            "disagreements": tuple(
                Disagreement(**each | {"image": _array(each["image"], np.uint8)})
                for each in values["disagreements"]
            ),
            "class_names": None if names_of_classes is None else tuple(names_of_classes),
        }
    )


def _comparison_of_steps(record: dict[str, Any]) -> StepComparison:
    names = {field.name for field in dataclasses.fields(StepComparison)}
    values = {name: value for name, value in record.items() if name in names}
    control = values["control"]
    return StepComparison(
        **values
        | {
            "ours": tuple(map(_course, values["ours"])),
            "theirs": tuple(map(_course, values["theirs"])),
            "control": None if control is None else _course(control),
            "findings": tuple(Finding(**each) for each in values["findings"]),
        }
    )


def _course(record: dict[str, Any]) -> Course:
    kinds = {"steps": np.float32, "epochs": np.float64}
    return Course(
        **record
        | {
            part: {name: _array(values, kind) for name, values in record[part].items()}
            for part, kind in kinds.items()
        }
    )


def _side(record: dict[str, Any]) -> Side:
    kinds = {"step_losses": np.float32, "predictions": np.int64}
    kinds |= dict.fromkeys(("train_loss", "test_loss", "test_accuracy"), np.float64)
    return Side(**record | {name: _array(record[name], kind) for name, kind in kinds.items()})


def _array(values: Any, kind: Any) -> np.ndarray | None:
    return None if values is None else np.array(values, kind)

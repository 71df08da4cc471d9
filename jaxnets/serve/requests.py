"""Parses requests, and makes their responses."""

import base64
import binascii
import io
import json
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe, shown
from jaxnets.data.spec import described
from jaxnets.data.survey import is_image
from jaxnets.runs import SavedRun, open_image

#: The keys of a request's examples, of which a request has one.
FORMS = ("inputs", "images", "texts", "rows")
_OPTIONS = ("explain", "invert")


def parsed(saved: SavedRun, body: bytes, most: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Parses a request.

    Args:
        saved: the run.
        body: JSON with a list of examples under one of ``FORMS``, and options.
        most: the largest number of examples.

    Returns:
        The examples before the transform, and the options by name.

    Raises:
        InputError: if the request is invalid.
    """
    expected = f"a JSON object with one of {', '.join(FORMS)}"
    try:
        given = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError("body", expected, f"{type(error).__name__}: {error}") from error
    if not isinstance(given, dict) or len(forms := [name for name in FORMS if name in given]) != 1:
        raise InputError("body", expected, shown(given))
    strange = [name for name in given if name not in (*FORMS, *_OPTIONS)]
    if strange:
        raise InputError("body", f"{expected}, explain and invert", shown(strange[0]))
    (form,) = forms
    several = given[form]
    if not isinstance(several, list) or not 1 <= len(several) <= most:
        expected = f"a list of 1 to {most} examples"
        count = f"{len(several)}" if isinstance(several, list) else shown(several)
        raise InputError(form, expected, count)
    options = {name: given.get(name) for name in _OPTIONS}
    for name, value in options.items():
        if value is not None and not isinstance(value, bool):
            raise InputError(name, "true, false or null", value)
    return list(_examples(saved, form, several, options["invert"])), options


def _examples(saved: SavedRun, form: str, several: list[Any], invert: bool | None) -> Any:
    if form == "images":
        return [_image(saved, each, invert) for each in several]
    if form == "texts":
        if saved.encoder is None or not all(isinstance(each, str) for each in several):
            raise InputError("texts", "strings, for a text classifier", shown(several[0]))
        return saved.encoder(several)
    if form == "rows":
        if saved.table is None:
            raise InputError(
                "rows", "none, as the network was not trained on a table", shown(several[0])
            )
        if not all(isinstance(row, dict | list) for row in several):
            raise InputError("rows", "rows, each a list or an object", shown(several[0]))
        rows = saved.table(several)
        return rows if saved.inputs_scaler is None else saved.inputs_scaler(rows)
    return [_array(saved, each) for each in several]


def _image(saved: SavedRun, text: Any, invert: bool | None) -> np.ndarray:
    expected = "an image file in base64, for a network on images"
    if not isinstance(text, str) or not is_image(saved.inputs):
        raise InputError("images", expected, shown(text))
    try:
        content = base64.b64decode(text.rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("images", expected, str(error)) from error
    given = open_image(
        io.BytesIO(content), saved.inputs, background=saved.background, invert=invert
    )
    return given.pixels


def _array(saved: SavedRun, values: Any) -> np.ndarray:
    """Converts nested lists of numbers to an example."""
    spec = saved.inputs
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise InputError("inputs", f"examples {described(spec)}", str(error)) from error
    if array.dtype.kind not in "iuf" or array.shape != spec.shape:
        raise InputError("inputs", f"examples {described(spec)}", describe(array))
    narrow = array.astype(spec.dtype)
    exact = spec.dtype.kind == "f" or np.array_equal(narrow, array)
    if not np.isfinite(array).all() or not exact:
        raise InputError("inputs", f"finite numbers of {spec.dtype}", "others")
    return narrow


def response(saved: SavedRun, output: np.ndarray, top: int = 10) -> dict[str, Any]:
    """Returns the prediction for one example, for the response.

    Args:
        saved: the run.
        output: the network's output for the example.
        top: the largest number of classes.

    Returns:
        The predicted class and the most likely classes with their probabilities, or the values.
    """
    if not saved.classifies:
        scaler = saved.labels_scaler
        values = output if scaler is None else scaler.inverse(np.atleast_1d(output))
        return {"values": np.asarray(values, np.float64).tolist()}
    shares = saved.probabilities(np.asarray(output, np.float64))
    names = saved.class_names or tuple(map(str, range(len(shares))))
    shares = shares[: len(names)]
    best = np.argsort(-shares, kind="stable")[:top]
    classes = [{"name": names[k], "probability": round(float(shares[k]), 6)} for k in best]
    return {"class": names[best[0]], "classes": classes}


def check_served(saved: SavedRun) -> None:
    """Checks that a run predicts for single examples.

    Raises:
        InputError: if the run does not.
    """
    spec = saved.inputs
    if spec is None or isinstance(spec, tuple | dict):
        got = "none" if spec is None else described(spec)
        raise InputError("run", "a network with one input array of a known shape", got)
    if saved.table is not None and len(spec.shape) != 1:
        raise InputError("run", "a network on images, texts, rows or arrays", "one on a series")

"""Codes and reconstructions of an autoencoder, for the command ``predict``."""

import csv as csv_files
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxnets import runs
from jaxnets.arrays import InputError, printable
from jaxnets.commands import examples, prediction_file
from jaxnets.commands.examples import named, titled
from jaxnets.commands.saved import data_of
from jaxnets.data import Compose
from jaxnets.data.survey import is_image
from jaxnets.disk import replacing
from jaxnets.figures import new_figure, save, writable
from jaxnets.layers.flatten import flatten
from jaxnets.models import Autoencoder
from jaxnets.reports.report import part
from jaxnets.training import predict

_COLUMNS, _INCHES = 10, 0.7  # of the picture


class _Found(NamedTuple):
    """Examples with their codes and reconstructions, [examples, …] each."""

    column: str
    names: list[Any]
    labels: list[str | None]
    inputs: np.ndarray
    codes: np.ndarray
    outputs: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """The mean squared error of each reconstruction."""
        return ((self.outputs - self.inputs) ** 2).mean(axis=1)


def encoded(
    saved: runs.SavedRun,
    csv: Path | None = None,
    out: Path | None = None,
    split: Any = None,
    **given: Any,
) -> list[str]:
    """Returns a line for each example, or writes codes to a CSV file and pictures to a PNG file.

    Args:
        saved: a run of an ``Autoencoder``.
        csv: the file for codes and errors, or None.
        out: the file for the examples and their reconstructions, or None.
        split: the split of the run's data to use if no examples are given; None for the test.
        **given: the examples; see ``examples.given``.

    Raises:
        InputError: if a file cannot be written, or an example does not fit the run.
    """
    if csv is not None:
        prediction_file.check_place(csv)
    if out is not None:
        writable(out, "out")
    found = _found(saved, split, whole=csv is not None, **given)
    lines = []
    if csv is not None:
        _write(csv, found)
        lines.append(f"wrote {len(found.names):,} codes to {csv}")
    if out is not None:
        save(_drawn(saved, found), out)
        lines.append(f"wrote {out}")
    return [printable(line, limit=None) for line in lines or _lines(found)]


def _found(saved: runs.SavedRun, split: Any, *, whole: bool, **given: Any) -> _Found:
    """Encodes and decodes the given examples, or those of a split."""
    column, names = "name", None
    if given:
        several = examples.given(saved, whole=whole, **given)
        inputs = np.stack([each.inputs for each in several])
        labels, names = [each.label for each in several], [each.name for each in several]
    else:
        data, column = data_of(saved, "csv or out"), "index"
        chosen: Any = part(data, split or "test")
        inputs, classes = chosen.gather(np.arange(len(chosen)))
        classes = [None] * len(inputs) if classes is None else classes
        labels = [None if label is None else named(data.class_names, label) for label in classes]
    model = saved.model
    assert isinstance(model, Autoencoder)
    steps = () if saved.transform is None else (saved.transform,)
    flat = Compose(*steps, flatten)
    codes = predict(model.encoder, inputs, transform=flat)
    outputs = predict(model.decoder, codes)
    true = np.asarray(jax.jit(flat)(inputs))
    return _Found(column, names or [*range(len(inputs))], labels, true, codes, outputs)


def _lines(found: _Found) -> list[str]:
    """Returns a line for each example."""
    return [
        f"{titled(name, label)}: code {' '.join(f'{value:.4g}' for value in code)}; "
        f"mean squared error {error:.4g}"
        for name, label, code, error in zip(
            found.names, found.labels, found.codes, found.errors, strict=True
        )
    ]


def _write(path: Path, found: _Found) -> None:
    """Writes a row for each example: its label if known, its code and its error."""
    known = any(label is not None for label in found.labels)
    head = [f"code_{number}" for number in range(1, found.codes.shape[1] + 1)]
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        write = csv_files.writer(file)
        write.writerow([found.column, *(["label"] if known else []), *head, "error"])
        for name, label, code, error in zip(
            found.names, found.labels, found.codes, found.errors, strict=True
        ):
            values = [f"{value:.7g}" for value in (*code, error)]
            write.writerow([name, *([label or ""] if known else []), *values])


def _drawn(saved: runs.SavedRun, found: _Found) -> Any:
    """Draws the first examples, each above its reconstruction."""
    spec = saved.inputs
    if not is_image(spec):
        raise InputError("out", "none, as the run is not on images", "a file")
    height, width, channels = spec.shape
    count = min(len(found.names), _COLUMNS)
    figure = new_figure(_INCHES * count, 2 * _INCHES)
    axes = figure.subplots(2, count, squeeze=False)
    low, high = float(found.inputs.min()), float(found.inputs.max())
    for row, values in zip(axes, (found.inputs, found.outputs), strict=True):
        images = np.moveaxis(values[:count].reshape(-1, channels, height, width), 1, -1)
        images = ((images - low) / max(high - low, 1e-12)).clip(0, 1)
        for axis, image in zip(row, images, strict=True):
            axis.imshow(np.repeat(image, 3, axis=2) if channels == 1 else image)
            axis.axis("off")
    return figure

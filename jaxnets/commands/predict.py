"""The command ``predict``: outputs of a trained network."""

import csv
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from flax import nnx

from jaxnets import runs
from jaxnets.arrays import InputError, printable, shown
from jaxnets.commands.flags import PathArgument
from jaxnets.commands.saved import data_of, opened
from jaxnets.data import Dataset, StandardizedDataset, TableEncoder, table_files, tables
from jaxnets.models import LanguageModel
from jaxnets.sampling import sample
from jaxnets.training import predict

_Examples = list[tuple[str, np.ndarray]]


@click.command("predict")
@click.argument("run", type=PathArgument())
@click.argument("inputs", metavar="[IMAGE | TEXT | TABLE]...", nargs=-1)
@click.option(
    "--row",
    multiple=True,
    metavar="NAME=VALUE,…",
    help="A new row of a table, or a step of a series; repeatable.",
)
@click.option("--index", type=int, multiple=True, help="A test example, by number; repeatable.")
@click.option("--top", type=click.IntRange(min=1), show_default="3", help="Classes to show.")
@click.option(
    "--invert/--no-invert",
    default=None,
    help="Exchange dark and light; by default where an image's border is unlike those trained on.",
)
@click.option("--prompt", help="The text that a language model continues.")
@click.option("--length", type=int, show_default="400", help="Tokens to write.")
@click.option(
    "--temperature",
    type=float,
    show_default="0.8",
    help="Lower writes likelier tokens; 0 the likeliest.",
)
@click.option("--seed", type=int, show_default="0", help="Draws what is written.")
def predict_command(run: Path, **flags: Any) -> None:
    """Classify image files, texts, rows or test examples with the network saved in the folder RUN.

    An image of another size is resized: the largest middle part of the right proportions.

    A network on text takes each TEXT as it is; a language model continues --prompt. Each
    TABLE is a file with the columns that a network on a table was trained on, or - for standard
    input. A series is forecast from its last rows.
    """
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if not {"inputs", "index", "prompt", "row"} & set(given):
        expected = "an image file, a text, --index N or --prompt TEXT"
        raise click.UsageError(f"expected {expected}, got none of them; of a table a file or --row")
    saved = opened(run)
    writes = isinstance(saved.model, LanguageModel)
    _check_flags(given, saved, ("inputs", "row", "index", "top", "invert") if writes else _WRITING)
    if writes:
        click.echo(printable(_written(saved, **given), limit=None, lines=True))
    else:
        for line in _answers(saved, **given):
            click.echo(line)


def saved_in(folder: Path, example: Path, model: nnx.Module) -> str:
    """Where a run was saved, and how to use it, in a line.

    Args:
        folder: where all was saved.
        example: the run's own folder.
        model: the run's.
    """
    asked = "--prompt TEXT" if isinstance(model, LanguageModel) else "--index 0"
    return f"saved in {folder}; use it with: jaxnets predict {shlex.quote(str(example))} {asked}"


_WRITING = ("prompt", "length", "temperature", "seed")


def _check_flags(given: dict[str, Any], saved: runs.SavedRun, strange: Sequence[str]) -> None:
    """Refuses what would have no effect."""
    does = "classifies" if strange is _WRITING else "writes after --prompt"
    for name in strange:
        if name in given:
            called = "TEXT" if name == "inputs" else name
            expected = f"none, as {type(saved.model).__name__} {does}"
            raise InputError(called, expected, shown(given[name]))
    reads_images = saved.encoder is None and saved.table is None
    if "invert" in given and not (reads_images and "inputs" in given):
        raise InputError("invert", "none, as no image file is given", given["invert"])
    if "top" in given and not saved.classifies:
        raise InputError("top", "none, as the run has no classes", given["top"])
    if "row" in given and saved.table is None:
        raise InputError("row", "none, as the run is not on a table", given["row"][0])


def _written(
    saved: runs.SavedRun, prompt: str, length: int = 400, temperature: float = 0.8, seed: int = 0
) -> str:
    """The prompt and what the model writes after it."""
    encoder = saved.encoder
    if encoder is None:
        raise InputError("run", "a folder with the text.json of a language model", "none")
    tokens = encoder([prompt])[0]
    drawn = sample(saved.model, tokens, length, temperature=temperature, seed=seed)
    return encoder.tokenizer.join([prompt, encoder.decode(drawn)])


def _answers(
    saved: runs.SavedRun,
    inputs: tuple[str, ...] = (),
    row: tuple[str, ...] = (),
    index: tuple[int, ...] = (),
    top: int = 3,
    invert: bool | None = None,
) -> list[str]:
    """A line for each example."""
    examples = _given(saved, inputs, invert) if inputs else []
    if row and saved.table is not None:
        rows = saved.table([_values(text, saved.table.names) for text in row])
        examples += _from_rows(saved, rows, list(row))
    if index:
        examples += _chosen(data_of(saved, "index"), index, saved.class_names)
    batch = np.stack([example for _, example in examples])
    outputs = predict(saved.model, batch, transform=saved.transform)
    if saved.classifies and np.ndim(outputs) > 2:
        expected = "a run that gives an example one class"
        raise InputError("run", expected, f"outputs {list(np.shape(outputs)[1:])} for each")
    names = (printable(name, limit=None) for name, _ in examples)
    return [
        f"{name}: {_answer(saved, each, top)}" for name, each in zip(names, outputs, strict=True)
    ]


def _given(saved: runs.SavedRun, inputs: tuple[str, ...], invert: bool | None) -> _Examples:
    """The texts or images given, each with its name."""
    if saved.encoder is not None:
        return list(zip(inputs, saved.encoder(inputs), strict=True))
    if saved.table is not None:
        return [example for file in inputs for example in _of_table(saved, saved.table, file)]
    spec = saved.inputs or data_of(saved, "image").spec.inputs
    examples = []
    for path in inputs:
        image = runs.open_image(path, spec, background=saved.background, invert=invert)
        for note in _changes(image, told=invert is not None):
            click.echo(printable(f"{path}: {note}", limit=None), err=True)
        examples.append((path, image.pixels))
    return examples


def _changes(image: runs.GivenImage, *, told: bool) -> list[str]:
    """What was done to an image, in words, unless the user told to do it."""
    (height, width), (new_height, new_width) = image.size, image.pixels.shape[:2]
    changes = []
    if (height, width) != (new_height, new_width):
        same = height * new_width == width * new_height
        part = "resized" if same else "its middle is resized"
        changes.append(f"{width}×{height} pixels, {part} to {new_width}×{new_height}")
    if image.inverted and not told:
        why = "dark and light are the other way round than in the training images"
        changes.append(f"{why}, so it is inverted (--no-invert leaves it)")
    return changes


def _of_table(saved: runs.SavedRun, encoder: TableEncoder, file: str) -> _Examples:
    """The rows of a file, or of standard input; the one example that is the end of a series."""
    cells = table_files.read(Path(file))
    return _from_rows(saved, *tables.new_rows(cells, encoder, series=_window(saved) is not None))


def _from_rows(saved: runs.SavedRun, rows: np.ndarray, places: list[str]) -> _Examples:
    """Examples of rows of inputs, each with its name."""
    if saved.inputs_scaler is not None:
        rows = saved.inputs_scaler(rows)
    window = _window(saved)
    if window is None:
        return list(zip(places, rows, strict=True))
    if len(rows) < window:
        expected = f"at least {window} rows, from which the run forecasts"
        raise InputError(places[-1], expected, f"{len(rows)}")
    return [(f"after {places[-1]}", rows[-window:])]


def _window(saved: runs.SavedRun) -> int | None:
    """How many rows the run forecasts from; None if each row is an example."""
    shape: tuple[int, ...] = getattr(saved.inputs, "shape", ())
    return shape[0] if len(shape) == 2 else None


def _values(text: str, names: Sequence[str]) -> Mapping[str, str] | Sequence[str]:
    """The cells of --row by their columns' names; in the columns' order where none is named."""
    expected = f"NAME=VALUE once for each of {table_files.listed(names)}"
    try:
        cells = next(csv.reader([text], skipinitialspace=True))
    except csv.Error as error:
        raise InputError("row", expected, table_files.shown(text)) from error
    longest = sorted(names, key=len, reverse=True)
    found: dict[str, str] = {}
    for cell in cells:
        name = next((name for name in longest if cell.strip().startswith(f"{name}=")), None)
        if name is None and not found and cell is cells[0] and "=" not in cell:
            return cells
        if name is None or name in found:
            raise InputError("row", expected, table_files.shown(cell))
        found[name] = cell.strip()[len(name) + 1 :]
    return found


def _chosen(
    data: Dataset, index: tuple[int, ...], class_names: tuple[str, ...] | None
) -> _Examples:
    """Test examples by number, each with its name."""
    for number in index:
        if not 0 <= number < len(data.test):
            raise InputError("index", f"a number from 0 to {len(data.test) - 1}", number)
    inputs, labels = data.test.gather(np.array(index, np.int32))
    if isinstance(data, StandardizedDataset) and data.labels_scaler is not None:
        labels = data.labels_scaler.inverse(labels)
    names = class_names or data.class_names
    return [
        (f"test example {number} (label {_named(names, label)})", example)
        for number, label, example in zip(index, labels, inputs, strict=True)
    ]


def _named(class_names: tuple[str, ...] | None, label: np.ndarray) -> str:
    """The name of a class; a label without one as it is."""
    names = class_names or ()
    is_class = label.ndim == 0 and label.dtype.kind in "iu" and 0 <= label < len(names)
    return names[int(label)] if is_class else str(label)


def _gives_logits(saved: runs.SavedRun) -> bool:
    """Whether outputs are logits, as our networks say, and as the loss says of others."""
    output = getattr(saved.model, "output", None)
    if isinstance(output, str):
        return output == "logits"
    return saved.recipe is None or saved.recipe.loss not in _OF_PROBABILITIES


#: Losses whose outputs are probabilities.
_OF_PROBABILITIES = ("binary-cross-entropy", "cross-entropy-of-probabilities")


def _answer(saved: runs.SavedRun, row: np.ndarray, top: int) -> str:
    """The most likely classes of one row of outputs; the numbers themselves without classes."""
    if not saved.classifies:
        if saved.labels_scaler is not None:
            row = saved.labels_scaler.inverse(row)
        return " ".join(f"{value:.6g}" for value in np.ravel(row))
    logits = _gives_logits(saved)
    if len(row) == 1:  # one output tells two classes apart
        second = 1 / (1 + np.exp(-row[0])) if logits else row[0]
        row = np.array([1 - second, second])
    elif logits:
        exponentials = np.exp(row - row.max())
        row = exponentials / exponentials.sum()
    names = tuple(map(printable, saved.class_names or range(len(row))))
    row = row[: len(names)]  # an output of a class that does not exist is no class
    best = np.argsort(-row, kind="stable")[:top]
    return "  ".join(f"{names[k]} {row[k]:.2%}" for k in best)

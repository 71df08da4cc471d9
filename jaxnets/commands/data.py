"""The commands ``jaxnets data …``: list, describe, show and check data sets."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from jaxnets import recipes
from jaxnets.arrays import InputError, describe, printable
from jaxnets.commands.flags import PathArgument, data_dir, data_option, image_size
from jaxnets.data import Dataset, Split, files, from_tfds, image_folder
from jaxnets.data.bundled import DATASETS
from jaxnets.data.contact_sheet import contact_sheet
from jaxnets.data.dataset import in_memory
from jaxnets.data.image_files import check_size
from jaxnets.data.known import KNOWN
from jaxnets.data.loading import SOURCES
from jaxnets.data.source import Part, Source
from jaxnets.data.spec import described, named
from jaxnets.data.survey import channel_statistics, class_counts
from jaxnets.data.text import TextDataset, finding
from jaxnets.data.text.vocabulary import PAD

_PIECE = 1000  # number of examples to read at once
_MOST_COLUMNS = 8  # largest number of statistics or values in a line
_PERCENTILES = (50, 90, 100)  # of the lengths of texts


@click.group("data")
def data_group() -> None:
    """List, describe, show and check data sets."""


def _where(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag in (
        click.option("--source", type=click.Choice(SOURCES), help="Search only this source."),
        data_dir,
        image_size,
        data_option,
    ):
        command = flag(command)
    return command


def _load(name: str, data_option: tuple[tuple[str, Any], ...], **options: Any) -> Dataset:
    given = {option: value for option, value in options.items() if value is not None}
    return recipes.load_named(name, {**dict(data_option), **given})


@data_group.command("list")
def list_command() -> None:
    """List the known data sets, and their places on this machine."""
    for name in sorted({*DATASETS, *KNOWN, *finding.TEXTS}):
        click.echo(f"{name:15} {printable(_place(name), limit=None)}")
    for name, folder in from_tfds.prepared():
        click.echo(f"{printable(name):15} TensorFlow Datasets, {printable(folder, limit=None)}")
    click.echo(f"\nTensorFlow Datasets can prepare {len(from_tfds.names())} more")


def _place(name: str) -> str:
    if name in DATASETS:
        return "bundled with jaxnets"
    own, system = files.variable_root(), files.system_root(name)
    if name in finding.TEXTS:
        place = None if own is None else finding.place(name, own)
        return "not here" if place is None else f"texts in {place}"
    places = [] if own is None else files.places(name, own)
    places += [] if system is None else [system]
    return f"files in {places[0]}" if places else "not here"


@data_group.command("info")
@click.argument("name")
@_where
def info_command(name: str, **where: Any) -> None:
    """Describe the data set NAME, or the one at a path: its origin, sizes and classes."""
    data = _load(name, **where)
    click.echo(printable(f"{data.name}: {data.origin}", limit=None))
    spec = data.spec
    click.echo(f"inputs {described(spec.inputs)}, labels {described(spec.labels)}")
    click.echo(f"train {len(data.train):,}, test {len(data.test):,}")
    if isinstance(data, TextDataset):
        _print_lengths(data)
    else:
        _print_statistics(data)
    if data.num_classes is not None and not spec.labels.shape:
        _print_classes(data, data.num_classes)


def _print_lengths(data: TextDataset) -> None:
    """Prints the size of the vocabulary, and percentiles of the lengths of the training texts."""
    lengths = np.count_nonzero(data.train.inputs != PAD, axis=1)
    found = np.percentile(lengths, _PERCENTILES, method="higher")
    shares = (f"{share} % up to {n}" for share, n in zip(_PERCENTILES, found, strict=True))
    click.echo(f"vocabulary {len(data.vocabulary):,} tokens")
    click.echo(f"tokens of a training text: {', '.join(shares)}")


def _print_statistics(data: Dataset) -> None:
    for name, array in named("inputs", in_memory(data.train).inputs).items():
        scaled = " in [0, 1]" if array.dtype == np.uint8 else ""
        statistics = channel_statistics(Split(array))
        for word, numbers in zip(("mean", "std"), statistics, strict=True):
            more = " …" if len(numbers) > _MOST_COLUMNS else ""
            shown = " ".join(f"{number:.4f}" for number in numbers[:_MOST_COLUMNS])
            click.echo(f"{word} of the training {name}{scaled}: {shown}{more}")


def _print_classes(data: Dataset, classes: int) -> None:
    names = tuple(map(printable, data.class_names or range(classes)))
    width = max(len("class"), *map(len, names))
    click.echo(f"{'class':{width}}  {'train':>7}  {'test':>7}")
    counts = (class_counts(in_memory(split), classes) for split in (data.train, data.test))
    for name, train, test in zip(names, *counts, strict=True):
        click.echo(f"{name:{width}}  {train:>7,}  {test:>7,}")


@data_group.command("head")
@click.argument("name")
@_where
@click.option(
    "--split", default="train", show_default=True, help="The split, such as test or train[:10%]."
)
@click.option(
    "-n",
    "count",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Number of examples; with --out, of each class.",
)
@click.option("--out", type=PathArgument(), help="Draw the examples into this new PNG file.")
def head_command(name: str, split: str, count: int, out: Path | None, **where: Any) -> None:
    """Show the first examples of the data set NAME, or of the one at a path."""
    if out is not None and (
        out.exists() or out.suffix.lower() != ".png" or not out.absolute().parent.is_dir()
    ):
        raise InputError("out", "a new file that ends in .png, in a folder that exists", str(out))
    whole = split in ("train", "test")
    data = _load(name, **where, train=None if whole else split)
    examples = data.test if split == "test" else data.train
    if out is None:
        for number in range(min(count, len(examples))):
            example, label = in_memory(examples)[number]
            shown = _in_words(functools.partial(_example, data), "inputs", example)
            answer = _in_words(functools.partial(_answer, data), "labels", label)
            click.echo(f"{number}: {shown} → {answer}")
        return
    contact_sheet(in_memory(examples), data.class_names, count).save(out)
    click.echo(f"wrote {printable(out, limit=None)}")


def _in_words(describes: Callable[[np.ndarray], str], column: str, example: Any) -> str:
    """Describes the inputs or the labels of an example; several arrays by their names."""
    if example is None:
        return f"no {column}"
    if not isinstance(example, tuple | dict):
        return describes(np.asarray(example))
    arrays = named(column, example).items()
    return ", ".join(f"{name} {describes(np.asarray(array))}" for name, array in arrays)


def _example(data: Dataset, example: np.ndarray) -> str:
    if isinstance(data, TextDataset):
        return repr(data.encoder.decode(example))
    if example.ndim == 1 and example.size <= _MOST_COLUMNS:
        return " ".join(f"{value:g}" for value in example)
    return f"{describe(example)}, mean {example.mean():.4g}"


def _answer(data: Dataset, label: np.ndarray) -> str:
    if label.ndim == 0 and data.class_names is not None:
        return printable(data.class_names[int(label)])
    if label.size > _MOST_COLUMNS:
        return describe(label)
    return " ".join(f"{value:g}" for value in label.ravel())


@data_group.command("check")
@click.argument("folder", metavar="DIR", type=PathArgument())
@image_size
def check_command(folder: Path, size: Any) -> None:
    """Read the data set in the folder DIR, and those in its subfolders, and report damage."""
    if not folder.exists():
        raise InputError("DIR", "an existing folder or file", str(folder))
    size = None if size is None else check_size("size", size)
    try:
        found = _open(folder, size, nested=0)
    except image_folder.UnclearClasses:
        found = None  # the subfolders are classes or data sets; tried as data sets first
    children = sorted(folder.iterdir()) if not found and folder.is_dir() else []
    sources = [found, *(_open(child, size) for child in children)]
    sources = [each for each in sources if each is not None] or [_open(folder, size)]
    for source in sources:
        if source is None:
            raise InputError("DIR", f"a folder with {files.LAYOUTS}", f"{folder}, without any")
        sizes = (f"{name} {_read_through(part):,}" for name, part in source.parts.items())
        click.echo(f"{printable(source.origin, limit=None)}: {', '.join(sizes)}, all readable")
        for left_out in source.left_out:
            click.echo(f"  left out: {printable(left_out, limit=None)}")


def _read_through(part: Part) -> int:
    """Reads all examples, ``_PIECE`` at a time to save memory, and returns their number."""
    for start in range(0, part.length, _PIECE):
        part.read(start, min(start + _PIECE, part.length))
    return part.length


def _open(
    path: Path, size: tuple[int, int] | None, nested: int = image_folder.WRAPPINGS
) -> Source | None:
    places = [path, *(raw for raw in [path / "raw"] if raw.is_dir())]
    found = (files.open_path(place, size=size, nested=nested) for place in places)
    return next((source for source in found if source is not None), None)

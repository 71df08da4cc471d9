"""A finished run as a folder: its record, its curves and its weights."""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.data import Dataset
from jaxnets.data.text import TextDataset, TextEncoder
from jaxnets.recipes import Recipe, build_model
from jaxnets.training import TrainingRun, count_parameters, plot_history, write_history
from jaxnets.training.records import history_rows
from jaxnets.training.weights import load_weights, save_weights

_RECORD = "run.json"
_WEIGHTS = "weights"
_TEXT = "text.json"
_PACKAGES = ("jaxnets", "jax", "jaxlib", "flax", "optax", "numpy")


def summarize(recipe: Recipe, seed: int, run: TrainingRun) -> dict[str, Any]:
    """A run in one flat record, ready for JSON. Accuracy is a share in [0, 1]."""
    return {
        "recipe": recipe.name,
        "seed": seed,
        "epochs": recipe.epochs,
        "test_accuracy": run.test.accuracy,
        "test_correct": run.test.correct,
        "test_total": run.test.total,
        "test_loss": run.test.loss,
        "train_loss": run.history[-1].train_loss,
        "parameters": count_parameters(run.model),
        "train_seconds": run.timings.train_seconds,
        "compile_seconds": run.timings.compile_seconds,
        "examples_per_second": run.examples_per_second,
        "device": run.device,
    }


@contextlib.contextmanager
def new_folder(directory: Path | str) -> Iterator[Path]:
    """A folder that appears under its name when all that belongs in it has been written.

    Args:
        directory: must not exist yet, or be empty.

    Yields:
        A temporary folder beside it, to write into; removed again if an error comes.

    Raises:
        ValueError: if the folder holds something already, or cannot be made.
    """
    path = Path(directory).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError("out", "a new or empty folder", f"{directory}, which is not")
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError("out", "a folder that can be made", f"{directory}: {error}") from error
    try:
        yield partial
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write(
    directory: Path, recipe: Recipe, seed: int, run: TrainingRun, data: Dataset | None = None
) -> None:
    """Writes ``run.json``, ``history.csv``, ``curves.png`` and ``weights`` into a folder.

    Of texts, ``data`` adds ``text.json``: all that turns a new text into the network's input.
    """
    record = {
        **summarize(recipe, seed, run),
        "settings": dataclasses.asdict(recipe),
        "history": history_rows(run.history),
        "timings": dataclasses.asdict(run.timings),
        "class_names": None if data is None else data.class_names,
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }
    (directory / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
    write_history(run.history, directory / "history.csv")
    plot_history(run.history, directory / "curves.png", title=f"{recipe.name}, seed {seed}")
    save_weights(run.model, directory / _WEIGHTS)
    if isinstance(data, TextDataset):
        data.encoder.save(directory / _TEXT)


def read(directory: Path | str) -> tuple[Recipe, nnx.Module]:
    """The recipe and the trained model, in evaluation mode, of a folder that ``write`` filled.

    Raises:
        ValueError: if the folder holds no run, or a damaged one.
    """
    path = Path(directory) / _RECORD
    if not path.is_file():
        raise InputError("run", f"a folder with a {_RECORD} in it", str(directory))
    try:
        recipe = Recipe(**json.loads(path.read_text())["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("run", f"a {_RECORD} written by jaxnets", f"{path}: {error}") from error
    model = build_model(recipe)
    load_weights(model, Path(directory) / _WEIGHTS)
    model.eval()
    return recipe, model


def read_encoder(directory: Path | str) -> tuple[TextEncoder, tuple[str, ...]] | None:
    """What makes a text the input of a run's network, and its classes; None if it takes no text.

    Raises:
        ValueError: if the folder's files are damaged.
    """
    path = Path(directory) / _TEXT
    if not path.is_file():
        return None
    record = json.loads((Path(directory) / _RECORD).read_text())
    return TextEncoder.load(path), tuple(record["class_names"])


def read_image(path: Path | str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads an image file as the data set's examples are: uint8 [height, width, channels].

    Args:
        path: any file that Pillow reads; colours are turned to grey where there is one channel.
        shape: height, width and channels that the model takes.

    Raises:
        ValueError: if the file is no image, or one of another size.
    """
    from PIL import Image, UnidentifiedImageError

    if len(shape) != 3 or shape[2] not in (1, 3):
        raise InputError("image", "a run on images", f"a run on examples of shape {shape}")
    height, width, channels = shape
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError("image", "a readable image file", f"{path}: {error}") from error
    if pixels.shape[:2] != (height, width):
        size = f"{path} of {pixels.shape[1]}×{pixels.shape[0]} pixels"
        raise InputError("image", f"an image of {width}×{height} pixels", size)
    return pixels.reshape(shape)

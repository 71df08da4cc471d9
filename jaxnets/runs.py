"""A finished run as a folder: its record, its curves and its weights."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_integer, check_number, check_seed, describe
from jaxnets.data import Dataset, StandardizedDataset, Standardizer, image_files
from jaxnets.data.text import TextDataset, TextEncoder
from jaxnets.json_files import WRONG, read_object, reason
from jaxnets.losses import LOSSES
from jaxnets.recipes import (
    Recipe,
    build_augmentation,
    build_model,
    build_optimizer,
    build_transform,
)
from jaxnets.training import Saving, TrainingRun, count_parameters, plot_history, write_history
from jaxnets.training.records import history_rows
from jaxnets.training.weights import check_weights, load_weights, save_weights, sizes

#: How the note of an error begins that says where an unfinished folder is.
KEPT = "what was written is kept in"

_RECORD = "run.json"
#: The record of a run that saves while it goes on.
BEGUN = "begun.json"
_CHECKPOINTS = "checkpoints"
_WEIGHTS = "weights"
_TEXT = "text.json"
_MOST, _MOST_LAYERS = 2**31, 1000  # where no weights say how many there are
_NUMERIC = {"accumulate": 1, "compute_dtype": None}  # where a run is told nothing
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
        "stopped": run.stopped,
    }


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a run's record holds it: ready for JSON, the data's folder an absolute path.

    Raises:
        ValueError: if JSON cannot hold a value.
    """
    values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    for part in ("data_options", "model_options", "optimizer_options"):
        values[part] = dict(values[part])
    try:
        folder = values["data_options"].get("data_dir")
        if folder is not None:
            values["data_options"]["data_dir"] = str(Path(folder).expanduser().absolute())
        json.dumps(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("recipe", "settings that JSON can hold", str(error)) from error
    return values


@contextlib.contextmanager
def new_folder(directory: Path | str) -> Iterator[Path]:
    """A folder that appears under its name when all that belongs in it has been written.

    What has been written is never lost. An error that comes before there is anything leaves no
    trace; after that the temporary folder stays, and a note of the error says where.

    Args:
        directory: must not exist yet, or be empty; a link stands for what it points to.

    Yields:
        A temporary folder beside it, to write into.

    Raises:
        ValueError: if the folder holds something already, or cannot be made.
    """
    path = _free(directory)
    partial = path.with_name(f".{path.name[:50]}.partial-{os.getpid()}")
    try:
        missing = [folder for folder in (partial, *partial.parents) if not folder.exists()]
        partial.mkdir(parents=True)
        path.exists()  # fails for a name that is too long
    except OSError as error:
        _remove_empty(missing)
        raise _impossible(directory, error) from error
    try:
        yield partial
        partial.rename(path)
    except BaseException as error:
        _remove_empty(missing)
        if partial.exists():
            error.add_note(f"{KEPT} {partial}")
        raise


def _free(directory: Path | str) -> Path:
    """The folder's true path, where there is nothing yet."""
    try:
        path = Path(directory).resolve()
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except (OSError, RuntimeError) as error:  # the latter of links in a circle
        raise _impossible(directory, error) from error
    if not free:
        raise InputError("out", "a new or empty folder", f"{str(directory)!r}, which is not")
    return path


def _impossible(directory: Path | str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError("out", "a folder that can be made", f"{str(directory)!r}: {reason}")


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@dataclass(frozen=True)
class BegunRun:
    """A run that saves while it goes on.

    Attributes:
        recipe: what is trained, and how.
        seed: the run's.
        saving: where and how often it saves.
        watching: how it is watched and guarded, as whoever began it says.
        computing: on what it computes and how, likewise; ``accumulate`` and ``compute_dtype``
            change its numbers.
    """

    recipe: Recipe
    seed: int
    saving: Saving
    watching: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    computing: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return Path(self.saving.directory).parent


def begin(
    directory: Path | str,
    recipe: Recipe,
    seed: int,
    watching: Mapping[str, Any] | None = None,
    computing: Mapping[str, Any] | None = None,
    **saving: Any,
) -> BegunRun:
    """Makes the folder of a run that saves while it goes on; ``resume`` reads it.

    Of several processes, the first makes it.

    Args:
        directory: must not exist yet, or be empty.
        recipe: what is trained, and how.
        seed: the run's.
        watching: see ``BegunRun``; of what JSON can hold.
        computing: likewise.
        **saving: how often it saves, as ``Saving`` takes it.

    Raises:
        ValueError: if the folder holds something already, or cannot be made, or the record cannot
            hold the recipe.
    """
    saved = Saving(Path(directory) / _CHECKPOINTS, **saving)
    begun = BegunRun(recipe, seed, saved, dict(watching or {}), dict(computing or {}))
    if jax.process_index() > 0:
        return begun
    with new_folder(directory) as folder:
        _write_begun(folder, begun)
    return begun


def _write_begun(folder: Path, begun: BegunRun) -> None:
    saving = {name: getattr(begun.saving, name) for name in ("steps", "minutes", "keep")}
    record = {"settings": settings(begun.recipe), "seed": begun.seed, "saving": saving}
    record |= {"watching": begun.watching, "computing": begun.computing}
    part = folder / f".{BEGUN}.partial"
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / BEGUN)


def resume(directory: Path | str) -> BegunRun:
    """The run that ``begin`` made a folder for.

    Args:
        directory: the folder.

    Raises:
        ValueError: if there is none, or its record is damaged.
    """
    path = Path(directory) / BEGUN
    if not path.is_file():
        expected = f"the folder of a run that saves, with a {BEGUN} in it"
        raise InputError("resume", expected, repr(str(directory)))
    with understood("resume", path):
        record = read_object(path)
        recipe, seed = recipe_of(record["settings"]), check_seed("seed", record["seed"])
        saving = Saving(Path(directory) / _CHECKPOINTS, **record["saving"])
        more = {name: dict(record.get(name, {})) for name in ("watching", "computing")}
        return BegunRun(recipe, seed, saving, **more)


@contextlib.contextmanager
def understood(argument: str, path: Path) -> Iterator[None]:
    """Says in one sentence that a file in a run's folder is not what jaxnets has written.

    Args:
        argument: what the user calls the run.
        path: the file.

    Raises:
        ValueError: in place of anything that wrong values raise.
    """
    try:
        yield
    except WRONG as error:
        expected = f"a {path.name} written by jaxnets"
        raise InputError(argument, expected, f"{path}: {reason(error)}") from error


def recipe_of(settings: Mapping[str, Any]) -> Recipe:
    """The recipe that ``settings`` wrote down, looked at as far as no data are needed.

    Raises:
        ValueError: if a value is wrong.
        TypeError: if one is missing, or is of another kind.
    """
    recipe = Recipe(**settings)
    folder = recipe.data_options.get("data_dir")
    if not isinstance(folder, str | None):
        raise InputError("data_dir", "a path or null", folder)
    if recipe.loss not in LOSSES:
        raise InputError("loss", f"one of {', '.join(LOSSES)}", recipe.loss)
    build_optimizer(recipe)
    build_transform(recipe)
    build_augmentation(recipe)
    return recipe


def go_on(
    begun: BegunRun, recipe: Recipe, seed: int, computing: Mapping[str, Any] | None = None
) -> BegunRun:
    """A run as it is to go on: the same, but for the number of epochs, which is recorded.

    Args:
        begun: as it was begun.
        recipe: what is to be trained, and how.
        seed: the run's.
        computing: see ``BegunRun``; the devices may be others. None for as it was begun.

    Raises:
        ValueError: with all that differs.
    """
    before = {**settings(begun.recipe), "seed": begun.seed, **_numeric(begun.computing)}
    computing = begun.computing if computing is None else computing
    now = {**settings(recipe), "seed": seed, **_numeric(computing)}
    now = json.loads(json.dumps(now))
    faults = [
        f"{name} is {now[name]}, was {before[name]}"
        for name in sorted(now.keys() - {"name", "document", "expect", "epochs"})
        if now[name] != before[name]
    ]
    if faults:
        expected = f"the run in {begun.directory}"
        raise InputError("resume", expected, f"another: {'; '.join(faults)}")
    if jax.process_index() == 0:
        _sweep(begun.directory)
    more = dataclasses.replace(begun, recipe=recipe)
    if recipe.epochs > begun.recipe.epochs and jax.process_index() == 0:
        _write_begun(begun.directory, more)
    return more


def _numeric(computing: Mapping[str, Any]) -> dict[str, Any]:
    """Of how a run computes, what changes its numbers."""
    return {name: computing.get(name, other) for name, other in _NUMERIC.items()}


def _sweep(directory: Path) -> None:
    """Removes what a process left that was killed while it wrote the result."""
    for left in directory.glob(".finishing-*"):
        shutil.rmtree(left, ignore_errors=True)


def finish(directory: Path, *written: Any) -> None:
    """``write`` into the folder of a run that saves.

    ``run.json`` goes before anything else of an older result and comes when all is there: whenever
    this is killed, the folder holds a whole result or none, and ``resume`` writes it again.
    """
    if jax.process_index() > 0:
        write(directory, *written)
        return
    _sweep(directory)
    with tempfile.TemporaryDirectory(prefix=".finishing-", dir=directory) as part:
        write(Path(part), *written)
        (directory / _RECORD).unlink(missing_ok=True)
        for path in sorted(Path(part).iterdir(), key=lambda path: path.name == _RECORD):
            place = directory / path.name
            if place.is_symlink():
                place.unlink()
            elif place.is_dir():
                shutil.rmtree(place)
            path.rename(place)


def write(
    directory: Path,
    recipe: Recipe,
    seed: int,
    run: TrainingRun,
    data: Dataset | None = None,
    computing: Mapping[str, Any] | None = None,
) -> None:
    """Writes ``weights``, ``run.json``, ``history.csv`` and ``curves.png`` into a folder.

    Several processes call this together; the first one writes.

    Args:
        directory: an existing folder.
        recipe: what was trained, and how.
        seed: the run's.
        run: what came of it.
        data: adds to the record what an example is, the names of the classes, and the mean and
            standard deviation of standardized columns; of texts, ``text.json``: all that turns a
            new text into the network's input.
        computing: how the run computed, for the record.

    Raises:
        ValueError: if the record cannot hold the recipe.
    """
    save_weights(run.model, directory / _WEIGHTS)
    if jax.process_index() > 0:
        return
    record = {
        **summarize(recipe, seed, run),
        "settings": settings(recipe),
        "computing": computing and dict(computing),
        "inputs": None if data is None else _described(data.spec.inputs),
        "class_names": None if data is None else data.class_names,
        "standardized": _standardized(data),
        "history": history_rows(run.history),
        "timings": dataclasses.asdict(run.timings),
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }
    (directory / _RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    write_history(run.history, directory / "history.csv")
    if isinstance(data, TextDataset):
        data.encoder.save(directory / _TEXT)
    plot_history(run.history, directory / "curves.png", title=f"{recipe.name}, seed {seed}")


def _described(spec: jax.ShapeDtypeStruct) -> dict[str, Any]:
    return {"shape": list(spec.shape), "dtype": str(spec.dtype)}


def _standardized(data: Dataset | None) -> dict[str, Any] | None:
    if not isinstance(data, StandardizedDataset):
        return None
    scalers = {"inputs": data.inputs_scaler, "labels": data.labels_scaler}
    return {name: scaler and dataclasses.asdict(scaler) for name, scaler in scalers.items()}


@dataclass(frozen=True)
class SavedRun:
    """What a run's folder gives back.

    Attributes:
        recipe: what was trained, and how.
        model: the trained model, in evaluation mode.
        classifies: whether its outputs are classes.
        class_names: the name of each class, or None.
        inputs: the shape and dtype of one example; None if the record does not say.
        encoder: makes a text the network's input; None if it takes no text.
        labels_scaler: its ``inverse`` brings outputs to the labels' units; None if they are in
            those.
    """

    recipe: Recipe
    model: nnx.Module
    classifies: bool
    class_names: tuple[str, ...] | None
    inputs: jax.ShapeDtypeStruct | None
    encoder: TextEncoder | None
    labels_scaler: Standardizer | None = None


def read(directory: Path | str) -> SavedRun:
    """Reads a folder that ``write`` filled.

    Args:
        directory: the folder.

    Raises:
        ValueError: if the folder holds no run, or a damaged one.
    """
    folder = Path(directory)
    path, text = folder / _RECORD, folder / _TEXT
    if not path.is_file():
        raise InputError("run", f"a folder with a {_RECORD} in it", repr(str(directory)))
    with understood("run", path):
        record = read_object(path)
        recipe = recipe_of(record["settings"])
        classifies = _accuracy(record) is not None
        names, inputs, scaler = _class_names(record), _inputs(record), _labels_scaler(record)
        encoder = _encoder(text, inputs, recipe) if text.exists() else None
    model = _trained(recipe, path, folder / _WEIGHTS)
    return SavedRun(recipe, model, classifies, names, inputs, encoder, scaler)


def _trained(recipe: Recipe, path: Path, weights: Path) -> nnx.Module:
    """The network of a record with its weights; before it is made, both are compared."""
    with understood("run", path):
        _check_sizes(recipe.model_options, weights)
        outline = nnx.eval_shape(lambda: build_model(recipe))
    check_weights(outline, weights)
    model = build_model(recipe)
    load_weights(model, weights)
    model.eval()
    return model


def _check_sizes(options: Mapping[str, Any], weights: Path) -> None:
    """Refuses sizes that no network with these weights has, and that may be too much to try."""
    try:
        arrays = sizes(weights)
        total, layers = sum(arrays), len(arrays)
    except InputError:  # which is said when they are read
        total, layers = _MOST, _MOST_LAYERS
    for name, value in options.items():
        most = layers if name == "n_layers" else total
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, int) and size > most and name != "remat":
                raise InputError(name, f"at most {most}, as the weights say", size)


def _accuracy(record: dict[str, Any]) -> float | None:
    found = record["test_accuracy"]
    return None if found is None else check_number("test_accuracy", found, least=0, most=1)


def _encoder(path: Path, inputs: jax.ShapeDtypeStruct | None, recipe: Recipe) -> TextEncoder:
    encoder = TextEncoder.load(path)
    length, tokens = encoder.length, recipe.model_options.get("vocab_size")
    if tokens != len(encoder.vocabulary):
        expected = f"the {len(encoder.vocabulary)} tokens of {path}"
        raise InputError("vocab_size", expected, tokens)
    if inputs is not None and length is not None and inputs.shape != (length,):
        expected = f"rows of {length} tokens, as {path} makes them"
        raise InputError("inputs", expected, describe(inputs))
    return encoder


def _class_names(record: dict[str, Any]) -> tuple[str, ...] | None:
    names = record.get("class_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("class_names", "a list of names", names)
    return tuple(names)


def _inputs(record: dict[str, Any]) -> jax.ShapeDtypeStruct | None:
    """What one example is; the records of older runs do not say."""
    spec = record.get("inputs")
    if spec is None:
        return None
    shape = [check_integer("shape", size, least=0) for size in spec["shape"]]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "buif":
        raise InputError("dtype", "one of numbers", str(dtype))
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _labels_scaler(record: dict[str, Any]) -> Standardizer | None:
    standardized = record.get("standardized")
    found = None if standardized is None else standardized["labels"]
    return None if found is None else Standardizer(tuple(found["mean"]), tuple(found["std"]))


def read_image(path: Path | str, spec: jax.ShapeDtypeStruct) -> np.ndarray:
    """Reads an image file as a data set's examples are: uint8 [height, width, channels].

    Args:
        path: any file that Pillow reads.
        spec: shape and dtype of an example.

    Raises:
        ValueError: if the file is no image, or one of another size, or if the examples are no
            images.
    """
    if len(spec.shape) != 3 or spec.shape[2] not in (1, 3) or spec.dtype != np.uint8:
        raise InputError("image", "a run on images", f"a run on examples {describe(spec)}")
    height, width, channels = spec.shape
    return image_files.read_image(path, (height, width, channels))

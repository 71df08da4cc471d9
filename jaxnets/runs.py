"""A finished run as a folder: its record, its curves and its weights."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, describe, shortened
from jaxnets.data import Dataset, Standardizer, Transform, image_files
from jaxnets.data.text import TextEncoder
from jaxnets.data.transforms.record import make_transform
from jaxnets.models import MODELS
from jaxnets.recipes import OPTIONS, Recipe, build_model, build_transform
from jaxnets.training import (
    EpochRecord,
    Saving,
    TrainingRun,
    count_parameters,
    plot_history,
    predict,
    predictor,
)
from jaxnets.training.evaluation import check_model
from jaxnets.training.folders import check_path, new_folder
from jaxnets.training.progress import describe as describe_epoch
from jaxnets.training.records import RECORD, TEXT, WEIGHTS, Task
from jaxnets.training.weights import load_weights

_BEGUN = "begun.json"
_CHECKPOINTS = "checkpoints"
_NUMERIC = {"accumulate": 1, "compute_dtype": None}  # where a run is told nothing


def summarize(recipe: Recipe, seed: int, run: TrainingRun) -> dict[str, Any]:
    """A run in one flat record, ready for JSON. Accuracy is a share in [0, 1]."""
    return {"recipe": recipe.name, "seed": seed, "epochs": recipe.epochs, **run.measured()}


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a run's record holds it: ready for JSON, the data's folder an absolute path.

    Raises:
        ValueError: if JSON cannot hold a value.
    """
    values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    for part in OPTIONS:
        values[part] = dict(values[part])
    try:
        folder = values["data_options"].get("data_dir")
        if folder is not None:
            values["data_options"]["data_dir"] = str(Path(folder).expanduser().absolute())
        json.dumps(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("recipe", "settings that JSON can hold", str(error)) from error
    return values


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
    saving = {name: getattr(begun.saving, name) for name in ("steps", "minutes", "keep", "metric")}
    record = {"settings": settings(begun.recipe), "seed": begun.seed, "saving": saving}
    record |= {"watching": begun.watching, "computing": begun.computing}
    part = folder / f".{_BEGUN}.partial"
    part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / _BEGUN)


def resume(directory: Path | str) -> BegunRun:
    """The run that ``begin`` made a folder for.

    Args:
        directory: the folder.

    Raises:
        ValueError: if there is none, or its record is damaged.
    """
    path = Path(directory) / _BEGUN
    if not path.is_file():
        expected = f"the folder of a run that saves, with a {_BEGUN} in it"
        raise InputError("resume", expected, repr(str(directory)))
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        saving = Saving(Path(directory) / _CHECKPOINTS, **record["saving"])
        more = {name: dict(record.get(name, {})) for name in ("watching", "computing")}
        return BegunRun(Recipe(**record["settings"]), record["seed"], saving, **more)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError("resume", f"a {_BEGUN} written by jaxnets", f"{path}: {error}") from error


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
    more = dataclasses.replace(begun, recipe=recipe)
    if recipe.epochs > begun.recipe.epochs and jax.process_index() == 0:
        _write_begun(begun.directory, more)
    return more


def _numeric(computing: Mapping[str, Any]) -> dict[str, Any]:
    """Of how a run computes, what changes its numbers."""
    return {name: computing.get(name, other) for name, other in _NUMERIC.items()}


def finish(directory: Path, *written: Any) -> None:
    """``write`` into the folder of a run that saves.

    ``run.json`` goes before anything else of an older result and comes when all is there: whenever
    this is killed, the folder holds a whole result or none, and ``resume`` writes it again.
    """
    if jax.process_index() > 0:
        write(directory, *written)
        return
    for left in directory.glob(".finishing-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".finishing-", dir=directory) as part:
        write(Path(part), *written)
        (directory / RECORD).unlink(missing_ok=True)
        for path in sorted(Path(part).iterdir(), key=lambda path: path.name == RECORD):
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
    record = {
        **summarize(recipe, seed, run),
        "settings": settings(recipe),
        "computing": computing and dict(computing),
    }
    told = dataclasses.replace(run, task=Task.of(data))
    told.write(directory, record, title=f"{recipe.name}, seed {seed}")


@dataclass(frozen=True, repr=False)
class SavedRun:
    """What a run's folder gives back.

    Attributes:
        recipe: what was trained, and how; None of a run that ``TrainingRun.save`` wrote.
        model: the trained model, in evaluation mode.
        classifies: whether its outputs are classes.
        class_names: the name of each class, or None.
        inputs: the shape and dtype of one example; None if the record does not say.
        encoder: makes a text the network's input; None if it takes no text.
        labels_scaler: its ``inverse`` brings outputs to the labels' units; None if they are in
            those.
        transform: what inputs go through before the model; None for nothing.
        history: one record an epoch.
        restored: the best epoch, if ``model`` has its weights and not the last ones.
    """

    recipe: Recipe | None
    model: nnx.Module
    classifies: bool
    class_names: tuple[str, ...] | None
    inputs: jax.ShapeDtypeStruct | None
    encoder: TextEncoder | None
    labels_scaler: Standardizer | None = None
    transform: Transform | None = None
    history: tuple[EpochRecord, ...] = ()
    restored: int | None = None

    def __repr__(self) -> str:
        size = count_parameters(self.model)
        lines = [f"SavedRun of {type(self.model).__name__}, {size:,} parameters"]
        if self.recipe is not None:
            lines.append(f"recipe {self.recipe.name}")
        if self.inputs is not None:
            lines.append(f"inputs {describe(self.inputs)}")
        if self.class_names is not None:
            lines.append(f"{len(self.class_names)} classes: {shortened(self.class_names)}")
        if self.history:
            count = len(self.history)
            lines.append(describe_epoch(self.history[(self.restored or count) - 1], count))
        return "\n  ".join(lines)

    def predict(self, inputs: np.ndarray | jax.Array | Sequence[str]) -> Any:
        """The model's outputs for examples as the data set holds them, or for texts.

        Args:
            inputs: [examples, …], which go through ``transform``; or strings, if the network takes
                text.

        Returns:
            Outputs [examples, …], NumPy arrays in whatever structure the model returns.

        Raises:
            ValueError: if there is no example, or one does not fit the model.
        """
        return predict(self.model, self._numbers(inputs), transform=self.transform)

    def predictor(self) -> Callable[[np.ndarray | jax.Array], Any]:
        """The model and its transform as one compiled function; see ``jaxnets.predictor``."""
        return predictor(self.model, transform=self.transform)

    def plot(self, path: Path | str | None = None, title: str = "") -> Any:
        """Draws the curves; see ``TrainingRun.plot``.

        Args:
            path: where to save them too; None saves nothing.
            title: what stands above.
        """
        return plot_history(self.history, path, title)

    def _numbers(self, inputs: Any) -> Any:
        several = inputs if isinstance(inputs, list | tuple) else [inputs]
        of_text = all(isinstance(each, str) for each in several)
        return self.encoder(inputs) if self.encoder is not None and of_text else inputs


def read(
    directory: Path | str,
    *,
    model: nnx.Module | None = None,
    transform: Transform | None = None,
) -> SavedRun:
    """Reads the folder of a run, which ``TrainingRun.save`` or the command line wrote.

    Args:
        directory: the folder.
        model: for a network of your own, one of its kind; it is left as it is. The folder tells how
            a documented network is made.
        transform: for a transform of your own, that one; the folder has those of ``jaxnets.data``.

    Returns:
        The trained model, what its inputs go through, the history, the names of the classes.

    Raises:
        ValueError: if the folder holds no run, or a damaged one, or another model's.

    Examples:
        ``run.save("runs/mlp")`` writes what this reads:

        >>> saved = jaxnets.load("runs/mlp")  # doctest: +SKIP
        >>> saved.predict(images).argmax(-1)  # doctest: +SKIP
    """
    if model is not None:
        check_model(model)
    folder = check_path("directory", directory)
    path, text = folder / RECORD, folder / TEXT
    if not path.is_file():
        raise InputError("run", f"a folder with a {RECORD} in it", repr(str(directory)))
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        from_python = isinstance(record, dict) and {"model", "settings"} & {*record} == {"model"}
        recipe = None if from_python else Recipe(**record["settings"])
        run = SavedRun(
            recipe,
            _network(record, recipe) if model is None else nnx.clone(model),
            record["test_accuracy"] is not None,
            _class_names(record),
            _inputs(record),
            TextEncoder.load(text) if text.is_file() else None,
            _labels_scaler(record),
            _transform(record, recipe) if transform is None else transform,
            tuple(EpochRecord(**epoch) for epoch in record.get("history", ())),
            record.get("restored"),
        )
    except _NotDocumented as error:
        expected = "a network of the saved kind, as the folder has the weights alone"
        raise InputError("model", expected, f"none for {error}") from error
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        reason = f"{path}: no {error}" if isinstance(error, KeyError) else f"{path}: {error}"
        raise InputError("run", f"a {RECORD} written by jaxnets", reason) from error
    load_weights(run.model, folder / WEIGHTS)
    run.model.eval()
    return run


class _NotDocumented(Exception):
    """The name of a class of networks that is not one of ``MODELS``."""


def _network(record: dict[str, Any], recipe: Recipe | None) -> nnx.Module:
    """A network of the run's kind, to be filled."""
    if recipe is not None:
        return build_model(recipe)
    made = record["model"]
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in MODELS.values()}
    if made["class"] not in kinds:
        raise _NotDocumented(made["class"])
    return kinds[made["class"]](**made["options"], param_dtype=made["dtype"], rngs=nnx.Rngs(0))


def _transform(record: dict[str, Any], recipe: Recipe | None) -> Transform | None:
    return make_transform(record["transform"]) if recipe is None else build_transform(recipe)


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
    return spec and jax.ShapeDtypeStruct(tuple(map(int, spec["shape"])), np.dtype(spec["dtype"]))


def _labels_scaler(record: dict[str, Any]) -> Standardizer | None:
    found = (record.get("standardized") or {}).get("labels")
    return found and Standardizer(tuple(found["mean"]), tuple(found["std"]))


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

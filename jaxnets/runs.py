"""A finished run as a folder: its record, its curves and its weights."""

import contextlib
import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_float_dtype,
    check_integer,
    check_number,
    check_path,
    check_seed,
    describe,
    shortened,
)
from jaxnets.changes import Change, restructured
from jaxnets.data import AudioFormat, Dataset, Standardizer, TableEncoder, Transform, image_files
from jaxnets.data.loading import path_of
from jaxnets.data.spec import described
from jaxnets.data.survey import border_brightness, is_image
from jaxnets.data.text import TextEncoder
from jaxnets.data.transforms.record import make_transform
from jaxnets.disk import new_folder, replacing
from jaxnets.export.program import Program
from jaxnets.json_files import WRONG, read_object, reason
from jaxnets.losses import LOSSES
from jaxnets.models import MODELS
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import (
    OPTIONS,
    Recipe,
    build_augmentation,
    build_model,
    build_optimizer,
    build_transform,
    check_recipe,
)
from jaxnets.training import (
    EpochRecord,
    Evaluation,
    Saving,
    TrainingRun,
    count_parameters,
    plot_history,
    predict,
    predictor,
)
from jaxnets.training.evaluation import check_model
from jaxnets.training.labels import Loss
from jaxnets.training.probabilities import class_probabilities, kind_of, stated_kind
from jaxnets.training.progress import describe as describe_epoch
from jaxnets.training.records import RECORD, TEXT, WEIGHTS, Task, tested_record
from jaxnets.training.weights import check_weights, load_weights, save_weights, sizes

#: The record of a run that saves while it trains.
BEGUN = "begun.json"
#: The folder with the files of a network of the user's own.
NETWORK = "network"
#: The folder with the checkpoints of a run that saves while it trains.
CHECKPOINTS = "checkpoints"
_INITIAL = "initial.npz"  # weights of PyTorch's names, where they are not drawn from the seed
_MOST, _MOST_LAYERS = 2**31, 1000  # where no weights say how many there are
_NUMERIC = {"accumulate": 1, "compute_dtype": None}  # where a run is told nothing


def summarize(recipe: Recipe, seed: int, run: TrainingRun) -> dict[str, Any]:
    """A run in one flat record, ready for JSON. Accuracy is a share in [0, 1]."""
    return {"recipe": recipe.name, "seed": seed, "epochs": recipe.epochs, **run.measured()}


def settings(recipe: Recipe) -> dict[str, Any]:
    """A recipe as a run's record holds it: ready for JSON, the place of the data an absolute path.

    Of a network of the user's own it holds the digests of its files.

    Raises:
        ValueError: if JSON cannot hold a value.
    """
    values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
    if isinstance(recipe.model, OwnNetwork):
        values["model"] = recipe.model.record()
    for part in OPTIONS:
        values[part] = dict(values[part])
    try:
        folder = values["data_options"].get("data_dir")
        if folder is not None:
            values["data_options"]["data_dir"] = str(Path(folder).expanduser().absolute())
        else:
            values["data"] = _absolute(recipe.data)
        json.dumps(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("recipe", "settings that JSON can hold", str(error)) from error
    return values


def _absolute(data: str) -> str:
    """A data set's name; its absolute path, where it is one, whether it is still there or not."""
    try:
        place = path_of(data)
    except InputError:
        place = Path(data).expanduser()
    return data if place is None else str(place.absolute())


@dataclass(frozen=True)
class BegunRun:
    """A run that saves while it trains.

    Attributes:
        recipe: what is trained, and how.
        seed: the run's.
        saving: where and how often it saves.
        watching: how it is watched and guarded, as whoever began it says.
        computing: on what it computes and how, likewise; ``accumulate`` and ``compute_dtype``
            change its numbers.
        initial: the file of the weights that it began with; None where the seed draws them.
    """

    recipe: Recipe
    seed: int
    saving: Saving
    watching: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    computing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    initial: Path | None = None

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
    weights: Mapping[str, np.ndarray] | None = None,
    **saving: Any,
) -> BegunRun:
    """Makes the folder of a run that saves while it trains; ``resume`` reads it.

    Of several processes, the first makes it.

    Args:
        directory: must not exist yet, or be empty.
        recipe: what is trained, and how.
        seed: the run's.
        watching: see ``BegunRun``; of what JSON can hold.
        computing: likewise.
        weights: that it begins with, by PyTorch's names; None for those that the seed draws.
        **saving: how often it saves, as ``Saving`` takes it.

    Raises:
        ValueError: if the folder holds something already, or cannot be made, or the record cannot
            hold the recipe.
    """
    folder = check_path("directory", directory, "a new folder")
    check_recipe(recipe)
    check_seed("seed", seed)
    for name, settings in (("watching", watching), ("computing", computing)):
        if settings is not None and not isinstance(settings, Mapping):
            raise InputError(name, "settings by name, or None", settings)
    saved = Saving(folder / CHECKPOINTS, **saving)
    begun = BegunRun(recipe, seed, saved, dict(watching or {}), dict(computing or {}))
    if jax.process_index() > 0:
        return begun
    with new_folder(directory) as folder:
        _write_begun(folder, begun)
        if isinstance(recipe.model, OwnNetwork):
            recipe.model.write(folder / NETWORK)
        if weights is not None:
            np.savez(folder / _INITIAL, **weights)  # type: ignore[arg-type]
    return begun


def _write_begun(folder: Path, begun: BegunRun) -> None:
    saving = {name: getattr(begun.saving, name) for name in ("steps", "minutes", "keep", "metric")}
    record = {"settings": settings(begun.recipe), "seed": begun.seed, "saving": saving}
    record |= {"watching": begun.watching, "computing": begun.computing}
    with replacing(folder / BEGUN) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def resume(directory: Path | str, *, same_bits: bool = False) -> BegunRun:
    """The run that ``begin`` made a folder for.

    Args:
        directory: the folder.
        same_bits: see ``Saving``.

    Raises:
        ValueError: if there is none, or its record is damaged.
    """
    path = check_path("directory", directory, "the folder of a run") / BEGUN
    check_bool("same_bits", same_bits)
    if not path.is_file():
        expected = f"the folder of a run that saves, with a {BEGUN} in it"
        raise InputError("resume", expected, repr(str(directory)))
    with understood("resume", path):
        record = read_object(path)
        recipe = recipe_of(record["settings"], path.parent / NETWORK)
        seed = check_seed("seed", record["seed"])
        saving = Saving(Path(directory) / CHECKPOINTS, **record["saving"], same_bits=same_bits)
        more = {name: dict(record.get(name, {})) for name in ("watching", "computing")}
        initial = path.parent / _INITIAL
        return BegunRun(recipe, seed, saving, **more, initial=initial if initial.exists() else None)


@contextlib.contextmanager
def understood(argument: str, path: Path) -> Iterator[None]:
    """Reports in one sentence that a file in a run's folder was not written by jaxnets.

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


def recipe_of(settings: Mapping[str, Any], network: Path) -> Recipe:
    """The recipe of recorded settings, checked as far as possible without the data.

    Args:
        settings: what ``settings`` returned.
        network: the folder with the files of a network of the user's own. They are not imported.

    Raises:
        ValueError: if a value is wrong.
        TypeError: if one is missing, or is of another kind.
    """
    model = settings.get("model") if isinstance(settings, Mapping) else None
    if isinstance(model, Mapping):
        settings = {**settings, "model": OwnNetwork.recorded(model, network)}
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
    """A run as it is to be resumed: the same except for the number of epochs, which is recorded.

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
    before, now = (json.loads(json.dumps(each)) for each in (before, now))
    faults = [
        f"{name} is {now[name]}, was {before[name]}"
        for name in sorted(now.keys() - {"name", "document", "expect", "epochs"})
        if now[name] != before[name]
    ]
    if faults:
        expected = f"the run in {begun.directory}"
        raise InputError("resume", expected, f"another: {'; '.join(faults)}", whole=True)
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
        (directory / RECORD).unlink(missing_ok=True)
        for path in sorted(Path(part).iterdir(), key=lambda path: path.name == RECORD):
            place = directory / path.name
            if path.name == NETWORK:  # there since the run began, and needed if this is killed
                continue
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

    The files of a network of the user's own are written into its folder ``network``.

    Several processes call this together; the first one writes.

    Args:
        directory: an existing folder.
        recipe: what was trained, and how.
        seed: the run's.
        run: what came of it.
        data: adds to the record what an example is, how light the background of images is, the
            names of the classes, the mean and standard deviation of standardized columns, and the
            columns of a table; of texts, ``text.json``: all that turns a new text into the
            network's input.
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
    if isinstance(recipe.model, OwnNetwork) and jax.process_index() == 0:
        recipe.model.write(directory / NETWORK)
    told.write(directory, record, title=f"{recipe.name}, seed {seed}")


def write_changed(
    directory: Path | str,
    run: Path | str,
    model: nnx.Module,
    change: Change,
    test: Evaluation | None = None,
) -> None:
    """Writes a new folder of a run whose network was changed after its training; ``read`` reads it.

    It holds what the folder of the run holds, but the new weights, and no checkpoints. The folder
    appears whole or not at all.

    Args:
        directory: must not exist yet, or be empty.
        run: the folder of the run as it was.
        model: the changed network.
        change: what was done.
        test: how good the changed network is, for the record; None removes what it says of that.

    Raises:
        ValueError: if ``run`` holds no run, or ``directory`` holds something already.
    """
    source = check_path("run", run, "the folder of a run")
    if not is_run(source):
        raise InputError("run", f"a folder with a {RECORD} in it", repr(str(run)))
    with understood("run", source / RECORD):
        record = read_object(source / RECORD)
        changes = [*record.get("changes", ()), change.record()]
    kept = {name: value for name, value in record.items() if not name.startswith("test_")}
    tested = {} if test is None else tested_record(test)
    record = {**kept, "parameters": count_parameters(model), **tested, "changes": changes}
    with new_folder(directory) as folder:
        save_weights(model, folder / WEIGHTS)
        for name in (TEXT, NETWORK, "history.csv", "curves.png"):
            if (source / name).is_dir():
                shutil.copytree(source / name, folder / name)
            elif (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def is_run(directory: Path | str) -> bool:
    """Whether a folder holds a finished run."""
    return (Path(directory) / RECORD).is_file()


def is_own(directory: Path | str) -> bool:
    """Whether a run's network is the user's own, so that ``read`` needs ``run_code``."""
    path = Path(directory) / RECORD
    with understood("run", path):
        settings = read_object(path).get("settings", {})
        return isinstance(settings.get("model"), Mapping)


def weights_of(directory: Path | str) -> Path:
    """Where the weights are in the folder of a run."""
    return Path(directory) / WEIGHTS


@dataclass(frozen=True, repr=False)
class SavedRun:
    """A trained model and what its run's folder says of it.

    Attributes:
        recipe: what was trained, and how; None of a run that ``TrainingRun.save`` wrote.
        model: the trained model, in evaluation mode.
        classifies: whether its outputs are classes.
        class_names: the name of each class, or None.
        inputs: the shape and dtype of one example, or a tuple or dictionary of them; None if the
            record does not say.
        encoder: makes a text the network's input; None if it takes no text.
        labels_scaler: its ``inverse`` brings outputs to the labels' units; None if they are in
            those.
        background: how light grey training images are at their borders, from 0, black, to 1,
            white; None if they are not alike, or the record does not say.
        table: makes rows of a table the network's input, or what ``inputs_scaler`` takes; None if
            it was trained on no table.
        inputs_scaler: brings inputs to what the network takes; None if it takes them as they are.
        transform: what inputs go through before the model; None for nothing.
        history: one record an epoch.
        restored: the best epoch, if ``model`` has its weights and not the last ones.
        changes: what was done to the network after its training, in order.
        audio: makes a WAV file the network's input; None if it takes no recordings.
    """

    recipe: Recipe | None
    model: nnx.Module
    classifies: bool
    class_names: tuple[str, ...] | None
    inputs: Any
    encoder: TextEncoder | None
    labels_scaler: Standardizer | None = None
    background: float | None = None
    table: TableEncoder | None = None
    inputs_scaler: Standardizer | None = None
    transform: Transform | None = None
    history: tuple[EpochRecord, ...] = ()
    restored: int | None = None
    changes: tuple[Change, ...] = ()
    audio: AudioFormat | None = None

    def __repr__(self) -> str:
        size = count_parameters(self.model)
        lines = [f"SavedRun of {type(self.model).__name__}, {size:,} parameters"]
        if self.recipe is not None:
            lines.append(f"recipe {self.recipe.name}")
        if self.inputs is not None:
            lines.append(f"inputs {described(self.inputs)}")
        if self.class_names is not None:
            lines.append(f"{len(self.class_names)} classes: {shortened(self.class_names)}")
        if self.history:
            count = len(self.history)
            lines.append(describe_epoch(self.history[(self.restored or count) - 1], count))
        return "\n  ".join(lines)

    def predict(self, inputs: np.ndarray | jax.Array | Sequence[str]) -> Any:
        """The model's outputs for examples as the data set holds them, for texts or for new rows.

        Args:
            inputs: [examples, …], which go through ``transform``; strings, if the network takes
                text; a list of rows, if it was trained on a table.

        Returns:
            Outputs [examples, …], NumPy arrays in whatever structure the model returns.

        Raises:
            ValueError: if there is no example, or one does not fit the model.
        """
        return predict(self.model, self._numbers(inputs), transform=self.transform)

    @property
    def gives(self) -> str:
        """What the outputs are: ``"logits"`` or ``"probabilities"`` of classes, or ``"values"``."""
        if not self.classifies:
            return "values"
        return stated_kind(self.model, self._loss) or "logits"

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """The probability of each class, [..., classes], from the outputs of a run with classes.

        Those of a network of the user's own are probabilities already if they add up to 1.

        Args:
            outputs: [..., classes], or [..., 1] where one output tells two classes apart.
        """
        kind = kind_of(outputs, self.model, self._loss, alone="logits")
        return class_probabilities(outputs, kind)

    def program(self, batch: int | None = None) -> Program:
        """The network with its transforms and scalers, ready for a file; see ``jaxnets.export``.

        Args:
            batch: the number of examples that the file takes; None for any.

        Raises:
            ValueError: if the record does not say what an example is.
        """
        if self.inputs is None:
            raise InputError("run", "a record that says the shape of an example", "none")
        about = {
            "recipe": None if self.recipe is None else self.recipe.name,
            "gives": self.gives,
            "classes": None if self.class_names is None else list(self.class_names),
            "background": self.background,
            "text": None if self.encoder is None else dataclasses.asdict(self.encoder),
            "table": None if self.table is None else self.table.to_json(),
        }
        return Program(
            self.model,
            self.inputs,
            transform=self.transform,
            inputs_scaler=self.inputs_scaler,
            labels_scaler=self.labels_scaler,
            about=about,
            batch=batch,
        )

    def predictor(self) -> Callable[[np.ndarray | jax.Array], Any]:
        """The model and its transform as one compiled function; see ``jaxnets.predictor``."""
        return predictor(self.model, transform=self.transform)

    def plot(self, path: Path | str | None = None, title: str = "") -> Any:
        """Draws the curves; see ``TrainingRun.plot``.

        Args:
            path: where to save them too; None saves nothing.
            title: text above the curves.
        """
        return plot_history(self.history, path, title)

    @property
    def _loss(self) -> Loss | None:
        return None if self.recipe is None else LOSSES[self.recipe.loss]

    def _numbers(self, inputs: Any) -> Any:
        several = inputs if isinstance(inputs, list | tuple) else [inputs]
        if self.encoder is not None and all(isinstance(each, str) for each in several):
            return self.encoder(inputs)
        if self.table is None or several is not inputs:
            return inputs
        rows = self.table(inputs)
        return rows if self.inputs_scaler is None else self.inputs_scaler(rows)


def read(
    directory: Path | str,
    *,
    model: nnx.Module | None = None,
    transform: Transform | None = None,
    run_code: bool = False,
) -> SavedRun:
    """Reads the folder of a run, which ``TrainingRun.save`` or the command line wrote.

    Args:
        directory: the folder.
        model: for a network of your own, one of its kind; it is left as it is. The folder tells how
            a documented network is made.
        run_code: whether to import the files of a network of your own that ``jaxnets train --model
            FILE.py:Class`` has kept in the folder, in place of ``model``. Their code runs: only for
            folders that you trust.
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
    check_bool("run_code", run_code)
    folder = check_path("directory", directory, "the folder of a run")
    path, text = folder / RECORD, folder / TEXT
    if not path.is_file():
        raise InputError("run", f"a folder with a {RECORD} in it", repr(str(directory)))
    with understood("run", path):
        record = read_object(path)
        from_python = {"model", "settings"} & {*record} == {"model"}
        recipe = None if from_python else recipe_of(record["settings"], folder / NETWORK)
        build, options = _builder(record, recipe)
        inputs = _inputs(record)
        found: dict[str, Any] = {
            "classifies": _accuracy(record) is not None,
            "class_names": _class_names(record),
            "inputs": inputs,
            "encoder": _encoder(text, inputs, options) if text.exists() else None,
            "labels_scaler": _scaler(record, "labels"),
            "background": _recorded_background(record),
            "table": _table(record),
            "inputs_scaler": _scaler(record, "inputs"),
            "transform": _transform(record, recipe) if transform is None else transform,
            "history": _history(record),
            "restored": _restored(record),
            "audio": _audio(record),
            "changes": tuple(map(Change.of_record, record.get("changes", ()))),
        }
    if model is not None:
        model = _filled(nnx.clone(model), found["changes"], folder / WEIGHTS)
    elif recipe is not None and isinstance(recipe.model, OwnNetwork):
        model = _filled(_own(recipe, run_code=run_code), found["changes"], folder / WEIGHTS)
    elif build is None:
        expected = "a network of the saved kind, as the folder has the weights alone"
        raise InputError("model", expected, f"none for {record['model']['class']}")
    elif found["changes"]:
        model = _filled(build(), found["changes"], folder / WEIGHTS)
    else:
        model = _trained(build, options, path, folder / WEIGHTS)
    model.eval()
    return SavedRun(recipe, model, **found)


def _filled(model: nnx.Module, changes: Sequence[Change], weights: Path) -> nnx.Module:
    """A network of the changed structure with the weights of a folder."""
    model = restructured(model, changes)
    load_weights(model, weights)
    return model


def _own(recipe: Recipe, *, run_code: bool) -> nnx.Module:
    """A network of the user's own, made by the files in the folder."""
    if not run_code:
        expected = "True, or the network as model, as the folder's own has code that would run"
        raise InputError("run_code", expected, run_code)
    return build_model(recipe)


def _builder(
    record: dict[str, Any], recipe: Recipe | None
) -> tuple[Callable[[], nnx.Module] | None, Mapping[str, Any]]:
    """What makes a network of the run's kind, and its options; None for a user's own kind."""
    if recipe is not None:
        return functools.partial(build_model, recipe), recipe.model_options
    made = record["model"]
    kinds = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in MODELS.values()}
    if made["class"] not in kinds:
        return None, {}
    options, dtype = dict(made["options"]), check_float_dtype("dtype", made["dtype"])
    kind = kinds[made["class"]]
    return lambda: kind(**options, param_dtype=dtype, rngs=nnx.Rngs(0)), options


def _trained(
    build: Callable[[], nnx.Module], options: Mapping[str, Any], path: Path, weights: Path
) -> nnx.Module:
    """The network of a record with its weights; before it is made, both are compared."""
    with understood("run", path):
        _check_sizes(options, weights)
        outline = nnx.eval_shape(build)
    check_weights(outline, weights)
    model = build()
    load_weights(model, weights)
    return model


def _history(record: dict[str, Any]) -> tuple[EpochRecord, ...]:
    rows = enumerate(record.get("history", ()), start=1)
    return tuple(EpochRecord.of_row(row, place) for place, row in rows)


def _restored(record: dict[str, Any]) -> int | None:
    found = record.get("restored")
    epochs = len(record.get("history", ()))
    return None if found is None else check_integer("restored", found, least=1, most=epochs)


def _transform(record: dict[str, Any], recipe: Recipe | None) -> Transform | None:
    return make_transform(record["transform"]) if recipe is None else build_transform(recipe)


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
    """The share of correct predictions in the test; without one, in the last epoch's training."""
    tested = "test_loss" in record
    found = record["test_accuracy"] if tested else record["history"][-1]["train_accuracy"]
    return None if found is None else check_number("test_accuracy", found, least=0, most=1)


def _encoder(
    path: Path, inputs: jax.ShapeDtypeStruct | None, options: Mapping[str, Any]
) -> TextEncoder:
    encoder = TextEncoder.load(path)
    length, tokens = encoder.length, options.get("vocab_size")
    if "vocab_size" in options and tokens != len(encoder.vocabulary):
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


def _inputs(record: dict[str, Any]) -> Any:
    """What one example is; the records of older runs do not say."""
    spec = record.get("inputs")
    return None if spec is None else _spec(spec)


def _spec(spec: Any) -> Any:
    """The shape and dtype of an example's arrays."""
    if isinstance(spec, list):
        return tuple(_spec(part) for part in spec)
    if not isinstance(spec, dict):
        raise InputError("inputs", "a shape and dtype, or those of several arrays", spec)
    if isinstance(spec.get("shape", {}), dict):
        return {name: _spec(part) for name, part in spec.items()}
    shape = [check_integer("shape", size, least=0) for size in spec["shape"]]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "buif":
        raise InputError("dtype", "one of numbers", str(dtype))
    return jax.ShapeDtypeStruct(tuple(shape), dtype)


def _table(record: dict[str, Any]) -> TableEncoder | None:
    columns = record.get("table")
    return None if columns is None else TableEncoder.from_json(columns)


def _scaler(record: dict[str, Any], of: str) -> Standardizer | None:
    standardized = record.get("standardized")
    found = None if standardized is None else standardized[of]
    return None if found is None else Standardizer(tuple(found["mean"]), tuple(found["std"]))


def _audio(record: dict[str, Any]) -> AudioFormat | None:
    found = record.get("audio")
    return None if found is None else AudioFormat(**found)


def _recorded_background(record: dict[str, Any]) -> float | None:
    found = record.get("background")
    return None if found is None else check_number("background", found, least=0, most=1)


@dataclass(frozen=True)
class GivenImage:
    """An image file in the format of a run's examples.

    Attributes:
        pixels: uint8 [height, width, channels].
        size: height and width of the image in the file.
        inverted: whether dark and light have changed places.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    inverted: bool


def open_image(
    path: Path | str | IO[bytes],
    spec: jax.ShapeDtypeStruct,
    *,
    background: float | None = None,
    invert: bool | None = None,
) -> GivenImage:
    """Reads an image file in the format of a data set's examples, and reports the changes.

    An image of another size is brought to theirs as ``load(size=…)`` brings it.

    Args:
        path: a file in a format that ``load`` reads.
        spec: shape and dtype of an example.
        background: see ``SavedRun``.
        invert: whether dark and light change places; by default where the image's border is light
            and the background dark, or the other way round.

    Raises:
        ValueError: if the file is no image, or if the examples are no images.
    """
    if not is_image(spec):
        raise InputError("image", "a run on images", f"a run on examples {described(spec)}")
    height, width, channels = spec.shape
    pixels = image_files.read_image(path, (height, width, channels), fit=True)
    if invert is None:
        border = border_brightness(pixels[None])[0]
        invert = background is not None and abs(border - background) > 0.5
    if invert:
        pixels = 255 - pixels
    return GivenImage(pixels, image_files.read_header(path)[:2], invert)


def read_image(path: Path | str, spec: jax.ShapeDtypeStruct, **options: Any) -> np.ndarray:
    """The pixels of ``open_image``: uint8 [height, width, channels].

    Args:
        path: see ``open_image``.
        spec: see ``open_image``.
        **options: see ``open_image``.

    Raises:
        ValueError: see ``open_image``.
    """
    return open_image(path, spec, **options).pixels

"""Reads and writes run directories: the record, the curves and the weights of a training run."""

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
from jaxnets.data import (
    AudioFormat,
    Dataset,
    RatingsEncoder,
    Standardizer,
    TableEncoder,
    Transform,
    image_files,
)
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
from jaxnets.training.records import RATINGS, RECORD, TEXT, WEIGHTS, Task, tested_record
from jaxnets.training.weights import check_weights, load_weights, save_weights, sizes

#: The record of a run that saves checkpoints.
BEGUN = "begun.json"
#: The folder with the source files of a custom network.
NETWORK = "network"
#: The folder with the checkpoints of a run.
CHECKPOINTS = "checkpoints"
_INITIAL = "initial.npz"  # initial weights, by PyTorch's names, if they do not come from the seed
_MOST, _MOST_LAYERS = 2**31, 1000  # limits if the weights cannot be read
_NUMERIC = {"accumulate": 1, "compute_dtype": None}  # settings that change results, with defaults


def summarize(recipe: Recipe, seed: int, run: TrainingRun) -> dict[str, Any]:
    """Returns the results of a run as one flat dictionary of JSON values.

    Accuracies are fractions in [0, 1].
    """
    return {"recipe": recipe.name, "seed": seed, "epochs": recipe.epochs, **run.measured()}


def settings(recipe: Recipe) -> dict[str, Any]:
    """Converts a recipe to the JSON values that a run's record stores.

    The path of the data is made absolute. A custom network is stored as its name and the digests
    of its files.

    Raises:
        InputError: if a value cannot be converted to JSON.
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
            values["data"] = _absolute_path(recipe.data)
        json.dumps(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError("recipe", "settings of JSON values", str(error)) from error
    return values


def _absolute_path(data: str) -> str:
    """Returns a data set's name, or its absolute path if it is a path, existing or not."""
    try:
        place = path_of(data)
    except InputError:
        place = Path(data).expanduser()
    return data if place is None else str(place.absolute())


@dataclass(frozen=True)
class BegunRun:
    """A run that saves checkpoints, as its folder describes it.

    Attributes:
        recipe: the recipe that is trained.
        seed: the seed of the run.
        saving: where and how often checkpoints are saved.
        monitoring: the settings for logging and for checks during training, as passed to ``begin``.
        computing: the settings for devices and precision, as passed to ``begin``. Of these,
            ``accumulate`` and ``compute_dtype`` change the results.
        initial: the file with the initial weights; None if they are drawn from the seed.
    """

    recipe: Recipe
    seed: int
    saving: Saving
    monitoring: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    computing: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    initial: Path | None = None

    @property
    def directory(self) -> Path:
        """The run directory."""
        return Path(self.saving.directory).parent


def begin(
    directory: Path | str,
    recipe: Recipe,
    seed: int,
    monitoring: Mapping[str, Any] | None = None,
    computing: Mapping[str, Any] | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
    **saving: Any,
) -> BegunRun:
    """Makes the directory of a run that saves checkpoints; ``resume`` reads it.

    With several processes, only the first one writes.

    Args:
        directory: a folder that does not exist yet or is empty.
        recipe: the recipe to train.
        seed: the seed of the run.
        monitoring: see ``BegunRun``; JSON values.
        computing: see ``BegunRun``; JSON values.
        weights: the initial weights, by PyTorch's names; None to draw them from the seed.
        **saving: how often to save, as keyword arguments of ``Saving``.

    Raises:
        InputError: if the folder is not empty or cannot be made, or the recipe cannot be converted
            to JSON.
    """
    folder = check_path("directory", directory, "a new folder")
    check_recipe(recipe)
    check_seed("seed", seed)
    for name, settings in (("monitoring", monitoring), ("computing", computing)):
        if settings is not None and not isinstance(settings, Mapping):
            raise InputError(name, "settings by name, or None", settings)
    saved = Saving(folder / CHECKPOINTS, **saving)
    begun = BegunRun(recipe, seed, saved, dict(monitoring or {}), dict(computing or {}))
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
    record |= {"monitoring": begun.monitoring, "computing": begun.computing}
    with replacing(folder / BEGUN) as partial:
        partial.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def resume(directory: Path | str, *, same_bits: bool = False) -> BegunRun:
    """Reads the directory of a run that ``begin`` made.

    Args:
        directory: the run directory.
        same_bits: see ``Saving``.

    Raises:
        InputError: if the folder has no record of a run, or the record is damaged.
    """
    path = check_path("directory", directory, "the folder of a run") / BEGUN
    check_bool("same_bits", same_bits)
    if not path.is_file():
        expected = f"the folder of a run that saves checkpoints, with a {BEGUN} in it"
        raise InputError("resume", expected, repr(str(directory)))
    with understood("resume", path):
        record = read_object(path)
        recipe = recipe_of(record["settings"], path.parent / NETWORK)
        seed = check_seed("seed", record["seed"])
        saving = Saving(Path(directory) / CHECKPOINTS, **record["saving"], same_bits=same_bits)
        record.setdefault("monitoring", record.get("watching", {}))  # its name until 2026-11
        more = {name: dict(record.get(name, {})) for name in ("monitoring", "computing")}
        initial = path.parent / _INITIAL
        return BegunRun(recipe, seed, saving, **more, initial=initial if initial.exists() else None)


@contextlib.contextmanager
def understood(argument: str, path: Path) -> Iterator[None]:
    """Converts errors from reading a file of a run directory to an ``InputError``.

    Args:
        argument: the name of the user's argument, for error messages.
        path: the file.

    Raises:
        InputError: in place of any error that invalid values in the file raise.
    """
    try:
        yield
    except WRONG as error:
        expected = f"a {path.name} written by jaxnets"
        raise InputError(argument, expected, f"{path}: {reason(error)}") from error


def recipe_of(settings: Mapping[str, Any], network: Path) -> Recipe:
    """Makes a recipe from recorded settings, and checks it as far as possible without the data.

    Args:
        settings: the settings, as the function ``settings`` returned them.
        network: the folder with the source files of a custom network. They are not imported.

    Raises:
        ValueError: if a value is invalid.
        TypeError: if a setting is missing, or has the wrong type.
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


def extend(
    begun: BegunRun, recipe: Recipe, seed: int, computing: Mapping[str, Any] | None = None
) -> BegunRun:
    """Checks that a run can be resumed with a recipe, and records a larger number of epochs.

    Only the number of epochs, and the name and description of the recipe, may differ.

    Args:
        begun: the run, as ``resume`` returned it.
        recipe: the recipe to continue with.
        seed: the seed of the run.
        computing: see ``BegunRun``; the devices may differ. None for the recorded settings.

    Returns:
        The run with the new recipe.

    Raises:
        InputError: if a setting differs; the message lists all that differ.
    """
    before = {**settings(begun.recipe), "seed": begun.seed, **_numeric_settings(begun.computing)}
    computing = begun.computing if computing is None else computing
    now = {**settings(recipe), "seed": seed, **_numeric_settings(computing)}
    before, now = (json.loads(json.dumps(each)) for each in (before, now))
    faults = [
        f"{name} is {now[name]}, was {before[name]}"
        for name in sorted(now.keys() - {"name", "document", "expect", "epochs"})
        if now[name] != before[name]
    ]
    if faults:
        expected = f"the run in {begun.directory}"
        raise InputError("resume", expected, f"other settings: {'; '.join(faults)}", whole=True)
    if jax.process_index() == 0:
        _remove_temporary_folders(begun.directory)
    more = dataclasses.replace(begun, recipe=recipe)
    if recipe.epochs > begun.recipe.epochs and jax.process_index() == 0:
        _write_begun(begun.directory, more)
    return more


def _numeric_settings(computing: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the ``computing`` settings that change the results of a run."""
    return {name: computing.get(name, other) for name, other in _NUMERIC.items()}


def _remove_temporary_folders(directory: Path) -> None:
    """Removes the temporary folders of a process that was killed while it wrote the results."""
    for left in directory.glob(".finishing-*"):
        shutil.rmtree(left, ignore_errors=True)


def finish(directory: Path, *written: Any) -> None:
    """Writes the results of a run into the directory of a run that saves checkpoints.

    ``run.json`` of older results is removed first, and the new ``run.json`` is moved in last. If
    the process is killed at any point, the folder has complete results or no ``run.json``, and
    ``resume`` can write the results again.

    Args:
        directory: the run directory.
        *written: the other arguments of ``write``.
    """
    if jax.process_index() > 0:
        write(directory, *written)
        return
    _remove_temporary_folders(directory)
    with tempfile.TemporaryDirectory(prefix=".finishing-", dir=directory) as part:
        write(Path(part), *written)
        (directory / RECORD).unlink(missing_ok=True)
        for path in sorted(Path(part).iterdir(), key=lambda path: path.name == RECORD):
            place = directory / path.name
            if path.name == NETWORK:  # written by begin, and needed to resume if this is killed
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

    The source files of a custom network are written into the subfolder ``network``.

    With several processes, all of them call this function and the first one writes.

    Args:
        directory: an existing folder.
        recipe: the recipe that was trained.
        seed: the seed of the run.
        run: the results of training.
        data: the data set, which adds to the record the shape and dtype of an example, the
            brightness of image borders, the class names, the mean and standard deviation of
            standardized columns, and the columns of a table. For texts, ``text.json`` is written
            too, with the vocabulary that converts a new text to the network's input.
        computing: see ``BegunRun``, for the record.

    Raises:
        InputError: if the recipe cannot be converted to JSON.
    """
    record = {
        **summarize(recipe, seed, run),
        "settings": settings(recipe),
        "computing": computing and dict(computing),
    }
    with_task = dataclasses.replace(run, task=Task.of(data))
    if isinstance(recipe.model, OwnNetwork) and jax.process_index() == 0:
        recipe.model.write(directory / NETWORK)
    with_task.write(directory, record, title=f"{recipe.name}, seed {seed}")


def write_changed(
    directory: Path | str,
    run: Path | str,
    model: nnx.Module,
    change: Change,
    test: Evaluation | None = None,
) -> None:
    """Writes a new run directory for a network that was changed after training.

    The new folder has the files of the old one except for the checkpoints, with the new weights and
    record. The folder appears only when it is complete. ``read`` reads it.

    Args:
        directory: a folder that does not exist yet or is empty.
        run: the directory of the original run.
        model: the changed network.
        change: the change, for the record.
        test: the test results of the changed network, for the record; None removes the old test
            results from the record.

    Raises:
        InputError: if ``run`` is not a run directory, or ``directory`` is not empty.
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
        for name in (TEXT, RATINGS, NETWORK, "history.csv", "curves.png"):
            if (source / name).is_dir():
                shutil.copytree(source / name, folder / name)
            elif (source / name).is_file():
                shutil.copyfile(source / name, folder / name)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def is_run(directory: Path | str) -> bool:
    """Whether a folder is the directory of a finished run."""
    return (Path(directory) / RECORD).is_file()


def is_own(directory: Path | str) -> bool:
    """Whether a run has a custom network, so that ``read`` requires ``run_code``."""
    path = Path(directory) / RECORD
    with understood("run", path):
        settings = read_object(path).get("settings", {})
        return isinstance(settings.get("model"), Mapping)


def weights_of(directory: Path | str) -> Path:
    """Returns the path of the weights in a run directory."""
    return Path(directory) / WEIGHTS


@dataclass(frozen=True, repr=False)
class SavedRun:
    """A trained model with the contents of its run directory.

    Attributes:
        recipe: the recipe that was trained; None for a run that ``TrainingRun.save`` wrote.
        model: the trained model, in evaluation mode.
        classifies: whether the model is a classifier.
        class_names: the name of each class, or None.
        inputs: the shape and dtype of one example, or a tuple or dictionary of them; None if the
            record has no such entry.
        encoder: converts texts to the network's input; None if the network takes no text.
        labels_scaler: its ``inverse`` converts outputs to the labels' units; None if the labels
            were not standardized.
        background: the brightness of the borders of grey training images, from 0 (black) to 1
            (white); None if the borders differ, or the record has no such entry.
        table: converts rows of a table to numbers, which ``inputs_scaler`` then standardizes; None
            if the run was not trained on a table.
        inputs_scaler: standardizes inputs; None if the inputs were not standardized.
        transform: the transform that is applied to inputs before the model, or None.
        history: one record for each epoch.
        restored: the best epoch, if ``model`` has the weights of that epoch instead of the last
            ones; otherwise None.
        changes: the changes to the network after training, in order.
        audio: converts a WAV file to the network's input; None if the network takes none.
        ratings: the ids of users and items; None if the run was not trained on ratings.
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
    ratings: RatingsEncoder | None = None

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
        """Computes the model's outputs for examples in the format of the data set.

        Args:
            inputs: examples [examples, …], to which ``transform`` is applied; strings, if the
                network takes text; or a list of rows, if the run was trained on a table.

        Returns:
            Outputs [examples, …], NumPy arrays in the structure that the model returns.

        Raises:
            InputError: if there is no example, or an example does not fit the model.
        """
        return predict(self.model, self._numbers(inputs), transform=self.transform)

    @property
    def output_kind(self) -> str:
        """The kind of the outputs: ``"logits"``, ``"probabilities"`` or ``"values"``.

        Classifiers return logits or probabilities, regression models return values.
        """
        if not self.classifies:
            return "values"
        return stated_kind(self.model, self._loss) or "logits"

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Converts the outputs of a classifier to the probability of each class.

        Outputs of a custom network that add up to 1 count as probabilities already.

        Args:
            outputs: [..., classes], or [..., 1] for a single output for two classes.

        Returns:
            Probabilities [..., classes].
        """
        kind = kind_of(outputs, self.model, self._loss, alone="logits")
        return class_probabilities(outputs, kind)

    def program(self, batch: int | None = None) -> Program:
        """Returns the network with its transforms and scalers for export; see ``jaxnets.export``.

        Args:
            batch: the batch size of the exported network; None for any.

        Raises:
            InputError: if the record does not have the shape of an example.
        """
        if self.inputs is None:
            raise InputError("run", "a record with the shape of an example", "a record without it")
        about = {
            "recipe": None if self.recipe is None else self.recipe.name,
            "gives": self.output_kind,
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
        """Returns the model and its transform as a compiled function; see ``jaxnets.predictor``."""
        return predictor(self.model, transform=self.transform)

    def plot(self, path: Path | str | None = None, title: str = "") -> Any:
        """Draws the learning curves; see ``TrainingRun.plot``.

        Args:
            path: the file to save the figure to, or None.
            title: the title of the figure.
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
    """Reads a run directory that ``TrainingRun.save`` or the command line wrote.

    Args:
        directory: the run directory.
        model: for a custom network, an instance of its class; it is not changed. Networks of
            ``jaxnets.models`` are rebuilt from the record.
        run_code: whether to import the source files of a custom network that ``jaxnets train
            --model FILE.py:Class`` stored in the folder, instead of passing ``model``. The code is
            executed, so use this only for folders that you trust.
        transform: for a custom transform, the transform. Transforms of ``jaxnets.data`` are rebuilt
            from the record.

    Returns:
        The trained model with its transform, history and class names.

    Raises:
        InputError: if the folder is not a run directory, is damaged, or belongs to another model.

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
            "ratings": _ratings(folder / RATINGS, options),
        }
    if model is not None:
        model = _load_changed(nnx.clone(model), found["changes"], folder / WEIGHTS)
    elif recipe is not None and isinstance(recipe.model, OwnNetwork):
        model = _load_changed(
            _custom_network(recipe, run_code=run_code), found["changes"], folder / WEIGHTS
        )
    elif build is None:
        expected = f"an instance of {record['model']['class']}, as the folder has only its weights"
        raise InputError("model", expected, None)
    elif found["changes"]:
        model = _load_changed(build(), found["changes"], folder / WEIGHTS)
    else:
        model = _trained(build, options, path, folder / WEIGHTS)
    model.eval()
    return SavedRun(recipe, model, **found)


def _load_changed(model: nnx.Module, changes: Sequence[Change], weights: Path) -> nnx.Module:
    """Applies the changes to a network's structure and loads the weights of a folder."""
    model = restructured(model, changes)
    load_weights(model, weights)
    return model


def _custom_network(recipe: Recipe, *, run_code: bool) -> nnx.Module:
    """Builds a custom network from the source files in the run directory."""
    if not run_code:
        expected = "True to run the code of the network in the folder, or a network as model"
        raise InputError("run_code", expected, run_code)
    return build_model(recipe)


def _builder(
    record: dict[str, Any], recipe: Recipe | None
) -> tuple[Callable[[], nnx.Module] | None, Mapping[str, Any]]:
    """Returns a function that builds the run's network, and its options; None if unknown."""
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
    """Builds the network of a record and loads its weights.

    The shapes of the weights are compared with the record first, without allocating the network.
    """
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
    """Checks that the options in a record are not larger than the weights allow.

    A damaged record could otherwise make a network that is too large to trace.
    """
    try:
        arrays = sizes(weights)
        total, layers = sum(arrays), len(arrays)
    except InputError:  # load_weights reports it later
        total, layers = _MOST, _MOST_LAYERS
    for name, value in options.items():
        most = layers if name == "n_layers" else total
        for size in value if isinstance(value, list) else [value]:
            if isinstance(size, int) and size > most and name != "remat":
                raise InputError(name, f"at most {most}, which the weights allow", size)


def _accuracy(record: dict[str, Any]) -> float | None:
    """Returns the test accuracy, or without a test the last training accuracy; None if neither."""
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
        expected = f"rows of {length} tokens, the length in {path}"
        raise InputError("inputs", expected, describe(inputs))
    return encoder


def _ratings(path: Path, options: Mapping[str, Any]) -> RatingsEncoder | None:
    """The ids of users and items; None if the run is not on ratings."""
    if not path.exists():
        return None
    encoder = RatingsEncoder.load(path)
    for name, ids in (("num_users", encoder.users), ("num_items", encoder.items)):
        if options.get(name, len(ids)) != len(ids):
            raise InputError(name, f"the {len(ids)} ids of {path}", options[name])
    return encoder


def _class_names(record: dict[str, Any]) -> tuple[str, ...] | None:
    names = record.get("class_names")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError("class_names", "a list of names", names)
    return tuple(names)


def _inputs(record: dict[str, Any]) -> Any:
    """Returns the shape and dtype of an example, or None for a record of an older version."""
    spec = record.get("inputs")
    return None if spec is None else _spec(spec)


def _spec(spec: Any) -> Any:
    """Converts a recorded shape and dtype, or a nested structure of them."""
    if isinstance(spec, list):
        return tuple(_spec(part) for part in spec)
    if not isinstance(spec, dict):
        raise InputError("inputs", "a shape and dtype, or those of several arrays", spec)
    if isinstance(spec.get("shape", {}), dict):
        return {name: _spec(part) for name, part in spec.items()}
    shape = [check_integer("shape", size, least=0) for size in spec["shape"]]
    dtype = np.dtype(spec["dtype"])
    if dtype.kind not in "buif":
        raise InputError("dtype", "a numeric dtype", str(dtype))
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
    """An image that was read in the format of a run's examples.

    Attributes:
        pixels: uint8 [height, width, channels].
        size: height and width of the image in the file.
        inverted: whether the brightness was inverted.
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
    """Reads an image file and converts it to the format of a data set's examples.

    An image of another size is resized as by ``load(size=…)``.

    Args:
        path: a file in a format that ``load`` reads.
        spec: shape and dtype of an example.
        background: see ``SavedRun``.
        invert: whether to invert the brightness. By default the image is inverted if its border is
            bright and ``background`` is dark, or the other way round.

    Returns:
        The pixels, with a report of the conversions.

    Raises:
        InputError: if the file is not an image, or if the examples are not images.
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
    """Reads an image file like ``open_image``, and returns only the pixels.

    Args:
        path: see ``open_image``.
        spec: see ``open_image``.
        **options: see ``open_image``.

    Returns:
        uint8 [height, width, channels].

    Raises:
        InputError: see ``open_image``.
    """
    return open_image(path, spec, **options).pixels

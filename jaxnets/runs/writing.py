"""Writes run directories: the record, the curves and the weights of a training run."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from jaxnets.arrays import InputError, check_path
from jaxnets.changes import Change
from jaxnets.data import Dataset
from jaxnets.disk import new_folder
from jaxnets.json_files import read_object
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import Recipe
from jaxnets.runs.record import NETWORK, settings, understood
from jaxnets.training import Evaluation, TrainingRun, count_parameters
from jaxnets.training.records import RATINGS, RECORD, TEXT, WEIGHTS, Task, tested_record
from jaxnets.training.weights import save_weights


def summarize(recipe: Recipe, seed: int, run: TrainingRun) -> dict[str, Any]:
    """Returns the results of a run as one flat dictionary of JSON values.

    Accuracies are fractions in [0, 1].
    """
    return {"recipe": recipe.name, "seed": seed, "epochs": recipe.epochs, **run.measured()}


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

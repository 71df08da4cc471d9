"""Runs that save checkpoints: the folder before training has finished."""

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError, check_bool, check_path, check_seed
from jaxnets.disk import new_folder, replacing
from jaxnets.json_files import read_object
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import Recipe, check_recipe
from jaxnets.runs.record import NETWORK, recipe_of, settings, understood
from jaxnets.runs.writing import write
from jaxnets.training import Saving
from jaxnets.training.records import RECORD

#: The record of a run that saves checkpoints.
BEGUN = "begun.json"
#: The folder with the checkpoints of a run.
CHECKPOINTS = "checkpoints"
_INITIAL = "initial.npz"  # initial weights, by PyTorch's names, if they do not come from the seed
_NUMERIC = {"accumulate": 1, "compute_dtype": None}  # settings that change results, with defaults


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
    for name, given in (("monitoring", monitoring), ("computing", computing)):
        if given is not None and not isinstance(given, Mapping):
            raise InputError(name, "settings by name, or None", given)
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

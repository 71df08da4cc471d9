"""The settings of a run, as its record stores them."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.data.loading import path_of
from jaxnets.json_files import WRONG, reason
from jaxnets.losses import LOSSES
from jaxnets.networks import OwnNetwork
from jaxnets.recipes import OPTIONS, Recipe, build_augmentation, build_optimizer, build_transform

#: The folder with the source files of a custom network.
NETWORK = "network"


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

"""The data of a trained run: encoded, standardized and numbered as those that it was trained on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data import Dataset, Split, Standardizer
from jaxnets.data.dataset import AnySplit, in_memory
from jaxnets.data.spec import described
from jaxnets.data.table_files import listed
from jaxnets.recipes import data_options, load_named
from jaxnets.runs import SavedRun

#: Of the options of a run's data those that say where they are, and not what they are.
_PLACES = ("data_dir", "source", "train", "test", "streaming", "workers")


def data_of(
    saved: SavedRun, name: str | None = None, options: Mapping[str, Any] | None = None
) -> Dataset:
    """A data set as a trained run takes it.

    Texts and tables are encoded by the run's encoder, inputs and values standardized by its
    scalers, and classes numbered by their names as in its training.

    Args:
        saved: the run.
        name: of the data set, or its path; None for what the run was trained on.
        options: arguments of ``jaxnets.data.load`` beside those of the run.

    Raises:
        ValueError: if the data set is not to be found, or does not fit the run.
    """
    if not isinstance(saved, SavedRun):
        raise InputError("saved", "a run, as jaxnets.load reads it", saved)
    if name is not None and not isinstance(name, str):
        raise InputError("name", "the name of a data set, a path, or None", name)
    if options is not None and not isinstance(options, Mapping):
        raise InputError("options", "arguments by name, or None", options)
    recipe = saved.recipe
    told = {} if recipe is None else data_options(recipe)
    if name is not None:
        told = {option: value for option, value in told.items() if option not in _PLACES}
    elif recipe is None:
        raise InputError("data", "a data set, as a run from Python does not name its own", "none")
    told |= {"encoder": saved.encoder or saved.table or saved.ratings, **(options or {})}
    told.pop("standardize", None)  # the run's scalers are the ones that count
    data = load_named(recipe.data if name is None else name, told)  # type: ignore[union-attr]
    splits = {part: _as_trained(saved, data, each) for part, each in data.splits.items()}
    names = saved.class_names or data.class_names
    changed: dict[str, Any] = {**splits, "class_names": names if saved.classifies else None}
    data = dataclasses.replace(data, **changed)
    if saved.inputs is not None and data.spec.inputs != saved.inputs:
        expected = f"examples {described(saved.inputs)}, as the run was trained on"
        raise InputError(_called(data), expected, described(data.spec.inputs))
    return data


def _as_trained(saved: SavedRun, data: Dataset, split: AnySplit) -> AnySplit:
    """A split as the run takes it; one that is streamed must be of its kind already."""
    if not isinstance(split, Split):
        known = saved.class_names
        if known not in (None, data.class_names):
            expected = f"the classes {listed(known or ())}, as the run was trained on"
            raise InputError(_called(data), expected, listed(data.class_names or ()))
        return split
    inputs, labels = in_memory(split).inputs, split.labels
    if saved.inputs_scaler is not None:
        inputs = saved.inputs_scaler(inputs)
    if labels is None or isinstance(labels, dict | tuple):
        return Split(inputs, labels)
    if saved.classifies:
        return Split(inputs, _classes(saved, data, labels))
    return Split(inputs, _values(saved.labels_scaler, data, labels))


def _classes(saved: SavedRun, data: Dataset, labels: np.ndarray) -> np.ndarray:
    """Class numbers as the run has them."""
    if labels.dtype.kind == "f" and saved.class_names is not None:
        expected = f"the classes {listed(saved.class_names)}, as the run was trained on"
        raise InputError(_called(data), expected, f"values to predict, {describe(labels)}")
    known, own = saved.class_names, data.class_names
    if known is None or own is None or known == own:
        return labels
    numbers = {name: number for number, name in enumerate(known)}
    strange = [name for name in own if name not in numbers]
    if strange:
        expected = f"the classes {listed(known)}, as the run was trained on"
        raise InputError(_called(data), expected, listed(strange))
    return np.array([numbers[name] for name in own], labels.dtype)[labels]


def _values(scaler: Standardizer | None, data: Dataset, labels: np.ndarray) -> np.ndarray:
    """Values to predict as the run has them."""
    if data.class_names is not None:  # whole numbers, as a table has them
        try:
            values = np.array([float(name) for name in data.class_names], np.float32)
        except ValueError as error:
            expected = "values to predict, as the run was trained on"
            got = f"the classes {listed(data.class_names)}"
            raise InputError(_called(data), expected, got) from error
        labels = values[labels][:, None]
    if scaler is None:
        return labels
    columns = labels[:, None] if labels.ndim == 1 else labels
    return scaler(columns).reshape(labels.shape)


def _called(data: Dataset) -> str:
    return f"data {data.name}"

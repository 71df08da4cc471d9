"""Loads data sets for a trained run, encoded and standardized as its training data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, describe
from jaxnets.data import Dataset, DetectionDataset, Split, Standardizer
from jaxnets.data.dataset import AnySplit, in_memory
from jaxnets.data.spec import described
from jaxnets.data.table_files import listed
from jaxnets.recipes import data_options, load_named
from jaxnets.runs import SavedRun

#: The options of a data set that specify its place rather than its content.
_PLACES = ("data_dir", "source", "train", "test", "streaming", "workers")


def data_of(
    saved: SavedRun, name: str | None = None, options: Mapping[str, Any] | None = None
) -> Dataset:
    """Loads a data set for a trained run.

    Texts and tables are encoded by the run's encoder, inputs and values are standardized by its
    scalers, and classes with the same names have the same numbers as in training.

    Args:
        saved: the run.
        name: the name of the data set, or its path; None for the data the run was trained on.
        options: arguments of ``jaxnets.data.load`` in addition to those of the run.

    Raises:
        ValueError: if the data set is not found, or does not fit the run.
    """
    if not isinstance(saved, SavedRun):
        raise InputError("saved", "a run from jaxnets.load", saved)
    if name is not None and not isinstance(name, str):
        raise InputError("name", "the name of a data set, a path, or None", name)
    if options is not None and not isinstance(options, Mapping):
        raise InputError("options", "a dict of arguments, or None", options)
    recipe = saved.recipe
    chosen = {} if recipe is None else data_options(recipe)
    if name is not None:
        chosen = {option: value for option, value in chosen.items() if option not in _PLACES}
    elif recipe is None:
        raise InputError("data", "a data set, as a run from Python does not record its own", "none")
    chosen |= {"encoder": saved.encoder or saved.table or saved.ratings, **(options or {})}
    chosen.pop("standardize", None)  # the run's scalers are used instead
    data = load_named(recipe.data if name is None else name, chosen)  # type: ignore[union-attr]
    if isinstance(data, DetectionDataset):
        return _of_inputs(saved, data.renumbered(saved.class_names or data.class_names or ()))
    splits = {part: _as_trained(saved, data, each) for part, each in data.splits.items()}
    names = saved.class_names or data.class_names
    changed: dict[str, Any] = {**splits, "class_names": names if saved.classifies else None}
    return _of_inputs(saved, dataclasses.replace(data, **changed))


def _of_inputs(saved: SavedRun, data: Dataset) -> Dataset:
    """Checks that the examples of a data set are those of a run, and returns the data set."""
    if saved.inputs is not None and data.spec.inputs != saved.inputs:
        expected = f"examples {described(saved.inputs)}, as in training"
        raise InputError(_called(data), expected, described(data.spec.inputs))
    return data


def _as_trained(saved: SavedRun, data: Dataset, split: AnySplit) -> AnySplit:
    """Standardizes a split and renumbers its classes; a streamed split is only checked."""
    if not isinstance(split, Split):
        known = saved.class_names
        if known not in (None, data.class_names):
            expected = f"the classes {listed(known or ())}, as in training"
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
    """Renumbers classes by their names, as in the run's training."""
    if labels.dtype.kind == "f" and saved.class_names is not None:
        expected = f"the classes {listed(saved.class_names)}, as in training"
        raise InputError(_called(data), expected, f"values to predict, {describe(labels)}")
    known, own = saved.class_names, data.class_names
    if known is None or own is None or known == own:
        return labels
    numbers = {name: number for number, name in enumerate(known)}
    strange = [name for name in own if name not in numbers]
    if strange:
        expected = f"the classes {listed(known)}, as in training"
        raise InputError(_called(data), expected, listed(strange))
    return np.array([numbers[name] for name in own], labels.dtype)[labels]


def _values(scaler: Standardizer | None, data: Dataset, labels: np.ndarray) -> np.ndarray:
    """Standardizes values to predict with the run's scaler."""
    if data.class_names is not None:  # integers in a table are read as classes
        try:
            values = np.array([float(name) for name in data.class_names], np.float32)
        except ValueError as error:
            expected = "values to predict, as in training"
            got = f"the classes {listed(data.class_names)}"
            raise InputError(_called(data), expected, got) from error
        labels = values[labels][:, None]
    if scaler is None:
        return labels
    columns = labels[:, None] if labels.ndim == 1 else labels
    return scaler(columns).reshape(labels.shape)


def _called(data: Dataset) -> str:
    return f"data {data.name}"

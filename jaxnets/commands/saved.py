"""Loads the network and the data of the run that a command uses."""

from pathlib import Path

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.commands import own
from jaxnets.data import Dataset


def opened(folder: Path) -> runs.SavedRun:
    """Reads a run directory. The file of a user's network is imported, with a notice."""
    saved = runs.read(folder, run_code=True)
    if saved.recipe is not None:
        own.imported(saved.recipe)
    return saved


def data_of(saved: runs.SavedRun, argument: str) -> Dataset:
    """Loads the data set that a run was trained on.

    Args:
        saved: the run.
        argument: the user's argument that requires the data, for messages.

    Raises:
        InputError: if the run does not record its data, as it was written from Python.
    """
    if saved.recipe is None:
        expected = "none, as a run that was written from Python does not record its data"
        raise InputError(argument, expected, "one")
    return recipes.load_data(saved.recipe)

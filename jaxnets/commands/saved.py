"""The run that a command is about: its network and its data."""

from pathlib import Path

from jaxnets import recipes, runs
from jaxnets.arrays import InputError
from jaxnets.commands import own
from jaxnets.data import Dataset


def opened(folder: Path) -> runs.SavedRun:
    """The run in a folder. The file of a network of the user's own is imported, with a notice."""
    saved = runs.read(folder, run_code=True)
    if saved.recipe is not None:
        own.imported(saved.recipe)
    return saved


def data_of(saved: runs.SavedRun, argument: str) -> Dataset:
    """The data set that a run was trained on.

    Args:
        saved: the run.
        argument: the user's argument that needs the data, for messages.

    Raises:
        InputError: if the run does not name its data.
    """
    if saved.recipe is None:
        expected = "none, as the folder of a run from Python does not name its data"
        raise InputError(argument, expected, "one")
    return recipes.load_data(saved.recipe)

"""Run directories: the record, the curves and the weights of a training run."""

from jaxnets.runs.begun import BEGUN, CHECKPOINTS, BegunRun, begin, extend, finish, resume
from jaxnets.runs.images import GivenImage, open_image, read_image
from jaxnets.runs.reading import read
from jaxnets.runs.record import NETWORK, recipe_of, settings, understood
from jaxnets.runs.saved import SavedRun
from jaxnets.runs.writing import is_own, is_run, summarize, weights_of, write, write_changed

__all__ = [
    "BEGUN",
    "CHECKPOINTS",
    "NETWORK",
    "BegunRun",
    "GivenImage",
    "SavedRun",
    "begin",
    "extend",
    "finish",
    "is_own",
    "is_run",
    "open_image",
    "read",
    "read_image",
    "recipe_of",
    "resume",
    "settings",
    "summarize",
    "understood",
    "weights_of",
    "write",
    "write_changed",
]

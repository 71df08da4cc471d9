"""Run directories: the record, the curves and the weights of a training run."""

# Names with ``as`` are for the command line and not public.
from jaxnets.runs.begun import BEGUN as BEGUN
from jaxnets.runs.begun import CHECKPOINTS as CHECKPOINTS
from jaxnets.runs.begun import BegunRun, begin, extend, resume
from jaxnets.runs.begun import finish as finish
from jaxnets.runs.images import GivenImage, open_image, read_image
from jaxnets.runs.reading import read as read
from jaxnets.runs.record import NETWORK as NETWORK
from jaxnets.runs.record import recipe_of as recipe_of
from jaxnets.runs.record import settings as settings
from jaxnets.runs.record import understood as understood
from jaxnets.runs.saved import SavedRun
from jaxnets.runs.writing import is_own as is_own
from jaxnets.runs.writing import is_run as is_run
from jaxnets.runs.writing import summarize as summarize
from jaxnets.runs.writing import weights_of as weights_of
from jaxnets.runs.writing import write
from jaxnets.runs.writing import write_changed as write_changed

__all__ = [
    "BegunRun",
    "GivenImage",
    "SavedRun",
    "begin",
    "extend",
    "open_image",
    "read_image",
    "resume",
    "write",
]

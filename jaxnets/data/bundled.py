"""The data sets that come with the library."""

from collections.abc import Callable

from jaxnets.data import mnist, synthetic
from jaxnets.data.dataset import Dataset

#: What loads each bundled data set, by its name.
DATASETS: dict[str, Callable[[], Dataset]] = {
    "linear": synthetic.linear,
    "mnist": mnist.load,
}

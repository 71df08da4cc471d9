"""The data sets that come with the library."""

import dataclasses
from collections.abc import Callable
from functools import partial
from importlib import resources

from jaxnets.arrays import InputError
from jaxnets.data import mnist, synthetic, tables
from jaxnets.data.dataset import Dataset
from jaxnets.data.detection import scattered
from jaxnets.data.source import Source, held_dataset

ORIGIN = "bundled with jaxnets"


def _held(load: Callable[[], Dataset]) -> Source:
    return held_dataset(load(), ORIGIN)


def _table(name: str, window: int | None = None) -> Source:
    with resources.as_file(resources.files(__package__) / name) as path:
        source = tables.find(path, tables.Reading(window=window))
    if source is None:
        expected = "the table that comes with jaxnets (reinstall jaxnets to restore it)"
        raise InputError(name, expected, "no such file")
    return dataclasses.replace(source, origin=ORIGIN, asks_label=False)


DATASETS: dict[str, Callable[[], Source]] = {
    "elnino": partial(_table, "elnino.csv", window=24),
    "engel": partial(_table, "engel.csv"),
    "cartpole": partial(_held, synthetic.cartpole),
    "scattered-digits": scattered.load,
    "linear": partial(_held, synthetic.linear),
    "mnist": partial(_held, mnist.load),
}
"""Functions that return the bundled data sets, by name. See docs/data-cards."""

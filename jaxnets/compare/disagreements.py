"""Finds test examples for which the two networks of a pair predict different classes."""

from collections.abc import Sequence

import numpy as np

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.records import Disagreement, Pair

_SHOWN = 12


def disagreements(this: Experiment, pairs: Sequence[Pair]) -> tuple[Disagreement, ...]:
    """Returns up to 12 test examples with different predictions, taken from all pairs in turn.

    Args:
        this: the experiment.
        pairs: its finished trainings.

    Returns:
        The disagreements; empty if an example has several predictions.
    """
    each = [list(_of_pair(this, pair)) for pair in pairs]
    turns = [one[place] for place in range(_SHOWN) for one in each if place < len(one)]
    return tuple(turns[:_SHOWN])


def _of_pair(this: Experiment, pair: Pair) -> Sequence[Disagreement]:
    ours, theirs = pair.ours.predictions, pair.theirs.predictions
    if ours is None or theirs is None or ours.ndim != 1:
        return ()
    return [
        Disagreement(
            index=int(index),
            seed=pair.seed,
            image=_image(this.test.inputs[index]),
            label=int(this.test.labels[index].squeeze()),
            ours=int(ours[index]),
            theirs=int(theirs[index]),
        )
        for index in np.flatnonzero(ours != theirs)[:_SHOWN]
    ]


def _image(example: np.ndarray) -> np.ndarray | None:
    is_one = example.ndim in (2, 3) and example.dtype == np.uint8
    return example if is_one else None

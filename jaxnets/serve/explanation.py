"""Why the network gives its answer, as the page shows it."""

from typing import Any

import numpy as np

from jaxnets.data.survey import is_image
from jaxnets.data.transforms.compose import applied
from jaxnets.explain import integrated_gradients, token_attributions
from jaxnets.runs import SavedRun

_STEPS = 16


def explanation(saved: SavedRun, example: np.ndarray, output: np.ndarray) -> Any:
    """How much each part of an example speaks for the answer, from -1 to 1.

    Args:
        saved: the run.
        example: as the network's transform takes it.
        output: the network's, for this example.

    Returns:
        Of an image a number for each pixel, by rows; of a text a number for each token; else one
        for each input.
    """
    if example.dtype.kind in "iu" and not is_image(saved.inputs):
        found = token_attributions(saved.model, example[None], n_steps=_STEPS).attributions
    else:
        found = integrated_gradients(
            saved.model,
            example[None],
            baselines=_baseline(saved, example),
            n_steps=_STEPS,
            transform=saved.transform,
        ).attributions
    values = np.asarray(found[0], np.float64)
    if is_image(saved.inputs) and values.ndim == 3:
        values = values.sum(-1)
    values = values.reshape(example.shape[: 2 if is_image(saved.inputs) else None])
    if saved.classifies and len(output) == 1 and saved.probabilities(output)[0] > 0.5:
        values = -values  # the one output is that of the second class, and the answer the first
    largest = np.abs(values).max()
    return (values / largest if largest > 0 else values).round(4).tolist()


def _baseline(saved: SavedRun, example: np.ndarray) -> Any:
    """An input that says nothing: an image of the background alone, zeros of anything else."""
    if saved.background is None:
        return 0.0
    empty = np.full_like(example, round(255 * saved.background))
    return np.asarray(applied(saved.transform, empty[None]))

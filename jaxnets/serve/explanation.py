"""Explains a prediction for the web page."""

from typing import Any

import numpy as np

from jaxnets.data.survey import is_image
from jaxnets.data.transforms.compose import applied
from jaxnets.explain import integrated_gradients, token_attributions
from jaxnets.runs import SavedRun

_STEPS = 16


def explanation(saved: SavedRun, example: np.ndarray, output: np.ndarray) -> Any:
    """Computes the attribution of each part of an example to the prediction, from -1 to 1.

    Args:
        saved: the run.
        example: the example before the transform, without a batch axis.
        output: the network's output for the example.

    Returns:
        Nested lists: for an image a number for each pixel, by rows; for a text a number for each
        token; otherwise a number for each input.
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
        values = -values  # the single output is that of class 1, but class 0 is predicted
    largest = np.abs(values).max()
    return (values / largest if largest > 0 else values).round(4).tolist()


def _baseline(saved: SavedRun, example: np.ndarray) -> Any:
    """Returns the baseline: an image of the background color, or 0 for other inputs."""
    if saved.background is None:
        return 0.0
    empty = np.full_like(example, round(255 * saved.background))
    return np.asarray(applied(saved.transform, empty[None]))

"""Occlusion: the change of the output when a part of the input is covered."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, check_positive, entries
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.explain.integrated import as_baselines
from jaxnets.explain.targets import (
    Request,
    Target,
    after,
    checked_request,
    per_example,
    score,
    settled,
)


def occlusion(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    sliding_window_shapes: int | Sequence[int],
    strides: int | Sequence[int] | None = None,
    baselines: float | ArrayLike = 0.0,
    transform: Transform | None = None,
) -> jax.Array:
    """Computes the decrease of the output when windows of the input are covered.

    The attribution of an input is the mean of f(x) - f(x with the window covered) over all windows
    that contain the input. Windows are cut off at the ends of the axes. Like Captum's
    ``Occlusion``.

    Args:
        model: see ``saliency``.
        inputs: see ``saliency``.
        target: see ``saliency``.
        sliding_window_shapes: the size of the window along each axis of an example. An integer
            stands for all axes except for the channels of images, which are covered together.
        strides: the distance of adjacent windows along each axis, at most the window's size. An
            integer stands for all axes that are longer than the window; None for 1.
        baselines: the values of covered inputs, a number or an array that broadcasts to the
            model's inputs.
        transform: see ``saliency``.

    Returns:
        Attributions of the shape of the model's inputs.

    Raises:
        InputError: see ``saliency``; or if the windows do not fit.
    """
    request = checked_request(model, inputs, target, transform)
    x = after(transform, request.inputs)
    window = _window(sliding_window_shapes, x.shape[1:])
    steps = _strides(strides, window, x.shape[1:])
    counts = [
        -(-(size - w) // step) + 1 for size, w, step in zip(x.shape[1:], window, steps, strict=True)
    ]
    starts = np.array(list(itertools.product(*map(range, counts)))) * np.array(steps)
    cover = as_baselines(baselines, request.inputs, transform)
    return _occlusion(request, starts.astype(np.int32), cover, window, transform)


def _window(given: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    expected = f"a size of at most that of each axis of {list(shape)}"
    if not shape:
        raise InputError("inputs", "examples with at least one axis", "numbers")
    if entries(given) is None:
        size = check_positive("sliding_window_shapes", given)
        spatial = len(shape) - 1 if len(shape) > 2 else len(shape)
        given = (*[size] * spatial, *shape[spatial:])
    window = tuple(check_positive("sliding_window_shapes", size) for size in given)
    if len(window) != len(shape) or any(w > n for w, n in zip(window, shape, strict=False)):
        raise InputError("sliding_window_shapes", expected, str(window))
    return window


def _strides(given: Any, window: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    if entries(given) is None:
        step = 1 if given is None else check_positive("strides", given)
        given = [step if w < n else 1 for w, n in zip(window, shape, strict=True)]
    strides = tuple(check_positive("strides", step) for step in given)
    fits = len(strides) == len(shape) and all(
        step <= w or w == n for step, w, n in zip(strides, window, shape, strict=True)
    )
    if not fits:
        expected = f"a step of at most the window {list(window)} along each axis"
        raise InputError("strides", expected, str(strides))
    return strides


@functools.partial(jax.jit, static_argnums=(3, 4))
def _occlusion(
    request: Request,
    starts: jax.Array,
    cover: jax.Array,
    window: tuple[int, ...],
    transform: Transform | None,
) -> jax.Array:
    state, inputs, target = request
    x = applied(transform, inputs)
    cover = jnp.broadcast_to(cover, x.shape)
    target = settled(state, x, target)
    whole = score(state, x, target)

    def add(carry: tuple[jax.Array, jax.Array], start: jax.Array) -> Any:
        total, count = carry
        covered = _covered(start, window, x.shape[1:])
        left = score(state, jnp.where(covered, cover, x), target)
        fall = jnp.where(covered, per_example(whole - left, x), 0)
        return (total + fall, count + covered.astype(jnp.int32)), None

    nothing = jnp.zeros_like(x), jnp.zeros((1, *x.shape[1:]), jnp.int32)
    (total, count), _ = lax.scan(add, nothing, starts)
    return total / count.astype(x.dtype)


def _covered(start: jax.Array, window: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
    """Returns a mask of the inputs of an example that are in a window, bool [1, …]."""
    covered = jnp.ones((1, *shape), bool)
    for axis, size in enumerate(window):
        place = lax.broadcasted_iota(jnp.int32, (1, *shape), axis + 1) - start[axis]
        covered &= (place >= 0) & (place < size)
    return covered

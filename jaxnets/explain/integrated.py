"""Integrated gradients: attributions whose sum is a difference of outputs."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, InputError, as_array, check_choice, check_integer, describe
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.explain.layers import embedding_of, with_layer
from jaxnets.explain.targets import (
    Request,
    Target,
    after,
    checked_request,
    gradient,
    score,
    selected,
    settled,
)
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.training.state import TrainState

Method = Literal[
    "gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"
]
_METHODS = get_args(Method)
_Gradient = Callable[[jax.Array], jax.Array]


class IntegratedGradients(NamedTuple):
    """Attributions, and the error of their sums.

    Attributes:
        attributions: the attributions, [batch, …].
        delta: for each example, the sum of the attributions minus the difference of the outputs for
            the input and for the baseline, [batch]; 0 if the integral is exact.
    """

    attributions: jax.Array
    delta: jax.Array


def integrated_gradients(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    baselines: float | ArrayLike = 0.0,
    n_steps: int = 100,
    method: Method = "gausslegendre",
    transform: Transform | None = None,
) -> IntegratedGradients:
    """Computes integrated gradients (Sundararajan et al., 2017).

    (x - x') · ∫₀¹ ∂f(x' + α (x - x')) / ∂x dα, by numerical quadrature. The sum of an example's
    attributions is f(x) - f(x'). Like Captum's ``IntegratedGradients``.

    Args:
        model: see ``saliency``.
        inputs: see ``saliency``.
        target: see ``saliency``.
        baselines: x', a neutral input such as a black image: a number or an array that broadcasts
            to the model's inputs, in their units.
        n_steps: the number of points of the quadrature. Captum's default is 50, with which the sum
            of an LSTM's attributions had an error of 3 %.
        method: the quadrature: "gausslegendre", or "riemann_left", "riemann_right",
            "riemann_middle" or "riemann_trapezoid" with Captum's points and weights.
        transform: see ``saliency``.

    Returns:
        Attributions of the shape of the model's inputs, and the error of their sum.

    Raises:
        InputError: see ``saliency``; or if a setting is out of range.

    Examples:
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> found = integrated_gradients(model, np.ones((1, 3), np.float32), target=1)
        >>> bool(jnp.allclose(found.attributions[0], model.kernel[:, 1], atol=1e-6))
        True
    """
    points = quadrature(method, n_steps)
    request = checked_request(model, inputs, target, transform)
    start = as_baselines(baselines, request.inputs, transform)
    return _integrated_gradients(request, start, points, transform)


def as_baselines(baselines: Any, inputs: jax.Array, transform: Transform | None) -> jax.Array:
    """Converts baselines to an array that broadcasts to the transformed inputs.

    Args:
        baselines: a number or an array.
        inputs: the inputs before the transform, [batch, …].
        transform: the preprocessing of the inputs; None for no preprocessing.

    Raises:
        InputError: if the baselines do not broadcast.
    """
    x = after(transform, inputs)
    expected = f"a number, or an array that broadcasts to {describe(x)}"
    start = as_array("baselines", baselines)
    try:
        fits = np.broadcast_shapes(start.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits or start.dtype.kind not in "iuf":
        raise InputError("baselines", expected, baselines)
    return start.astype(x.dtype)


def quadrature(method: str, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the points in [0, 1] and the weights of Captum's quadrature, [n_steps] each.

    Raises:
        InputError: if the method or the number of steps is invalid.
    """
    check_choice("method", method, _METHODS)
    check_integer("n_steps", n_steps, least=1 if method == "gausslegendre" else 2, most=10_000)
    if method == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(n_steps)
        return (1 + points) / 2, weights / 2
    weights = np.full(n_steps, 1 / n_steps)
    if method == "riemann_trapezoid":
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, n_steps), weights
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (np.arange(n_steps) + shift) / n_steps, weights


def _integral(
    gradient: _Gradient, start: jax.Array, end: jax.Array, points: tuple[jax.Array, jax.Array]
) -> jax.Array:
    """Integrates a gradient along the straight line from start to end, for each input."""

    def add(total: jax.Array, point: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        place, weight = point
        return total + weight * gradient(start + place * (end - start)), None

    points = jax.tree.map(lambda x: jnp.asarray(x, end.dtype), points)
    total, _ = lax.scan(add, jnp.zeros_like(end), points)
    return (end - start) * total


@functools.partial(jax.jit, static_argnums=3)
def _integrated_gradients(
    request: Request, start: jax.Array, points: Any, transform: Transform | None
) -> IntegratedGradients:
    state, inputs, target = request
    x = applied(transform, inputs)
    start = jnp.broadcast_to(start, x.shape)
    target = settled(state, x, target)
    found = _integral(lambda x: gradient(state, x, target), start, x, points)
    return _with_error(found, score(state, x, target) - score(state, start, target))


def _with_error(attributions: jax.Array, difference: jax.Array) -> IntegratedGradients:
    total = attributions.reshape(len(attributions), -1).sum(axis=1)
    return IntegratedGradients(attributions, total - difference)


def token_attributions(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    layer: str | None = None,
    baselines: int = 0,
    n_steps: int = 100,
    method: Method = "gausslegendre",
) -> IntegratedGradients:
    """Computes integrated gradients for the tokens of texts.

    The gradients are those by the embedding's output, summed over the embedding's dimension. The
    baseline is a text of padding, in which each vector is that of token 0, so the attribution of
    padding is 0. Like Captum's ``LayerIntegratedGradients`` for an embedding.

    Args:
        model: any ``nnx.Module`` that looks up tokens in an embedding.
        inputs: tokens, integers [batch, time].
        target: see ``saliency``.
        layer: the name of the embedding, such as "embedding"; None for the first that is called.
        baselines: the token whose vector is the baseline.
        n_steps: see ``integrated_gradients``.
        method: see ``integrated_gradients``.

    Returns:
        Attributions [batch, time], and the error of their sum, which should be the difference of
        the outputs for the text and for a baseline text of the same length.

    Raises:
        InputError: see ``saliency``; or if the model has no embedding of this name.
    """
    points = quadrature(method, n_steps)
    check_integer("baselines", baselines, least=0)
    request = checked_request(model, inputs, target, None, floats=False)
    if request.inputs.ndim != 2 or request.inputs.dtype.kind not in "iu":
        raise InputError("inputs", "integers [batch, time]", describe(request.inputs))
    name, rows = embedding_of(model, request.state, request.inputs, layer)
    if baselines >= rows:
        raise InputError("baselines", f"a token from 0 to {rows - 1}", baselines)
    if (least := int(request.inputs.min())) < 0 or int(request.inputs.max()) >= rows:
        got = least if least < 0 else int(request.inputs.max())
        raise InputError("inputs", f"tokens from 0 to {rows - 1}", got)
    return _token_attributions(request, points, name, baselines)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _token_attributions(
    request: Request, points: Any, name: str, baseline: int
) -> IntegratedGradients:
    state, tokens, target = request
    end, start = _vectors(state, tokens, name, baseline)

    def output(x: jax.Array, state: TrainState, target: Any) -> jax.Array:
        return selected(with_layer(state, tokens, name, lambda call, given: x), target)

    def total(x: jax.Array, state: TrainState, target: Any) -> jax.Array:
        return output(x, state, target).sum()

    target = settled(state, tokens, target)
    by_vectors = jax.grad(with_kernels(total))
    found = _integral(lambda x: by_vectors(x, state, target), start, end, points).sum(axis=-1)
    return _with_error(found, output(end, state, target) - output(start, state, target))


def _vectors(
    state: TrainState, tokens: jax.Array, name: str, baseline: int
) -> tuple[jax.Array, jax.Array]:
    """Returns the embedding's outputs for the tokens, and for a text of baseline tokens."""
    found: list[jax.Array] = []

    def note(call: Callable[..., Any], given: jax.Array) -> jax.Array:
        found.extend((call(given), call(jnp.full_like(given, baseline))))
        return found[0]

    with_layer(state, tokens, name, note)
    return found[0], found[1]

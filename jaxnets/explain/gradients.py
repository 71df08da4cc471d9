"""Attributions from gradients by the input: saliency, input × gradient and SmoothGrad."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets.arrays import ArrayLike, check_bool, check_number, check_positive, check_seed
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.explain.targets import Request, Target, checked_request, gradient, settled


def saliency(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    abs: bool = True,
    transform: Transform | None = None,
) -> jax.Array:
    """Computes the absolute gradient of the explained output by each input.

    |∂f(x) / ∂x|, where f is the explained output. Like Captum's ``Saliency``.

    Args:
        model: any ``nnx.Module``; it runs in evaluation mode and is not changed.
        inputs: the inputs before the transform, [batch, …].
        target: the class whose output is explained, an integer or integers [batch]; a function of
            the outputs that returns floats [batch]; or None for the predicted class, the one with
            the largest output. With a single output, that output is explained.
        abs: whether to take the absolute value.
        transform: the preprocessing of the inputs, see ``fit``; None for no preprocessing. The
            attributions are those of the transformed inputs.

    Returns:
        Attributions of the shape of the model's inputs.

    Raises:
        InputError: if the model does not accept the inputs or has no such output, or its inputs
            are not floating-point numbers.

    Examples:
        >>> import numpy as np
        >>> model = nnx.Linear(3, 2, use_bias=False, rngs=nnx.Rngs(0))
        >>> found = saliency(model, np.ones((1, 3), np.float32), target=1)
        >>> bool((found[0] == abs(model.kernel[:, 1])).all())
        True
    """
    check_bool("abs", abs)
    return _saliency(checked_request(model, inputs, target, transform), abs, transform)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _saliency(request: Request, abs: bool, transform: Transform | None) -> jax.Array:
    state, inputs, target = request
    found = gradient(state, applied(transform, inputs), target)
    return jnp.abs(found) if abs else found


def input_x_gradient(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    transform: Transform | None = None,
) -> jax.Array:
    """Computes each input times its gradient, x · ∂f(x) / ∂x.

    Like Captum's ``InputXGradient``.

    Args:
        model: see ``saliency``.
        inputs: see ``saliency``.
        target: see ``saliency``.
        transform: see ``saliency``.

    Returns:
        Attributions of the shape of the model's inputs.

    Raises:
        InputError: see ``saliency``.
    """
    return _input_x_gradient(checked_request(model, inputs, target, transform), transform)


@functools.partial(jax.jit, static_argnums=1)
def _input_x_gradient(request: Request, transform: Transform | None) -> jax.Array:
    state, inputs, target = request
    x = applied(transform, inputs)
    return x * gradient(state, x, target)


def smooth_grad(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    nt_samples: int = 25,
    stdevs: float = 0.15,
    seed: int = 0,
    abs: bool = True,
    transform: Transform | None = None,
) -> jax.Array:
    """Computes the mean saliency over noisy copies of the inputs (SmoothGrad).

    1/n Σₖ |∂f(x + εₖ) / ∂x| with εₖ ~ N(0, stdevs²). Copy k has the noise
    ``stdevs * jax.random.normal(jax.random.fold_in(jax.random.key(seed), k), shape)``. The
    predicted class is that of the inputs without noise. Like Captum's ``NoiseTunnel(Saliency(…))``.

    Args:
        model: see ``saliency``.
        inputs: see ``saliency``.
        target: see ``saliency``.
        nt_samples: n, the number of copies.
        stdevs: the standard deviation of the noise, in units of the model's inputs.
        seed: the seed of the noise.
        abs: see ``saliency``.
        transform: see ``saliency``.

    Returns:
        Attributions of the shape of the model's inputs.

    Raises:
        InputError: see ``saliency``; or if a setting is out of range.
    """
    check_bool("abs", abs)
    check_positive("nt_samples", nt_samples)
    check_number("stdevs", stdevs, least=0)
    check_seed("seed", seed)
    request = checked_request(model, inputs, target, transform)
    return _smooth_grad(request, seed, stdevs, nt_samples, abs, transform)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _smooth_grad(
    request: Request,
    seed: int,
    stdevs: float,
    nt_samples: int,
    abs: bool,
    transform: Transform | None,
) -> jax.Array:
    state, inputs, target = request
    x = applied(transform, inputs)
    target = settled(state, x, target)
    key = jax.random.key(seed)

    def add(total: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        noise = jax.random.normal(jax.random.fold_in(key, number), x.shape, x.dtype)
        found = gradient(state, x + jnp.asarray(stdevs, x.dtype) * noise, target)
        return total + (jnp.abs(found) if abs else found), None

    total, _ = lax.scan(add, jnp.zeros_like(x), jnp.arange(nt_samples))
    return total / nt_samples

"""Differentiation rules of functions that kernels compute."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_static
@dataclass(frozen=True)
class Wanted:
    """For each input, whether its gradient is required; static data of the residuals."""

    each: tuple[bool, ...]


def _array(cotangent: Any) -> Any:
    """Converts a symbolic zero cotangent to an array of zeros, for kernels."""
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


def _filled(like: Any, d: Any) -> Any:
    """Returns a cotangent, or zeros for a gradient that was not computed."""
    return d if d is not None or like is None else jnp.zeros_like(like)


def with_gradient(
    run: Callable[..., Any],
    keep: Callable[..., tuple[Any, Any]],
    pull_back: Callable[..., tuple],
    plain: Callable[..., Any],
    *,
    selective: bool = False,
) -> Callable[..., Any]:
    """Makes a differentiable function from a forward and a backward kernel.

    First derivatives use the kernels. Second derivatives, for example of a gradient penalty,
    differentiate ``plain``, because XLA cannot differentiate a foreign call.

    Args:
        run: the function, inputs → outputs, for use without a gradient.
        keep: inputs → (outputs, residuals).
        pull_back: (inputs, residuals, gradients of the outputs) → gradients of the inputs; None for
            integers and keys.
        plain: the same function as ``run`` in XLA's operations.
        selective: whether ``pull_back`` has a fourth argument, a tuple of bools that tells for each
            input whether its gradient is required. It may return None for the others.

    Returns:
        A function of the arguments of ``run``.
    """
    whole, kept_whole = map(jax.custom_vjp, (run, keep))

    @partial(jax.custom_vjp, nondiff_argnums=(3,))
    def back(inputs: tuple, kept: Any, cotangents: Any, wanted: Wanted) -> tuple:
        return pull_back(inputs, kept, cotangents, *([wanted.each] if selective else []))

    def plain_back(inputs: tuple, cotangents: Any) -> tuple:
        found = jax.vjp(plain, *inputs)[1](cotangents)
        # Like ``pull_back``, returns None as the gradient of integers and keys.
        return jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, found)

    def forward(*given: Any) -> tuple[Any, Any]:
        # With ``symbolic_zeros``, each leaf has a value and a flag: whether it is differentiated.
        inputs = jax.tree.map(lambda leaf: leaf.value, given)
        outputs, kept = kept_whole(*inputs)
        each = (any(leaf.perturbed for leaf in jax.tree.leaves(one)) for one in given)
        return outputs, (inputs, kept, Wanted(tuple(each)))

    def backward(residuals: Any, cotangents: Any) -> tuple:
        inputs, kept, wanted = residuals
        return back(inputs, kept, jax.tree.map(_array, cotangents), wanted)

    whole.defvjp(forward, backward, symbolic_zeros=True)

    # The rules below are for second derivatives. Residuals are functions of the inputs, so `back`
    # depends mathematically only on inputs and cotangents, and the residuals get no gradient.

    def forward_again(*inputs: Any) -> tuple[Any, Any]:
        return kept_whole(*inputs), inputs

    def second(residuals: Any, d: tuple) -> tuple:
        inputs, cotangents = residuals
        found, pull_back_again = jax.vjp(plain_back, inputs, cotangents)
        d = jax.tree.map(_filled, found, d, is_leaf=lambda leaf: leaf is None)
        d_inputs, d_cotangents = pull_back_again(d)
        return d_inputs, None, d_cotangents

    kept_whole.defvjp(forward_again, lambda inputs, d: plain_back(inputs, d[0]))
    back.defvjp(
        lambda *given: (back(*given), (given[0], given[2])),
        lambda wanted, residuals, d: second(residuals, d),
    )
    return whole

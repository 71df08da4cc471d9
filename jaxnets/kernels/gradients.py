"""Functions that kernels compute, forward and backward, and how JAX differentiates them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp


@jax.tree_util.register_static
@dataclass(frozen=True)
class Wanted:
    """Of which inputs the gradient is wanted."""

    each: tuple[bool, ...]


def _array(cotangent: Any) -> Any:
    """Zeros, where JAX knows without them that a gradient is zero."""
    if isinstance(cotangent, jax.custom_derivatives.SymbolicZero):
        return jnp.zeros(cotangent.shape, cotangent.dtype)
    return cotangent


def _filled(like: Any, d: Any) -> Any:
    """Zeros for what was not wanted, so that nothing was computed of it."""
    return d if d is not None or like is None else jnp.zeros_like(like)


def with_gradient(
    run: Callable[..., Any],
    keep: Callable[..., tuple[Any, Any]],
    pull_back: Callable[..., tuple],
    plain: Callable[..., Any],
    *,
    told: bool = False,
) -> Callable[..., Any]:
    """Makes one differentiable function of what kernels compute.

    Args:
        run: the function, inputs → outputs, where no gradient is taken.
        keep: inputs → outputs, and what the way back needs.
        pull_back: (inputs, what was kept, gradients of the outputs) → gradients of the inputs; None
            for integers and keys.
        plain: the same function as ``run`` in XLA's operations, for second derivatives, as of a
            gradient penalty.
        told: whether ``pull_back`` takes a fourth argument, which says of each input whether its
            gradient is wanted: None will do for another.

    Returns:
        The function, of the arguments of ``run``.
    """
    whole, kept_whole = map(jax.custom_vjp, (run, keep))

    @partial(jax.custom_vjp, nondiff_argnums=(3,))
    def back(inputs: tuple, kept: Any, cotangents: Any, wanted: Wanted) -> tuple:
        return pull_back(inputs, kept, cotangents, *([wanted.each] if told else []))

    def plain_back(inputs: tuple, cotangents: Any) -> tuple:
        found = jax.vjp(plain, *inputs)[1](cotangents)
        # None in place of what integers and keys have, as ``pull_back`` gives it.
        return jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, found)

    def forward(*given: Any) -> tuple[Any, Any]:
        inputs = jax.tree.map(lambda leaf: leaf.value, given)
        outputs, kept = kept_whole(*inputs)
        each = (any(leaf.perturbed for leaf in jax.tree.leaves(one)) for one in given)
        return outputs, (inputs, kept, Wanted(tuple(each)))

    def backward(residuals: Any, cotangents: Any) -> tuple:
        inputs, kept, wanted = residuals
        return back(inputs, kept, jax.tree.map(_array, cotangents), wanted)

    whole.defvjp(forward, backward, symbolic_zeros=True)

    # What is kept follows from the inputs: `back` is a function of inputs and cotangents alone,
    # and nothing else reads what `keep` gives besides the outputs.

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

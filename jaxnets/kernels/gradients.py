"""Functions that kernels compute, forward and backward, and how JAX differentiates them."""

from collections.abc import Callable
from typing import Any

import jax


def with_gradient(
    run: Callable[..., Any],
    keep: Callable[..., tuple[Any, Any]],
    pull_back: Callable[[tuple, Any, Any], tuple],
    plain: Callable[..., Any],
) -> Callable[..., Any]:
    """Makes one differentiable function of what kernels compute.

    Args:
        run: the function, inputs → outputs, where no gradient is taken.
        keep: inputs → outputs, and what the way back needs.
        pull_back: (inputs, what was kept, gradients of the outputs) → gradients of the inputs.
        plain: the same function as ``run`` in XLA's operations, for second derivatives, as of a
            gradient penalty.

    Returns:
        The function, of the arguments of ``run``.
    """
    whole, kept_whole, back = map(jax.custom_vjp, (run, keep, pull_back))

    def plain_back(inputs: tuple, cotangents: Any) -> tuple:
        return jax.vjp(plain, *inputs)[1](cotangents)

    def forward(*inputs: Any) -> tuple[Any, Any]:
        outputs, kept = kept_whole(*inputs)
        return outputs, (inputs, kept)

    whole.defvjp(forward, lambda residuals, cotangents: back(*residuals, cotangents))

    # What is kept follows from the inputs: `back` is a function of inputs and cotangents alone,
    # and nothing else reads what `keep` gives besides the outputs.

    def forward_again(*inputs: Any) -> tuple[Any, Any]:
        return kept_whole(*inputs), inputs

    def second(residuals: Any, d: tuple) -> tuple:
        inputs, cotangents = residuals
        d_inputs, d_cotangents = jax.vjp(plain_back, inputs, cotangents)[1](d)
        return d_inputs, None, d_cotangents

    kept_whole.defvjp(forward_again, lambda inputs, d: plain_back(inputs, d[0]))
    back.defvjp(lambda *given: (back(*given), (given[0], given[2])), second)
    return whole

"""Muon: momentum with orthogonalized updates."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    describe,
)
from jaxnets.optimizers import checks
from jaxnets.optimizers.layout import torch_axes
from jaxnets.optimizers.scalars import Hyperparameter, at
from jaxnets.optimizers.template import (
    Coefficients,
    Parameter,
    Slots,
    from_parameter_rule,
    lerp,
    zeros,
)


def muon(
    lr: Hyperparameter = 1e-3,
    weight_decay: float = 0.1,
    momentum: Hyperparameter = 0.95,
    nesterov: bool = True,
    ns_coefficients: Sequence[float] = (3.4445, -4.7750, 2.0315),
    eps: float = 1e-7,
    ns_steps: int = 5,
    adjust_lr_fn: str | None = None,
) -> optax.GradientTransformation:
    """``torch.optim.Muon``: momentum with nearly orthogonal updates.

    b ← μ b + (1 - μ) g, and m = b, or with Nesterov momentum m = μ b + (1 - μ) g. Starting from
    X = m / ‖m‖, X ← a X + (b A + c A²) X with A = X Xᵀ is repeated k times. Then
    p ← p - lr λ p - lr s X, where s = √max(1, rows / columns), or 0.2 √max(rows, columns) with
    ``"match_rms_adamw"``. As in PyTorch, X is computed in bfloat16.

    As in PyTorch, all parameters have to be matrices. Use ``param_groups`` with another optimizer
    for other parameters, such as biases and kernels of convolutions. Rows and columns are those of
    PyTorch's weight: a parameter with ``kernel`` in its name is [I, O] here and [O, I] in PyTorch.

    Slots: ``momentum_buffer`` (b).

    Args:
        lr: the learning rate, a number or a schedule.
        weight_decay: λ, the factor of the weight decay.
        momentum: μ, a number or a schedule.
        nesterov: whether to use Nesterov momentum.
        ns_coefficients: a, b and c.
        eps: the smallest divisor ‖m‖.
        ns_steps: k, less than 100.
        adjust_lr_fn: ``"original"`` or ``"match_rms_adamw"``; None for ``"original"``.

    Raises:
        InputError: if a value is out of range.

    Examples:
        >>> from jaxnets import optimizers
        >>> optimizer = optimizers.param_groups(
        ...     optimizers.adamw(1e-3), [("*.kernel", optimizers.muon(0.02))]
        ... )
    """
    momentum = checks.number_or_schedule("momentum", momentum)
    nesterov = check_bool("nesterov", nesterov)
    a, b, c = checks.numbers("ns_coefficients", ns_coefficients, 3, "three numbers")
    eps = check_number("eps", eps, least=0)
    ns_steps = check_integer("ns_steps", ns_steps, least=0, most=99)
    if adjust_lr_fn is not None:
        check_choice("adjust_lr_fn", adjust_lr_fn, ("original", "match_rms_adamw"))

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        return {"lr": lr, "momentum": at(momentum, taken)}

    def rule(g: jax.Array, p: Parameter, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        buffer = lerp(kept["momentum_buffer"], g, 1 - k["momentum"])
        mean = lerp(g, buffer, k["momentum"]) if nesterov else buffer
        axes = torch_axes(p.path, g.ndim)
        mean = jnp.transpose(mean, axes)
        step = _orthogonal(mean, (a, b, c), ns_steps, eps).astype(g.dtype)
        scale = k["lr"] * _scale(mean.shape, adjust_lr_fn)
        return -scale * jnp.transpose(step, axes), {"momentum_buffer": buffer}

    return from_parameter_rule(
        rule,
        coefficients,
        {"momentum_buffer": _buffer},
        lr=lr,
        weight_decay=weight_decay,
        decoupled=True,
        by_gradients=True,
    )


def _buffer(parameter: Parameter) -> jax.Array:
    if parameter.array.ndim != 2:
        got = f"{describe(parameter.array)} for {parameter.path or 'the parameter'}"
        expected = "matrices only, with other parameters in another group of param_groups"
        raise InputError("params", expected, got)
    return zeros(parameter.array)


def _scale(shape: tuple[int, ...], adjust_lr_fn: str | None) -> float:
    rows, columns = shape
    if adjust_lr_fn == "match_rms_adamw":
        return 0.2 * math.sqrt(max(rows, columns))
    return math.sqrt(max(1, rows / columns))


def _orthogonal(
    matrix: jax.Array, coefficients: tuple[float, float, float], steps: int, eps: float
) -> jax.Array:
    """Runs the Newton-Schulz iteration, rounded to bfloat16 at the same operations as PyTorch."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = _rounded(matrix.T if tall else matrix)
    x = _rounded(x / _rounded(jnp.maximum(_rounded(jnp.sqrt(jnp.sum(x * x))), eps)))

    def iterate(_: int, x: jax.Array) -> jax.Array:
        gram = _rounded(_product(x, x.T))
        polynomial = _rounded(c * _product(gram, gram) + b * gram)
        return _rounded(_product(polynomial, x) + a * x)

    x = lax.fori_loop(0, steps, iterate, x)
    return x.T if tall else x


def _rounded(array: jax.Array) -> jax.Array:
    """Rounds to the precision of bfloat16, in float32.

    XLA may optimize away a conversion to bfloat16 and back, but not ``reduce_precision``.
    """
    return lax.reduce_precision(array.astype(jnp.float32), exponent_bits=8, mantissa_bits=7)


def _product(first: jax.Array, second: jax.Array) -> jax.Array:
    narrow = first.astype(jnp.bfloat16), second.astype(jnp.bfloat16)
    return jnp.matmul(*narrow, preferred_element_type=jnp.float32)

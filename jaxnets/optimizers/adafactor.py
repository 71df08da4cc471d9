"""Adafactor."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from jaxnets.arrays import InputError, check_number, entries
from jaxnets.optimizers.layout import torch_axes
from jaxnets.optimizers.scalars import Hyperparameter
from jaxnets.optimizers.template import (
    Coefficients,
    Parameter,
    Slots,
    from_parameter_rule,
    lerp,
    zeros,
)


def adafactor(
    lr: Hyperparameter = 1e-2,
    beta2_decay: float = -0.8,
    eps: Sequence[float | None] = (None, 1e-3),
    d: float = 1.0,
    weight_decay: float = 0,
    *,
    maximize: bool = False,
) -> optax.GradientTransformation:
    """``torch.optim.Adafactor``.

    With 1 - β = t^τ: r ← β r + (1 - β) mean(g²) along each row, c likewise along each column, and
    v = r c / max(mean(r), ε₁). For a vector, v ← β v + (1 - β) g². Then u = g / max(√v, ε₁) and
    p ← p - lr λ p - max(ε₂, rms(p)) min(lr, 1/√t) u / max(1, rms(u) / d).

    Rows and columns are the last two axes of PyTorch's weight; for the kernel of a 2-D convolution
    they are the spatial axes. A parameter with ``kernel`` in its name is [..., I, O] here and
    [O, I, ...] in PyTorch.

    Slots: ``row_var`` (r) and ``col_var`` (c), with one axis of size 1, or for a vector
    ``variance`` (v).

    Args:
        lr: the learning rate, a number or a schedule.
        beta2_decay: τ, not positive.
        eps: ε₁ and ε₂; None as ε₁ for the machine epsilon of the dtype.
        d: the largest root mean square of an update, at least 1.
        weight_decay: λ, the factor of the weight decay.
        maximize: whether to maximize the objective instead of minimizing it.

    Raises:
        InputError: if a value is out of range.
    """
    beta2_decay = check_number("beta2_decay", beta2_decay, most=0)
    eps1, eps2 = _two_eps(eps)
    d = check_number("d", d, least=1)

    def coefficients(taken: jax.Array, lr: jax.Array) -> Coefficients:
        step = (taken + 1).astype(lr.dtype)
        return {"share": step**beta2_decay, "rate": jnp.minimum(lr, 1 / jnp.sqrt(step))}

    def rule(g: jax.Array, p: Parameter, kept: Slots, k: Coefficients) -> tuple[jax.Array, Slots]:
        least = float(jnp.finfo(p.dtype).eps) if eps1 is None else eps1
        if g.ndim > 1:
            column, row = torch_axes(p.path, g.ndim)[-2:]
            rows = lerp(kept["row_var"], _mean(g * g, row), k["share"])
            columns = lerp(kept["col_var"], _mean(g * g, column), k["share"])
            variance = rows * columns / jnp.maximum(_mean(rows, column), least)
            new = {"row_var": rows, "col_var": columns}
        else:
            variance = lerp(kept["variance"], g * g, k["share"])
            new = {"variance": variance}
        update = g / jnp.sqrt(jnp.maximum(variance, least * least))
        scale = k["rate"] * jnp.maximum(_rms(p.array), eps2) / jnp.maximum(_rms(update) / d, 1)
        return -scale * update, new

    def along(which: int) -> Callable[[Parameter], jax.Array | None]:
        def start(parameter: Parameter) -> jax.Array | None:
            if parameter.array.ndim < 2:
                return None
            axis = torch_axes(parameter.path, parameter.array.ndim)[which]
            return zeros(jax.eval_shape(lambda array: _mean(array, axis), parameter.array))

        return start

    def of_vector(parameter: Parameter) -> jax.Array | None:
        return zeros(parameter.array) if parameter.array.ndim < 2 else None

    return from_parameter_rule(
        rule,
        coefficients,
        {"row_var": along(-1), "col_var": along(-2), "variance": of_vector},
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
        decoupled=True,
    )


def _two_eps(eps: Sequence[float | None]) -> tuple[float | None, float]:
    pair = entries(eps)
    if pair is None or len(pair) != 2:
        raise InputError("eps", "a number or None, and a number", eps)
    first = None if pair[0] is None else check_number("eps[0]", pair[0], least=0)
    return first, check_number("eps[1]", pair[1], least=0)


def _mean(array: jax.Array, axis: int) -> jax.Array:
    return jnp.mean(array, axis, keepdims=True)


def _rms(array: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(array * array))

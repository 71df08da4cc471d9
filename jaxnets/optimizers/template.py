"""What the optimizers of ``torch.optim`` have in common, around each one's update rule."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.scalars import Hyperparameter, Scalar, at, scalar
from jaxnets.optimizers.state import OptimizerState

#: The arrays kept for one parameter, by PyTorch's names.
Slots = Mapping[str, jax.Array]
#: The numbers that one step uses for all parameters.
Coefficients = Mapping[str, Scalar]
#: From one parameter's gradient, slots and the step's numbers to its update and new slots.
Rule = Callable[[jax.Array, Slots, Coefficients], tuple[jax.Array, Slots]]


def from_rule(
    rule: Rule,
    coefficients: Callable[[jax.Array, jax.Array], Coefficients],
    slots: Mapping[str, Callable[[jax.Array], jax.Array]],
    *,
    lr: Hyperparameter,
    weight_decay: float,
    maximize: bool,
    decoupled: bool = False,
) -> optax.GradientTransformation:
    """Makes a gradient transformation from the rule for one parameter.

    Args:
        rule: gets the gradient, with the weight decay added to it unless that is decoupled, and
            returns what is to be added to the parameter. It computes in the parameter's dtype, or
            in float32 for narrower ones, as PyTorch's kernels do.
        coefficients: from (steps already taken, learning rate) to the numbers of this step, all
            scalars: what does not depend on the parameter is computed once.
        slots: from a slot's name to its initial value for a parameter.
        lr: the learning rate or its schedule.
        weight_decay: the factor λ of the L2 penalty λ/2 ‖p‖².
        maximize: whether the objective is to grow.
        decoupled: whether the decay shrinks the parameter by lr λ p instead of joining the
            gradient.
    """
    lr = checks.number_or_schedule("lr", lr)
    weight_decay = check_number("weight_decay", weight_decay, least=0)
    maximize = check_bool("maximize", maximize)
    decoupled = check_bool("decoupled_weight_decay", decoupled)

    def one_parameter(
        k: Coefficients, gradient: jax.Array, parameter: jax.Array, *kept: jax.Array
    ) -> tuple[jax.Array, Slots]:
        dtype = _compute_dtype(parameter.dtype)
        g, p = gradient.astype(dtype), parameter.astype(dtype)
        k = {name: _as_dtype(value, dtype) for name, value in k.items()}
        g = -g if maximize else g
        if weight_decay and not decoupled:
            g = g + weight_decay * p
        update, new = rule(g, {n: a.astype(dtype) for n, a in zip(slots, kept, strict=True)}, k)
        if weight_decay and decoupled:
            update = update - k["decay"] * p
        new = {n: new[n].astype(a.dtype) for n, a in zip(slots, kept, strict=True)}
        return update.astype(parameter.dtype), new

    def init(params: Any) -> OptimizerState:
        for leaf in jax.tree.leaves(params):
            dtype = getattr(leaf, "dtype", type(leaf))
            if dtype is float or not jnp.issubdtype(dtype, jnp.floating):
                raise InputError("params", "floating-point arrays", f"one of {dtype}")
        step = jnp.zeros((), jnp.int32)
        start = {name: jax.tree.map(initial, params) for name, initial in slots.items()}
        return OptimizerState(step, scalar(at(lr, step)), start)

    def update(updates: Any, state: OptimizerState, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            if weight_decay:
                raise InputError("params", "the parameters, which weight decay needs", params)
            params = updates
        rate = scalar(at(lr, state.step)) if callable(lr) else state.lr
        k = {**coefficients(state.step, rate), "decay": rate * weight_decay}
        done = jax.tree.map(
            partial(one_parameter, k), updates, params, *(state.slots[name] for name in slots)
        )
        updates, new = jax.tree.transpose(
            jax.tree.structure(updates), jax.tree.structure((0, dict(slots))), done
        )
        return updates, OptimizerState(state.step + 1, rate, new)

    return optax.GradientTransformation(init, update)


def zeros(parameter: jax.Array) -> jax.Array:
    """A slot's start. NumPy's zeros, as JAX's compile a program for each shape."""
    return jax.device_put(np.zeros(parameter.shape, parameter.dtype))


def moving_average(previous: jax.Array, value: jax.Array, beta: Scalar) -> jax.Array:
    """The moving average: beta * previous + (1 - beta) * value."""
    return beta * previous + (1 - beta) * value


def _compute_dtype(dtype: jnp.dtype) -> DTypeLike:
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _as_dtype(value: Scalar, dtype: DTypeLike) -> Scalar:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(dtype)
    return value

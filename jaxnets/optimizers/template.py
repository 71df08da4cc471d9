"""Makes optimizers from update rules for one parameter."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_number
from jaxnets.optimizers import checks
from jaxnets.optimizers.groups import dotted
from jaxnets.optimizers.scalars import Hyperparameter, Scalar, at, scalar
from jaxnets.optimizers.state import OptimizerState

#: The arrays for one parameter in the optimizer state, by PyTorch's names.
Slots = Mapping[str, jax.Array]
#: The scalars that one step uses for all parameters.
Coefficients = Mapping[str, Scalar]


class Parameter(NamedTuple):
    """A parameter, as an argument of update rules.

    Attributes:
        array: the values, in the dtype of the computation.
        dtype: the dtype of the parameter.
        path: the dotted path of the parameter, such as ``fc1.kernel``.
    """

    array: jax.Array
    dtype: np.dtype
    path: str


#: An update rule: (gradient, slots, coefficients) → (update, new slots) of one parameter.
Rule = Callable[[jax.Array, Slots, Coefficients], tuple[jax.Array, Slots]]
#: An update rule that also takes the parameter, as its second argument.
ParameterRule = Callable[[jax.Array, Parameter, Slots, Coefficients], tuple[jax.Array, Slots]]


def from_rule(
    rule: Rule,
    coefficients: Callable[[jax.Array, jax.Array], Coefficients],
    slots: Mapping[str, Callable[[jax.Array], jax.Array]],
    *,
    lr: Hyperparameter,
    weight_decay: float = 0,
    maximize: bool = False,
    decoupled: bool = False,
) -> optax.GradientTransformation:
    """Makes a gradient transformation from the rule for one parameter.

    Args:
        rule: the update rule. It takes the gradient, including weight decay unless that is
            decoupled, and returns the change of the parameter. It computes in the parameter's
            dtype, or in float32 for 16-bit dtypes, as PyTorch's kernels do.
        coefficients: a function from (number of steps taken, learning rate) to the scalars of the
            step, which are computed once for all parameters.
        slots: for the name of each slot, a function from a parameter to the initial value.
        lr: the learning rate or its schedule.
        weight_decay: the factor λ of the L2 penalty λ/2 ‖p‖².
        maximize: whether to maximize the objective instead of minimizing it.
        decoupled: whether weight decay subtracts lr λ p from the parameter instead of adding λ p to
            the gradient.

    Returns:
        A gradient transformation with an ``OptimizerState``.
    """

    def initial(make: Callable[[jax.Array], jax.Array]) -> Callable[[Parameter], jax.Array]:
        return lambda parameter: make(parameter.array)

    return from_parameter_rule(
        lambda g, parameter, kept, k: rule(g, kept, k),
        coefficients,
        {name: initial(make) for name, make in slots.items()},
        lr=lr,
        weight_decay=weight_decay,
        maximize=maximize,
        decoupled=decoupled,
        by_gradients=True,
    )


def from_parameter_rule(
    rule: ParameterRule,
    coefficients: Callable[[jax.Array, jax.Array], Coefficients],
    slots: Mapping[str, Callable[[Parameter], jax.Array | None]],
    *,
    lr: Hyperparameter,
    weight_decay: float = 0,
    maximize: bool = False,
    decoupled: bool = False,
    by_gradients: bool = False,
) -> optax.GradientTransformation:
    """Makes a gradient transformation from a rule that also takes the parameter.

    Args:
        rule: the update rule, with the parameter as its second argument; see ``from_rule``.
        coefficients: see ``from_rule``.
        slots: for the name of each slot, a function from a parameter to the initial value, or to
            None if the parameter does not have the slot.
        lr: the learning rate or its schedule.
        weight_decay: see ``from_rule``.
        maximize: whether to maximize the objective instead of minimizing it.
        decoupled: see ``from_rule``.
        by_gradients: whether the rule does not use the values of parameters, so that ``params`` may
            be omitted without weight decay.

    Returns:
        A gradient transformation with an ``OptimizerState``.
    """
    lr = checks.number_or_schedule("lr", lr)
    weight_decay = check_number("weight_decay", weight_decay, least=0)
    maximize = check_bool("maximize", maximize)
    decoupled = check_bool("decoupled_weight_decay", decoupled)

    def one_parameter(
        k: Coefficients, gradient: jax.Array, parameter: Parameter, kept: Mapping[str, Any]
    ) -> tuple[jax.Array, Slots]:
        dtype = compute_dtype(parameter.dtype)
        g, p = gradient.astype(dtype), parameter.array.astype(dtype)
        k = {name: _as_dtype(value, dtype) for name, value in k.items()}
        g = -g if maximize else g
        if weight_decay and not decoupled:
            g = g + weight_decay * p
        own = {name: slot for name, slot in kept.items() if slot is not None}
        wide = {name: slot.astype(dtype) for name, slot in own.items()}
        update, new = rule(g, parameter._replace(array=p), wide, k)
        if weight_decay and decoupled:
            update = update - k["decay"] * p
        return update.astype(parameter.dtype), {n: new[n].astype(own[n].dtype) for n in own}

    def init(params: Any) -> OptimizerState:
        check_floating(params)
        step = jnp.zeros((), jnp.int32)

        def start(make: Callable[[Parameter], jax.Array | None]) -> Any:
            return jax.tree_util.tree_map_with_path(
                lambda path, p: make(Parameter(p, p.dtype, dotted(path))), params
            )

        slots_at_first = {name: start(make) for name, make in slots.items()}
        return OptimizerState(step, scalar(at(lr, step)), slots_at_first)

    def update(updates: Any, state: OptimizerState, params: Any = None) -> tuple[Any, Any]:
        if params is None:
            if weight_decay or not by_gradients:
                needs = "weight decay" if by_gradients else "this optimizer"
                raise InputError("params", f"the parameters, which {needs} requires", params)
            params = updates
        rate = scalar(at(lr, state.step)) if callable(lr) else state.lr
        k = {**coefficients(state.step, rate), "decay": rate * weight_decay}
        leaves, flattened = jax.tree_util.tree_flatten_with_path(updates)
        structure: Any = flattened
        kept = {name: structure.flatten_up_to(state.slots[name]) for name in slots}
        done = []
        for i, p in enumerate(structure.flatten_up_to(params)):
            path, gradient = leaves[i]
            own = {name: every[i] for name, every in kept.items()}
            done.append(one_parameter(k, gradient, Parameter(p, p.dtype, dotted(path)), own))
        new = {name: structure.unflatten([own.get(name) for _, own in done]) for name in slots}
        updates = structure.unflatten([update for update, _ in done])
        return updates, OptimizerState(state.step + 1, rate, new)

    return optax.GradientTransformation(init, update)


def check_floating(params: Any) -> None:
    """Checks that all parameters are floating-point arrays."""
    for leaf in jax.tree.leaves(params):
        dtype = getattr(leaf, "dtype", type(leaf))
        if dtype is float or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError("params", "floating-point arrays", f"an array of {dtype}")


def zeros(parameter: jax.Array) -> jax.Array:
    """Makes the zeros of a slot with NumPy, because JAX would compile a program for each shape."""
    return jax.device_put(np.zeros(parameter.shape, parameter.dtype))


def moving_average(previous: jax.Array, value: jax.Array, beta: Scalar) -> jax.Array:
    """Computes the moving average beta * previous + (1 - beta) * value."""
    return beta * previous + (1 - beta) * value


def lerp(start: jax.Array, end: jax.Array, weight: Scalar) -> jax.Array:
    """Interpolates like ``torch.lerp``, with the same results for infinite values."""
    toward = end - start
    return jnp.where(weight < 0.5, start + weight * toward, end - toward * (1 - weight))


def compute_dtype(dtype: jnp.dtype) -> DTypeLike:
    """Returns the dtype in which an optimizer computes: float32 for 16-bit parameters."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _as_dtype(value: Scalar, dtype: DTypeLike) -> Scalar:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(dtype)
    return value

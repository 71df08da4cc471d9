"""What the optimizers of ``torch.optim`` have in common, around each one's update rule."""

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

#: The arrays kept for one parameter, by PyTorch's names.
Slots = Mapping[str, jax.Array]
#: The numbers that one step uses for all parameters.
Coefficients = Mapping[str, Scalar]


class Parameter(NamedTuple):
    """A parameter, for the rules that look at it.

    Attributes:
        array: its values, in the dtype that the rule computes in.
        dtype: its own dtype.
        path: its place among the parameters, such as ``fc1.kernel``.
    """

    array: jax.Array
    dtype: np.dtype
    path: str


#: From one parameter's gradient, slots and the step's numbers to its update and new slots.
Rule = Callable[[jax.Array, Slots, Coefficients], tuple[jax.Array, Slots]]
#: The same, from the gradient and the parameter.
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
    """``from_rule`` for a rule that looks at the parameter itself.

    Args:
        rule: as of ``from_rule``, with the parameter as the second argument.
        coefficients: as of ``from_rule``.
        slots: from a slot's name to its initial value for a parameter; None where that has none.
        lr: the learning rate or its schedule.
        weight_decay: as of ``from_rule``.
        maximize: whether the objective is to grow.
        decoupled: as of ``from_rule``.
        by_gradients: whether only weight decay needs the values of the parameters.
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
                raise InputError("params", f"the parameters, which {needs} needs", params)
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
    """Raises unless parameters are floating-point arrays."""
    for leaf in jax.tree.leaves(params):
        dtype = getattr(leaf, "dtype", type(leaf))
        if dtype is float or not jnp.issubdtype(dtype, jnp.floating):
            raise InputError("params", "floating-point arrays", f"one of {dtype}")


def zeros(parameter: jax.Array) -> jax.Array:
    """A slot's start. NumPy's zeros, as JAX's compile a program for each shape."""
    return jax.device_put(np.zeros(parameter.shape, parameter.dtype))


def moving_average(previous: jax.Array, value: jax.Array, beta: Scalar) -> jax.Array:
    """The moving average: beta * previous + (1 - beta) * value."""
    return beta * previous + (1 - beta) * value


def lerp(start: jax.Array, end: jax.Array, weight: Scalar) -> jax.Array:
    """``torch.lerp``: from start to end, and the same where these are infinite."""
    toward = end - start
    return jnp.where(weight < 0.5, start + weight * toward, end - toward * (1 - weight))


def compute_dtype(dtype: jnp.dtype) -> DTypeLike:
    """The dtype in which an optimizer computes: float32 for narrower ones."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def _as_dtype(value: Scalar, dtype: DTypeLike) -> Scalar:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(dtype)
    return value

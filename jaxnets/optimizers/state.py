"""The state of all optimizers, and access to the learning rate in it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, as_array, called, check_number
from jaxnets.optimizers.scalars import scalar


class OptimizerState(NamedTuple):
    """The state of an optimizer, with the same fields for all optimizers.

    Attributes:
        step: the number of steps taken, int32.
        lr: the learning rate. If the optimizer was made with a number, the next step uses this
            value, so it can be changed during a run. With a schedule, this is the value that the
            last step used.
        slots: the arrays for each parameter, by their names in the ``state_dict`` of PyTorch's
            optimizer, such as ``exp_avg``. Each slot is a tree of the parameters' structure.
    """

    step: jax.Array
    lr: jax.Array
    slots: dict[str, Any]


def learning_rates(state: Any) -> list[jax.Array]:
    """Returns the learning rates of all parameter groups: ``[g["lr"] for g in opt.param_groups]``.

    Args:
        state: the state of an optimizer, alone, in a chain or in parameter groups.

    Returns:
        One scalar for each group: the default group first, then the others in their order.

    Raises:
        InputError: if no optimizer of this package is in the state.
    """
    found = [part.lr for part in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(part)]
    if not found:
        raise InputError("state", "the state of an optimizer of jaxnets", type(state).__name__)
    return found


def set_learning_rate(
    state: Any, lr: ArrayLike | Sequence[ArrayLike] | Callable[[jax.Array], ArrayLike]
) -> Any:
    """Sets the learning rate of all parameter groups, like ``group["lr"] = lr`` in PyTorch.

    This has an effect on optimizers that were made with a number as learning rate, not on those
    with a schedule. Dtypes do not change, so that a compiled step is not compiled again.

    Args:
        state: the state of an optimizer, alone, in a chain or in parameter groups.
        lr: the new learning rate; or one for each group, in the order of ``learning_rates``; or a
            function from the old learning rate of a group to the new one.

    Returns:
        The state with the new learning rate.

    Raises:
        InputError: if no optimizer of this package is in the state, or lr is invalid.
    """
    groups = len(learning_rates(state))
    several = tuple(lr) if isinstance(lr, list | tuple) else None
    if several is not None and len(several) != groups:
        raise InputError("lr", f"a number, or one for each of {groups} groups", lr)
    rates = [lr if callable(lr) else _checked(lr)] * groups if several is None else several
    following = iter(rates if several is None else map(_checked, rates))

    def change(part: Any) -> Any:
        if not _is_state(part):
            return part
        new = next(following)
        if callable(new):
            new = called("lr", "a function from a rate to its new one", new, part.lr)
        return part._replace(lr=scalar(as_array("lr", new)))

    return jax.tree.map(change, state, is_leaf=_is_state)


def _is_state(part: Any) -> bool:
    return isinstance(part, OptimizerState)


def _checked(lr: Any) -> Any:
    return lr if isinstance(lr, jax.core.Tracer) else check_number("lr", lr, least=0)

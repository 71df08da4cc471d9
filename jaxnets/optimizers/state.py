"""The state that every optimizer keeps, and the learning rate within it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, as_array, called, check_number
from jaxnets.optimizers.scalars import scalar


class OptimizerState(NamedTuple):
    """What an optimizer carries from step to step: one shape for all of them.

    Attributes:
        step: how many steps have been taken, int32.
        lr: the learning rate. Where it was given as a number, the next step uses what stands here,
            so that it may be changed during a run; where it follows a schedule, what the last step
            used.
        slots: the arrays kept for each parameter, by the name they bear in the ``state_dict`` of
            the PyTorch optimizer, such as ``exp_avg``; each a tree like the parameters.
    """

    step: jax.Array
    lr: jax.Array
    slots: dict[str, Any]


def learning_rates(state: Any) -> list[jax.Array]:
    """The learning rate of each parameter group, like ``[g["lr"] for g in opt.param_groups]``.

    Args:
        state: the state of an optimizer, alone, in a chain or in parameter groups.

    Returns:
        One scalar a group; the default group first, then the others in the order they were given.

    Raises:
        InputError: if no optimizer of this package is in the state.
    """
    found = [part.lr for part in jax.tree.leaves(state, is_leaf=_is_state) if _is_state(part)]
    if not found:
        raise InputError("state", "the state of an optimizer of jaxnets", type(state).__name__)
    return found


def set_learning_rate(state: Any, lr: float | Callable[[jax.Array], ArrayLike]) -> Any:
    """Changes the learning rate of every parameter group, like ``group["lr"] = lr``.

    It counts where the learning rate was given as a number; a schedule goes on as it is. The new
    state has the dtypes of the old: a jitted step is not compiled again.

    Args:
        state: the state of an optimizer, alone, in a chain or in parameter groups.
        lr: the new learning rate, or a function from each group's rate to its new one.

    Returns:
        The state with the new learning rate.

    Raises:
        InputError: if no optimizer of this package is in the state, or lr is neither a finite
            number >= 0 nor a function.
    """
    learning_rates(state)
    if not callable(lr) and not isinstance(lr, jax.core.Tracer):
        lr = check_number("lr", lr, least=0)

    def change(part: Any) -> Any:
        if not _is_state(part):
            return part
        expected = "a number, or a function from a rate to its new one"
        new = called("lr", expected, lr, part.lr) if callable(lr) else lr
        return part._replace(lr=scalar(as_array("lr", new)))

    return jax.tree.map(change, state, is_leaf=_is_state)


def _is_state(part: Any) -> bool:
    return isinstance(part, OptimizerState)

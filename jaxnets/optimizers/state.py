"""The state that every optimizer keeps, and the learning rate within it."""

from collections.abc import Callable, Sequence
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
        slots: the arrays kept for each parameter, by their names in the ``state_dict`` of
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


def set_learning_rate(
    state: Any, lr: ArrayLike | Sequence[ArrayLike] | Callable[[jax.Array], ArrayLike]
) -> Any:
    """Changes the learning rate of every parameter group, like ``group["lr"] = lr``.

    It counts where the learning rate was given as a number; a schedule continues as it is. The new
    state has the dtypes of the old: a jitted step is not compiled again.

    Args:
        state: the state of an optimizer, alone, in a chain or in parameter groups.
        lr: the new learning rate; one for each group, in the order of ``learning_rates``; or a
            function from each group's rate to its new one.

    Returns:
        The state with the new learning rate.

    Raises:
        InputError: if no optimizer of this package is in the state, or lr is neither a finite
            number >= 0, nor one for each group, nor a function.
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

"""Lowering the learning rate where a metric no longer improves."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import InputError, as_array, check_choice, check_integer, check_number, describe
from jaxnets.optimizers.scalars import integer, scalar
from jaxnets.optimizers.state import set_learning_rate


class PlateauState(NamedTuple):
    """What is known of the metric so far, by PyTorch's names.

    Attributes:
        best: the best value.
        num_bad_epochs: for how many epochs it has not been improved on.
        cooldown_counter: for how many epochs yet none is counted as bad.
    """

    best: jax.Array
    num_bad_epochs: jax.Array
    cooldown_counter: jax.Array


class Plateau(NamedTuple):
    """A pair of pure functions, usable on the host and under ``jax.jit`` alike.

    Attributes:
        init: returns the state before the first epoch.
        update: from (metric, plateau state, optimizer state) to (plateau state, optimizer state).
    """

    init: Callable[[], PlateauState]
    update: Callable[[ArrayLike, PlateauState, Any], tuple[PlateauState, Any]]


def reduce_lr_on_plateau(
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0,
    eps: float = 1e-8,
) -> Plateau:
    """``torch.optim.lr_scheduler.ReduceLROnPlateau``.

    The learning rate is the optimizer's own, given to it as a number; every parameter group's is
    lowered.

    Args:
        mode: ``"min"`` if the metric is to fall, ``"max"`` if it is to grow.
        factor: what the learning rate is multiplied by, in [0, 1).
        patience: how many epochs without improvement are borne.
        threshold: by how much the metric must be better than the best to count as better.
        threshold_mode: ``"rel"``: by this share of the best; ``"abs"``: by this amount.
        cooldown: for how many epochs after a reduction none is counted as bad.
        min_lr: the learning rate is not lowered below this.
        eps: a change by no more than this is not made.

    Returns:
        The functions ``init`` and ``update``, the latter to be called after each epoch.

    Raises:
        InputError: if a value is out of its range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxnets import optimizers
        >>> state = optimizers.sgd(0.1).init({"weight": jnp.ones(3)})
        >>> plateau = optimizers.reduce_lr_on_plateau(patience=1)
        >>> epochs = plateau.init()
        >>> for loss in [0.5, 0.5, 0.5]:
        ...     epochs, state = plateau.update(loss, epochs, state)
        >>> print(f"{state.lr:.2f}")
        0.01
    """
    minimize = check_choice("mode", mode, ("min", "max")) == "min"
    relative = check_choice("threshold_mode", threshold_mode, ("rel", "abs")) == "rel"
    factor = check_number("factor", factor, least=0, below=1)
    threshold = check_number("threshold", threshold, least=0)
    min_lr, eps = check_number("min_lr", min_lr, least=0), check_number("eps", eps, least=0)
    for name, value in (("patience", patience), ("cooldown", cooldown)):
        check_integer(name, value, least=0)

    def init() -> PlateauState:
        return PlateauState(scalar(math.inf if minimize else -math.inf), integer(0), integer(0))

    def is_better(metric: jax.Array, best: jax.Array) -> jax.Array:
        sign = -1 if minimize else 1
        target = best * (1 + sign * threshold) if relative else best + sign * threshold
        return metric < target if minimize else metric > target

    def reduced(lr: jax.Array) -> jax.Array:
        lower = jnp.maximum(lr * factor, min_lr)
        return jnp.where(lr - lower > eps, lower, lr)

    def update(
        metric: ArrayLike, state: PlateauState, optimizer_state: Any
    ) -> tuple[PlateauState, Any]:
        metric = scalar(as_array("metric", metric))
        if metric.shape:
            raise InputError("metric", "one number", describe(metric))
        better = is_better(metric, state.best)
        cooling = state.cooldown_counter > 0
        bad = jnp.where(better | cooling, 0, state.num_bad_epochs + 1)
        reduce = bad > patience
        new = PlateauState(
            best=jnp.where(better, metric, state.best),
            num_bad_epochs=jnp.where(reduce, 0, bad),
            cooldown_counter=jnp.where(
                reduce, cooldown, jnp.maximum(state.cooldown_counter - 1, 0)
            ),
        )
        lower = set_learning_rate(optimizer_state, lambda lr: jnp.where(reduce, reduced(lr), lr))
        return new, lower

    return Plateau(init, update)

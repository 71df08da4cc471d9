"""Lowering the learning rate where a metric no longer improves."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxnets.arrays import (
    InputError,
    as_array,
    check_choice,
    check_integer,
    check_number,
    describe,
    entries,
)
from jaxnets.optimizers.scalars import integer, scalar
from jaxnets.optimizers.state import learning_rates, set_learning_rate


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


@dataclass(frozen=True)
class Rule:
    """When a rate is lowered and to what, for ``numpy`` and ``jax.numpy`` alike.

    Arguments as of ``reduce_lr_on_plateau``.

    Raises:
        InputError: if a value is out of its range.
    """

    mode: str
    factor: float
    patience: int
    threshold: float
    threshold_mode: str
    cooldown: int
    min_lr: float | Sequence[float]
    eps: float

    def __post_init__(self) -> None:
        """Checks the values, and turns scalars of NumPy into Python's."""
        check_choice("mode", self.mode, ("min", "max"))
        check_choice("threshold_mode", self.threshold_mode, ("rel", "abs"))
        numbers = {"factor": check_number("factor", self.factor, least=0, below=1)}
        numbers |= {n: check_number(n, getattr(self, n), least=0) for n in ("threshold", "eps")}
        for name in ("patience", "cooldown"):
            numbers[name] = check_integer(name, getattr(self, name), least=0)
        for name, number in numbers.items():
            object.__setattr__(self, name, number)
        several = entries(self.min_lr)
        least = (self.min_lr,) if several is None else several
        checked = tuple(check_number("min_lr", number, least=0) for number in least)
        object.__setattr__(self, "min_lr", checked[0] if several is None else checked)

    @property
    def start(self) -> tuple[float, int, int]:
        """The best value, bad epochs and epochs of cooldown before the first epoch."""
        return (math.inf if self.mode == "min" else -math.inf), 0, 0

    def after(self, metric: Any, state: Any, xp: Any) -> tuple[Any, Any]:
        """The state (best, bad, cooldown) after an epoch, and whether rates are lowered."""
        best, bad, cooling = state
        sign = -1 if self.mode == "min" else 1
        relative = self.threshold_mode == "rel"
        target = best * (1 + sign * self.threshold) if relative else best + sign * self.threshold
        better = metric < target if self.mode == "min" else metric > target
        bad = xp.where(better | (cooling > 0), 0, bad + 1)
        reduce = bad > self.patience
        left = xp.where(reduce, self.cooldown, xp.maximum(cooling - 1, 0))
        return (xp.where(better, metric, best), xp.where(reduce, 0, bad), left), reduce

    def lowered(self, rates: Sequence[Any], xp: Any) -> list[Any]:
        """The rates of the parameter groups, lowered once.

        Raises:
            InputError: if there are least rates for another number of groups.
        """
        several = entries(self.min_lr)
        if several is not None and len(several) != len(rates):
            expected = f"a number, or one for each of {len(rates)} parameter groups"
            raise InputError("min_lr", expected, self.min_lr)
        new = []
        for rate, least in zip(rates, several or [self.min_lr] * len(rates), strict=True):
            lower = xp.maximum(rate * self.factor, least)
            new.append(xp.where(rate - lower > self.eps, lower, rate))
        return new


def reduce_lr_on_plateau(
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float | Sequence[float] = 0,
    eps: float = 1e-8,
) -> Plateau:
    """``torch.optim.lr_scheduler.ReduceLROnPlateau``.

    The learning rate is the optimizer's own, given to it as a number; every parameter group's is
    lowered. ``jaxnets.training.ReduceLROnPlateau`` does so in ``fit``.

    Args:
        mode: ``"min"`` if the metric is to fall, ``"max"`` if it is to grow.
        factor: what the learning rate is multiplied by, in [0, 1).
        patience: number of epochs without improvement to tolerate.
        threshold: by how much the metric must be better than the best to count as better.
        threshold_mode: ``"rel"``: by this share of the best; ``"abs"``: by this amount.
        cooldown: for how many epochs after a reduction none is counted as bad.
        min_lr: the learning rate is not lowered below this; one for all parameter groups, or one
            for each, in the order of ``learning_rates``.
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
    rule = Rule(mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps)

    def init() -> PlateauState:
        best, bad, cooling = rule.start
        return PlateauState(scalar(best), integer(bad), integer(cooling))

    def update(
        metric: ArrayLike, state: PlateauState, optimizer_state: Any
    ) -> tuple[PlateauState, Any]:
        metric = scalar(as_array("metric", metric))
        if metric.shape:
            raise InputError("metric", "one number", describe(metric))
        new, reduce = rule.after(metric, state, jnp)
        rates = learning_rates(optimizer_state)
        pairs = zip(rule.lowered(rates, jnp), rates, strict=True)
        lower = [jnp.where(reduce, new_rate, rate) for new_rate, rate in pairs]
        return PlateauState(*new), set_learning_rate(optimizer_state, lower)

    return Plateau(init, update)

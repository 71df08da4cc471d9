"""Reduces the learning rate when a metric stops improving."""

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
    """The state of ``reduce_lr_on_plateau``, with PyTorch's names.

    Attributes:
        best: the best value of the metric so far.
        num_bad_epochs: the number of epochs since the metric improved.
        cooldown_counter: the remaining number of epochs of the cooldown.
    """

    best: jax.Array
    num_bad_epochs: jax.Array
    cooldown_counter: jax.Array


class Plateau(NamedTuple):
    """A pair of pure functions, for use on the host or under ``jax.jit``.

    Attributes:
        init: a function that returns the state before the first epoch.
        update: a function from (metric, plateau state, optimizer state) to (plateau state,
            optimizer state).
    """

    init: Callable[[], PlateauState]
    update: Callable[[ArrayLike, PlateauState, Any], tuple[PlateauState, Any]]


@dataclass(frozen=True)
class Rule:
    """The rule by which learning rates are reduced, computed with ``numpy`` or ``jax.numpy``.

    For the arguments see ``reduce_lr_on_plateau``.

    Raises:
        InputError: if a value is out of range.
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
        """Checks the values, and converts NumPy scalars to Python numbers."""
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
        """The initial state: the best value, bad epochs and remaining epochs of the cooldown."""
        return (math.inf if self.mode == "min" else -math.inf), 0, 0

    def after(self, metric: Any, state: Any, xp: Any) -> tuple[Any, Any]:
        """Returns the state (best, bad, cooldown) after an epoch, and whether to reduce rates."""
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
        """Reduces the learning rates of the parameter groups once.

        Raises:
            InputError: if ``min_lr`` has another number of entries than there are groups.
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

    The learning rates in the optimizer's state are reduced, of all parameter groups. The optimizer
    has to be made with a number as learning rate, not with a schedule. In ``fit``, use
    ``jaxnets.training.ReduceLROnPlateau`` instead.

    Args:
        mode: ``"min"`` if a smaller metric is better, ``"max"`` if a larger one is.
        factor: the factor by which the learning rate is multiplied, in [0, 1).
        patience: the number of epochs without improvement to tolerate.
        threshold: the smallest change of the metric that counts as an improvement.
        threshold_mode: ``"rel"`` if the threshold is relative to the best value, ``"abs"`` if it is
            absolute.
        cooldown: the number of epochs after a reduction in which bad epochs are not counted.
        min_lr: the smallest learning rate, one for all parameter groups or one for each, in the
            order of ``learning_rates``.
        eps: the learning rate is not changed if the change is at most this.

    Returns:
        The functions ``init`` and ``update``. Call ``update`` after each epoch.

    Raises:
        InputError: if a value is out of range.

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

"""Callbacks: functions called during training, which may also end it."""

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import optimizers
from jaxnets.arrays import InputError, check_bool, check_number, check_positive, shown
from jaxnets.data.dataset import Dataset
from jaxnets.optimizers.plateau import Rule
from jaxnets.training.placement import local, put
from jaxnets.training.records import (
    EpochRecord,
    Metric,
    check_metric,
    goodness,
    is_better_smaller,
)
from jaxnets.training.saving import Journal, Saving


class StopTraining(Exception):
    """Raised by a callback to end the run after the current epoch; ``fit`` then returns as usual.

    Its message becomes ``TrainingRun.stopped``.
    """


@dataclasses.dataclass(frozen=True, repr=False)
class RunSoFar:
    """The current state of a run, for callbacks.

    Attributes:
        data: the data set that the run trains and tests on.
        epochs: number of epochs when the run is complete.
        steps_per_epoch: number of steps in each epoch.
        resumed: whether the run resumed from a checkpoint.
    """

    data: Dataset
    epochs: int
    steps_per_epoch: int
    resumed: bool
    _journal: Journal
    _rates: list[float] = dataclasses.field(default_factory=list)  # learning rates last set

    def __repr__(self) -> str:
        return f"RunSoFar: step {self.step}, {len(self.history)} of {self.epochs} epochs done"

    @property
    def step(self) -> int:
        """Number of completed steps."""
        return self._journal.step

    @property
    def history(self) -> Sequence[EpochRecord]:
        """The records of the completed epochs."""
        return tuple(self._journal.history)

    @property
    def losses(self) -> np.ndarray:
        """The loss of each completed step, float [steps]."""
        return np.concatenate([np.zeros(0, np.float32), *self._journal.losses])

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """The model's parameters by name, such as ``"fc1.kernel"``."""
        leaves = nnx.to_flat_state(self._journal.state.parameters)
        return {".".join(map(str, path)): np.asarray(leaf[...]) for path, leaf in leaves}

    @property
    def learning_rates(self) -> list[float]:
        """The learning rate of each parameter group, the default group's first.

        Raises:
            InputError: if the optimizer is not one of ``jaxnets.optimizers``.
        """
        try:
            rates = optimizers.learning_rates(local(self._journal.state.optimizer_state))
        except InputError as error:
            raise InputError("optimizer", "one of jaxnets.optimizers", "another") from error
        return [float(rate) for rate in rates]

    def set_learning_rates(self, rates: float | Sequence[float]) -> None:
        """Changes the learning rates, from the next step on. They are saved in checkpoints.

        Args:
            rates: one learning rate for all parameter groups, or one for each.

        Raises:
            InputError: if a rate is not a finite number >= 0, the number of rates differs from the
                number of groups, or the optimizer follows a schedule or is not one of
                ``jaxnets.optimizers``.
        """
        # A schedule has changed the rates since they were set, and would overwrite these too.
        if self._rates and self.learning_rates != self._rates:
            expected = "one without a schedule, as a callback sets the learning rates"
            raise InputError("optimizer", expected, "one that follows a schedule")
        # Unchanged arrays are kept, so that their buffers are not copied.
        old = self._journal.state.optimizer_state
        new = jax.tree.map(_in_place_of, old, optimizers.set_learning_rate(old, rates))
        self._journal.state = dataclasses.replace(self._journal.state, optimizer_state=new)
        self._rates[:] = self.learning_rates

    @property
    def model(self) -> nnx.Module:
        """A copy of the model, in evaluation mode."""
        return local(jax.tree.map(jnp.copy, self._journal.state)).model


class Callback:
    """Base class of callbacks that are called at more points than the end of an epoch.

    Every method does nothing by default, and each may raise ``StopTraining``. With several
    processes, each process calls its own callbacks.

    Attributes:
        run: the current run; set by ``begin``.
    """

    run: RunSoFar

    def begin(self, run: RunSoFar) -> None:
        """Called when training begins, or resumes with the saved history."""
        self.run = run

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Called after the steps of one compiled program.

        Args:
            step: the number of the last of these steps, counted over all epochs from 1.
            losses: the loss of each of these steps, float [steps].
        """

    def __call__(self, record: EpochRecord) -> None:
        """Called after an epoch and its evaluation, before the checkpoint is saved."""

    def end(self) -> None:
        """Called when training has ended, also after an error."""


class EarlyStopping(Callback):
    """Stops a run that no longer improves, and can restore the weights of its best epoch.

    The decision depends only on the run's history, so a resumed run stops at the same epoch. A
    stopped run continues if it is resumed with a larger ``patience``. The best epoch is the epoch
    with the best value of the metric, the last one if several are equal; ``min_delta`` does not
    affect it. ``Saving`` keeps the checkpoint of the same epoch.

    Args:
        patience: number of consecutive epochs without improvement after which the run stops; None
            never stops.
        min_delta: the smallest change of the metric that counts as an improvement.
        metric: a metric of an ``EpochRecord``, such as ``"test_loss"`` or ``"test_f1"``. If the
            name ends in loss, error or perplexity, smaller values are better; otherwise larger.
        restore_best: whether the run ends with the model, the state and the test of its best
            epoch, even if it was not stopped. The history keeps all epochs. During training, a
            second copy of the state is in memory.

    Raises:
        InputError: if an argument is invalid. ``fit`` raises it if the run does not measure the
            metric, or is resumed and the weights of its best epoch were not kept.
    """

    def __init__(
        self,
        patience: int | None,
        *,
        min_delta: float = 0.0,
        metric: Metric = "test_loss",
        restore_best: bool = False,
    ) -> None:
        self._patience = None if patience is None else check_positive("patience", patience)
        self._min_delta = check_number("min_delta", min_delta, least=0)
        self.metric: Metric = check_metric(metric)
        self.restore_best = check_bool("restore_best", restore_best)

    def begin(self, run: RunSoFar) -> None:
        """Checks the history of a resumed run, which may already be due to stop."""
        super().begin(run)
        self._check(run.history)

    def __call__(self, record: EpochRecord) -> None:
        """Stops the run if the last ``patience`` epochs brought no improvement."""
        self._check(self.run.history)

    def _check(self, history: Sequence[EpochRecord]) -> None:
        # Recomputed from the whole history instead of kept, so that a resumed run needs no state.
        best, waiting = -np.inf, 0
        for record in history:
            value = goodness(record, self.metric)
            better = value > best + self._min_delta
            best, waiting = (value, 0) if better else (best, waiting + 1)
        if self._patience is not None and waiting >= self._patience:
            raise StopTraining(f"{self.metric} is no better after {waiting} more epochs")


class LossSpikes(Callback):
    """Warns about each step whose loss is not finite or far above the preceding losses.

    Args:
        factor: a loss is reported if it exceeds ``factor`` times the median of the losses before.
        window: number of preceding steps in the median. Nothing is reported while fewer than a
            tenth of these have a finite loss.

    Raises:
        InputError: if an argument is invalid.
    """

    def __init__(self, factor: float = 5.0, *, window: int = 100) -> None:
        self._factor = check_number("factor", factor, above=1)
        self._window = check_positive("window", window)

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Checks the loss of each step."""
        known = self.run.losses
        for number in range(step - len(losses), step):
            before = known[max(0, number - self._window) : number]
            before = before[np.isfinite(before)]
            if 10 * len(before) < self._window:
                continue
            median = float(np.median(before))
            if not known[number] <= self._factor * abs(median):  # also true for NaN
                self._warn(number, float(known[number]), median)

    def _warn(self, number: int, loss: float, median: float) -> None:
        epoch, step = divmod(number, self.run.steps_per_epoch)
        text = f"epoch {epoch + 1}, step {step + 1}: the loss is {loss:.4g}, far above {median:.4g}"
        warnings.warn(f"{text}, the median of the steps before", UserWarning, stacklevel=2)


class ReduceLROnPlateau(Callback):
    """Lowers the learning rates when a metric stops improving.

    It checks the metric after each epoch, like ``scheduler.step(metric)`` in a PyTorch training
    loop. The decision depends only on the run's history, and the learning rates are saved in
    checkpoints, so a resumed run continues as if it had never been interrupted. The optimizer must
    have been made with a number as its learning rate, not with a schedule. The PyTorch counterpart
    is ``torch.optim.lr_scheduler.ReduceLROnPlateau``.

    Args:
        mode: ``"min"`` if smaller values of the metric are better, ``"max"`` if larger values are;
            None decides by the name: smaller for losses, errors and perplexities, otherwise larger.
        factor: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        patience: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        threshold: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        threshold_mode: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        cooldown: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        min_lr: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        eps: see ``jaxnets.optimizers.reduce_lr_on_plateau``.
        metric: a metric of an ``EpochRecord``.

    Raises:
        InputError: if an argument is invalid. ``fit`` raises it if the run does not measure the
            metric, or the optimizer follows a schedule or is not one of ``jaxnets.optimizers``.
    """

    def __init__(
        self,
        mode: Literal["min", "max"] | None = None,
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
        *,
        metric: Metric = "test_loss",
    ) -> None:
        self._metric = check_metric(metric)
        if mode is None:
            mode = "min" if is_better_smaller(metric) else "max"
        self._rule = Rule(mode, factor, patience, threshold, threshold_mode, cooldown, min_lr, eps)

    def begin(self, run: RunSoFar) -> None:
        """Replays the saved history; the learning rates themselves come from the checkpoint."""
        super().begin(run)
        self._state: Any = self._rule.start
        for record in run.history:
            self._should_lower(record)
        rates = run.learning_rates
        self._rule.lowered(rates, np)  # checks the number of values in ``min_lr``
        run.set_learning_rates(rates)

    def __call__(self, record: EpochRecord) -> None:
        """Lowers the learning rates if the metric has stopped improving."""
        rates = self.run.learning_rates
        lower = self._should_lower(record)
        new = [float(rate) for rate in self._rule.lowered(rates, np)] if lower else rates
        self.run.set_learning_rates(new)

    def _should_lower(self, record: EpochRecord) -> bool:
        """Whether to lower the rates after an epoch; updates the rule's state."""
        value = record.value(self._metric)
        if value is None:
            raise InputError("metric", "one that the run measures", self._metric)
        self._state, lower = self._rule.after(value, self._state, np)
        return bool(lower)


def _in_place_of(old: jax.Array, new: jax.Array) -> jax.Array:
    """Returns a new value with the dtype and sharding of an old array; the old array if equal."""
    return old if new is old else put(np.asarray(new, old.dtype), old.sharding)


class Listeners:
    """The callbacks of a run.

    Args:
        callbacks: the argument ``callbacks`` of ``fit``.

    Attributes:
        reason: why a callback has stopped the run; None if none has.

    Raises:
        InputError: if one cannot be called.
    """

    def __init__(self, callbacks: Any) -> None:
        if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
            expected = "a sequence of functions of an EpochRecord, or of Callback objects"
            raise InputError("callbacks", expected, shown(callbacks))
        self._every = callbacks
        self._more = [each for each in callbacks if isinstance(each, Callback)]
        self.reason: str | None = None

    def metric(self, saving: Saving | None, usual: Metric) -> Metric:
        """Returns the metric that selects the best epoch for stopping, restoring and saving.

        Args:
            saving: how the run saves; None if it does not.
            usual: the metric if neither a callback nor ``saving`` names one.

        Raises:
            InputError: if callbacks and ``saving`` name different metrics.
        """
        named = dict.fromkeys(each.metric for each in self._stopping)
        if saving is not None and saving.metric is not None:
            named[saving.metric] = None
        if len(named) > 1:
            raise InputError("metric", "the same for stopping and saving", " and ".join(named))
        return next(iter(named), usual)

    @property
    def restore_best(self) -> bool:
        """Whether the run ends with the weights of its best epoch."""
        return any(each.restore_best for each in self._stopping)

    @property
    def _stopping(self) -> list[EarlyStopping]:
        return [each for each in self._more if isinstance(each, EarlyStopping)]

    @contextlib.contextmanager
    def listening(self, run: RunSoFar) -> Iterator[None]:
        """Calls ``begin`` of all callbacks, and finally ``end`` of those that have begun."""
        self._journal, self.reason = run._journal, run._journal.stopped
        with contextlib.ExitStack() as stack:
            for each in self._more:
                # Before ``begin``, so that ``end`` is also called if ``begin`` raises.
                stack.callback(self._call, each.end)
                self._call(each.begin, run)
            yield

    def steps(self, step: int, losses: np.ndarray) -> None:
        """Calls the callbacks after some steps."""
        before = self.reason
        for each in self._more:
            self._call(each.steps, step, losses)
        if before is None:  # saved, because a run resumed within the epoch must stop there too
            self._journal.stopped = self.reason

    def epoch(self, record: EpochRecord) -> None:
        """Calls the callbacks after an epoch."""
        for each in self._every:
            self._call(each, record)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> None:
        try:
            function(*arguments)
        except StopTraining as stop:
            self.reason = self.reason or str(stop) or "a callback has stopped the run"

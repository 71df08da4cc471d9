"""``fit``, which trains a model on a data set and evaluates it after each epoch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import optax
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_function,
    check_positive,
    check_seed,
    shown,
)
from jaxnets.data.dataset import AnySplit, Dataset
from jaxnets.data.transforms import Augmentation, Transform
from jaxnets.training.batching import Batching
from jaxnets.training.callbacks import Callback, Listeners, RunSoFar
from jaxnets.training.compiled import Compiled
from jaxnets.training.counts import Count
from jaxnets.training.evaluation import check_model
from jaxnets.training.fingerprint import fingerprint
from jaxnets.training.labels import Loss
from jaxnets.training.loop import Loop, Member, Work
from jaxnets.training.minimize import NonFinite, minimize
from jaxnets.training.objective import Objective, supervised
from jaxnets.training.placement import Placement, Sharding, one_device, place
from jaxnets.training.processes import check_same
from jaxnets.training.progress import Progress, reporter
from jaxnets.training.records import EpochRecord, TrainingRun
from jaxnets.training.saving import Best, Journal, Saving, begin, keeper
from jaxnets.training.seeds import Build, TrainingRuns, begun_members, stacked
from jaxnets.training.state import TrainState, initialize
from jaxnets.training.steps import Step, StepMetrics, check_hashable, check_step


def fit(
    model: nnx.Module | Build,
    data: Dataset | AnySplit,
    step: Step | None = None,
    *,
    evaluate: Objective | None = None,
    loss: Loss | None = None,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    seeds: int | Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    buckets: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    sharding: Sharding | None = None,
    accumulate: int = 1,
    compute_dtype: DTypeLike | None = None,
    save: Saving | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[EpochRecord], Any] | Callback] = (),
    non_finite: NonFinite = "stop",
    progress: Progress = "auto",
) -> Any:
    """Trains a model and evaluates it on every test example after each epoch.

    The data are copied to the device once, unchanged; ``transform`` runs inside the compiled
    step. Each epoch visits every example once, in an order that depends only on (seed, epoch).
    A smaller last batch is not padded. The same seed on the same machine gives the same
    parameters, bit for bit.

    Args:
        model: any ``nnx.Module`` that maps a batch of inputs to outputs. It is not changed. With
            ``seeds``, a function of ``nnx.Rngs`` that makes a model.
        data: the data set to train and test on; splits may be streamed. A single split is trained
            on without a test.
        step: the training step, such as ``minimize`` or ``in_turn`` makes; None for
            ``minimize(supervised(loss, …), optimizer, …)`` with the arguments that follow.
        evaluate: the objective that is measured on the test split after each epoch; None for the
            step's own objective.
        loss: (outputs, labels) → scalar mean over the batch, such as
            ``jaxnets.losses.cross_entropy``. For a loss that sums over the examples
            (``reduction="sum"``), the history and the test report the mean over the examples;
            ``step_losses`` contains the values that the function returns.
        optimizer: a gradient transformation, such as ``jaxnets.optimizers.sgd(0.01)``.
        epochs: number of passes through the training data.
        batch_size: number of examples in a batch.
        seed: seed of the order of the examples, augmentation, dropout and the like. It does not
            affect the model's initial weights, which are part of ``model``.
        seeds: trains one model for each of these seeds at once, in one compiled program; an
            integer n means the seeds 0 to n - 1. Each run equals
            ``fit(model(nnx.Rngs(s)), data, seed=s)`` except for rounding. Not with ``seed``,
            ``buckets``, ``devices``, ``sharding``, ``save``, ``resume``, ``callbacks`` and streamed
            splits.
        learning_rates: trains each of the seeds with each of these learning rates, which replace
            the optimizer's.
        transform: a hashable function of a batch of inputs, applied in training and in evaluation.
        augment: the transform that is applied in training only, before ``transform``, to the
            inputs as the data set contains them, such as uint8 images. The random transforms of
            ``jaxnets.data`` draw from (seed, step), so that the same seed gives the same run. After
            ``Mixup`` and ``CutMix``, the loss and ``correct`` receive probabilities as labels.
        correct: counts correct predictions: (outputs, labels) → an integer, or an array of booleans
            of any shape, or a pair of integers, the number of correct predictions and the number
            of all. A single integer is divided by the number of booleans that it sums (examples or
            labels), or by the number of examples if that number is unknown. ``"auto"`` counts
            labels by ``jaxnets.metrics.correct`` if they are classes, without the labels that the
            loss ignores; None does not count.
        metrics: further metrics by name: functions of (outputs, labels) that return a scalar, the
            mean over the batch, or a pair (total, count); ``jaxnets.metrics`` has some. They appear
            in the progress line, the history, the callbacks and the plot.
        shuffle: whether the order changes from epoch to epoch.
        drop_last: whether a smaller last batch is left out.
        buckets: groups texts of similar length into batches, which are cut to one of at most
            ``buckets`` lengths; for a ``TextDataset`` and a model whose outputs do not depend on
            padding. None or 1 runs all batches at the full length, in the order without buckets.
        devices: number of devices that share each batch, or the devices; None for all accelerators,
            or one CPU. The results are those of one device, except for the order of sums: dropout
            draws the same masks and BatchNorm takes the statistics of the whole batch.
        sharding: how parameters are divided between the devices; None for a full copy on each.
        accumulate: number of parts into which each batch is divided. One part at a time is in
            memory. The step is that of the whole batch, for any loss, but batch statistics and
            dropout masks are computed for each part. Each part is run forward twice.
        compute_dtype: the dtype in which the network computes, such as ``"bfloat16"``; weights,
            loss and optimizer keep their dtypes. None for the dtype of the weights.
        save: where and how often to save checkpoints. Ctrl-C and SIGTERM then save before they
            end the run.
        resume: whether to continue the run that is saved there, if there is one. The run then ends
            as if it had never been interrupted, bit for bit, on the same machine with the same
            versions and native kernels; a warning names any that differ. With another number of
            devices or processes, the order of sums differs.
        callbacks: functions to call with each ``EpochRecord``, or ``Callback`` objects, which have
            further methods. Each can end the run by raising ``StopTraining``.
        non_finite: what to do at a step whose loss is NaN or infinite: ``"stop"`` raises;
            ``"skip"`` discards the update, also if only the gradient is not finite.
        progress: ``"auto"`` (a bar on a terminal, lines elsewhere), ``"bar"``, ``"lines"`` or
            ``"none"``.

    Returns:
        A ``TrainingRun``: the trained model, the history, the timings. With ``seeds``, a
        ``TrainingRuns``: all runs, and mean, standard deviation and confidence interval of their
        test metrics.

    Raises:
        ValueError: if an argument is invalid, the inputs do not fit the model, its outputs do not
            fit the loss or the classes, a label or an index of an embedding is out of range, or
            ``correct`` counts more correct predictions than predictions.
        Interrupted: a ``KeyboardInterrupt``, if a signal stopped the run after it was saved.
        OSError: if a checkpoint cannot be written; earlier checkpoints remain.
        NonFiniteLossError: if the loss is NaN or infinite at a step or in the evaluation; with
            ``non_finite="skip"``, if all steps of an epoch were skipped; with ``seeds``, if every
            run diverged.
    """
    check_seed("seed", seed)
    check_positive("epochs", epochs)
    data = _as_dataset(data)
    short: dict[str, Any] = {"loss": loss, "correct": correct, "metrics": metrics}
    short |= {"transform": transform, "augment": augment, "compute_dtype": compute_dtype}
    how: dict[str, Any] = {"optimizer": optimizer, "accumulate": accumulate}
    how |= {"non_finite": non_finite}
    if step is None:
        step = minimize(supervised(**short), **how)
    else:
        check_step(step)
        _check_alone("step", {**short, **how}, _WITH_STEP)
    batching = Batching(
        data=data, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, buckets=buckets
    )
    if evaluate is not None:
        check_function("evaluate", evaluate, "a function of (model, batch, key)")
        check_hashable("evaluate", evaluate)
    objective = evaluate or getattr(step, "evaluation", None)
    work = Work(step, objective, batching, epochs)
    listeners = Listeners(callbacks)
    if seeds is not None or learning_rates is not None:
        given = {"seed": seed, "devices": devices, "sharding": sharding, "save": save}
        _check_alone(
            "seeds", {**given, "resume": resume, "callbacks": list(callbacks)}, _WITH_SEEDS
        )
        members = begun_members(step, batching, model, seeds, learning_rates)
        return TrainingRuns.of(members, _run(work, members, one_device(), progress, listeners))
    check_model(model)
    _check_saving(save, resume)
    members = [Member(seed, Journal(initialize(model, step, seed)))]
    placement = place(devices, sharding)
    return _run(work, members, placement, progress, listeners, save=save, resume=resume)[0]


def _run(
    work: Work,
    members: list[Member],
    placement: Placement,
    progress: Progress,
    listeners: Listeners,
    *,
    save: Saving | None = None,
    resume: bool = False,
) -> list[TrainingRun]:
    """Trains runs from their initial states, or from their checkpoints, to the end."""
    one, together, seed = members[0].journal.state, len(members) > 1, members[0].seed
    steps = work.batching.steps
    metric = listeners.metric(save, "train_loss" if work.untested else "test_loss")
    feeds = work.feeds(one, placement)
    shapes = work.measured(one)
    _check_metric(metric, shapes, work)
    about = _about(work, one, seed, save)
    if together:
        members[0].journal.state = placement.replicate(stacked(members))
    else:
        state = placement.place(one)
        members[0].journal = begin(save, resume, about, placement.shards, state, shapes)
    journal, epochs = members[0].journal, work.epochs
    if len(journal.history) > epochs:
        raise InputError("epochs", f"at least the {len(journal.history)} that are done", epochs)
    best = Best(metric, journal, save, shapes) if listeners.restore_best else None
    loop = Loop(Compiled(placement), work, feeds, members, together=together, best=best)
    so_far = RunSoFar(work.data, epochs, steps, resume, journal)
    first = jax.process_index() == 0
    with (
        reporter(progress if first else "none", epochs=epochs, steps=steps) as report,
        keeper(save, about, placement.shards, journal.step, metric) as keep,
        listeners.listening(so_far),
    ):
        loop.run(report, keep, listeners)
    return loop.results(listeners.reason)


#: Defaults, where not None, of the arguments that cannot be combined with ``step`` or ``seeds``.
_WITH_STEP = {"correct": "auto", "accumulate": 1, "non_finite": "stop"}
_WITH_SEEDS = {"seed": 0, "resume": False, "callbacks": []}


def _check_alone(argument: str, given: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Checks that values which cannot be combined with an argument have their defaults."""
    for name, value in given.items():
        allowed = value is defaults.get(name) or value == defaults.get(name)
        if not allowed and not (name == "devices" and value == 1):
            raise InputError(name, f"the default with {argument}", shown(value))


def _as_dataset(data: Any) -> Dataset:
    if isinstance(data, AnySplit):
        only: Any = data
        return Dataset("data", only)
    if not isinstance(data, Dataset):
        raise InputError("data", "a Dataset", f"a {type(data).__name__}")
    return data


def _check_metric(metric: str, shapes: StepMetrics, task: Work) -> None:
    """Checks that the run measures the metric that selects the best epoch."""
    part, _, name = metric.partition("_")
    known = part == "train" or getattr(task.step, "evaluation", None) == task.objective
    if known and (name not in shapes.metrics or (part == "test" and task.untested)):
        raise InputError("metric", "one that the run measures", metric)


def _about(task: Work, state: TrainState, seed: int, save: Saving | None) -> dict[str, Any]:
    """Returns the run's fingerprint, which resumed runs and all processes must share.

    It is empty if there is neither a checkpoint nor a second process to compare it with.
    """
    if save is None and jax.process_count() == 1:
        return {}
    order = {**task.batching.described(), "seed": seed}
    about = fingerprint(task.step, task.objective, state, task.data, order)
    same = "the same model, data, versions and settings on every process"
    check_same("fit", same, {**about, "epochs": task.epochs})
    return about


def _check_saving(save: Any, resume: Any) -> None:
    if save is not None and not isinstance(save, Saving):
        raise InputError("save", "a Saving or None", shown(save))
    if check_bool("resume", resume) and save is None:
        raise InputError("save", "a Saving to continue, as resume is True", save)

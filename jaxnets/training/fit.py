"""From what a user asks for to a finished run."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

import jax
import optax
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_seed, shown
from jaxnets.data.dataset import Dataset
from jaxnets.data.transforms import Augmentation
from jaxnets.training.callbacks import Callback, Listeners, RunSoFar
from jaxnets.training.compiled import Compiled
from jaxnets.training.course import Course
from jaxnets.training.evaluation import check_model, checked_feed, informed
from jaxnets.training.fingerprint import fingerprint
from jaxnets.training.many import Build, fit_many
from jaxnets.training.placement import Parallel, place
from jaxnets.training.processes import check_same
from jaxnets.training.progress import Progress, reporter
from jaxnets.training.records import EpochRecord, TrainingRun
from jaxnets.training.replicates import TrainingRuns
from jaxnets.training.saving import Best, Saving, begin, keeper
from jaxnets.training.settings import NonFinite, Settings
from jaxnets.training.sharding import AnyPlacement, Sharding
from jaxnets.training.state import Count, Loss, Program, TrainState, Transform, initialize


@overload
def fit(
    model: nnx.Module,
    data: Dataset,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    shuffle: bool = True,
    drop_last: bool = False,
    buckets: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    parallel: Parallel = "shard_map",
    sharding: Sharding | None = None,
    accumulate: int = 1,
    compute_dtype: DTypeLike | None = None,
    save: Saving | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[EpochRecord], Any] | Callback] = (),
    non_finite: NonFinite = "stop",
    progress: Progress = "auto",
) -> TrainingRun: ...
@overload
def fit(
    model: Build,
    data: Dataset,
    *,
    seeds: int | Sequence[int],
    learning_rates: Sequence[float] | None = None,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int = 64,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    shuffle: bool = True,
    drop_last: bool = False,
    accumulate: int = 1,
    compute_dtype: DTypeLike | None = None,
    non_finite: NonFinite = "stop",
    progress: Progress = "auto",
) -> TrainingRuns: ...
def fit(
    model: nnx.Module | Build,
    data: Dataset,
    *,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int = 64,
    seed: int = 0,
    seeds: int | Sequence[int] | None = None,
    learning_rates: Sequence[float] | None = None,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    correct: Count | Literal["auto"] | None = "auto",
    shuffle: bool = True,
    drop_last: bool = False,
    buckets: int | None = None,
    devices: int | Sequence[jax.Device] | None = None,
    parallel: Parallel = "shard_map",
    sharding: Sharding | None = None,
    accumulate: int = 1,
    compute_dtype: DTypeLike | None = None,
    save: Saving | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[EpochRecord], Any] | Callback] = (),
    non_finite: NonFinite = "stop",
    progress: Progress = "auto",
) -> TrainingRun | TrainingRuns:
    """Trains a model and evaluates it on every test example after each epoch.

    The data go to the device once, as they are; ``transform`` works on them inside the compiled
    step. Each epoch visits every example once, in an order that is a function of
    (seed, epoch) alone; the last smaller batch is trained on at its true size. The same seed on
    the same machine gives the same parameters, bit for bit.

    Args:
        model: any ``nnx.Module`` that maps a batch of inputs to outputs; it is left as it is. With
            ``seeds`` a function of ``nnx.Rngs`` that makes one.
        data: what to train and test on; splits may be streamed.
        loss: (outputs, labels) → scalar mean over the batch, such as
            ``jaxnets.losses.cross_entropy``. Of a loss that adds up the examples
            (``reduction="sum"``) the history and the test have the mean over the examples too;
            ``step_losses`` has what the function returns.
        optimizer: a gradient transformation, such as ``jaxnets.optimizers.sgd(0.01)``.
        epochs: how many times to go through the training data.
        batch_size: examples in a step.
        seed: seeds the order of the examples, augmentation, dropout and the like; not the model's
            initial weights, which it brings with it.
        seeds: trains a model for each of these at once, in one compiled program; a number stands
            for so many seeds from 0. Each run is what ``fit(model(nnx.Rngs(s)), data, seed=s)`` is
            but for rounding. Not with ``seed``, ``buckets``, ``devices``, ``sharding``, ``save``,
            ``resume``, ``callbacks`` and streamed splits.
        learning_rates: trains each of the seeds with each of these, in place of the optimizer's.
        transform: a hashable function of a batch of inputs, in training and in evaluation.
        augment: what training alone does to a batch, before ``transform``: on the inputs as the
            data set holds them, such as uint8 images. Random ones of ``jaxnets.data`` draw from
            (seed, step), so that the same seed gives the same run. Of ``Mixup`` and ``CutMix`` the
            loss and ``correct`` get probabilities for labels.
        correct: counts correct predictions: (outputs, labels) → an integer, which is divided by the
            number of truth values in its sum (examples or labels, whichever it counts), or by the
            number of examples where that is unknown; or truth values of any shape; or a pair of
            integers, the number of correct predictions and of all. ``"auto"`` counts labels by
            ``jaxnets.metrics.correct`` if they are classes, without those that the loss ignores;
            None does not count.
        shuffle: whether the order changes from epoch to epoch.
        drop_last: whether the last smaller batch is left out.
        buckets: puts texts of similar length into a batch, which runs at one of at most so many
            lengths, for a ``TextDataset`` and a model that padding changes nothing of. None, or 1,
            runs all at the full length, in the order without.
        devices: how many share each batch, or which; None for all accelerators, or one CPU. The
            losses are those of one device except for the order of sums, unless the model has
            dropout or BatchNorm: dropout and augmentation draw from (seed, step, device), and
            BatchNorm takes the statistics of a device's part unless it is ``synchronized``.
        parallel: ``"shard_map"``, or ``"pmap"`` for the older interface to the same.
        sharding: how the devices share parameters too; None for each having them all.
        accumulate: in how many parts a device takes its batch, one after the other, so that one at
            a time is in memory. The step is that of the whole batch, for any loss; batch
            statistics and dropout masks are a part's. Each part is run forward twice.
        compute_dtype: the dtype in which the network computes, such as ``"bfloat16"``; weights,
            loss and optimizer stay as they are. None for that of the weights.
        save: where and how often to save checkpoints. Ctrl-C and SIGTERM then save before they
            end the run.
        resume: whether to go on with the run that is saved there, if there is one. It then ends
            as if it had never been interrupted, bit for bit, on the same machine with the same
            versions and native kernels; a warning says where these are others. On another number of
            devices sums are of another order, and dropout and augmentation draw other numbers.
        callbacks: functions to call with each ``EpochRecord``, or ``Callback`` objects, which hear
            more. Any of them ends the run by raising ``StopTraining``.
        non_finite: what becomes of a step whose loss is NaN or infinite: ``"stop"`` raises;
            ``"skip"`` leaves its update out, also where it is the gradient that is not finite.
        progress: ``"auto"`` (a bar on a terminal, lines elsewhere), ``"bar"``, ``"lines"`` or
            ``"none"``.

    Returns:
        The trained model, the history, the timings; with ``seeds`` those of each run, and mean,
        standard deviation and confidence interval of what the tests measured.

    Raises:
        ValueError: if an argument is bad, inputs do not fit the model, its outputs do not fit the
            loss or the classes, a label or an index of an embedding is out of range, or ``correct``
            counts more than there are.
        Interrupted: a ``KeyboardInterrupt``, if the run was asked to stop, and has saved.
        OSError: if a checkpoint cannot be written; those before it remain.
        NonFiniteLossError: if the loss is NaN or infinite at some step or in the evaluation; of
            steps to be skipped, if they were a whole epoch; with ``seeds``, if no run is left.
    """
    check_seed("seed", seed)
    settings = Settings(
        data=data,
        loss=loss,
        optimizer=optimizer,
        epochs=epochs,
        batch_size=batch_size,
        transform=transform,
        augment=augment,
        correct=correct,
        shuffle=shuffle,
        drop_last=drop_last,
        buckets=buckets,
        accumulate=accumulate,
        compute_dtype=compute_dtype,
        non_finite=non_finite,
    )
    if seeds is not None or learning_rates is not None:
        alone = {"seed": seed, "sharding": sharding, "save": save, "resume": resume}
        _check_alone(seeds, devices, callbacks, alone)
        return fit_many(settings, model, seeds, learning_rates, progress)
    check_model(model)
    listeners = Listeners(callbacks)
    _check_saving(save, resume)
    metric = listeners.metric(save)
    placement = _placement(devices, parallel, sharding)
    plan = functools.partial(settings.plan, seed)
    steps = plan(0).steps
    graphdef, state = initialize(model, optimizer, seed)
    program = informed(settings.program(graphdef, placement.shards), state, data.train)
    names = data.class_names
    if program.correct is None and metric.endswith("accuracy"):
        raise InputError("metric", "one that the run measures", metric)
    feeds = (
        checked_feed("data.train", data.train, program, state, placement, names),
        checked_feed("data.test", data.test, program, state, placement, names),
    )
    state = placement.place(state)
    about = _about(program, state, settings, seed, save)
    journal = begin(save, resume, about, placement.shards, state)
    if len(journal.history) > epochs:
        raise InputError("epochs", f"at least {len(journal.history)}, which are done", epochs)
    best = Best(metric, journal, save) if listeners.restore_best else None
    course = Course(Compiled(program, placement), journal, data, feeds, plan, epochs, best)
    so_far = RunSoFar(data, epochs, steps, resume, journal, graphdef)
    first = jax.process_index() == 0
    with (
        reporter(progress if first else "none", epochs=epochs, steps=steps) as report,
        keeper(save, about, placement.shards, journal.step, metric) as keep,
        listeners.listening(so_far),
    ):
        course.run(report, keep, listeners)
    return course.result(listeners.reason)


def _about(
    program: Program, state: TrainState, settings: Settings, seed: int, save: Saving | None
) -> dict[str, Any]:
    """What a run that goes on, and every process, must have alike; nothing where nobody asks."""
    if save is None and jax.process_count() == 1:
        return {}
    order = {**settings.of_the_order(), "seed": seed}
    about = fingerprint(program, state, settings.data, order)
    same = "the same model, data, versions and settings on every process"
    check_same("fit", same, {**about, "epochs": settings.epochs})
    return about


def _placement(
    devices: int | Sequence[jax.Device] | None, parallel: Parallel, sharding: Sharding | None
) -> AnyPlacement:
    """The devices, which share parameters too if there is a sharding."""
    if sharding is not None and not isinstance(sharding, Sharding):
        raise InputError("sharding", "a Sharding or None", shown(sharding))
    if sharding is not None and parallel == "pmap":
        raise InputError("parallel", "'shard_map' where parameters are cut too", shown(parallel))
    placement = place(devices, parallel)
    if sharding is None:
        return placement
    if jax.process_count() > 1:
        raise InputError("sharding", "None with several processes", sharding)
    return sharding.placement(placement.devices)


def _check_alone(seeds: Any, devices: Any, callbacks: Any, others: dict[str, Any]) -> None:
    """Raises at what one run can have, and many at once cannot."""
    if seeds is None:
        raise InputError("seeds", "seeds or their number, as learning_rates are given", seeds)
    if jax.process_count() > 1:
        raise InputError("seeds", "None with several processes", seeds)
    if devices not in (None, 1):
        raise InputError("devices", "None or 1 with seeds", devices)
    if not isinstance(callbacks, list | tuple) or callbacks:
        raise InputError("callbacks", "none with seeds", callbacks)
    for name, value in others.items():
        if value:
            raise InputError(name, "the default with seeds", value)


def _check_saving(save: Any, resume: Any) -> None:
    if save is not None and not isinstance(save, Saving):
        raise InputError("save", "a Saving or None", shown(save))
    if check_bool("resume", resume) and save is None:
        raise InputError("save", "a Saving to go on with, as resume is True", save)

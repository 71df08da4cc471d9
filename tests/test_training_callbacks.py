import os
import re
import signal
import warnings

import numpy as np
import optax
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split
from jaxnets.layers import Linear
from jaxnets.training import (
    Callback,
    EarlyStopping,
    EpochRecord,
    Interrupted,
    LossSpikes,
    ReduceLROnPlateau,
    RunSoFar,
    Saving,
    StopTraining,
    fit,
)
from jaxnets.training.saving import Journal
from tests import tier

SGD = optimizers.sgd(lr=0.1)
STEPS = 3  # per epoch: two batches of 4 and one of 2


def train(*callbacks, epochs=3, **options):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(10, 3)).astype(np.float32)
    split = Split(inputs, draw.integers(2, size=10).astype(np.int32))
    settings = {"loss": losses.cross_entropy, "optimizer": SGD, "batch_size": 4}
    settings |= {"epochs": epochs, "progress": "none", "callbacks": callbacks}
    model = Linear(3, 2, rngs=nnx.Rngs(0))
    return fit(model, Dataset("drawn", split, split), **{**settings, **options})


class Witness(Callback):
    """Records the calls that it receives."""

    def __init__(self):
        self.heard = []

    def begin(self, run):
        super().begin(run)
        self.heard.append(("begin", run.step, len(run.history)))

    def steps(self, step, losses):
        assert step == self.run.step == len(self.run.losses)
        np.testing.assert_array_equal(self.run.losses[-len(losses) :], losses)
        self.heard.append(("steps", step))

    def __call__(self, record):
        assert record == self.run.history[-1]
        self.heard.append(("epoch", record.epoch))

    def end(self):
        self.heard.append(("end",))


def stop_after(epoch, reason="enough"):
    def stop(record):
        if record.epoch == epoch:
            raise StopTraining(reason)

    return stop


def test_a_function_is_called_with_each_epochs_record():
    records = []
    run = train(records.append)
    assert tuple(records) == run.history
    assert run.stopped is None


def test_a_callback_hears_all_there_is():
    witness = Witness()
    train(witness, epochs=2)
    epochs = [
        [("steps", 2), ("steps", 3), ("epoch", 1)],
        [("steps", 5), ("steps", 6), ("epoch", 2)],
    ]
    assert witness.heard == [("begin", 0, 0), *epochs[0], *epochs[1], ("end",)]


def test_callbacks_change_no_bit():
    np.testing.assert_array_equal(train(Witness()).step_losses, train().step_losses)


def test_the_run_so_far_shows_the_model_as_it_is_now():
    seen = []

    class Look(Callback):
        def __call__(self, record):
            seen.append((self.run.parameters["kernel"].copy(), self.run.model))

    run = train(Look(), epochs=2)
    for kernel, model in seen:  # also after later steps have reused the memory
        np.testing.assert_array_equal(model.kernel[...], kernel)
    assert np.abs(seen[0][0] - seen[1][0]).max() > 0
    np.testing.assert_array_equal(seen[1][0], run.model.kernel[...])


def test_a_function_stops_the_run_and_it_is_returned():
    run, short = train(stop_after(2), epochs=5), train(epochs=2)
    assert (len(run.history), run.stopped) == (2, "enough")
    np.testing.assert_array_equal(run.step_losses, short.step_losses)
    assert run.test == short.test


def test_steps_may_stop_the_run_too_which_then_ends_with_the_epoch():
    class Stop(Callback):
        def steps(self, step, losses):
            raise StopTraining("at once")

    run = train(Stop(), stop_after(1, "later"))
    assert (len(run.history), len(run.step_losses), run.stopped) == (1, STEPS, "at once")


@pytest.mark.parametrize("when", [2, STEPS])  # within the epoch, and at its end
def test_a_request_to_stop_loses_no_callbacks_stop(tmp_path, when):
    class Stop(Callback):
        def steps(self, step, losses):
            if step == when:
                os.kill(os.getpid(), signal.SIGTERM)
                raise StopTraining("at once")

    with pytest.raises(Interrupted, match=f"after step {when}"):
        train(Stop(), save=Saving(tmp_path))
    run = train(save=Saving(tmp_path), resume=True)
    assert (len(run.history), run.stopped) == (1, "at once")


def test_resuming_a_run_that_steps_stopped_trains_more(tmp_path):
    class Stop(Callback):
        def steps(self, step, losses):
            raise StopTraining("at once")

    assert len(train(Stop(), save=Saving(tmp_path)).history) == 1
    run = train(save=Saving(tmp_path), resume=True)
    assert (len(run.history), run.stopped) == (3, None)


@pytest.fixture
def interrupts():
    """Python's default handling of Ctrl-C, regardless of how the tests are run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_and_go_on(record):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")
    except KeyboardInterrupt:  # as in a callback of the garbage collector
        pass


def test_an_interrupt_that_somebody_swallows_ends_the_run_all_the_same(interrupts):
    witness = Witness()
    with pytest.raises(KeyboardInterrupt):
        train(interrupt_and_go_on, witness, epochs=9)
    assert witness.heard.count(("epoch", 1)) == 1
    assert len(witness.run.history) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_handler_of_interrupts_stays(interrupts):
    heard = []
    signal.signal(signal.SIGINT, lambda *of: heard.append(of[0]))
    assert len(train(lambda record: os.kill(os.getpid(), signal.SIGINT)).history) == 3
    assert heard == [signal.SIGINT] * 3


def test_a_run_that_is_stopped_after_its_last_epoch_was_not():
    assert train(stop_after(3), epochs=3).stopped is None


def test_all_callbacks_are_called_in_the_last_epoch():
    records = []
    train(stop_after(1), records.append)
    assert len(records) == 1


def test_why_it_stopped_is_printed(capsys):
    train(stop_after(1), progress="lines")
    assert capsys.readouterr().out.splitlines()[1:] == ["stopped: enough"]


def test_a_callback_that_fails_costs_no_epoch(tmp_path):
    def fail(record):
        raise KeyError("mine")

    witness = Witness()
    with pytest.raises(KeyError, match="mine"):
        train(witness, fail, save=Saving(tmp_path))
    assert witness.heard[-1] == ("end",)
    heard = Witness()
    assert len(train(heard, save=Saving(tmp_path), resume=True).history) == 3
    assert heard.heard[0] == ("begin", STEPS, 1)


def history(*values, metric="test_loss"):
    row = {"train_loss": 1.0, "test_loss": 1.0, "seconds": 0.0}
    return [
        EpochRecord.of_row({**row, "epoch": number, metric: value}, number)
        for number, value in enumerate(values, 1)
    ]


def stops_at(early, records):
    """The epoch of a history after which it stops; None if it does not."""
    for count in range(1, len(records) + 1):
        try:
            early.begin(RunSoFar(None, 99, STEPS, True, Journal(None, history=records[:count])))
        except StopTraining:
            return count
    return None


@pytest.mark.parametrize(
    ("options", "values", "stop"),
    [
        ({"patience": 1}, [3, 2, 2], 3),
        ({"patience": 2}, [3, 2, 4, 1, 2, 2], 6),
        ({"patience": 2}, [3, 2, 1, 0], None),
        ({"patience": 2, "min_delta": 0.5}, [3, 2.8, 2.6, 2.4], 3),
        ({"patience": 3, "min_delta": 0.5}, [3, 2.8, 2.6, 2.4, 2.2], None),
        ({"patience": 1, "metric": "test_accuracy"}, [0.5, 0.6, 0.6], 3),
        ({"patience": 1, "metric": "train_accuracy"}, [0.5, 0.6, 0.7], None),
    ],
)
def test_early_stopping_stops_after_so_many_epochs_without_a_new_best(options, values, stop):
    metric = options.get("metric", "test_loss")
    assert stops_at(EarlyStopping(**options), history(*values, metric=metric)) == stop


@pytest.mark.slow
def test_a_resumed_run_stops_where_it_would_have(tmp_path):
    def early(patience):  # improvements are far smaller
        return EarlyStopping(patience, min_delta=10)

    whole = train(early(3), epochs=9)
    assert len(whole.history) == 4
    assert whole.stopped == "test_loss is no better after 3 more epochs"
    train(save=Saving(tmp_path), epochs=2)
    again = train(early(3), save=Saving(tmp_path), resume=True, epochs=9)
    assert (len(again.history), again.stopped) == (4, whole.stopped)
    np.testing.assert_array_equal(again.step_losses, whole.step_losses)
    once_more = train(early(3), save=Saving(tmp_path), resume=True, epochs=9)
    assert (len(once_more.history), once_more.stopped) == (4, whole.stopped)
    assert once_more.test == whole.test
    assert len(train(early(4), save=Saving(tmp_path), resume=True, epochs=9).history) == 5


FAST = optimizers.sgd(lr=3.0)  # with which the test loss goes up and down


def at_each_epoch(**options):
    """The model after each of six epochs."""
    seen = []

    class Look(Callback):
        def __call__(self, record):
            seen.append(self.run.model)

    train(Look(), epochs=6, optimizer=FAST, **options)
    return seen


@pytest.mark.parametrize("metric", ["test_loss", "test_accuracy", "train_loss", "train_accuracy"])
def test_the_best_epoch_is_restored_by_any_metric(metric):
    run = train(EarlyStopping(None, metric=metric, restore_best=True), epochs=6, optimizer=FAST)
    values = [getattr(record, metric) for record in run.history]
    best = (min if metric.endswith("loss") else max)(values)
    assert run.restored == 6 - values[::-1].index(best)
    assert (len(run.history), run.stopped) == (6, None)
    assert run.epoch == run.history[run.restored - 1]
    assert (run.test.loss, run.test.accuracy) == (run.epoch.test_loss, run.epoch.test_accuracy)
    assert int(run.state.epoch) == run.restored
    expected = at_each_epoch()[run.restored - 1]
    np.testing.assert_array_equal(run.model.kernel[...], expected.kernel[...])


def test_the_best_epoch_of_a_stopped_run_is_restored_and_it_is_said(capsys):
    early = EarlyStopping(1, min_delta=10, restore_best=True)
    run = train(early, epochs=6, optimizer=optimizers.sgd(lr=1e-3), progress="lines")
    assert (len(run.history), run.restored) == (2, 2)  # better, but not by ten
    worse = optimizers.sgd(lr=30.0)
    run = train(EarlyStopping(2, restore_best=True), epochs=9, optimizer=worse, progress="lines")
    assert run.restored < len(run.history)
    said = f"restored: the weights of epoch {run.restored}, the best by test_loss"
    assert capsys.readouterr().out.splitlines()[-1] == said


def test_without_being_asked_to_a_run_ends_with_its_last_weights():
    run = train(EarlyStopping(None), epochs=6, optimizer=FAST)
    assert run.restored is None
    assert run.epoch == run.history[-1]
    np.testing.assert_array_equal(run.model.kernel[...], at_each_epoch()[-1].kernel[...])


def test_stopping_and_saving_have_one_metric(tmp_path):
    early, saving = EarlyStopping(2, metric="test_accuracy"), Saving(tmp_path, metric="test_loss")
    message = "metric: expected the same for stopping and saving, got test_accuracy and test_loss"
    with pytest.raises(ValueError, match=message):
        train(early, save=saving)
    assert not os.listdir(tmp_path)


def test_early_stopping_by_what_is_not_measured():
    early = EarlyStopping(1, metric="test_accuracy")
    message = "metric: expected one that the run measures, got test_accuracy"
    with pytest.raises(ValueError, match=message):
        train(early, correct=None)


def spikes(losses, *, done=0, **options):
    """The spikes that it reports, if the first ``done`` steps were checked before."""
    run = RunSoFar(None, 99, 10, False, Journal(None, [np.asarray(losses, np.float32)]))
    callback = LossSpikes(**options)
    callback.begin(run)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        callback.steps(len(losses), run.losses[done:])
    return [re.match(r"epoch (\d+), step (\d+): the loss is (\S+)", str(w.message)) for w in caught]


def test_spikes_name_epoch_and_step():
    losses = np.ones(40)
    losses[[3, 25, 31]] = 9.0, 7.0, 4.0  # step 3 has too few predecessors, and 4 is below five
    (found,) = spikes(losses, window=100)
    assert found.groups() == ("3", "6", "7,")
    assert [m.groups()[:2] for m in spikes(losses, factor=3)] == [("3", "6"), ("4", "2")]
    assert spikes(losses, done=30) == []


def test_a_level_that_stays_is_no_spike():
    losses = np.concatenate([np.ones(20), np.full(20, 9.0)])
    assert len(spikes(losses, window=10)) == 5


def test_a_loss_that_is_skipped_is_a_spike():
    losses = np.ones(20)
    losses[12] = np.nan
    (found,) = spikes(losses)
    assert found.groups()[:2] == ("2", "3")


def test_spikes_are_warned_of_in_a_run():
    with pytest.warns(UserWarning, match="far above") as caught:
        run = train(LossSpikes(1.0001, window=4), optimizer=optimizers.sgd(lr=30.0))
    loss, median = run.step_losses[1], run.step_losses[0]
    text = f"epoch 1, step 2: the loss is {loss:.4g}, far above {median:.4g}, the median of the"
    assert str(caught[0].message).startswith(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train(callbacks=print), "callbacks: expected a sequence of functions of an Epoch"),
        (lambda: train("print"), "callbacks: expected a sequence .*, got ..print.,."),
        (lambda: EarlyStopping(0), "patience: expected a positive integer, got 0"),
        (
            lambda: EarlyStopping(1, min_delta=-1),
            "min_delta: expected a finite number >= 0, got -1",
        ),
        (lambda: EarlyStopping(1, metric="loss"), "metric: expected a metric of an epoch"),
        (lambda: EarlyStopping(1, restore_best="no"), "restore_best: expected True or False, got "),
        (lambda: Saving("x", metric="loss"), "metric: expected a metric of an epoch, "),
        (
            lambda: train(save=Saving("x", metric="train_accuracy"), correct=None),
            "metric: expected one that the run measures, got train_accuracy",
        ),
        (lambda: LossSpikes(1.0), "factor: expected a finite number > 1, got 1.0"),
        (lambda: LossSpikes(window=0), "window: expected a positive integer, got 0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Rates(Callback):
    """Records the learning rate after each epoch."""

    def __init__(self):
        self.seen = []

    def __call__(self, record):
        self.seen += self.run.learning_rates


def test_a_plateau_follows_an_accuracy_that_is_to_grow():
    rates = Rates()
    plateau = ReduceLROnPlateau(patience=1, metric="test_accuracy", threshold=1)
    train(plateau, rates, epochs=4)  # none is twice as good as the first
    np.testing.assert_allclose(rates.seen, [0.1, 0.1, 0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize("epochs", tier.usually([1, 3, 5], [3]))
def test_a_plateau_goes_on_exactly(epochs, tmp_path):
    def plateau(rates, **options):
        lower = ReduceLROnPlateau(factor=0.4, patience=1, threshold=0.5, cooldown=1, min_lr=0.01)
        return train(lower, rates, **options)

    whole = plateau(every := Rates(), epochs=8)
    assert len(set(every.seen)) == 3
    plateau(Rates(), epochs=epochs, save=Saving(tmp_path))
    again = plateau(later := Rates(), epochs=8, save=Saving(tmp_path), resume=True)
    assert later.seen == every.seen[epochs:]
    np.testing.assert_array_equal(again.step_losses, whole.step_losses)
    np.testing.assert_array_equal(again.model.kernel[...], whole.model.kernel[...])


def test_learning_rates_that_a_callback_sets_are_those_of_the_next_step():
    class Still(Callback):
        def __call__(self, record):
            self.run.set_learning_rates(0.0)

    run = train(Still(), epochs=3)
    first, second, third = (record.test_loss for record in run.history)
    assert second == third == first


@pytest.mark.parametrize(
    ("optimizer", "options", "message"),
    [
        (SGD, {"min_lr": [0.1, 0.2]}, "min_lr: expected a number, or one for each of 1 parameter"),
        (SGD, {"factor": 1.0}, r"factor: expected a number in \[0, 1\), got 1"),
        (SGD, {"metric": "loss"}, "metric: expected a metric of an epoch, .*, got loss"),
        (SGD, {"mode": "most"}, "mode: expected one of min, max, got most"),
        (optax.sgd(0.1), {}, "optimizer: expected one of jaxnets.optimizers, got another"),
        (
            optimizers.sgd(optimizers.exponential_lr(0.1, 0.9)),
            {},
            "optimizer: expected one without a schedule, .*, got one that follows a sch",
        ),
    ],
)
def test_a_plateau_needs_a_rate_that_it_can_lower(optimizer, options, message):
    with pytest.raises(ValueError, match=message):
        train(ReduceLROnPlateau(**options), optimizer=optimizer)


def test_a_plateau_by_what_is_not_measured():
    with pytest.raises(
        ValueError, match="metric: expected one that the run measures, got test_acc"
    ):
        train(ReduceLROnPlateau(metric="test_accuracy"), correct=None)

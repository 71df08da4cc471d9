import json
import os
import re
import shutil
import signal
import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import (
    Compose,
    Dataset,
    Normalize,
    RandomHorizontalFlip,
    Split,
    StreamedSplit,
    ToFloat,
)
from jaxnets.data.streaming import split as streaming
from jaxnets.kernels import native
from jaxnets.layers import BatchNorm1d, Dropout, Linear, flatten
from jaxnets.models import RecurrentClassifier
from jaxnets.training import (
    Callback,
    EarlyStopping,
    Interrupted,
    Saving,
    checkpoints,
    fingerprint,
    fit,
    saving,
)
from jaxnets.training.checkpoints import read
from jaxnets.training.compiled import Compiled
from jaxnets.training.placement import Placement
from tests import tier
from tests.test_tampered_files import signed

BATCHES = 7  # per epoch: six of 8 examples and one of 4


class Net(nnx.Module):
    """State of every kind: parameters, statistics, random streams."""

    def __init__(self, hidden=8, dropout=0.5, momentum=0.1):
        rngs = nnx.Rngs(0)
        self.fc1 = Linear(16, hidden, rngs=rngs)
        self.norm = BatchNorm1d(hidden, momentum=momentum)
        self.dropout = Dropout(dropout, rngs=rngs)
        self.fc2 = Linear(hidden, 3, rngs=rngs)

    def __call__(self, x):
        return self.fc2(self.dropout(jax.nn.relu(self.norm(self.fc1(flatten(x))))))


def data(seed=0, streamed=False):
    draw = np.random.default_rng(seed)
    images = draw.integers(256, size=(52, 4, 4, 1), dtype=np.uint8)
    split = Split(images, draw.integers(3, size=52).astype(np.int32))
    return Dataset("drawn", StreamedSplit(split) if streamed else split, split.take(9))


# One object, so that runs share compiled programs.
ADAM = optimizers.adam(0.01)
# The loss of the second epoch is the smallest, by far.
WILD = optimizers.adam(lambda count: jnp.where(count < 2 * BATCHES, 0.03, 3.0))
SETTINGS = {
    "loss": losses.cross_entropy,
    "optimizer": ADAM,
    "epochs": 3,
    "batch_size": 8,
    "transform": ToFloat(),
    "augment": Compose(RandomHorizontalFlip()),
    "progress": "none",
}


def shifted(outputs, labels):
    return losses.cross_entropy(outputs + jnp.array([[0.0, 1.0, 2.0]]), labels)


def train(directory=None, model=None, on=None, steps=None, keep=100, **options):
    save = None if directory is None else Saving(directory, steps=steps, keep=keep)
    return fit(model or Net(), on or data(), save=save, **{**SETTINGS, **options})


def assert_same(run, other):
    leaves = (jax.tree.leaves(r.state) for r in (run, other))
    for one, two in zip(*leaves, strict=True):
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, two = jax.random.key_data(one), jax.random.key_data(two)
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(run.step_losses, other.step_losses)
    numbers = [(e.train_loss, e.train_accuracy, e.test_loss) for e in run.history]
    assert numbers == [(e.train_loss, e.train_accuracy, e.test_loss) for e in other.history]
    assert run.test == other.test


def truncated(source, target, step):
    """Copies a run's folder as it was right after one of its checkpoints."""
    shutil.copytree(source, target)
    for path in target.glob("step-*"):
        if int(path.name[5:]) > step:
            shutil.rmtree(path)
    return target


@pytest.fixture(scope="module")
def whole():
    return train()


@pytest.fixture(scope="module")
def saved(tmp_path_factory, whole):
    """The folder of a run that saved every other step, and at the end of each epoch."""
    directory = tmp_path_factory.mktemp("saved") / "run"
    assert_same(train(directory, steps=2), whole)
    return directory


@pytest.mark.slow
def test_it_saves_after_so_many_steps_and_after_each_epoch(saved):
    steps = sorted(int(path.name[5:]) for path in saved.glob("step-*"))
    assert steps == sorted({*range(2, 21, 2), 7, 14, 21})


@pytest.mark.slow
def test_a_run_that_saves_after_each_step_is_the_same(whole, tmp_path):
    assert_same(train(tmp_path / "run", steps=1), whole)


@pytest.mark.parametrize("step", tier.usually([2, 6, 7, 8, 14, 20, 21], [7, 20]))
def test_a_run_goes_on_from_any_checkpoint_bit_for_bit(saved, whole, tmp_path, step):
    directory = truncated(saved, tmp_path / "run", step)
    assert_same(train(directory, steps=2, resume=True), whole)


def altered(folder, change):
    """Changes the record of a checkpoint, and adapts its manifest."""
    path = folder / "checkpoint.json"
    held = json.loads(path.read_text())
    change(held["record"])
    path.write_text(json.dumps(held))
    signed(folder)


def unlisted(folder):
    (folder / "arrays.json").write_text('{"shapes": {".a": null}, "keys": {}}')
    signed(folder)


def replaced(folder):
    shutil.rmtree(folder)
    folder.touch()


TAMPERED = {
    "a manifest nested deeply": lambda step: (step / "manifest.json").write_text("[" * 100_000),
    "no manifest but a folder": lambda step: (
        (step / "manifest.json").unlink() or (step / "manifest.json").mkdir()
    ),
    "a history that is none": lambda step: altered(step, lambda held: held.update(history=-1)),
    "no place in the epoch": lambda step: altered(step, lambda held: held.pop("step_in_epoch")),
    "more steps than there are": lambda step: altered(
        step, lambda held: held.update(step_in_epoch=held["step_in_epoch"] - 1)
    ),
    "arrays that are not listed": unlisted,
    "a file in place of the folder": replaced,
}


@pytest.mark.parametrize("kind", tier.usually(TAMPERED, ["no place in the epoch"]))
def test_a_newest_checkpoint_that_is_not_understood_is_passed_over(saved, whole, tmp_path, kind):
    directory = truncated(saved, tmp_path / "run", 8)
    TAMPERED[kind](directory / "step-8")
    message = "run/step-8 is damaged .*run/step-7 is used instead"
    with pytest.warns(UserWarning, match=message) as heard:
        run = train(directory, steps=4, resume=True)
    assert len(heard) == 1
    assert_same(run, whole)
    with warnings.catch_warnings():  # without a warning: step 8 was saved again
        assert read(directory).step == 21


@pytest.mark.slow
@pytest.mark.parametrize("counted", [True, False])
def test_resume_from_an_older_version_at_the_end_of_an_epoch(whole, tmp_path, monkeypatch, counted):
    def older(journal, tree=saving._tree):
        none = np.zeros(journal.step_in_epoch, np.int32)
        counts = {"correct": none, "totals": none} if counted else {"correct": none}
        return {name: tree(journal)[name] for name in ("state", "losses")} | counts

    with monkeypatch.context() as patched:
        patched.setattr(saving, "_tree", older)
        train(tmp_path / "run", steps=2)
    directory = truncated(tmp_path / "run", tmp_path / "old", 10)

    def before(held):
        held.pop("measured")
        held.update({"counted": held["step_in_epoch"]} if counted else {})

    for step in directory.glob("step-*"):
        altered(step, before)
    with pytest.warns(UserWarning, match="step-10 is damaged .*as checkpoints of older versions"):
        run = train(directory, steps=2, resume=True)
    assert_same(run, whole)


def test_a_run_that_never_saved_begins(tmp_path, whole):
    assert_same(train(tmp_path / "new", resume=True), whole)


@pytest.mark.slow
def test_other_times_to_save_and_more_epochs_are_no_other_run(saved, tmp_path):
    directory = truncated(saved, tmp_path / "run", 6)
    assert_same(train(directory, steps=5, resume=True, epochs=4), train(epochs=4))


@pytest.mark.slow
def test_where_an_epoch_is_one_program_its_parts_are_one_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Placement, "on_cpu", False)
    compiled = []
    monkeypatch.setattr(Compiled, "run", counting(Compiled.run, compiled))
    whole = train()
    count = len(compiled[-1]._compiled)
    assert_same(train(tmp_path / "run", steps=5), whole)  # parts of 1, 3 and 5 steps
    assert len(compiled[-1]._compiled) == count
    directory = truncated(tmp_path / "run", tmp_path / "again", 10)
    assert_same(train(directory, resume=True), whole)


def counting(run, seen):
    def counted(self, *arguments):
        seen.append(self)
        return run(self, *arguments)

    return counted


@pytest.mark.slow
def test_streamed_splits_go_on_too(whole, tmp_path):
    streamed = data(streamed=True)
    train(tmp_path / "run", on=streamed, steps=5)
    directory = truncated(tmp_path / "run", tmp_path / "again", 10)
    assert_same(train(directory, on=streamed, resume=True), whole)


class Changed:
    """Examples of which one has changed, or all change each time that they are read."""

    def __init__(self, split, row=None, by=(1, 0)):
        self.split, self.row, self.by, self.read = split, row, by, 0

    def __len__(self):
        return len(self.split)

    def __getitem__(self, row):
        self.read += 1
        inputs, label = self.split.inputs[row], self.split.labels[row]
        if row == self.row:
            return inputs + np.uint8(self.by[0]), np.int32((label + self.by[1]) % 3)
        return (inputs + np.uint8(self.read), label) if self.row is None else (inputs, label)


@pytest.mark.slow
@pytest.mark.parametrize("changed", [{"row": 51}, {"row": 25, "by": (0, 1)}])
def test_streamed_examples_that_have_changed_are_noticed(tmp_path, changed):
    split = data().train
    here = Dataset("drawn", StreamedSplit(Changed(split, 99)), split.take(9))
    there = Dataset("drawn", StreamedSplit(Changed(split, **changed)), split.take(9))
    train(tmp_path / "run", on=here, epochs=1)
    with pytest.raises(ValueError, match="data.train is 52 examples .*, was 52 examples"):
        train(tmp_path / "run", on=there, epochs=1, resume=True)
    train(tmp_path / "run", on=data(), epochs=1, resume=True)  # the same ones in memory


def test_what_tells_streamed_examples_apart(monkeypatch):
    split = data().train
    whole = zlib.crc32(split.labels.tobytes(), zlib.crc32(split.inputs.tobytes()))
    assert StreamedSplit(split).checksum() == whole
    assert StreamedSplit(Changed(split)).checksum() is None
    monkeypatch.setattr(streaming, "_MOST_CHECKED", 100)  # five of them, and all labels
    assert StreamedSplit(split).checksum() not in (whole, None)
    other = Split(split.inputs, np.where(np.arange(52) == 1, 1 - split.labels % 2, split.labels))
    assert StreamedSplit(other).checksum() != StreamedSplit(split).checksum()


# The best epoch


BEST = EarlyStopping(None, metric="train_loss", restore_best=True)


@pytest.fixture(scope="module")
def restored():
    """A run that restores an epoch before its last."""
    run = train(callbacks=[BEST], optimizer=WILD, epochs=5)
    assert run.restored == 2
    return run


@pytest.mark.slow
@pytest.mark.parametrize("steps", [7, 16, 35])
def test_a_resumed_run_restores_the_same_epoch_bit_for_bit(tmp_path, restored, steps):
    class Stop(Callback):
        def steps(self, step, losses):
            if step >= steps:
                os.kill(os.getpid(), signal.SIGTERM)

    options = {"optimizer": WILD, "keep": 1, "epochs": 5, "steps": 2}
    with pytest.raises(Interrupted, match=f"after step {steps}"):
        train(tmp_path, callbacks=[BEST, Stop()], **options)
    again = train(tmp_path, resume=True, callbacks=[BEST], **options)
    assert again.restored == restored.restored
    assert_same(again, restored)


@pytest.mark.slow
def test_the_best_checkpoint_is_that_of_the_restored_epoch(tmp_path, restored):
    train(tmp_path, callbacks=[BEST], optimizer=WILD, epochs=5, keep=1)
    best = checkpoints.read(tmp_path, "best")
    assert best.step == BATCHES * restored.restored
    assert (best.score, best.metric) == (-restored.epoch.train_loss, "train_loss")
    assert best.record["history"][-1]["epoch"] == restored.restored
    other = Net()
    expected, got = (nnx.split(model) for model in (restored.model, best.model(other)))
    jax.tree.map(np.testing.assert_array_equal, *map(numbers, (expected[1], got[1])))
    assert expected[0] == got[0]
    with pytest.raises(ValueError, match=r"like: expected the model saved .* is float32\[16, 8\]"):
        best.model(Net(9))
    with pytest.raises(ValueError, match="model: expected an nnx.Module, got a str"):
        best.model("Net")


def numbers(state):
    keys = jax.dtypes.prng_key
    return jax.tree.map(
        lambda x: jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, keys) else x, state
    )


@pytest.mark.slow
def test_a_run_whose_best_epoch_was_not_kept_says_so(tmp_path, restored):
    train(tmp_path, optimizer=WILD, epochs=5)  # keeps that of the smallest test loss
    shutil.rmtree(tmp_path / f"step-{BATCHES * restored.restored}")
    message = "restore_best: expected False, or the weights of epoch {}, the best so far, got no"
    with pytest.raises(ValueError, match=message.format(restored.restored)):
        train(tmp_path, resume=True, callbacks=[BEST], optimizer=WILD, epochs=5)
    run = train(tmp_path, resume=True, optimizer=WILD, epochs=5)
    assert run.restored is None


@pytest.mark.slow
def test_a_run_that_goes_on_by_another_metric_compares_no_scores_of_the_first(tmp_path):
    save = {"optimizer": WILD, "keep": 1}
    train(tmp_path, callbacks=[BEST], epochs=2, **save)
    run = train(tmp_path, resume=True, epochs=4, **save)
    later = [record.test_loss for record in run.history[2:]]
    assert run.history[1].train_loss < min(later)
    assert checkpoints.read(tmp_path, "best").score == -min(later)


@pytest.mark.parametrize("signum", tier.usually([signal.SIGINT, signal.SIGTERM], [signal.SIGTERM]))
def test_a_request_to_stop_saves_first(tmp_path, whole, signum):
    fired = []

    def ask(step):
        if step == 4 and not fired:
            fired.append(os.kill(os.getpid(), signum))

    def asking(inputs):
        return ToFloat()(inputs)

    class Asking(Net):
        def __init__(self):
            super().__init__()
            self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

        def __call__(self, x):
            self.calls[...] = self.calls[...] + 1
            jax.debug.callback(ask, self.calls[...])
            return super().__call__(x)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=f"stopped by {signum.name} after step .*, saved in") as e:
        train(tmp_path / "run", model=Asking(), steps=2)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert e.value.exit_code == 128 + signum
    assert 4 <= e.value.step < 21
    run = train(tmp_path / "run", model=Asking(), resume=True)
    np.testing.assert_array_equal(run.step_losses, whole.step_losses)


MACHINE = {"devices": 1, "processor": "x", "cores": 2, "kernels": {"linear": "1a", "conv": None}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"processor": "y"}, "processor: y, before x$"),
        ({"cores": 4}, "cores: 4, before 2$"),
        ({"kernels": {"linear": None, "conv": None}}, "native linear kernels: none, before 1a$"),
        ({"kernels": {"linear": "1b", "conv": None}}, "native linear kernels: 1b, before 1a$"),
        ({"kernels": {"linear": "1a", "conv": "2"}}, "native conv kernels: 2, before none$"),
    ],
)
def test_where_bits_may_be_others_a_warning_says_so(tmp_path, monkeypatch, other, message):
    monkeypatch.setattr(saving, "machine", lambda *_: MACHINE)
    train(tmp_path / "run", epochs=1)
    monkeypatch.setattr(saving, "machine", lambda *_: MACHINE | other)
    with pytest.warns(UserWarning, match="the resumed run may differ in some bits .*: " + message):
        train(tmp_path / "run", epochs=1, resume=True)
    same, refused = (
        Saving(tmp_path / "run", same_bits=True),
        "resume: expected the machine .* same bits, .*",
    )
    with pytest.raises(ValueError, match=refused + message):
        fit(Net(), data(), save=same, resume=True, **SETTINGS)


@pytest.mark.slow
def test_other_versions_and_devices_may_have_other_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "machine", lambda *_: MACHINE)
    train(tmp_path / "run", epochs=1)
    monkeypatch.setattr(fingerprint, "_PACKAGES", ("jaxnets",))
    monkeypatch.setattr(fingerprint.metadata, "version", lambda package: "9")
    with pytest.warns(UserWarning, match="jaxnets 9, before 0"):
        train(tmp_path / "run", epochs=1, resume=True)
    monkeypatch.undo()
    monkeypatch.setattr(saving, "machine", lambda *_: MACHINE | {"devices": 2})
    train(tmp_path / "run", epochs=1, resume=True)  # no warning: the user chooses the devices
    same = Saving(tmp_path / "run", same_bits=True)
    with pytest.raises(ValueError, match="devices: 2, before 1"):
        fit(Net(), data(), save=same, resume=True, **SETTINGS)


@pytest.mark.slow
def test_the_kernels_of_a_run_are_recorded(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(16, 8, 3)).astype(np.float32)
    split = Split(inputs, draw.integers(2, size=16).astype(np.int32))
    settings = {**SETTINGS, "transform": None, "augment": None, "epochs": 1}

    monkeypatch.setattr(native, "_requested", set())  # by other tests

    def run(**options):
        model = RecurrentClassifier(3, 4, 1, output_dim=2, rngs=nnx.Rngs(0))
        save = Saving(tmp_path / "run", **options)
        return fit(model, Dataset("drawn", split, split), save=save, resume=True, **settings)

    run()
    record = read(tmp_path / "run").record["machine"]
    assert record["kernels"]["recurrence"] == native.asked_for(["recurrence"])["recurrence"]
    assert re.fullmatch("[0-9a-f]{16}", record["kernels"]["recurrence"])
    run(same_bits=True)
    monkeypatch.setattr(native, "_load", native._load.__wrapped__)
    monkeypatch.setenv("JAXNETS_NATIVE", "no")
    with pytest.warns(UserWarning, match="native recurrence kernels: none, before "):
        run()


def test_a_folder_in_use_is_not_begun_anew(saved):
    with pytest.raises(ValueError, match="save: expected a folder without a run's checkpoints"):
        train(saved)


def test_fewer_epochs_than_are_done(saved):
    with pytest.raises(ValueError, match="epochs: expected at least the 3 that are done, got 2"):
        train(saved, resume=True, epochs=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": Net(9)}, "network is 201 parameters, was 179"),
        ({"optimizer": optimizers.adam(0.02)}, "optimizer computes something else"),
        ({"model": Net(dropout=0.6)}, "network computes something else"),
        ({"model": Net(momentum=0.3)}, "network computes something else"),
        ({"correct": None}, "correct is None, was|correct computes something else"),
        ({"loss": jax.jit(shifted)}, "loss computes something else"),
        ({"loss": losses.nll_loss}, "loss computes something else"),
        ({"transform": Compose(ToFloat(), Normalize(0, 2))}, "transform computes something else"),
        ({"augment": None}, "augment computes something else"),
        ({"on": data(seed=1)}, "data.test is .*; data.train is 52 examples .*, was 52 examples"),
        ({"batch_size": 4, "seed": 1}, "batch_size is 4, was 8; seed is 1, was 0"),
        ({"shuffle": False}, "shuffle is False, was True"),
    ],
)  # fmt: skip
def test_another_run_is_refused_with_all_that_differs(saved, options, message):
    with pytest.raises(ValueError, match="resume: expected the run saved in .*" + message):
        train(saved, resume=True, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"save": "runs"}, "save: expected a Saving or None, got 'runs'"),
        ({"resume": True}, "save: expected a Saving to continue, as resume is True, got None"),
        ({"resume": "yes"}, "resume: expected True or False, got yes"),
        ({"sharding": 2}, "sharding: expected a Sharding or None, got 2"),
    ],
)
def test_arguments_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        fit(Net(), data(), **{**SETTINGS, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: expected a positive integer, got 0"),
        ({"minutes": 0}, "minutes: expected a .*number"),
        ({"keep": -1}, "keep: expected a positive integer, got -1"),
        ({"same_bits": "yes"}, "same_bits: expected True or False, got yes"),
    ],
)
def test_bad_numbers_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        Saving(tmp_path, **options)

import gzip
import json
import struct
import time

import numpy as np
import pytest
from flax import nnx

from jaxnets import losses, optimizers
from jaxnets.data import Dataset, Split, ToFloat
from jaxnets.layers import Linear, flatten
from jaxnets.training import Saving, fit
from jaxnets.training.monitoring import JsonLines, Profile, TensorBoard

SGD = optimizers.sgd(lr=0.1)
STEPS = 5  # per epoch: four batches of 4 and one of 2


class Net(nnx.Module):
    def __init__(self):
        self.fc = Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.fc(flatten(x))


def train(*callbacks, epochs=3, regression=False, save=None, **options):
    draw = np.random.default_rng(0)
    images = draw.integers(256, size=(18, 2, 2, 1), dtype=np.uint8)
    labels = draw.integers(2, size=18).astype(np.int32)
    if regression:
        labels = draw.normal(size=(18, 2)).astype(np.float32)
    split = Split(images, labels)
    settings = {"loss": losses.mse_loss if regression else losses.cross_entropy, "epochs": epochs}
    settings |= {"optimizer": SGD, "batch_size": 4, "transform": ToFloat(), "progress": "none"}
    saving = None if save is None else Saving(save, steps=2, keep=99)
    return fit(
        Net(),
        Dataset("drawn", split, split),
        save=saving,
        callbacks=callbacks,
        **{**settings, **options},
    )


def cut(directory, step):
    """Restores the state of a run's folder right after one of its checkpoints."""
    for path in directory.glob("step-*"):
        if int(path.name[5:]) > step:
            path.rename(path.with_name(f"gone-{path.name}"))


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def steady(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def events(directory):
    """All events of a folder, in the order of its files."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(directory.glob("events.out.tfevents.*"), key=lambda p: p.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def scalars(directory):
    """What TensorBoard shows: (tag, step) → value, without discarded events."""
    shown = {}
    for event in events(directory):
        if event.HasField("session_log"):
            shown = {key: value for key, value in shown.items() if key[1] < event.step}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                assert (value.tag, event.step) not in shown
                shown[value.tag, event.step] = value.simple_value
    return shown


def values_of(directory, field):
    return [
        (event.step, value)
        for event in events(directory)
        for value in event.summary.value
        if value.HasField(field)
    ]


def test_json_lines_have_each_epoch_and_every_so_many_steps(tmp_path):
    path = tmp_path / "new" / "run.jsonl"
    run = train(JsonLines(path, every=4), epochs=2)
    rows = lines(path)
    assert [(row["step"], row["epoch"]) for row in rows] == [(4, 1), (5, 1), (8, 2), (10, 2)]
    assert rows[0] == {"step": 4, "epoch": 1, "loss": float(run.step_losses[3])}
    assert rows[3]["test_loss"] == run.history[1].test_loss
    assert rows[3] == {"step": 10, **run.history[1].row()}
    assert [path.name for path in path.parent.iterdir()] == ["run.jsonl"]


def test_without_a_number_json_lines_are_those_of_epochs(tmp_path):
    train(JsonLines(tmp_path / "a"), epochs=2)
    assert [row["step"] for row in lines(tmp_path / "a")] == [5, 10]


@pytest.mark.parametrize("step", [0, 4, 5, 12])
@pytest.mark.slow
def test_json_lines_of_a_resumed_run_are_those_of_a_whole_one(tmp_path, step):
    path = tmp_path / "run.jsonl"
    whole = train(JsonLines(path, every=2), save=tmp_path / "saved")
    before = lines(path)
    with path.open("a") as file:
        file.write('{"step": 16, "epo')  # killed while it wrote
    cut(tmp_path / "saved", step)
    again = train(JsonLines(path, every=2), save=tmp_path / "saved", resume=True)
    assert steady(lines(path)) == steady(before)
    np.testing.assert_array_equal(again.step_losses, whole.step_losses)


@pytest.mark.slow
def test_json_lines_that_were_lost_come_back(tmp_path):
    path = tmp_path / "run.jsonl"
    train(JsonLines(path), save=tmp_path / "saved")
    before = lines(path)
    path.unlink()
    train(JsonLines(path), save=tmp_path / "saved", resume=True)
    assert lines(path) == before


def test_what_is_not_finite_is_null(tmp_path):
    def loss(outputs, labels):
        return losses.cross_entropy(outputs, labels) * np.float32(np.inf)

    with pytest.raises(FloatingPointError):
        train(JsonLines(tmp_path / "a", every=4), loss=loss, non_finite="skip")
    assert (tmp_path / "a").read_text() == '{"step": 4, "epoch": 1, "loss": null}\n'


@pytest.mark.parametrize(
    ("text", "resume", "message"),
    [
        (
            '{"step": 5}\n',
            False,
            "path: expected a new or empty file, got '.*', which has other content",
        ),
        (
            "mine\n",
            True,
            "path: expected lines of the resumed run, got '.*', which has other content",
        ),
    ],
)
def test_json_lines_write_over_nothing_else(tmp_path, text, resume, message):
    path = tmp_path / "a"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        train(JsonLines(path), save=tmp_path / "saved", resume=resume)
    assert path.read_text() == text


def test_events_have_scalars_histograms_and_images(tmp_path):
    run = train(TensorBoard(tmp_path, every=3, images=2), epochs=2)
    shown = scalars(tmp_path)
    for record in run.history:
        step = record.epoch * STEPS
        for tag in ("loss", "accuracy"):
            for part in ("train", "test"):
                value = getattr(record, f"{part}_{tag}")
                assert shown[f"{tag}/{part}", step] == np.float32(value)
        assert shown["skipped", step] == 0
    steps = {step: shown["loss/step", step] for tag, step in shown if tag == "loss/step"}
    assert steps == {step: run.step_losses[step - 1] for step in (3, 6, 9)}
    histograms = values_of(tmp_path, "histo")
    names = ["parameters/fc.bias", "parameters/fc.kernel"]
    assert [(step, value.tag) for step, value in histograms] == [
        (step, name) for step in (5, 10) for name in names
    ]
    kernel = histograms[3][1].histo
    assert kernel.num == 8
    assert kernel.sum == pytest.approx(float(run.model.fc.kernel[...].sum()), abs=1e-6)
    ((step, picture),) = values_of(tmp_path, "image")
    assert (step, picture.tag) == (0, "examples/train")
    assert picture.image.encoded_image_string.startswith(b"\x89PNG")


def test_regression_has_no_accuracy(tmp_path):
    train(TensorBoard(tmp_path, every=None, histograms=False), epochs=1, regression=True)
    assert {tag for tag, _ in scalars(tmp_path)} == {"loss/train", "loss/test", "skipped"}
    assert values_of(tmp_path, "histo") == []


@pytest.mark.parametrize("step", [0, 5, 8])
@pytest.mark.slow
def test_events_of_a_resumed_run_are_shown_once(tmp_path, monkeypatch, step):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)  # by which tensorboardX names its files
    board = tmp_path / "board"
    train(TensorBoard(board, every=2), save=tmp_path / "saved")
    before = scalars(board)
    cut(tmp_path / "saved", step)
    train(TensorBoard(board, every=2), save=tmp_path / "saved", resume=True)
    assert scalars(board) == before


@pytest.mark.slow
def test_events_begin_late_with_all_that_is_known(tmp_path):
    train(save=tmp_path / "saved", epochs=2)
    train(TensorBoard(tmp_path / "board", every=3), save=tmp_path / "saved", resume=True)
    steps = sorted(step for tag, step in scalars(tmp_path / "board") if tag == "loss/step")
    assert steps == [3, 6, 9, 12, 15]


def test_a_folder_with_events_of_another_run_is_refused(tmp_path):
    train(TensorBoard(tmp_path), epochs=1)
    before = events(tmp_path)
    with pytest.raises(ValueError, match="directory: expected a folder without events, got '.*'"):
        train(TensorBoard(tmp_path))
    assert events(tmp_path) == before


def test_without_tensorboardx_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"TensorBoard requires tensorboardX, .*'\.\[tensorb"):
        train(TensorBoard(tmp_path))


def test_a_profile_is_one_that_perfetto_reads(tmp_path):
    train(Profile(tmp_path), epochs=2)
    (trace,) = tmp_path.glob("plugins/profile/*/perfetto_trace.json.gz")
    with gzip.open(trace) as file:
        names = {event.get("name", "") for event in json.load(file)["traceEvents"]}
    assert any(name.startswith("dot") for name in names)  # of a step
    assert not any("compile" in name.lower() for name in names)
    assert list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))


def test_a_run_that_ends_before_it_can_be_profiled_says_so(tmp_path):
    with pytest.warns(UserWarning, match="no profile in .*: no steps were left after compilation"):
        train(Profile(tmp_path), epochs=1)


def test_monitoring_does_not_change_results(tmp_path):
    watched = train(JsonLines(tmp_path / "a", every=1), TensorBoard(tmp_path, every=1))
    np.testing.assert_array_equal(watched.step_losses, train().step_losses)


def test_bad_arguments_are_named(tmp_path):
    for make, message in [
        (lambda: JsonLines(tmp_path, every=0), "every: expected a positive integer, got 0"),
        (lambda: TensorBoard(tmp_path, every=-1), "every: expected a positive integer, got -1"),
        (lambda: TensorBoard(tmp_path, histograms="no"), "histograms: expected True or False"),
        (lambda: TensorBoard(tmp_path, images=-1), "images: expected .*integer"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


def test_invalid_images(tmp_path):
    split = Split(np.zeros((4, 4), np.float32), np.zeros(4, np.int32))
    options = {"loss": losses.cross_entropy, "optimizer": SGD, "epochs": 1, "progress": "none"}
    options["callbacks"] = [TensorBoard(tmp_path / "a", images=1)]
    with pytest.raises(ValueError, match="images: expected 0 for data that are not uint8 images"):
        fit(Net(), Dataset("drawn", split, split), **options)
    assert not (tmp_path / "a").exists()

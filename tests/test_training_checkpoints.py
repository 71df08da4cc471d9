import errno
import functools
import json
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from orbax.checkpoint import v1 as ocp

from jaxnets import losses
from jaxnets.data import ToFloat
from jaxnets.training import evaluate, initialize, minimize, storage, supervised
from jaxnets.training.checkpoints import Checkpoints, read, steps
from tests import tier
from tests.pages import blocks

DTYPES = """
    bool int2 int4 int8 int16 int32 int64 uint2 uint4 uint8 uint16 uint32 uint64 float4_e2m1fn
    float8_e4m3 float8_e4m3fn float8_e5m2 float8_e8m0fnu bfloat16 float16 float32 float64
    complex64 complex128
"""


def bits(leaf):
    if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return np.asarray(leaf).tobytes()


def assert_same(got, saved):
    assert jax.tree.structure(got) == jax.tree.structure(saved)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(saved), strict=True):
        assert type(ours) is type(theirs)
        assert bits(ours) == bits(theirs)
        if hasattr(theirs, "dtype"):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        if isinstance(theirs, jax.Array):
            assert (ours.sharding, ours.committed) == (theirs.sharding, theirs.committed)


def round_trip(state, directory, like=None):
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(state, {}, step=1)
        return checkpoints.latest().restore(state if like is None else like)


def filled(directory, count=2, **options):
    """A folder with checkpoints 1, 2, … of ten numbers each."""
    with Checkpoints(directory, **options) as checkpoints:
        for step in range(1, count + 1):
            checkpoints.save({"a": jnp.full(10, step)}, {"step": step}, step=step)
    return directory


def number(saved):
    return int(saved.restore({"a": jnp.zeros(10, jnp.int32)})["a"][0])


def run_python(code, *args):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120
    )


# -- exactness ---------------------------------------------------------------------------------


def test_every_dtype_comes_back_bit_for_bit(tmp_path):
    with jax.enable_x64():
        host = {dtype: {shape: np.ones(shape, jnp.dtype(dtype)) for shape in ((), (3,), (0, 2))}
                for dtype in DTYPES.split()}  # fmt: skip
        state = {"host": host, "device": jax.tree.map(jnp.asarray, host)}
        assert_same(round_trip(state, tmp_path / "c"), state)


def test_odd_values_names_and_places_come_back(tmp_path):
    nans = np.array([0x7FC00001, 0x80000000, 0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    device = jax.devices()[0]
    state = {
        "nan, -0": [jnp.asarray(nans), nans],
        "numbers": (1, -2.5, True, 1 + 2j, np.float32(0.1), np.int64(2**40)),
        "places": [jax.device_put(jnp.ones(2), device), jax.device_put(jnp.zeros((0, 2)), device)],
        "keys": [
            jax.random.key(3),
            jax.random.split(jax.random.key(4), 2),
            jax.device_put(jax.random.key(5, impl="rbg"), device),
            jax.random.split(jax.random.key(6), (0, 2)),
        ],
        "a/b": {"..": np.arange(2), "": {}, "ä['.x": np.asfortranarray(np.eye(3)[:, ::2])},
    }
    assert_same(round_trip(state, tmp_path / "c"), state)


@pytest.mark.parametrize("empty", [{}, [], {"a": ()}, None, jnp.zeros((0,))])
def test_empty_states_come_back(empty, tmp_path):
    assert_same(round_trip(empty, tmp_path / "c"), empty)


class Net(nnx.Module):
    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)])
        self.norm = nnx.BatchNorm(3, rngs=rngs)


def test_the_state_of_a_training_comes_back_into_another(tmp_path):
    step = minimize(supervised(losses.mse_loss), optax.adam(0.1))
    state, other = initialize(Net(0), step, 7), initialize(Net(1), step, 8)
    assert_same(round_trip(state, tmp_path / "c", like=other), state)
    abstract = jax.eval_shape(lambda: other)
    assert_same(read(tmp_path / "c").restore(abstract), state)


@pytest.mark.slow
def test_arrays_go_where_like_has_them_on_any_number_of_devices(tmp_path):
    code = """
import sys, jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from jaxnets.training.checkpoints import Checkpoints, read
jax.config.update("jax_num_cpu_devices", 4)
def on(count, *axes):
    mesh = jax.make_mesh((count,), ("x",), devices=jax.devices()[:count])
    return NamedSharding(mesh, P(*axes))
numbers, keys = jnp.arange(32.0).reshape(8, 4), jax.random.split(jax.random.key(0), 4)
state = jax.device_put({"a": numbers, "keys": keys}, on(4, "x"))
state["b"] = jax.device_put(numbers, on(4))
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save(state, {}, step=1)
other = {"a": numbers * 0, "keys": keys[::-1], "b": numbers * 0}
for place in (on(2, "x"), on(1), on(4, "x"), jax.devices()[3]):
    like = jax.device_put(other, place)
    restored = read(sys.argv[1]).restore(like)
    for got, want, one in zip(*map(jax.tree.leaves, (restored, state, like))):
        assert got.sharding == one.sharding, (got.sharding, one.sharding)
        if got.ndim == 1:
            got, want = jax.random.key_data(got), jax.random.key_data(want)
        np.testing.assert_array_equal(got, want)
"""
    done = run_python(code, tmp_path / "c")
    assert not done.stderr
    assert done.returncode == 0
    numbers = jnp.zeros((8, 4))
    like = {"a": numbers, "b": numbers, "keys": jax.random.split(jax.random.key(0), 4)}
    got = read(tmp_path / "c").restore(like)["a"]
    np.testing.assert_array_equal(got, np.arange(32).reshape(8, 4))


def test_arrays_may_be_donated_and_changed_at_once(tmp_path):
    following = jax.jit(lambda a: a + 1, donate_argnums=0)
    with Checkpoints(tmp_path / "c") as checkpoints:
        for step in range(1, 4):
            array, host = jnp.full((300, 300), step), np.full((300, 300), step)
            like = jax.ShapeDtypeStruct(array.shape, array.dtype)
            checkpoints.save([array, host], {}, step=step)
            host += 1
            for _ in range(5):
                array = following(array)
            for got in checkpoints.latest().restore([like, host]):
                np.testing.assert_array_equal(got, np.full((300, 300), step))


# -- what does not fit ---------------------------------------------------------------------------


def test_every_difference_from_like_is_named_at_once(tmp_path):
    filled(tmp_path / "c", 1)
    like = {"a": jnp.zeros(9), "b": jax.random.key(0), "c": 1}
    message = (
        r"like: expected the state saved in .*step-1, got \['a'\] is int32\[10\], "
        r"not float32\[9\]; \['b'\] is missing, not key<fry>\[\]; \['c'\] is missing, not int64"
    )
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "c").restore(like)
    with pytest.raises(ValueError, match=r"\['a'\] is int32\[10\], not missing$"):
        read(tmp_path / "c").restore({})


def test_a_key_of_another_generator_is_refused(tmp_path):
    like = jax.random.key(0, impl="rbg")
    with pytest.raises(ValueError, match=r"is key<fry>\[\], not key<rbg>\[\]"):
        round_trip(jax.random.key(0), tmp_path / "c", like=like)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")
def test_a_dtype_that_jax_has_disabled_is_refused(tmp_path):
    like = jax.ShapeDtypeStruct((2,), np.float64)
    with pytest.raises(ValueError, match=r"like: expected dtypes that JAX has enabled .*float64"):
        round_trip(np.ones(2), tmp_path / "c", like=like)


NESTED = functools.reduce(lambda inner, _: {"a": inner}, range(100), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"record": {"a": {"b": [1, {2}]}}}, r"record\['a'\]\['b'\]\[1\]: expected a JSON value"),
        ({"record": {"a": np.float32(1)}}, r"record\['a'\]: expected a JSON value, got np"),
        ({"record": {1: 2}}, "record: expected names that are strings, got 1"),
        ({"record": [1]}, "record: expected a dictionary"),
        (
            {"record": NESTED},
            "record: expected at most 99 levels of dictionaries and lists, got mo",
        ),
        ({"step": -1}, "step: expected an integer of at least 0, got -1"),
        ({"step": 1.0}, "step: expected an integer of at least 0, got 1.0"),
        ({"step": True}, "step: expected an integer of at least 0, got True"),
        ({"score": "0.9"}, "score: expected a finite number or None, got 0.9"),
        ({"score": math.nan}, "score: expected a finite number or None, got nan"),
        ({"state": {"a": "text"}}, r"state: expected arrays and numbers, got \['a'\] 'text'"),
        ({"state": [object()]}, "state: expected arrays and numbers"),
        ({"state": np.array(["text"])}, "state: expected arrays and numbers"),
        ({"state": np.zeros(2, [("a", int)])}, "state: expected arrays and numbers"),
        ({"state": 2**70}, "state: expected arrays and numbers"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(arguments, message, tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        with pytest.raises(ValueError, match=message):
            checkpoints.save(**{"state": 1, "record": {}, "step": 1, **arguments})
        assert os.listdir(tmp_path / "c") == ["lock"]


def test_records_come_back_as_they_were(tmp_path):
    record = {"a": [1, 0.1, True, None, "ä\n"], "b": {"c": -1e300, "d": math.inf}, "e": 2**70}
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, record, step=1)
        expected = json.loads(json.dumps(record))
        record["a"].clear()
        assert checkpoints.latest().record == expected


def test_a_record_of_as_many_levels_as_there_may_be_is_read(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(1, NESTED["a"], step=1)
        assert checkpoints.latest().record == NESTED["a"]


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="keep: expected a positive integer, got 0"):
        Checkpoints(tmp_path / "c", keep=0)
    with pytest.raises(ValueError, match="which: expected 'latest' or 'best', got worst"):
        read(tmp_path, "worst")


# -- which are kept ------------------------------------------------------------------------------


def test_the_newest_and_the_best_are_kept(tmp_path):
    scores = [0.5, 0.9, None, 0.1, 0.2, 0.9, 0.3]
    kept = []
    with Checkpoints(tmp_path / "c", keep=2) as checkpoints:
        for step, score in enumerate(scores):
            checkpoints.save(1, {}, step=step, score=score)
            checkpoints.wait()
            kept.append(checkpoints.steps())
    assert kept == [[0], [0, 1], [1, 2], [1, 2, 3], [1, 3, 4], [4, 5], [5, 6]]
    assert (read(tmp_path / "c", "best").step, read(tmp_path / "c", "best").score) == (5, 0.9)
    assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-5", "step-6"]


def test_the_best_is_kept_by_the_next_writer_too(tmp_path):
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        checkpoints.save(1, {}, step=1, score=5.0)
    for step, options, kept in ((2, {}, [1, 2]), (3, {"keep_best": False}, [3])):
        with Checkpoints(tmp_path / "c", keep=1, **options) as checkpoints:
            checkpoints.save(1, {}, step=step, score=1.0)
        assert steps(tmp_path / "c") == kept


def test_a_step_is_above_those_that_are_there(tmp_path):
    with Checkpoints(filled(tmp_path / "c")) as checkpoints:
        for step in (1, 2):
            with pytest.raises(ValueError, match=f"step: expected a number above 2, .*got {step}"):
                checkpoints.save(1, {}, step=step)
    assert number(read(tmp_path / "c")) == 2


# -- damage --------------------------------------------------------------------------------------


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    whole = path.read_bytes()
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])


DAMAGES = {
    "truncated": ("checkpoint.json", truncate, "checkpoint.json has .* bytes instead of"),
    "flipped": ("state/_METADATA", flip, "state/_METADATA differs from what was written"),
    "missing": ("arrays.json", Path.unlink, "arrays.json is missing"),
    "extra": ("state/d/half", Path.touch, "state/d/half is not in the manifest"),
    "manifest flipped": ("manifest.json", flip, "manifest.json is damaged"),
    "manifest altered": (
        "manifest.json",
        lambda path: path.write_text(path.read_text().replace("arrays.json", "arrays.jsom")),
        "manifest.json is damaged",
    ),
    "manifest missing": ("manifest.json", Path.unlink, "manifest.json is missing"),
    "directory": ("arrays.json", lambda path: path.unlink() or path.mkdir(), "arrays.json"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_taken(damage, tmp_path):
    name, act, message = damage
    act(filled(tmp_path / "c") / "step-2" / name)
    with pytest.warns(UserWarning, match=f"step-2 is damaged .{message}.*step-1 is used instead"):
        saved = read(tmp_path / "c")
    assert (saved.step, number(saved)) == (1, 1)
    shutil.rmtree(tmp_path / "c" / "step-1")
    with pytest.raises(ValueError, match=f"directory: expected an intact .*step-2 .*{message}"):
        read(tmp_path / "c")


def test_a_damaged_checkpoint_goes_when_the_run_comes_to_its_number_again(tmp_path):
    flip(filled(tmp_path / "c", 3) / "step-3" / "arrays.json")
    flip(tmp_path / "c" / "step-2" / "arrays.json")
    with Checkpoints(tmp_path / "c") as checkpoints, warnings.catch_warnings():
        checkpoints.save({"a": jnp.full(10, 22)}, {}, step=2)
        assert number(checkpoints.latest()) == 22
        assert checkpoints.steps() == [1, 2]


def test_there_may_be_no_checkpoints(tmp_path):
    assert read(tmp_path / "nowhere") is None
    assert read(tmp_path) is None
    assert steps(tmp_path / "nowhere") == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="directory: expected a folder of checkpoints, got .*file"):
        read(tmp_path / "file")


# -- one writer ----------------------------------------------------------------------------------


def test_a_second_writer_is_refused_until_the_first_one_ends_however_it_ends(tmp_path):
    code = """
import sys, time
from jaxnets.training.checkpoints import Checkpoints
held = Checkpoints(sys.argv[1])
print("held", flush=True)
time.sleep(100)
"""
    command = [sys.executable, "-c", code, tmp_path / "c"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        message = f"directory: expected a folder .*process {other.pid} on host .* is writing"
        with pytest.raises(ValueError, match=message):
            Checkpoints(tmp_path / "c")
        assert read(tmp_path / "c") is None
        other.send_signal(signal.SIGKILL)
        other.wait()
        with (
            Checkpoints(tmp_path / "c"),
            pytest.raises(ValueError, match=f"process {os.getpid()} "),
        ):
            Checkpoints(tmp_path / "c")
    Checkpoints(tmp_path / "c").close()


def test_leftovers_of_a_killed_run_are_removed_by_the_next_writer_alone(tmp_path):
    filled(tmp_path / "c", 1)
    leftovers = [tmp_path / "c" / ".partial-step-2", tmp_path / "c" / ".removed-step-0"]
    for path in leftovers:
        (path / "step-2").mkdir(parents=True)
    assert number(read(tmp_path / "c")) == 1
    assert all(path.exists() for path in leftovers)
    Checkpoints(tmp_path / "c").close()
    assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]


def test_a_save_that_was_interrupted_may_be_tried_again(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        (tmp_path / "c" / ".partial-step-2" / "step-2").mkdir(parents=True)
        checkpoints.save({"a": jnp.full(10, 2)}, {}, step=2)
    assert number(read(tmp_path / "c")) == 2


def test_orbax_alone_reads_a_checkpoint(tmp_path):
    with pytest.warns(UserWarning, match="Sharding info not provided"):
        loaded = ocp.load(filled(tmp_path / "c") / "step-2")
    np.testing.assert_array_equal(loaded["['a']"], np.full(10, 2))


def test_a_file_system_that_does_not_flush_folders_will_do(tmp_path, monkeypatch):
    flush = os.fsync

    def files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)
    assert number(read(filled(tmp_path / "c"))) == 2


# -- external failures ---------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "c"):
        with pytest.raises(ValueError, match="directory: expected a folder that can be written to"):
            Checkpoints(path)


@pytest.mark.slow
def test_a_full_disk_leaves_the_older_checkpoints_and_is_told_once(tmp_path):
    code = """
import resource, signal, sys, jax.numpy as jnp
from jaxnets.training.checkpoints import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Checkpoints(sys.argv[1]) as checkpoints:
    checkpoints.save({"a": jnp.full(10, 1)}, {}, step=1)
    checkpoints.wait()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    checkpoints.save({"a": jnp.ones(100_000)}, {}, step=2)
    try:
        checkpoints.save({"a": jnp.full(10, 3)}, {}, step=3)
    except OSError as error:
        print(error)
    checkpoints.save({"a": jnp.full(10, 4)}, {}, step=4)
"""
    done = run_python(code, tmp_path / "c")
    assert not done.stderr
    assert done.stdout == f"{tmp_path}/c/step-2 could not be saved: File too large\n"
    assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1", "step-4"]
    assert number(read(tmp_path / "c")) == 4


def test_a_disk_that_is_full_at_the_last_moment_leaves_the_older_checkpoints(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, os.strerror(28))

    checkpoints = Checkpoints(filled(tmp_path / "c", 1))
    monkeypatch.setattr(os, "fsync", full)
    checkpoints.save(1, {}, step=2)
    with pytest.raises(OSError, match="step-2 could not be saved: No space left on device$"):
        checkpoints.close()
    assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]
    assert number(read(tmp_path / "c")) == 1
    Checkpoints(tmp_path / "c").close()  # the lock is released nevertheless


def test_what_is_written_after_a_failure_is_removed_too(tmp_path, monkeypatch):
    """Orbax reports the first failure while it is still writing other arrays."""

    def late():
        time.sleep(0.1)
        (tmp_path / "c" / ".partial-step-2" / "step-2" / "state").mkdir(parents=True)

    def failing(folder, arrays):
        threading.Thread(target=late).start()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Checkpoints(filled(tmp_path / "c", 1)) as checkpoints:
        monkeypatch.setattr(storage, "start_writing", failing)
        with pytest.raises(OSError, match="step-2 could not be saved: Input/output error"):
            checkpoints.save(1, {}, step=2)
        assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]
        (tmp_path / "c" / ".partial-step-2").mkdir()  # still later
    assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]
    monkeypatch.undo()
    (tmp_path / "c" / ".removed-step-9").touch()  # not a folder
    with Checkpoints(tmp_path / "c"):
        assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]


def test_any_failure_to_save_leaves_nothing(tmp_path, monkeypatch):
    def failing(folder, arrays):
        raise RuntimeError("out of memory")

    with Checkpoints(filled(tmp_path / "c", 1)) as checkpoints:
        monkeypatch.setattr(storage, "start_writing", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            checkpoints.save(1, {}, step=2)
        assert sorted(os.listdir(tmp_path / "c")) == ["lock", "step-1"]


def test_a_folder_that_vanishes_is_an_error_and_is_not_made_again(tmp_path):
    with Checkpoints(filled(tmp_path / "c", 1)) as checkpoints:
        shutil.rmtree(tmp_path / "c")
        with pytest.raises(OSError, match="step-2 could not be saved: No such file or directory"):
            checkpoints.save({"a": jnp.ones(10)}, {}, step=2)
    assert not (tmp_path / "c").exists()


def test_a_run_that_is_killed_at_any_moment_leaves_whole_checkpoints(tmp_path):
    kills = tier.by_tier(3, 25)
    command = [sys.executable, "-m", "tests.killed_run", str(kills)]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=40 * kills)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is found and whole\n") == kills


@pytest.mark.slow
def test_the_python_of_the_page_on_checkpoints_runs(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text()
    code, text = page.split("```python\n")[1].split("```\n\n```text\n")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == text.split("```")[0], done.stderr
    listed = {path.name for path in (tmp_path / "run" / "checkpoints" / "step-100").iterdir()}
    assert listed >= {"state", "arrays.json", "checkpoint.json", "manifest.json"}


@pytest.mark.slow
def test_the_page_reads_the_best_epoch_of_a_run_as_it_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text()
    names = {}
    exec(blocks(page, "python")[1], names)
    assert capsys.readouterr().out == blocks(page, "text")[1]
    split, options = names["data"].test, {"loss": losses.cross_entropy, "transform": ToFloat()}
    found = evaluate(names["model"], split, **options)
    assert found.accuracy == max(record.test_accuracy for record in names["run"].history)


def test_scores_of_another_metric_than_the_newest_ones_do_not_count(tmp_path):
    with Checkpoints(tmp_path / "c", keep=1) as checkpoints:
        for step, (score, metric) in enumerate([(0.9, "accuracy"), (-2.0, "loss"), (None, None)]):
            checkpoints.save(1, {}, step=step, score=score, metric=metric)
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2]
    best = read(tmp_path / "c", "best")
    assert (best.step, best.score, best.metric) == (1, -2.0, "loss")
    assert repr(best) == f"Saved: step 1, score -2 by loss, in {tmp_path / 'c' / 'step-1'}"
    refused = pytest.raises(ValueError, match="metric: expected a string or None, got 3")
    with Checkpoints(tmp_path / "c") as checkpoints, refused:
        checkpoints.save(1, {}, step=9, score=1.0, metric=3)


def test_a_checkpoint_is_read_by_its_number(tmp_path):
    filled(tmp_path / "c", 3)
    assert (read(tmp_path / "c", 2).step, read(tmp_path / "c", 9)) == (2, None)
    truncate(tmp_path / "c" / "step-2" / "checkpoint.json")
    with pytest.raises(ValueError, match="directory: expected an intact checkpoint, got .*step-2"):
        read(tmp_path / "c", 2)


def test_a_checkpoint_of_something_else_holds_no_model(tmp_path):
    saved = read(filled(tmp_path / "c"))
    with pytest.raises(ValueError, match=r"like: expected the model .*'bias'.* is missing, not fl"):
        saved.model(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))

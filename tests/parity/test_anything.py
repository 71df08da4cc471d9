"""Many kinds of training: equal to PyTorch, resumed bit for bit, on devices, with many seeds."""

import functools
import itertools
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxnets.interop import to_numpy
from jaxnets.training import Callback, Saving
from tests import tier
from tests.parity import anything_more, image_cases
from tests.parity.anything import each_step, train, train_in_torch
from tests.parity.oracle import assert_equal
from tests.quick_compilation import environment
from tests.test_training_placement import all_on_devices

pytestmark = pytest.mark.slow

CASES = {**image_cases.CASES, **anything_more.CASES}
IN_TORCH = [name for name, case in CASES.items() if case.loop is not None]
#: Users train in float32; ``--thorough`` adds float64.
DTYPES = tier.by_tier([np.float32], [np.float32, np.float64])


@pytest.fixture(autouse=True, scope="module")
def x64():
    """Enables float64 in every thread, because checkpoints are read in separate threads."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@functools.cache
def whole_run(name, dtype=np.float32):
    """An uninterrupted run of a case on one device."""
    return train(CASES[name], dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *itertools.product(IN_TORCH, DTYPES),
        *itertools.product(["gan", "vae", "diffusion"], tier.by_tier([np.float64], [])),
    ],
)
def test_each_step_and_the_weights_equal_torch(name, dtype):
    tolerance = {np.float32: 1e-6, np.float64: 1e-10}[dtype]
    run = whole_run(name, dtype)
    theirs, network = train_in_torch(CASES[name], dtype)
    ours = each_step(run)
    assert ours.keys() == theirs.keys()
    for metric in theirs:
        np.testing.assert_allclose(ours[metric], theirs[metric], tolerance, err_msg=metric)
    state = network.state_dict()
    for weight, array in to_numpy(run.model).items():
        assert_equal(array, state[weight], weight)


class Ended(Exception):
    """Raised to end a run."""


class EndsAfter(Callback):
    """Ends a run in the middle of its second epoch, by an exception or by ``kill -9``."""

    def __init__(self, step=5, *, kill=False):
        self.step, self.kill = step, kill

    def steps(self, step, losses):
        if step >= self.step and self.kill:
            signal.raise_signal(signal.SIGKILL)
        if step >= self.step:
            raise Ended


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_was_interrupted_ends_with_the_bits_of_one_that_was_not(name, tmp_path):
    save = Saving(tmp_path / "checkpoints", steps=2)
    if tier.thorough:
        killed(name, save.directory)
    else:
        with pytest.raises(Ended):
            train(CASES[name], save=save, callbacks=[EndsAfter()])
    begun = Begins()
    resumed = train(CASES[name], save=save, resume=True, callbacks=[begun])
    assert begun.step in (3, 4) if tier.thorough else begun.step == 4  # of 6, 3 per epoch
    assert_same_bits(resumed, whole_run(name))


class Begins(Callback):
    """Records the step at which a run begins."""

    def begin(self, run):
        self.step = run.step


def killed(name, directory):
    """Trains a case in a child process until it is killed."""
    code = f"""
import jax
jax.config.update("jax_enable_x64", True)
from tests.parity.test_anything import CASES, EndsAfter, Saving, train
save = Saving({str(directory)!r}, steps=2)
train(CASES[{name!r}], save=save, callbacks=[EndsAfter(kill=True)])
"""
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert ended.returncode == -signal.SIGKILL


def assert_same_bits(run, other):
    """Asserts that two runs have the same state and history, except for the time that they took."""
    np.testing.assert_array_equal(run.step_losses, other.step_losses)
    for ours, theirs in zip(bits(run.state), bits(other.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for epoch, same in zip(run.history, other.history, strict=True):
        np.testing.assert_equal(epoch.train, same.train)


def bits(state):
    """The arrays of a state; random keys are converted to integers."""
    keys = jax.dtypes.prng_key
    return [
        np.asarray(jax.random.key_data(x) if jax.numpy.issubdtype(x.dtype, keys) else x)
        for x in jax.tree.leaves(state)
    ]


def test_on_four_devices_the_losses_are_those_of_one(tmp_path):
    head = f"""
        import numpy as np
        from tests.parity.test_anything import CASES, train

        def same(name, dtype, tolerance):
            shared = train(CASES[name], dtype, devices=4)
            alone = np.load({str(tmp_path)!r} + f"/{{name}}-{{dtype.__name__}}.npy")
            np.testing.assert_allclose(shared.step_losses, alone, tolerance)
        """
    tolerances = {np.float32: 1e-5, np.float64: 1e-10}
    runs = [(name, dtype) for name in CASES for dtype in DTYPES]
    for name, dtype in runs:
        np.save(tmp_path / f"{name}-{dtype.__name__}.npy", whole_run(name, dtype).step_losses)
    cases = [f"same({name!r}, np.{dtype.__name__}, {tolerances[dtype]})" for name, dtype in runs]
    all_on_devices(4, head, cases)


@pytest.mark.parametrize("name", tier.by_tier(["gan", "two-tasks", "truncated_bptt"], list(CASES)))
def test_many_seeds_at_once_are_each_seeds_own_run(name):
    runs = train(CASES[name], seeds=3)
    for seed, member in enumerate(runs.members):
        alone = train(CASES[name], seed=seed) if seed else whole_run(name)
        np.testing.assert_allclose(member.step_losses, alone.step_losses, rtol=1e-5)

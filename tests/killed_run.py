"""Kills a run that saves checkpoints repeatedly: ``python -m tests.killed_run 25``.

After each kill, the newest checkpoint must be undamaged, equal to what was saved, and not older
than the last one that the run reported as saved. Prints one line per kill, and fails otherwise.
"""

import os
import random
import signal
import sys
import tempfile
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.training.checkpoints import Checkpoints, read

ELEMENTS = 50_000


def state(step):
    numbers = jnp.arange(ELEMENTS, dtype=jnp.int32) * step
    return {"a": numbers, "b": [numbers[::-1]] * 3, "key": jax.random.key(step), "step": step}


def leaves(tree):
    return jax.tree.leaves({**tree, "key": jax.random.key_data(tree["key"])})


def save_for_ever(directory, report):
    with Checkpoints(directory, keep=2) as checkpoints:
        last = checkpoints.latest()
        step = 0 if last is None else last.step
        while True:
            step += 1
            checkpoints.save(state(step), {"step": step}, step=step, score=-abs(step % 7 - 3))
            if step % 2:
                checkpoints.wait()
                os.write(report, f"{step}\n".encode())


def check(directory, known):
    warnings.simplefilter("error")  # a damaged checkpoint causes a warning
    found = read(directory)
    step = 0 if found is None else found.step
    if step < known:
        raise AssertionError(f"{known} was saved, {step} is found")
    if found is not None:
        assert found.record == {"step": step}
        restored = found.restore(state(0))
        for got, saved in zip(leaves(restored), leaves(state(step)), strict=True):
            np.testing.assert_array_equal(got, saved)
    print(f"{known} was known to be saved, {step} is found and whole")


def in_child(function, *args):
    """Runs a function in a child process, in which JAX has not started yet."""
    child = os.fork()
    if child:
        return child
    try:
        function(*args)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def main(kills, directory):
    from orbax.checkpoint import v1  # noqa: F401  # imported once, not in each child

    warnings.filterwarnings("ignore", message=".*fork.*")
    known, chance = 0, random.Random(0)
    for _ in range(kills):
        receive, report = os.pipe()
        child = in_child(save_for_ever, directory, report)
        os.close(report)
        time.sleep(chance.uniform(0.4, 1.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(receive) as lines:
            known = max([known, *map(int, lines)])
        _, status = os.waitpid(in_child(check, directory, known), 0)
        if status:
            sys.exit("a checkpoint was lost or damaged")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        main(int(sys.argv[1]), f"{place}/checkpoints")

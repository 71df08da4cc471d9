"""Kills training runs at random moments, and compares resumed with uninterrupted runs.

    python benchmarks/kill_run.py --kills 25

A network with dropout and batch statistics trains on augmented MNIST images and saves every few
steps. A child process trains; SIGKILL ends it at a moment drawn at random; a second child resumes
the run to its end. Its parameters, statistics, optimizer state and losses are compared with those
of an uninterrupted run. The table shows what the process was doing when it was killed.
"""

import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

EXAMPLES, EPOCHS, SAVE_EVERY = 3000, 12, 7
STEPS = 47 * EPOCHS  # the batch size is 64


@click.command()
@click.option("--kills", default=25, show_default=True, help="How many runs to kill.")
@click.option("--seed", default=0, show_default=True, help="Draws the moments.")
@click.option("--child", type=click.Path(path_type=Path), hidden=True)
def main(kills: int, seed: int, child: Path | None) -> None:
    """Kill training runs at random moments and compare the resumed runs."""
    if child is not None:
        _train(child)
        return
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        alone = _to_the_end(Path(scratch) / "alone")
        seconds = time.monotonic() - began
        print(f"uninterrupted: {seconds:.1f} s, state {alone}\n")
        print("kill  after   steps saved  under way       resumed to  equal")
        equal = 0
        for number in range(1, kills + 1):
            folder = Path(scratch) / str(number)
            after, under_way = _killed(folder, draw.randrange(STEPS), draw.uniform(0, 0.3))
            saved = _saved(folder)
            end = _to_the_end(folder)
            equal += end == alone
            print(
                f"{number:4}  {after:5.2f} s  {saved:10}  {under_way:14}  {end:10}  {end == alone}",
                flush=True,
            )
    print(f"\n{equal} of {kills} equal")
    sys.exit(equal != kills)


def _start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _killed(folder: Path, steps: int, delay: float) -> tuple[float, str]:
    """Starts a run, kills it after some saved steps, and returns the time and the activity."""
    began = time.monotonic()
    child = _start(folder)
    while _saved(folder) < steps and child.poll() is None:
        time.sleep(0.002)
    time.sleep(delay)
    child.kill()
    after = time.monotonic() - began
    child.communicate()
    if child.returncode == 0:
        return after, "nothing, ended"
    if not folder.exists():
        return after, "starting"
    return after, "a save" if [*folder.glob(".*")] else "a step"


def _saved(folder: Path) -> int:
    return max((int(path.name[5:]) for path in folder.glob("step-*")), default=0)


def _to_the_end(folder: Path) -> str:
    child = _start(folder)
    output, _ = child.communicate()
    if child.returncode != 0:
        return f"exit {child.returncode}"
    return output.strip()


def _train(folder: Path) -> None:
    """Trains or resumes training, and prints a digest of the results."""
    import jax
    from flax import nnx

    from jaxnets import fit, layers, losses, optimizers
    from jaxnets.data import Compose, Dataset, Normalize, RandomCrop, ToFloat, load
    from jaxnets.training import Saving

    mnist = load("mnist")
    data = Dataset("some", mnist.train.take(EXAMPLES), mnist.test.take(500))
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        layers.flatten,
        layers.Linear(784, 64, rngs=rngs),
        layers.BatchNorm1d(64),
        jax.nn.relu,
        layers.Dropout(0.3, rngs=rngs),
        layers.Linear(64, 10, rngs=rngs),
    )
    run = fit(
        model,
        data,
        loss=losses.cross_entropy,
        optimizer=optimizers.adam(0.001),
        epochs=EPOCHS,
        transform=Compose(ToFloat(), Normalize(0.1307, 0.3081)),
        augment=RandomCrop(28, padding=2),
        save=Saving(folder, steps=SAVE_EVERY),
        resume=True,
        progress="none",
    )
    digest = hashlib.sha256(run.step_losses.tobytes())
    for leaf in jax.tree.leaves(run.state):
        key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        digest.update(bytes(jax.device_get(jax.random.key_data(leaf) if key else leaf)))
    print(digest.hexdigest()[:10])


if __name__ == "__main__":
    main()

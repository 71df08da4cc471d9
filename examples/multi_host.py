"""Train the MNIST MLP in several processes, on one or several machines.

Reproduces: `jaxnets train mnist-mlp` with --coordinator, from Python.
Run:        in two shells, with --process-id 1 in the second
            python examples/multi_host.py --coordinator localhost:29500 --processes 2 --process-id 0
            or under SLURM, Open MPI or on a Cloud TPU pod: python examples/multi_host.py
Time:       about 10 s for two processes on the same 2 CPU cores.
Accuracy:   95.2 % after one epoch, the same as with a single process.
"""

import argparse
from pathlib import Path

import jax
from flax import nnx

from jaxnets import MLP, fit, losses, optimizers
from jaxnets.data import Compose, Normalize, ToFloat, load
from jaxnets.training import Saving
from jaxnets.training.processes import joined


def main():
    """Joins the other processes and trains with them; process 0 prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", help="HOST:PORT of process 0")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--save", type=Path, help="shared folder; a run in it is resumed")
    args = parser.parse_args()
    with joined(args.coordinator, args.processes, args.process_id):
        run = fit(
            MLP((784, 128, 64, 10), rngs=nnx.Rngs(0)),
            load("mnist"),
            loss=losses.cross_entropy,
            optimizer=optimizers.sgd(lr=0.01, momentum=0.9),
            epochs=args.epochs,
            transform=Compose(ToFloat(), Normalize(0.1307, 0.3081)),
            save=None if args.save is None else Saving(args.save),
            resume=True,
        )
        if jax.process_index() == 0:
            print(f"test accuracy: {run.test.accuracy:.2%} on {run.device}")


if __name__ == "__main__":
    main()

"""Train a documented PyTorch network on MNIST.

Document:   004, section 4; with --model the networks of 001, 002 and 003, for more epochs.
Data:       MNIST, included, normalized.
Settings:   784-128-64-10, SGD 0.01 with momentum 0.9, batch 64, 10 epochs.
Run:        python examples/mnist.py
Time:       about 10 s on 2 CPU cores; the LeNet and the recurrent networks about a minute.
Accuracy:   97.9 % (PyTorch 97.7 to 98.1 %); see --help for the others.
"""

import argparse
import contextlib
from pathlib import Path

from flax import nnx

from jaxnets import MLP, LeNet, RecurrentClassifier, fit, losses, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Compose, ImageRows, Normalize, ToFloat, load
from jaxnets.disk import new_folder
from jaxnets.training import plot_history, write_history
from jaxnets.training.weights import save_weights

pixels = ToFloat()  # [0, 255] to [0, 1]
normalized = Compose(pixels, Normalize(0.1307, 0.3081))
rows = Compose(normalized, ImageRows())  # an image is a sequence of 28 rows of 28 pixels


def recurrent(cell):
    """Creates a network with two layers of 128 and ten logits from the output of the last row."""
    return lambda rngs: RecurrentClassifier(28, 128, 2, output_dim=10, cell=cell, rngs=rngs)


#: Model, transform of the images, optimizer, number of epochs.
EXPERIMENTS = {
    "mlp": (lambda rngs: MLP((784, 128, 64, 10), rngs=rngs), normalized,
            optimizers.sgd(lr=0.01, momentum=0.9), 10),
    "softmax-mlp": (lambda rngs: MLP((784, 128, 10), output="softmax", rngs=rngs), pixels,
                    optimizers.sgd(lr=0.01, momentum=0.9), 10),
    "lenet": (lambda rngs: LeNet(rngs=rngs), normalized,
              optimizers.sgd(lr=0.01, momentum=0.9), 10),
    "lstm": (recurrent("lstm"), rows, optimizers.adam(lr=0.001), 3),
    "gru": (recurrent("gru"), rows, optimizers.adam(lr=0.001), 3),
}  # fmt: skip


def main():
    """Trains a network, and prints a line for each epoch and the test accuracy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model", choices=EXPERIMENTS, default="mlp",
        help="accuracy to expect: mlp 97.9, softmax-mlp 93.8, lenet 99.1, lstm 98.3, gru 98.6 %%",
    )  # fmt: skip
    parser.add_argument("--epochs", type=int, help="10; for lstm and gru 3")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="640 images instead of 60,000")
    parser.add_argument("--out", type=Path, help="a new folder for history, curves and weights")
    args = parser.parse_args()
    build, transform, optimizer, epochs = EXPERIMENTS[args.model]
    part = "[:640]" if args.fast else ""

    try:
        check_seed("--seed", args.seed)
        with contextlib.nullcontext() if args.out is None else new_folder(args.out) as folder:
            run = fit(
                build(nnx.Rngs(args.seed)),
                load("mnist", train=f"train{part}", test=f"test{part}"),
                loss=losses.cross_entropy,
                optimizer=optimizer,
                epochs=epochs if args.epochs is None else args.epochs,
                batch_size=args.batch_size,
                seed=args.seed,
                transform=transform,
            )
            if folder is not None:
                write_history(run.history, folder / "history.csv")
                save_weights(run.model, folder / "weights")
                plot_history(run.history, folder / "curves.png", title=f"{args.model} on MNIST")
    except ValueError as error:
        parser.error(str(error))
    print(f"trained in {run.timings.train_seconds:.1f} s on {run.device}")
    print(f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})")


if __name__ == "__main__":
    keep_programs()
    main()

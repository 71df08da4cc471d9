"""Train the CNN of document 002 on CIFAR-10.

Document:   002, section 3: a LeNet for images with three channels. The document does not specify
            data and settings. This example mirrors images at random in training.
Data:       CIFAR-10, normalized, not included; see docs/data.md for how to obtain it.
Settings:   SGD 0.01 with momentum 0.9, batch 64, 15 epochs.
Run:        python examples/cifar10_lenet.py --data-dir FOLDER
Time:       about 200 s on 2 CPU cores.
Accuracy:   66.4 %.
"""

import argparse

import jax
from flax import nnx

from jaxnets import fit, layers, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import Compose, Normalize, RandomHorizontalFlip, ToFloat, load


class Net(nnx.Module):
    """The network of the document, for images [batch, 32, 32, 3]."""

    def __init__(self, num_classes, rngs):
        self.conv1 = layers.Conv2d(3, 6, kernel_size=5, rngs=rngs)
        self.pool = layers.MaxPool2d(kernel_size=2, stride=2)
        self.conv2 = layers.Conv2d(6, 16, kernel_size=5, rngs=rngs)
        self.fc1 = layers.Linear(16 * 5 * 5, 120, rngs=rngs)
        self.fc2 = layers.Linear(120, 84, rngs=rngs)
        self.fc3 = layers.Linear(84, num_classes, rngs=rngs)

    def __call__(self, x):
        x = self.pool(jax.nn.relu(self.conv1(x)))
        x = self.pool(jax.nn.relu(self.conv2(x)))
        x = layers.flatten(x)
        x = jax.nn.relu(self.fc1(x))
        x = jax.nn.relu(self.fc2(x))
        return self.fc3(x)


def main():
    """Trains a network, and prints a line for each epoch and the test accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of CIFAR-10; by default JAXNETS_DATA")
    parser.add_argument("--epochs", type=int, default=15, help="15 by default")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights and order; 0 by default"
    )
    parser.add_argument("--fast", action="store_true", help="4 %% of the images")
    args = parser.parse_args()
    part = "[:4%]" if args.fast else ""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of red, green and blue
    try:
        data = load("cifar10", data_dir=args.data_dir, train=f"train{part}", test=f"test{part}")
    except (ImportError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}; see docs/data.md for how to obtain CIFAR-10\n")
    try:
        run = fit(
            Net(10, nnx.Rngs(args.seed)),
            data,
            loss=losses.cross_entropy,
            optimizer=optimizers.sgd(lr=0.01, momentum=0.9),
            epochs=args.epochs,
            batch_size=64,
            seed=args.seed,
            transform=Compose(ToFloat(), Normalize(mean, std)),
            augment=RandomHorizontalFlip(),
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})")


if __name__ == "__main__":
    keep_programs()
    main()

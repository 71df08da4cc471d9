"""Train the image classifier of document 000 on CIFAR-10.

Document:   000, section 3.2. Its network expects 100 values although an image has 3,072, its code
            lacks the second layer that its text describes, and its gradients are never reset. This
            example implements the network that the text describes.
Data:       CIFAR-10, pixels in [0, 1], not included; see docs/data.md for how to obtain it.
Settings:   3072-64-10, SGD 0.001, batch 64, 10 epochs.
Run:        python examples/cifar10_classifier.py --data-dir FOLDER
Time:       about 15 s on 2 CPU cores.
Accuracy:   34.8 % (PyTorch 34.8 %).
"""

import argparse

import jax
from flax import nnx

from jaxnets import fit, layers, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import ToFloat, load


class ImageClassifier(nnx.Module):
    """The network of the document, with the second layer, for images [batch, 32, 32, 3]."""

    def __init__(self, input_size, hidden_size, rngs):
        self.fc1 = layers.Linear(input_size, hidden_size, rngs=rngs)
        self.fc2 = layers.Linear(hidden_size, 10, rngs=rngs)

    def __call__(self, x):
        out = self.fc1(layers.flatten(x))
        out = jax.nn.relu(out)
        return self.fc2(out)


def main():
    """Trains a network, and prints a line for each epoch and the test accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of CIFAR-10; by default JAXNETS_DATA")
    parser.add_argument("--epochs", type=int, default=10, help="10 by default, as in the document")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights and order; 0 by default"
    )
    parser.add_argument("--fast", action="store_true", help="4 %% of the images")
    args = parser.parse_args()
    part = "[:4%]" if args.fast else ""
    try:
        data = load("cifar10", data_dir=args.data_dir, train=f"train{part}", test=f"test{part}")
    except (ImportError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}; see docs/data.md for how to obtain CIFAR-10\n")
    try:
        run = fit(
            ImageClassifier(3 * 32 * 32, 64, nnx.Rngs(args.seed)),
            data,
            loss=losses.cross_entropy,
            optimizer=optimizers.sgd(lr=0.001),
            epochs=args.epochs,
            batch_size=64,
            seed=args.seed,
            transform=ToFloat(),
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})")


if __name__ == "__main__":
    keep_programs()
    main()

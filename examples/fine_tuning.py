"""Recognize the digits 5 to 9 from 20 images, with a network trained on 0 to 4.

Teaches:    a new head on a frozen trunk, including its batch statistics; several parts of one
            data set.
Reproduces: PyTorch's tutorial on transfer learning, with the network as a fixed feature extractor.
            In that tutorial the trunk is in training mode, so BatchNorm statistics are updated.
Data:       the images of 0 to 4 among the first 10,000 images of MNIST, included, and 20 images of
            5 to 9. The tests use these digits among 2,000 test images.
Run:        python examples/fine_tuning.py
Time:       about 10 s on 2 CPU cores.
Accuracy:   66.0 % for 5 to 9, and 57.3 % from scratch; 98.5 % for 0 to 4 before.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import evaluate, fit, layers, losses, optimizers
from jaxnets.arrays import check_positive, check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, Split, ToFloat, load
from jaxnets.training import minimize, supervised


class Trunk(nnx.Module):
    """Computes features of images [batch, size, size, 1]."""

    def __init__(self, size=28, channels=8, *, rngs, param_dtype=jnp.float32):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = layers.Conv2d(1, channels, kernel_size=5, **options)
        self.norm1 = layers.BatchNorm2d(channels, **options)
        self.conv2 = layers.Conv2d(channels, 2 * channels, kernel_size=5, **options)
        self.norm2 = layers.BatchNorm2d(2 * channels, **options)
        self.pool = layers.MaxPool2d(2)
        self.features = 2 * channels * (size // 4 - 3) ** 2

    def __call__(self, x):
        x = self.pool(jax.nn.relu(self.norm1(self.conv1(x))))
        x = self.pool(jax.nn.relu(self.norm2(self.conv2(x))))
        return layers.flatten(x)


class Classifier(nnx.Module):
    """A trunk, and a head that computes five logits from the features."""

    def __init__(self, trunk, *, rngs, param_dtype=jnp.float32):
        self.trunk = trunk
        self.head = layers.Linear(trunk.features, 5, rngs=rngs, param_dtype=param_dtype)

    def __call__(self, x):
        return self.head(self.trunk(x))


objective = supervised(losses.cross_entropy, transform=ToFloat())
adam = optimizers.adam(lr=0.001)
train_all, train_head = minimize(objective, adam), minimize(objective, adam, frozen="trunk")


def digits(data, first, count=None):
    """Returns the images of five digits, with limited training images and labels from 0."""

    def part(split, count=None):
        rows = np.flatnonzero((split.labels >= first) & (split.labels < first + 5))[:count]
        inputs, labels = split.gather(rows)
        return Split(inputs, labels - np.int32(first))

    return Dataset(f"{first} to {first + 4}", part(data.train, count), part(data.test))


def main():
    """Trains on 0 to 4, then on 5 to 9 with a frozen trunk and from scratch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=50, help="epochs on 5 to 9; two on 0 to 4")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    options = {"batch_size": 10, "epochs": args.epochs, "seed": args.seed, "progress": "none"}
    try:
        check_positive("epochs", args.epochs)
        check_seed("--seed", args.seed)
        tests = min(args.images, 2_000)
        data = load("mnist", train=f"train[:{args.images}]", test=f"test[:{tests}]")
        few = digits(data, 5, count=20)
        rngs = nnx.Rngs(args.seed)
        base = fit(Classifier(Trunk(rngs=rngs), rngs=rngs), digits(data, 0), train_all, epochs=2)
        tuned = fit(Classifier(base.model.trunk, rngs=rngs), few.train, train_head, **options)
        fresh = fit(Classifier(Trunk(rngs=rngs), rngs=rngs), few.train, train_all, **options)
    except ValueError as error:
        parser.error(str(error))
    tuned, fresh = (evaluate(run.model, few.test, objective) for run in (tuned, fresh))
    print(f"0 to 4: test accuracy {base.test.accuracy:.2%}")
    print(f"5 to 9: test accuracy {tuned.accuracy:.2%}, from scratch {fresh.accuracy:.2%}")


if __name__ == "__main__":
    keep_programs()
    main()

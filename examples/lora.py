"""Adapt a network trained on the digits 0 to 4 to the digits 5 to 9 with low-rank updates.

Teaches:    LoRA: low-rank updates of frozen weights, and merging them into the weights.
Reproduces: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (2021), section 4.1, on
            an image classifier.
Data:       MNIST, included: the images of 0 to 4 among the first 10,000, then 500 images of 5 to 9;
            the tests use these digits among 2,000 test images.
Run:        python examples/lora.py
Time:       about 10 s on 2 CPU cores.
Accuracy:   84.6 % with 6,228 trained numbers; 87.3 % with all 234,501.
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import MLP, evaluate, fit, losses, optimizers
from jaxnets.arrays import check_positive
from jaxnets.compilation import keep_programs
from jaxnets.data import Split, ToFloat, load
from jaxnets.training import minimize, supervised
from jaxnets.transfer import lora, merge_lora

objective = supervised(losses.cross_entropy, transform=ToFloat())
adam = optimizers.adam(lr=0.003)
train_all, train_updates = minimize(objective, adam), minimize(objective, adam, wrt=nnx.LoRAParam)


def digits(split, first, count=None):
    """Returns a limited number of images of five digits, with labels from 0."""
    rows = np.flatnonzero((split.labels >= first) & (split.labels < first + 5))[:count]
    inputs, labels = split.gather(rows)
    return Split(inputs, labels - np.int32(first))


def size(model, kind):
    """Returns the number of values in the variables of a kind."""
    return sum(leaf.size for leaf in nnx.to_flat_state(nnx.state(model, kind)).leaves)


def main():
    """Trains on 0 to 4, then on 5 to 9: only low-rank updates, and then all weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="images to select 0 to 4 from")
    parser.add_argument("--epochs", type=int, default=20, help="epochs on 5 to 9; three on 0 to 4")
    parser.add_argument("--rank", type=int, default=4)
    args = parser.parse_args()
    try:
        check_positive("epochs", args.epochs)
        data = load("mnist", train=f"train[:{args.images}]", test="test[:2000]")
        few, tests = digits(data.train, 5, count=500), digits(data.test, 5)
        network = MLP((784, 256, 128, 5), rngs=nnx.Rngs(0))
        base = fit(network, digits(data.train, 0), train_all, epochs=3, progress="none").model
        small = lora(base, rank=args.rank, alpha=2 * args.rank)
        tuned = fit(small, few, train_updates, epochs=args.epochs, progress="none").model
        whole = fit(base, few, train_all, epochs=args.epochs, progress="none").model
    except ValueError as error:
        parser.error(str(error))
    merged = merge_lora(tuned)
    for name, model, kind in (("LoRA", tuned, nnx.LoRAParam), ("all weights", whole, nnx.Param)):
        accuracy = evaluate(model, tests, objective).accuracy
        print(f"{name}: {size(model, kind):,} numbers trained, test accuracy {accuracy:.2%}")
    print(f"merged: test accuracy {evaluate(merged, tests, objective).accuracy:.2%}")


if __name__ == "__main__":
    keep_programs()
    main()

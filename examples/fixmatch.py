"""Recognize digits from 100 labels: FixMatch.

Teaches:    labels of most examples are hidden; an objective draws the labeled ones, and learns
            from its own confident predictions on the others, with weak and strong augmentation
            inside the compiled step.
Data:       the first 30,000 images of MNIST, included, of which 100 keep their labels.
Settings:   LeNet, SGD 0.03 with momentum 0.9, batches of 32 labeled and 128 other images, 5
            epochs.
Run:        python examples/fixmatch.py
Time:       about a minute on 2 shared CPU cores.
Accuracy:   95.2 %, where the 100 labels alone give 92.0 %; longer runs are in
            docs/unsupervised.md
"""

import argparse

from flax import nnx

from jaxnets import LeNet, fit, losses, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import (
    Compose,
    Normalize,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    ToFloat,
    load,
)
from jaxnets.training import fixmatch, minimize

PREPARE = Compose(ToFloat(), Normalize(0.1307, 0.3081))
WEAK = RandomCrop(28, padding=2)
STRONG = Compose(
    WEAK,
    RandomAffine(30, (0.15, 0.15), (0.7, 1.3), 30, interpolation="bilinear"),
    RandomErasing(1, (0.1, 0.3), (0.5, 2)),
)


def main():
    """Trains on the labels alone and with FixMatch, and prints both test accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=30_000, help="number of training images")
    parser.add_argument("--labels", type=int, default=100, help="number of labels to keep")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="seed of the labels and of training")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        few = min(args.images, 10_000)
        source = {"train": f"train[:{args.images}]", "test": f"test[:{few}]"}
        source |= {"labels": args.labels, "seed": args.seed}
        labelled, every = load("mnist", unlabelled=False, **source), load("mnist", **source)
        alone = fit(
            LeNet(rngs=nnx.Rngs(args.seed)),
            labelled,
            loss=losses.cross_entropy,
            optimizer=optimizers.adam(lr=0.002),
            transform=PREPARE,
            augment=WEAK,
            epochs=20 * args.epochs,
            batch_size=10,
            seed=args.seed,
            progress="none",
        )
        print(f"{args.labels} labels alone, test accuracy: {alone.test.accuracy:.2%}")
        sgd = optimizers.sgd(lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4)
        objective = fixmatch(every.train, weak=WEAK, strong=STRONG, transform=PREPARE, labelled=32)
        run = fit(
            LeNet(rngs=nnx.Rngs(args.seed)),
            every,
            minimize(objective, sgd),
            epochs=args.epochs,
            batch_size=128,
            seed=args.seed,
        )
    except ValueError as error:
        parser.error(str(error))
    print(f"FixMatch, test accuracy: {run.test.accuracy:.2%}")


if __name__ == "__main__":
    keep_programs()
    main()

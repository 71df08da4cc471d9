"""Train five networks from five seeds at once, and combine their predictions.

Teaches:    many seeds in one program, an ensemble as one model.
Data:       the first 10,000 images of MNIST, included, and 2,000 test images.
Settings:   784-128-64-10, SGD 0.01 with momentum 0.9, batch 64, 5 epochs.
Run:        python examples/ensemble.py
Time:       about 15 s on 2 CPU cores.
Accuracy:   93.0 % as an ensemble; 91.4 to 92.8 % alone, with a mean of 92.2 %.
"""

import argparse

from jaxnets import MLP, evaluate, fit, losses, optimizers
from jaxnets.arrays import check_positive
from jaxnets.compilation import keep_programs
from jaxnets.data import Compose, Normalize, ToFloat, load
from jaxnets.ensembles import Ensemble
from jaxnets.training import minimize, supervised

objective = supervised(
    losses.cross_entropy, transform=Compose(ToFloat(), Normalize(0.1307, 0.3081))
)
step = minimize(objective, optimizers.sgd(lr=0.01, momentum=0.9))


def build(rngs):
    """Creates a network with the initial weights of a seed."""
    return MLP((784, 128, 64, 10), rngs=rngs)


def main():
    """Trains the networks, and prints the accuracies of each network and of the ensemble."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5, help="number of networks")
    args = parser.parse_args()
    try:
        check_positive("epochs", args.epochs)
        data = load("mnist", train=f"train[:{args.images}]", test="test[:2000]")
        runs = fit(build, data, step, epochs=args.epochs, seeds=args.seeds, progress="none")
    except ValueError as error:
        parser.error(str(error))
    for member in runs.members:
        print(f"seed {member.seed}: test accuracy {member.test.accuracy:.2%}")
    print(f"mean: test accuracy {runs.accuracy.mean:.2%}")
    for how in ("probabilities", "votes"):
        together = Ensemble([member.model for member in runs.members], how)
        test = evaluate(together, data.test, objective)
        print(f"{how}: test accuracy {test.accuracy:.2%}")


if __name__ == "__main__":
    keep_programs()
    main()

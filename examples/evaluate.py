"""Evaluate a trained network: scores, a report page, and the class with the lowest recall.

Teaches:    jaxnets.reports and jaxnets.scores.
Data:       MNIST, included.
Run:        python examples/evaluate.py
Time:       about 6 s on 2 CPU cores
Accuracy:   97.2 % after 3 epochs
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import MLP, data, fit, losses, optimizers, predict, reports, scores


def main():
    """Trains an MLP, writes a report about it, and prints the digit with the lowest recall."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--examples", type=int, default=60_000, help="training images to use")
    parser.add_argument("--out", default="reports/mnist", help="the folder of the report")
    args = parser.parse_args()

    digits = data.load("mnist", train=f"train[:{args.examples}]")
    transform = data.Compose(data.ToFloat(), data.Normalize(0.1307, 0.3081))
    how = {"loss": losses.cross_entropy, "transform": transform}
    model = MLP((784, 128, 64, 10), rngs=nnx.Rngs(0))
    optimizer = optimizers.sgd(lr=0.01, momentum=0.9)
    run = fit(model, digits, optimizer=optimizer, epochs=args.epochs, **how)

    report = reports.report(run.model, digits, **how)
    print(report)
    report.write(args.out)
    print(f"wrote {args.out}/report.html")

    # the same numbers, computed from the outputs
    outputs = predict(run.model, digits.test.inputs, transform=transform)
    counts = scores.confusion_matrix(digits.test.labels, outputs.argmax(-1), 10)
    recall = scores.precision_recall_f1(counts).recall
    print(f"lowest recall: digit {recall.argmin()}, {recall.min():.2%}")
    assert np.array_equal(counts, report.found.confusion)


if __name__ == "__main__":
    main()

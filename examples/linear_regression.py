"""Fit the linear regression of document 002: food expenditure of a household from its income.

Document:   002, section 3: one Linear initialized from normal(0, 0.01), mean squared error, SGD
            0.01 on all examples at once. The document does not specify data and number of epochs.
Data:       Engel's 235 households, included, standardized; a fifth is held out.
Settings:   1-1, SGD 0.01, one batch, 1,000 epochs.
Run:        python examples/linear_regression.py
Time:       about 3 s on 2 CPU cores.
Error:      98.5 francs on the held-out households, the same as for the least-squares line.
"""

import argparse
import math

import numpy as np
from flax import nnx

from jaxnets import LinearRegression, fit, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import load


def main():
    """Trains, and prints every hundredth epoch, the fitted line, and the least-squares line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=1000, help="1,000 by default")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights; 0 by default")
    parser.add_argument("--fast", action="store_true", help="100 epochs, at a learning rate of 0.1")
    args = parser.parse_args()
    try:
        data = load("engel", standardize=True)
        run = fit(
            LinearRegression(1, 1, init_std=0.01, rngs=nnx.Rngs(args.seed)),
            data,
            loss=losses.mse_loss,
            optimizer=optimizers.sgd(lr=0.1 if args.fast else 0.01),
            epochs=min(args.epochs, 100) if args.fast else args.epochs,
            batch_size=len(data.train),
            seed=args.seed,
            callbacks=[show],
            progress="none",
        )
    except ValueError as error:
        parser.error(str(error))
    slope, intercept = float(run.model.kernel[0, 0]), float(run.model.bias[0])
    best = np.polyfit(data.train.inputs[:, 0], data.train.labels[:, 0], 1)
    print(f"trained:       y = {slope:.4f} x {intercept:+.4f}")
    print(f"least squares: y = {best[0]:.4f} x {best[1]:+.4f}")
    francs = data.labels_scaler.std[0] * math.sqrt(run.test.loss)
    print(f"RMSE {francs:.1f} francs on the {len(data.test)} households held out")


def show(record):
    """Prints every hundredth epoch."""
    if record.epoch % 100 == 0:
        print(f"epoch {record.epoch}: train loss {record.train_loss:.4f}")


if __name__ == "__main__":
    keep_programs()
    main()

"""Classify film reviews of one sentence as positive or negative.

Reproduces: the LSTM of document 002, section 3, on words; the document does not specify data.
Data:       the sentence polarity data set v1.0 (rt-polarity.pos, rt-polarity.neg), in --data-dir.
Run:        python examples/sentiment.py --data-dir FOLDER
Time:       about 50 s on 2 CPU cores.
Accuracy:   75.7 % on a held-out tenth.
"""

import argparse

from flax import nnx

from jaxnets import TextClassifier, fit, losses, optimizers, predict
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import load

SENTENCES = ("a warm , funny and moving film .", "a tired plot without a single good idea .")


def main():
    """Trains, and prints a line for each epoch, the accuracy, and predictions for two sentences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="folder of rt-polarity.pos and .neg")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        data = load("rt-polarity", data_dir=args.data_dir)
        run = fit(
            TextClassifier(
                len(data.vocabulary), embedding_dim=128, hidden_dim=64, dropout=0.6,
                bidirectional=True, rngs=nnx.Rngs(args.seed),
            ),
            data,
            loss=losses.binary_cross_entropy,
            optimizer=optimizers.adamw(lr=0.002, weight_decay=0.5),
            epochs=args.epochs,
            seed=args.seed,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    print(f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})")
    shares = predict(run.model, data.encoder(SENTENCES))[:, 0]
    for sentence, share in zip(SENTENCES, shares, strict=True):
        print(f"{share:.0%} positive: {sentence}")


if __name__ == "__main__":
    keep_programs()
    main()

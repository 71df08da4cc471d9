"""Explain predictions: train a convolutional network and draw attributions of its errors.

Teaches:    attributions, their completeness, and the pictures of jaxnets.explain.
Data:       MNIST, included.
Run:        python examples/explain.py
Time:       about 10 s on 2 CPU cores
Accuracy:   98.6 % after 3 epochs
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from jaxnets import explain, predict, recipes
from jaxnets.compilation import keep_programs

BLACK = -0.1307 / 0.3081  # a black pixel after the normalization of the recipe


def main():
    """Prints the accuracy and a line for each error, and writes a picture of each error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=60_000, help="training images to use")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--mistakes", type=int, default=3, help="number of errors to draw")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the pictures")
    args = parser.parse_args()
    recipe = dataclasses.replace(
        recipes.recipe("mnist-lenet"),
        data_options={
            "train": f"train[:{args.examples}]",
            "test": f"test[:{min(args.examples, 10_000)}]",
        },
        epochs=args.epochs,
    )
    data = recipes.load_data(recipe)
    run = recipes.train(recipe, data=data, progress="none")
    print(f"test accuracy: {run.test.accuracy:.2%} ({run.test.correct}/{run.test.total})")

    transform = recipes.build_transform(recipe)
    answers = predict(run.model, data.test.inputs, transform=transform).argmax(-1)
    wrong = np.flatnonzero(answers != data.test.labels)[: args.mistakes]
    images, labels = data.test.inputs[wrong], data.test.labels[wrong]
    # The difference shows the evidence for the wrong class against the right one.
    rows = np.arange(len(wrong))

    def margin(outputs):
        return outputs[rows, answers[wrong]] - outputs[rows, labels]

    found = explain.integrated_gradients(
        run.model, images, margin, baselines=BLACK, transform=transform
    )
    for k, number in enumerate(wrong):
        title = f"test image {number}: label {labels[k]}, predicted {answers[number]}"
        label = f"red: for {answers[number]}, blue: for {labels[k]}"
        path = args.out / f"mistake-{k + 1}.png"
        explain.draw_image(images[k], found.attributions[k], title=title, label=label, path=path)
        print(f"{title}; the sum is off by {abs(found.delta[k]):.4f}; wrote {path}")


if __name__ == "__main__":
    keep_programs()
    main()

"""Ensembles and soups of five networks: from five seeds, and fine-tuned from one run.

python benchmarks/after_training/combine.py
"""

import dataclasses

import numpy as np
import record

from jaxnets import evaluate, interop, losses, recipes
from jaxnets.averaging import greedy_soup, soup
from jaxnets.ensembles import Ensemble

RECIPE = recipes.recipe("mnist-mlp")
TRANSFORM = recipes.build_transform(RECIPE)
#: Learning rate and augmentation of the five fine-tuned networks, for five epochs.
TUNED = ((0.003, None), (0.01, None), (0.003, "shift"), (0.01, "shift"), (0.01, "rotate"))


def main() -> None:
    data = recipes.load_data(RECIPE)
    numbers = np.arange(len(data.test))
    chooses, tests = data.test.chosen(numbers[::2]), data.test.chosen(numbers[1::2])

    def accuracy(model, split=tests) -> float:
        told = {"loss": losses.cross_entropy, "transform": TRANSFORM}
        return evaluate(model, split, **told).accuracy

    runs = recipes.train_many(RECIPE, seeds=5, data=data, progress="none")
    seeds = [member.model for member in runs.members]
    base = interop.to_numpy(seeds[0])
    tuned = []
    for seed, (rate, augment) in enumerate(TUNED, start=1):
        told = {"optimizer_options": {"lr": rate, "momentum": 0.9}, "augment": augment}
        recipe = dataclasses.replace(RECIPE, epochs=5, **told)
        options = {"data": data, "weights": lambda seed: base, "progress": "none"}
        tuned.append(recipes.train(recipe, seed=seed, **options).model)
    rows = []
    for name, models in (("five seeds", seeds), ("five tuned from one", tuned)):
        singles = [accuracy(model) for model in models]
        greedy = greedy_soup(models, lambda model: accuracy(model, chooses))
        spread = f"{np.mean(singles):.2%} ± {np.std(singles, ddof=1):.2%}"
        found = {
            "single network, mean of five": spread,
            "best single network": f"{max(singles):.2%}",
            "ensemble, mean of probabilities": f"{accuracy(Ensemble(models)):.2%}",
            "ensemble, votes": f"{accuracy(Ensemble(models, 'votes')):.2%}",
            "soup of all five": f"{accuracy(soup(models)):.2%}",
            f"greedy soup, of {len(greedy.chosen)}": f"{accuracy(greedy.model):.2%}",
        }
        rows += [[name, what, value.replace("%", " %")] for what, value in found.items()]
    about = {
        "title": "Ensembles and soups",
        "method": (
            "Five networks mnist-mlp with different seeds, and the first of them fine-tuned for "
            "five more epochs in five ways: two learning rates, with and without shifted or "
            "rotated images. The accuracy is measured on 5,000 test images; the other 5,000 "
            "select the networks of the greedy soup. The mean of weights from different seeds "
            "does not work. The mean of weights fine-tuned from one run is as accurate as the "
            "ensemble, at the cost of a single network."
        ),
        "columns": ["networks", "together", "test accuracy"],
        "rows": rows,
        "command": "python benchmarks/after_training/combine.py",
    }
    record.write("combine", about)
    for row in rows:
        print(*row, sep="  ")


if __name__ == "__main__":
    main()

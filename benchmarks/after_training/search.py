"""A search from a bad start: whether it finds the accuracy of the documented recipe.

    python benchmarks/after_training/search.py [STORAGE]

The network of mnist-softmax-mlp starts with SGD and a learning rate of 0.0001, and trains for 3
epochs instead of the 10 of the recipe. The search varies optimizer, learning rate, batch size and
the width of the hidden layer. It also draws the figure of docs/search.md.
"""

import dataclasses
import sys

import record

from jaxnets import recipes
from jaxnets.search import SearchResult, Trial, search
from jaxnets.search.space import in_words

FIGURE = record.ROOT / "docs" / "images" / "search.png"
TRIALS, EPOCHS = 24, 3
SPACE = {
    "lr": "1e-4..1",
    "optimizer": "sgd,adam",
    "batch_size": "32,64,128",
    "model.features": "(784,32,10),(784,128,10),(784,256,10)",
}


def main() -> None:
    documented = recipes.recipe("mnist-softmax-mlp")
    data = recipes.load_data(documented)
    bad = dataclasses.replace(documented, epochs=EPOCHS, optimizer_options={"lr": 1e-4})
    storage = sys.argv[1] if len(sys.argv) > 1 else None
    found = search(bad, SPACE, trials=TRIALS, data=data, storage=storage)
    runs = {
        "bad start: SGD, learning rate 0.0001": (bad, tested(bad, data)),
        "the recipe: SGD 0.01, momentum 0.9": (documented, tested(documented, data)),
        f"best of {TRIALS} trials: {in_words(found.best.values)}": (
            found.best_recipe,
            found.run.test.accuracy,
        ),
    }
    rows = [[name, str(each.epochs), f"{accuracy:.2%}"] for name, (each, accuracy) in runs.items()]
    pruned = sum(trial.state == "pruned" for trial in found.trials)
    first = better(found, runs["the recipe: SGD 0.01, momentum 0.9"][1])
    about = {
        "title": "A search from a bad start",
        "method": (
            "Optuna's TPE selects optimizer, learning rate, batch size and the width of the "
            "hidden layer of mnist-softmax-mlp, with 3 epochs for each trial and a tenth of the "
            "training images held out. The best setting is then trained on all training images. "
            f"Trials worse than the median end early: {pruned} of {TRIALS}. Trial 1 is the bad "
            f"start, and trial {first.number} is the first with a better validation accuracy "
            "than the recipe."
        ),
        "columns": ["setting", "epochs", "test accuracy"],
        "rows": rows,
        "command": "python benchmarks/after_training/search.py",
    }
    record.write("search", about, ("optuna",))
    found.plot(FIGURE, title=f"mnist-softmax-mlp: {TRIALS} trials of at most {EPOCHS} epochs")
    print(found.table(), rows, found.importance)


def tested(recipe: recipes.Recipe, data: object) -> float:
    return recipes.train(recipe, data=data, progress="none").test.accuracy


def better(found: SearchResult, than: float) -> Trial:
    """The first trial that is better."""
    return next(t for t in found.trials if t.state == "complete" and t.value > than)


if __name__ == "__main__":
    main()

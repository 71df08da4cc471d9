"""The recipes on dates in jaxnets and in PyTorch, from the same weights on the same batches.

    python benchmarks/domains/dates.py                                # PyTorch only with seed 0
    python benchmarks/domains/dates.py --epochs 2 --torch-seeds 0 1 2

The measurements are added to benchmarks/results/domains/dates.json after each training.
"""

import argparse
import dataclasses
import time

import jax.numpy as jnp
import numpy as np
import records

from jaxnets import recipes
from jaxnets.compare import twin
from jaxnets.data import epoch_plan
from jaxnets.interop import to_torch

RECORD = records.FOLDER / "dates.json"
ABOUT = {
    "title": "Dates in words to ISO 8601",
    "method": "Exact matches on the test split, from the same weights on the same batches.",
    "command": "python benchmarks/domains/dates.py",
}
NAMES = ("dates-seq2seq", "dates-transformer")


def in_torch(recipe, model, data, seed):
    """The share of exact matches, and the seconds of training, of PyTorch's network."""
    import torch

    network = twin(model)
    network.load_state_dict(to_torch(model))
    rate = recipes.learning_rate(recipe, len(data.train))
    optimizer = torch.optim.Adam(network.parameters())
    start, step = time.perf_counter(), 0
    for epoch in range(recipe.epochs):
        plan = epoch_plan(len(data.train), recipe.batch_size, seed=seed, epoch=epoch)
        for rows in [*plan.full, *([plan.rest] if len(plan.rest) else [])]:
            optimizer.param_groups[0]["lr"] = float(
                rate(jnp.int32(step)) if callable(rate) else rate
            )
            optimizer.zero_grad()
            outputs, labels = called(torch, network, data.train, rows)
            torch.nn.functional.cross_entropy(
                outputs.flatten(0, 1), labels.flatten(), ignore_index=0
            ).backward()
            optimizer.step()
            step += 1
    seconds = time.perf_counter() - start
    network.eval()
    with torch.no_grad():
        outputs, labels = called(torch, network, data.test, np.arange(len(data.test)))
    right = (outputs.argmax(-1) == labels) | (labels == 0)
    return float(right.all(1).float().mean()), seconds


def called(torch, network, split, rows):
    """The logits of targets given the tokens before each, and the targets."""
    source, labels = (torch.tensor(array[rows]).long() for array in (split.inputs, split.labels))
    return network(source, torch.nn.functional.pad(labels, (1, 0))[:, :-1]), labels


def main() -> None:
    """Trains both networks on both sides, and adds each seed to the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="of both recipes")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(3))
    parser.add_argument("--torch-seeds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    for name in NAMES:
        recipe = recipes.recipe(name)
        recipe = dataclasses.replace(recipe, epochs=options.epochs or recipe.epochs)
        data = recipes.load_data(recipe)
        sized = recipes.sized(recipe, data)
        for seed in options.seeds:
            run = recipes.train(recipe, seed=seed, data=data, progress="none")
            found = {"score": run.test.accuracy, "seconds": round(run.timings.train_seconds, 1)}
            if seed in options.torch_seeds:
                model = recipes.build_model(sized, seed)
                score, seconds = in_torch(sized, model, data, seed)
                found |= {"torch_score": score, "torch_seconds": round(seconds, 1)}
            print(name, seed, found, flush=True)
            records.add(RECORD, name, {"seed": seed, **found}, {"epochs": recipe.epochs}, **ABOUT)


if __name__ == "__main__":
    main()

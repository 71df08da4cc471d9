"""The recipes on dates in jaxnets and in PyTorch, from the same weights on the same batches.

python benchmarks/domains/dates.py --epochs 2
"""

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxnets import recipes
from jaxnets.compare import twin
from jaxnets.data import epoch_plan
from jaxnets.interop import to_torch

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))


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
    """Trains both networks on both sides, and writes the record."""
    from machine import PACKAGES, described

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="of both recipes")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    for name in ("dates-seq2seq", "dates-transformer"):
        recipe = recipes.recipe(name)
        recipe = dataclasses.replace(recipe, epochs=options.epochs or recipe.epochs)
        data = recipes.load_data(recipe)
        sized = recipes.sized(recipe, data)
        model = recipes.build_model(sized, options.seed)
        theirs, seconds = in_torch(sized, model, data, options.seed)
        run = recipes.train(recipe, seed=options.seed, data=data, progress="none")
        ours = run.test.accuracy
        times = f"{seconds:.0f} s", f"{run.timings.train_seconds:.0f} s"
        rows.append([name, recipe.epochs, f"{theirs:.1%}", f"{ours:.1%}", *times])
        print(*rows[-1])
    about = {
        "title": "Dates in words to ISO 8601",
        "method": "Exact matches on the test split, from the same weights on the same batches.",
        "columns": ["recipe", "epochs", "PyTorch", "jaxnets", "PyTorch's time", "jaxnets' time"],
        "rows": rows,
        "command": f"python {' '.join(['benchmarks/domains/dates.py', *sys.argv[1:]])}",
    }
    path = ROOT / "benchmarks" / "results" / "domains" / "dates.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**described((*PACKAGES, "torch")), **about}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

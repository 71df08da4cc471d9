"""The detector in jaxnets and in PyTorch, from the same weights on the same canvases.

python benchmarks/domains/detection.py            # seeds 0 to 2, of which PyTorch trains seed 0
python benchmarks/domains/detection.py --seeds 1 --pairs 1 --epochs 1

The frameworks train alternating epochs, so that other load on the machine affects both. PyTorch
gets the canvases that jaxnets creates in its steps; its time excludes creating them. Each seed is
added to benchmarks/results/domains/detection.json.
"""

import argparse
import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np
import records
import torch

from jaxnets import recipes
from jaxnets.compare.experiment import in_step
from jaxnets.data import epoch_plan
from jaxnets.detection import mean_average_precision
from jaxnets.interop import to_torch
from jaxnets.models.center_net import detections
from jaxnets.recipes.detection import SIZE_WEIGHT
from jaxnets.torch_models import twin
from jaxnets.torch_models.center_net import detection_loss
from jaxnets.training import predict

RECORD = records.FOLDER / "detection.json"
ABOUT = {"title": "Detection", "command": "python benchmarks/domains/detection.py"}
NAME = "digits-detector"


class Torch:
    """PyTorch's side of the recipe."""

    def __init__(self, recipe: recipes.Recipe, data: object, seed: int) -> None:
        self.recipe, self.data, self.seed, self.step = recipe, data, seed, 0
        model = recipes.build_model(recipes.sized(recipe, data), seed)
        self.network = twin(model)
        self.network.load_state_dict(to_torch(model))
        self.optimizer = torch.optim.Adam(self.network.parameters())
        self.rate = recipes.learning_rate(recipes.sized(recipe, data), len(data.train))

    def epoch(self, epoch: int) -> float:
        """Trains one epoch, and returns its seconds."""
        split, seconds = self.data.train, 0.0
        plan = epoch_plan(len(split), self.recipe.batch_size, seed=self.seed, epoch=epoch)
        self.network.train()
        for rows in [*plan.full, *([plan.rest] if len(plan.rest) else [])]:
            inputs, labels = in_step(self.data.scatter, *split.gather(rows), self.seed, self.step)
            images = torch.tensor(np.asarray(inputs)).permute(0, 3, 1, 2).float() / 255
            boxes, kinds = (torch.tensor(np.asarray(labels[k])) for k in ("boxes", "labels"))
            before = time.perf_counter()
            self.optimizer.param_groups[0]["lr"] = float(self.rate(jnp.int32(self.step)))
            self.optimizer.zero_grad()
            outputs = self.network(images)
            detection_loss(outputs, boxes, kinds, SIZE_WEIGHT).backward()
            self.optimizer.step()
            seconds += time.perf_counter() - before
            self.step += 1
        return seconds

    def outputs(self) -> np.ndarray:
        """The outputs for the test images."""
        images = torch.tensor(self.data.test.inputs).permute(0, 3, 1, 2).float() / 255
        self.network.eval()
        with torch.no_grad():
            return self.network(images).permute(0, 2, 3, 1).contiguous().numpy()


def scores(outputs: np.ndarray, data: object) -> dict:
    """COCO's scores of outputs for the test images."""
    labels = data.test.labels
    found = jax.device_get(detections(outputs))
    measured = mean_average_precision(found, labels["boxes"], labels["labels"])
    return {name: round(value, 4) for name, value in measured.scores.items() if value == value}


def compared(recipe: recipes.Recipe, data: object, seed: int, paired: bool) -> dict:
    """One seed, on both sides if they are paired."""
    theirs, seconds = Torch(recipe, data, seed), []

    def follow(record: object) -> None:
        print(seed, record.epoch, record.test, round(record.seconds, 1), flush=True)
        if paired:
            seconds.append(theirs.epoch(record.epoch - 1))

    run = recipes.train(recipe, seed=seed, data=data, progress="none", callbacks=[follow])
    outputs = predict(run.model, data.test.inputs, transform=recipes.build_transform(recipe))
    measured = scores(outputs, data)
    found = {"seed": seed, "score": measured["map"], "scores": measured}
    found["epoch_seconds"] = float(np.median([record.seconds for record in run.history]))
    if paired:
        found["torch_scores"] = scores(theirs.outputs(), data)
        found["torch_score"] = found["torch_scores"]["map"]
        found["torch_epoch_seconds"] = float(np.median(seconds))
    return found


def main() -> None:
    """Trains the seeds, and records each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=1, help="number of seeds for PyTorch")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    recipe = recipes.recipe(NAME)
    recipe = dataclasses.replace(recipe, epochs=options.epochs or recipe.epochs)
    names = ("epochs", "batch_size", "model_options", "optimizer_options", "scheduler")
    settings = {name: getattr(recipe, name) for name in names}
    data = recipes.load_data(recipe)
    for seed in range(options.first, options.seeds):
        row = compared(recipe, data, seed, seed < options.pairs)
        print(row, flush=True)
        records.add(RECORD, NAME, row, settings, **ABOUT)


if __name__ == "__main__":
    main()

"""The recipes for speech in PyTorch and in jaxnets: the same initial weights, the same batches.

    JAXNETS_DATA=DIR python benchmarks/domains/speech.py              # all, three seeds each
    JAXNETS_DATA=DIR python benchmarks/domains/speech.py fsdd-cnn --seeds 1 --epochs 2

The frameworks train alternating epochs, so that other load on the machine affects both. Both
compute their spectrograms in each step. The measurements are added to
benchmarks/results/domains/speech.json after each recipe.
"""

import argparse
import copy
import dataclasses
import os
import time

import numpy as np
import records
import torch

from jaxnets import recipes
from jaxnets.compare import twin
from jaxnets.data import MelSpectrogram, epoch_plan
from jaxnets.sampling import ctc_beam_search, ctc_greedy
from jaxnets.training import predict

RECORD = records.FOLDER / "speech.json"
ABOUT = {"title": "Speech", "command": "JAXNETS_DATA=DIR python benchmarks/domains/speech.py"}
RECIPES = ("fsdd-cnn", "fsdd-gru", "fsdd-ctc")


class Features(torch.nn.Module):
    """The recipe's transform in PyTorch, with torch.stft, as torchaudio computes it."""

    def __init__(self, mel: MelSpectrogram, normalize: tuple) -> None:
        super().__init__()
        self.size, self.hop = mel.n_fft, mel.spectrogram.hop_length
        self.window = torch.hann_window(self.size)
        self.filters = torch.tensor(mel.mel.filters(), dtype=torch.float32)
        self.mean, self.std = normalize

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrograms [batch, frames, bands] of waveforms [batch, samples]."""
        spectra = torch.stft(
            sound, self.size, self.hop, window=self.window, pad_mode="reflect", return_complex=True
        )
        power = spectra.abs().pow(2).transpose(1, 2) @ self.filters
        decibels = 10 * torch.log10(power.clamp(min=1e-10))
        decibels = torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - 80)
        return (decibels - self.mean) / self.std


class Torch:
    """PyTorch's side of a recipe."""

    def __init__(self, recipe: recipes.Recipe, data: object, seed: int) -> None:
        transform = recipes.build_transform(recipe).transforms[0]
        transform = getattr(transform, "transform", transform)  # of OnColumn
        mel = getattr(transform, "transforms", (transform,))[0]
        self.recipe, self.seed, self.data = recipe, seed, data
        self.features = Features(mel, recipe.normalize)
        torch.manual_seed(seed)
        self.network = twin(recipes.build_model(recipes.sized(recipe, data)))
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[recipe.optimizer]
        self.weights = {k: v.clone() for k, v in self.network.state_dict().items()}
        self.optimizer = kind(self.network.parameters(), **recipe.optimizer_options)
        schedulers = torch.optim.lr_scheduler
        self.scheduler = (
            schedulers.CosineAnnealingLR(self.optimizer, recipe.epochs)
            if recipe.scheduler == "cosine"
            else schedulers.ConstantLR(self.optimizer, 1.0)
        )
        self.train, self.test = map(tensors, (data.train, data.test))
        torch.set_num_threads(self.faster())

    def faster(self) -> int:
        """Whether one thread or one for each core is faster, on six steps of a copy."""
        taken = {}
        for threads in (1, len(os.sched_getaffinity(0))):
            torch.set_num_threads(threads)
            copied = copy.deepcopy(self.network)
            rows = torch.arange(self.recipe.batch_size)
            inputs = {name: array[rows] for name, array in self.train[0].items()}
            before = time.perf_counter()
            for _ in range(6):
                self.loss(self.outputs(inputs), self.train[1][rows]).backward()
            taken[threads] = time.perf_counter() - before
            self.network.load_state_dict(copied.state_dict())
        return min(taken, key=taken.get)

    def outputs(self, inputs: dict) -> object:
        sound = self.features(inputs["sound"])
        if "lengths" in inputs:
            return self.network(sound, inputs["lengths"] // self.features.hop + 1)
        return self.network(sound)

    def loss(self, outputs: object, labels: torch.Tensor) -> torch.Tensor:
        if self.recipe.objective != "ctc":
            return torch.nn.functional.cross_entropy(outputs, labels)
        logits, lengths = outputs
        return torch.nn.functional.ctc_loss(
            logits.log_softmax(-1).transpose(0, 1), labels.clamp(min=0), lengths,
            (labels >= 0).sum(1), blank=logits.shape[-1] - 1, zero_infinity=True,
        )  # fmt: skip

    def epoch(self, number: int) -> float:
        """Trains for an epoch on the batches of jaxnets; returns the seconds it takes."""
        self.network.train()
        size = self.recipe.batch_size
        plan = epoch_plan(len(self.data.train), size, seed=self.seed, epoch=number)
        before = time.perf_counter()
        for rows in [*plan.full, *([plan.rest] if len(plan.rest) else [])]:
            chosen = torch.from_numpy(rows.astype(np.int64))
            inputs, labels = (
                {k: v[chosen] for k, v in self.train[0].items()},
                self.train[1][chosen],
            )
            self.optimizer.zero_grad()
            self.loss(self.outputs(inputs), labels).backward()
            self.optimizer.step()
        self.scheduler.step()
        return time.perf_counter() - before

    def score(self) -> float:
        self.network.eval()
        with torch.no_grad():
            outputs = self.outputs(self.test[0])
        if self.recipe.objective == "ctc":
            found = ctc_greedy(outputs[0].numpy(), outputs[1].numpy())
            return error_rate(found, self.data.test.labels)
        return (outputs.argmax(-1) == self.test[1]).float().mean().item()


def tensors(split: object) -> tuple[dict, torch.Tensor]:
    inputs = split.inputs if isinstance(split.inputs, dict) else {"sound": split.inputs}
    made = {name: torch.from_numpy(array) for name, array in inputs.items()}
    return made, torch.from_numpy(split.labels.astype(np.int64))


def error_rate(found: list, labels: np.ndarray) -> float:
    """Edit distances divided by the number of labels."""
    total = 0
    for guess, row in zip(found, labels, strict=True):
        truth = row[row >= 0].tolist()
        distances = list(range(len(truth) + 1))
        for place, label in enumerate(guess.tolist(), 1):
            diagonal, distances[0] = distances[0], place
            for k, true in enumerate(truth, 1):
                best = min(distances[k] + 1, distances[k - 1] + 1, diagonal + (label != true))
                diagonal, distances[k] = distances[k], best
        total += distances[-1]
    return total / int((labels >= 0).sum())


def compared(recipe: recipes.Recipe, data: object, seed: int, paired: bool) -> dict:
    """One seed of a recipe, on both sides if they are paired."""
    theirs, seconds = Torch(recipe, data, seed), []

    def follow(record: object) -> None:
        if paired:
            seconds.append(theirs.epoch(record.epoch - 1))

    run = recipes.train(
        recipe, seed=seed, data=data, progress="none", weights=lambda seed: theirs.weights,
        callbacks=[follow],
    )  # fmt: skip
    found = {"seed": seed, "seconds": float(np.median([r.seconds for r in run.history]))}
    if recipe.objective == "ctc":
        outputs = predict(run.model, data.test.inputs, transform=recipes.build_transform(recipe))
        found["score"] = error_rate(ctc_greedy(*outputs), data.test.labels)
        found["beam_score"] = error_rate(ctc_beam_search(*outputs), data.test.labels)
    else:
        found["score"] = run.test.accuracy
    if paired:
        found["torch_seconds"], found["torch_score"] = float(np.median(seconds)), theirs.score()
        found["torch_threads"] = torch.get_num_threads()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, help="seeds that PyTorch trains too; by default all")
    parser.add_argument("--epochs", type=int)
    options = parser.parse_args()
    for name in options.recipes:
        recipe = recipes.recipe(name)
        recipe = dataclasses.replace(recipe, epochs=options.epochs or recipe.epochs)
        data = recipes.load_data(recipe)
        for seed in range(options.seeds):
            paired = options.pairs is None or seed < options.pairs
            row = compared(recipe, data, seed, paired)
            print(name, row, flush=True)
            records.add(RECORD, name, row, settings(recipe), **ABOUT)


def settings(recipe: recipes.Recipe) -> dict:
    """The settings that affect the scores of a recipe."""
    names = ("epochs", "batch_size", "optimizer_options", "scheduler", "data_options")
    return {field: getattr(recipe, field) for field in names}


if __name__ == "__main__":
    main()

"""Generative models of MNIST in jaxnets and in PyTorch: same weights, batches and noise.

    python benchmarks/domains/generation.py                       # seeds 0 to 2, PyTorch's seed 0
    python benchmarks/domains/generation.py --recipes mnist-vae   # one of them; other rows stay
    python benchmarks/domains/generation.py --picture             # draws docs/images/generation.png

Runs are kept in .cache/generation. A LeNet judges the samples: its accuracy on samples of known
classes, and the Fréchet distance of its penultimate features of samples and of test images.
"""

import argparse
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import records

import jaxnets
from jaxnets import recipes, sampling, scores
from jaxnets.compare import twin
from jaxnets.data import epoch_plan, load, make_grid
from jaxnets.explain import features
from jaxnets.interop import load_torch, to_torch
from jaxnets.training import evaluate

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))
RECORD = records.FOLDER / "generation.json"
PICTURE = ROOT / "docs" / "images" / "generation.png"
NAMES = ("mnist-vae", "mnist-cgan", "mnist-diffusion")
RUNS = ROOT / ".cache" / "generation"
SAMPLES = 1000
ABOUT = {
    "title": "Generation",
    "command": "python benchmarks/domains/generation.py",
    "method": (
        f"{SAMPLES:,} samples for each seed, of each class equally many. Accuracy: that of the "
        "LeNet of mnist-lenet (seed 0). Fréchet distance: between its 84 penultimate features of "
        "the samples and of the 10,000 test images. PyTorch starts from the same weights and gets "
        "the same batches and noise. Seconds: of training alone, while other programs shared the "
        "two cores."
    ),
}


class Evaluator:
    """The LeNet of ``mnist-lenet``, and its features of the test images.

    Attributes:
        accuracy: its accuracy on the test images.
        floor: the Fréchet distance of as many training images as there are samples.
    """

    def __init__(self):
        recipe, data = recipes.recipe("mnist-lenet"), load("mnist")
        self.model, _, test = in_jaxnets(recipe, 0)
        self.accuracy, self.transform = test["accuracy"], recipes.build_transform(recipe)
        self.normal = self._normal(data.test.inputs)
        self.floor = scores.frechet_distance(
            *self._normal(data.train.inputs[:SAMPLES]), *self.normal
        )

    def _normal(self, images):
        found = features(self.model, images, transform=self.transform)
        return found.mean(0), np.cov(found, rowvar=False)

    def scores_of(self, images, labels):
        """The accuracy, or None without labels, and the Fréchet distance."""
        pixels = (np.clip(images, 0, 1) * 255 + 0.5).astype(np.uint8)
        distance = scores.frechet_distance(*self._normal(pixels), *self.normal)
        if labels is None:
            return None, distance
        logits = jaxnets.predict(self.model, pixels, transform=self.transform)
        return float((logits.argmax(1) == labels).mean()), distance


def samples(model):
    """Samples, and their classes if the model has classes."""
    labels = np.arange(SAMPLES, dtype=np.int32) % 10
    labels = labels if getattr(model, "num_classes", None) else None
    return sampling.sample_images(model, SAMPLES, labels), labels


def in_torch(recipe, seed):
    """PyTorch's training from the same weights: the network in jaxnets, the seconds, the test."""
    import torch

    from tests.parity import image_cases as loops
    from tests.parity.anything import as_tensor

    data = recipes.load_data(recipe)
    model = recipes.build_model(recipes.sized(recipe, data), seed)
    network = twin(model)
    network.load_state_dict(to_torch(model))
    given = {"seed": seed}
    if recipe.name == "mnist-diffusion":
        given["optimizer"] = torch.optim.Adam(network.parameters())
    rate = recipes.learning_rate(recipe, len(data.train))

    def batches():
        step = 0
        for epoch in range(recipe.epochs):
            size = recipe.batch_size
            plan = epoch_plan(len(data.train), size, seed=seed, epoch=epoch)
            for rows in [*plan.full, *([plan.rest] if len(plan.rest) else [])]:
                pixels, labels = data.train.gather(rows)
                images = as_tensor(pixels.astype(np.float32) / 255)
                if callable(rate):
                    given["optimizer"].param_groups[0]["lr"] = float(rate(jnp.int32(step)))
                step += 1
                yield images if recipe.name == "mnist-vae" else (images, as_tensor(labels))

    loop = {
        "mnist-vae": loops.train_vae,
        "mnist-cgan": loops.train_gan,
        "mnist-diffusion": loops.train_diffusion,
    }[recipe.name]
    began = time.perf_counter()
    for _ in loop(network, batches(), **given):
        pass
    seconds = time.perf_counter() - began
    load_torch(model, network.state_dict())
    _, settings = recipes.fit_settings(recipe, data)
    test = evaluate(model, data.test, recipes.evaluation_of(recipe, settings))
    return model, seconds, {**test.metrics, "loss": test.loss}


def in_jaxnets(recipe, seed):
    """The trained network, the seconds and the test; an existing run is loaded."""
    folder = RUNS / f"{recipe.name}-{seed}"
    if not folder.exists():
        recipes.train(recipe, seed=seed, progress="none").save(folder)
    saved = jaxnets.load(folder)
    last = saved.history[-1]
    return saved.model, sum(epoch.seconds for epoch in saved.history), last.test


def measured(recipe, framework, seed, evaluator):
    """The measurements of one training; the score is the accuracy, or the loss without classes."""
    make = in_jaxnets if framework == "jaxnets" else in_torch
    model, seconds, test = make(recipe, seed)
    began = time.perf_counter()
    drawn, labels = samples(model)
    sampling_seconds = time.perf_counter() - began
    accuracy, distance = evaluator.scores_of(drawn, labels)
    found = {
        "score": test["loss"] if accuracy is None else accuracy,
        "accuracy": accuracy,
        "frechet": round(distance, 2),
        "test": test,
        "seconds": round(seconds, 1),
        "sampling_seconds": round(sampling_seconds, 1),
    }
    print(recipe.name, framework, seed, found, flush=True)
    return found


def train(names, seeds):
    """Trains recipes, and adds the measurements to the record after each training.

    Args:
        names: names of recipes.
        seeds: for each framework the seeds.
    """
    evaluator = Evaluator()
    for name in names:
        for framework, seed in [(each, seed) for each, some in seeds.items() for seed in some]:
            found = measured(recipes.recipe(name), framework, seed, evaluator)
            if framework == "PyTorch":
                found = {f"torch_{key}": value for key, value in found.items()}
            about = {"accuracy": evaluator.accuracy, "frechet_of_training_images": evaluator.floor}
            records.add(RECORD, name, {"seed": seed, **found}, {}, **ABOUT, evaluator=about)


def picture():
    """Draws samples of each model with seed 0."""
    from PIL import Image

    sheets = []
    for name in NAMES:
        model = jaxnets.load(RUNS / f"{name}-0").model
        labels = np.arange(80) % 10 if getattr(model, "num_classes", None) else None
        drawn = sampling.sample_images(model, 80, labels)
        sheets.append(make_grid(drawn, nrow=10)[..., 0])
    gap = np.full((len(sheets[0]), 14), 255, np.uint8)
    parts = [part for sheet in sheets for part in (gap, sheet)][1:]
    Image.fromarray(np.concatenate(parts, axis=1)).save(PICTURE, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", action="store_true", help=f"draw {PICTURE.name}")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(3), help="seeds of jaxnets")
    parser.add_argument("--torch-seeds", type=int, nargs="*", default=[0], help="seeds of PyTorch")
    parser.add_argument("--recipes", nargs="*", default=NAMES)
    arguments = parser.parse_args()
    if arguments.picture:
        picture()
    else:
        seeds = {"jaxnets": arguments.seeds, "PyTorch": arguments.torch_seeds}
        train(arguments.recipes, seeds)

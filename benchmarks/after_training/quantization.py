"""Quantized networks: accuracy, size and time per example, compared with the trained network.

    python benchmarks/after_training/quantization.py accuracy RUNS
    python benchmarks/after_training/quantization.py times RUNS NETWORK

RUNS is a folder with a run of each documented recipe below, named after the recipe. The first
command quantizes the networks and measures the accuracy; the second measures the times of one
network, while no other program should run. Repeated, it keeps the shorter times.
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np
import record

from jaxnets import fit, optimizers, quantization, recipes, runs
from jaxnets.training import evaluate, predictor

NETWORKS = "mnist-mlp", "mnist-lenet", "mnist-lstm", "sentiment-lstm"
CALIBRATION, SECONDS, RATE = 200, 0.35, 1e-4
TIMES = "1", "256"
WORDS = {
    "float32": "as trained",
    "dynamic": "dynamic, int8",
    "static": "static, int8",
    "weights 8": "weights alone, int8",
    "weights 4": "weights alone, int4",
    "weights 4/32": "weights alone, int4, groups of 32",
    "qat": "trained for int8, one epoch",
}


def forms(name, saved, data, *, trained):
    """The network in each form, by name; ``trained`` adds the one trained for integers."""
    model = saved.model
    yield "float32", model
    yield "dynamic", quantization.quantize_dynamic(model)
    if name in ("mnist-mlp", "mnist-lenet"):
        chosen = np.sort(np.random.default_rng(0).choice(len(data.train), CALIBRATION, False))
        inputs, _ = data.train.gather(chosen.astype(np.int32))
        options = {"transform": saved.transform}
        yield "static", quantization.quantize_static(model, inputs, **options)
        if trained:
            prepared = quantization.prepare_qat(model, inputs, **options)
            _, settings = recipes.fit_settings(saved.recipe, data)
            more = {"epochs": 1, "optimizer": optimizers.adam(RATE)}
            yield "qat", quantization.convert(fit(prepared, data, **settings | more).model)
    yield "weights 8", quantization.quantize_weights(model)
    yield "weights 4", quantization.quantize_weights(model, 4)
    yield "weights 4/32", quantization.quantize_weights(model, 4, 32)


def opened(folder):
    saved = runs.read(folder)
    return saved, recipes.load_data(saved.recipe)


def accuracy(folder):
    """By network and form: the accuracy and the bytes of the weights."""
    found = {}
    for name in NETWORKS:
        saved, data = opened(folder / name)
        _, settings = recipes.fit_settings(saved.recipe, data)
        settings = {"loss": settings["loss"], "transform": saved.transform}
        for form, model in forms(name, saved, data, trained=True):
            test = evaluate(model, data.test, **settings)
            size = quantization.report(model).bytes
            found[f"{name}/{form}"] = {"accuracy": test.accuracy, "bytes": size}
            print(name, form, found[f"{name}/{form}"], flush=True)
    return found


def times(folder, name):
    """By network and form: microseconds of an example alone, and of one among 256."""
    saved, data = opened(folder / name)
    found = {}
    for form, model in forms(name, saved, data, trained=False):
        answer, each = predictor(model, transform=saved.transform), {}
        for count in (1, 256):
            inputs, _ = data.test.gather(np.arange(count, dtype=np.int32))
            jax.block_until_ready(answer(inputs))
            end, best = time.perf_counter() + SECONDS, float("inf")
            while time.perf_counter() < end:
                begin = time.perf_counter()
                jax.block_until_ready(answer(inputs))
                best = min(best, time.perf_counter() - begin)
            each[str(count)] = best * 1e6 / count
        found[f"{name}/{form}"] = each
        print(name, form, each, flush=True)
    return found


def rows(figures):
    """A row for each network and form, as text."""
    found = []
    for key, figure in figures.items():
        name, _, form = key.partition("/")
        timed = figure if "1" in figure else figures.get(f"{name}/static", {})
        whole = figures[f"{name}/float32"]["bytes"]
        found.append(
            [
                name,
                WORDS[form],
                f"{figure['accuracy']:.2%}",
                f"{figure['bytes'] / 1000:,.1f} kB",
                f"{whole / figure['bytes']:.1f}",
                f"{timed.get('1', float('nan')):.0f} µs",
                f"{timed.get('256', float('nan')):.1f} µs",
            ]
        )
    return found


def merged(old, new):
    """Merges measurements of a form: the newer accuracy and size, and the shorter times."""
    known = {key: min(value, old.get(key, value)) for key, value in new.items() if key in TIMES}
    return old | new | known


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    old = record.read("quantization").get("figures", {})
    new = accuracy(folder) if what == "accuracy" else times(folder, sys.argv[3])
    figures = old | {key: merged(old.get(key, {}), each) for key, each in new.items()}
    about = {
        "title": "Quantization",
        "method": (
            f"The documented networks as trained and quantized: static with {CALIBRATION} "
            "training images, and quantization-aware training with Adam and a learning rate of "
            f"{RATE:g}. Accuracies are for all test examples. Times are the fastest of many "
            "calls of a predictor, for one example alone and for one example in a batch of 256."
        ),
        "command": "python benchmarks/after_training/quantization.py",
        "columns": ["network", "form", "accuracy", "size", "times smaller", "alone", "of 256"],
        "rows": rows(figures),
        "figures": figures,
    }
    record.write("quantization", about)


if __name__ == "__main__":
    main()

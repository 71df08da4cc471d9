"""Synthetic comparisons that resemble the training of a small network."""

import numpy as np

from jaxnets.compare.records import (
    Comparison,
    Control,
    Disagreement,
    Pair,
    Side,
    Timing,
)


def side(framework, seed, *, apart=0.0, epochs=10, steps=938, examples=10000, regression=False):
    """One synthetic run; ``apart`` is the relative rounding error of its first loss."""
    shared = np.random.default_rng(seed)
    count = epochs * steps
    at = np.arange(count)
    curve = 2.2 * np.exp(-at / (0.12 * steps)) + 0.35 / (1 + 3 * at / steps) + 0.005
    noisy = curve * np.exp(0.35 * shared.normal(size=count))
    own = np.random.default_rng([seed, int(apart * 1e9)])
    growth = np.minimum(apart * np.exp(at / (0.08 * steps)) * np.sqrt(at + 1), 0.25)
    noisy = (noisy * (1 + growth * own.normal(size=count))).astype(np.float32)
    epoch = np.arange(1, epochs + 1)
    last = 0.979 + 0.0008 * shared.normal() + (0.0006 * own.normal() if apart else 0)
    accuracy = last - 0.05 * np.exp(-0.6 * (epoch - 1)) + 0.001 * shared.normal(size=epochs)
    labels = np.random.default_rng(99).integers(0, 10, examples)
    predictions = labels.copy()
    for draw, share in ((shared, 0.018), (own, 0.004)):
        wrong = draw.choice(examples, int(share * examples), replace=False)
        predictions[wrong] = draw.integers(0, 10, len(wrong))
    return Side(
        framework=framework,
        seed=seed,
        step_losses=noisy,
        train_loss=noisy.reshape(epochs, steps).mean(1).astype(float),
        test_loss=0.07 + 0.3 * np.exp(-0.6 * epoch) + (1e-4 * own.normal() if apart else 0),
        test_accuracy=None if regression else accuracy,
        predictions=None if regression else predictions,
    )


def comparison(seeds=5, *, regression=False, paired=True, bare=False, names=None, **sizes):
    """The comparison of an MLP; ``bare`` omits all optional parts."""
    sizes = sizes | {"regression": regression}
    pairs = tuple(
        Pair(side("jaxnets", seed, apart=1e-8, **sizes), side("torch", seed, **sizes))
        for seed in range(seeds)
    )
    rest = {} if bare else _rest(pairs, sizes, regression, names)
    return Comparison(
        name="mnist-mlp",
        description="MLP 784-128-64-10 on MNIST, SGD 0.01 with momentum 0.9, 10 epochs",
        command=None if bare else f"jaxnets compare mnist-mlp --seeds {seeds} --out compared",
        date="2026-11-21T15:40:00+00:00",
        paired=paired,
        weights_from="jaxnets" if paired else None,
        settings={
            "data": "mnist",
            "model": "mlp",
            "model_options": {"features": (784, 128, 64, 10)},
            "loss": "cross-entropy",
            "optimizer": "sgd",
            "optimizer_options": {"lr": 0.01, "momentum": 0.9},
            "batch_size": 64,
            "normalize": (0.1307, 0.3081),
            "augment": None,
        },
        margin=0.001 if regression else 0.003,
        pairs=pairs,
        **rest,
    )


def _rest(pairs, sizes, regression, names):
    first = pairs[0]
    digits = np.random.default_rng(3).integers(0, 256, (24, 28, 28, 1), np.uint8)
    apart = [] if regression else np.flatnonzero(first.ours.predictions != first.theirs.predictions)
    return {
        "control": Control(threads=(2, 1), run=side("torch", 0, apart=2e-8, **sizes)),
        "timings": (
            Timing(
                framework="jaxnets",
                epoch_seconds=(0.51, 0.498, 0.535),
                compile_seconds=1.24,
                peak_memory=612.3,
            ),
            Timing(
                framework="torch",
                epoch_seconds=(0.97, 0.988, 1.02),
                compile_seconds=0.0,
                peak_memory=541.8,
            ),
        ),
        "disagreements": tuple(
            Disagreement(
                index=int(index),
                seed=0,
                image=digits[number],
                label=int(first.theirs.predictions[index]),
                ours=int(first.ours.predictions[index]),
                theirs=int(first.theirs.predictions[index]),
            )
            for number, index in enumerate(apart[:24])
        ),
        "class_names": names,
        "reference": "expected: 97.95 % in 10 s on 2 CPU cores",
        "versions": {"jaxnets": "0.1.0", "jax": "0.10.2", "torch": "2.13.0", "keras": None},
        "machine": {"processor": "Intel Xeon 2.5 GHz", "cores": 2, "device": "cpu"},
    }

"""Autoencoders, clusters and FixMatch: scores of the recipes, and PyTorch on the same batches.

    python benchmarks/domains/unsupervised.py                  # all, seeds 0 to 2: half an hour
    python benchmarks/domains/unsupervised.py mnist-fixmatch   # only this recipe
    python benchmarks/domains/unsupervised.py --twin           # FixMatch in PyTorch too, 2 epochs
    python benchmarks/domains/unsupervised.py --pictures       # draws those of docs/unsupervised.md

PyTorch starts from the same weights and gets the same batches, augmented by jaxnets. The
measurements are added to benchmarks/results/domains/unsupervised.json after each recipe.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
import records
import torch

from jaxnets import predict, recipes, scores
from jaxnets.compare import twin
from jaxnets.compare.from_recipe import from_recipe
from jaxnets.compare.torch_side import Torch, optimizer_of, rows_of, with_rates
from jaxnets.data import Compose, Dataset, Split, epoch_plan
from jaxnets.data.transforms.compose import applied
from jaxnets.interop import to_torch
from jaxnets.layers import flatten
from jaxnets.training.state import DRAWS
from jaxnets.unsupervised import kmeans, pca

ROOT = Path(__file__).parent.parent.parent
RECORD = records.FOLDER / "unsupervised.json"
IMAGES = ROOT / "docs" / "images"
ABOUT = {
    "title": "Unsupervised and semi-supervised learning",
    "method": (
        "MNIST. The same initial weights and batches in both frameworks; the 100 labels of a "
        "seed are drawn with it. Seconds of jaxnets include compilation, augmentation and a "
        "test after each epoch; those of PyTorch are those of its steps alone. Clusters are "
        "those of the 10,000 test images, by k-means with 10 restarts."
    ),
    "command": "python benchmarks/domains/unsupervised.py",
}


def flat(images):
    """Pixels from 0 to 1, [images, pixels]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255


def timed(work, *arguments, **named):
    began = time.perf_counter()
    made = work(*arguments, **named)
    return made, time.perf_counter() - began


def seeded(recipe, seed):
    """The recipe with the labels of a seed, if it hides some."""
    options = dict(recipe.data_options)
    if "labels" in options:
        options["seed"] = seed
    return dataclasses.replace(recipe, data_options=options)


def clusters(points, labels, seed):
    """The scores of ten clusters of points."""
    found = kmeans(points, 10, seed=seed).labels
    return {
        "accuracy": scores.clustering_accuracy(labels, found),
        "ari": scores.adjusted_rand_score(labels, found),
        "nmi": scores.normalized_mutual_info_score(labels, found),
    }


def autoencoder(recipe, seed):
    """The errors of the autoencoder and of a PCA, and the clusters of the test images.

    Seed 0 is trained in PyTorch too.
    """
    data = recipes.load_data(recipe)
    run, seconds = timed(recipes.train, recipe, seed=seed, data=data, progress="none")
    transform = Compose(recipes.build_transform(recipe), flatten)
    pixels, labels = flat(data.test.inputs), data.test.labels
    components = pca(flat(data.train.inputs), run.model.code_features)
    projected = components.transform(pixels)
    errors = (components.inverse_transform(projected) - pixels) ** 2
    codes = predict(run.model.encoder, data.test.inputs, transform=transform)
    found = {
        "score": run.test.loss,
        "pca_score": float(errors.mean()),
        "seconds": seconds,
        "pixels": clusters(pixels, labels, seed),
        "pca": clusters(projected, labels, seed),
        "codes": clusters(codes, labels, seed),
    }
    if seed:
        return found
    splits = (Split(each.inputs, flat(each.inputs)) for each in (data.train, data.test))
    copied = dataclasses.replace(recipe, objective="supervised", score=None)
    return found | in_torch(copied, Dataset("mnist", *splits), seed)


def in_torch(recipe, data, seed):
    """The test loss in PyTorch, from the same weights on the same batches."""
    this = from_recipe(recipe, data)
    side = Torch(this, paired=True, device="cpu")
    with side.at_work():
        began = time.perf_counter()
        training = side.begin(seed, this.build(seed))
        for epoch in range(recipe.epochs):
            training.epoch(epoch, lambda steps, loss: None)
        seconds = time.perf_counter() - began
        threads = torch.get_num_threads()
        loss = training.evaluate()[0]
    return {"torch_score": loss, "torch_seconds": seconds, "torch_threads": threads}


def curve(run):
    """The test accuracy after each epoch."""
    return [round(record.test["accuracy"], 4) for record in run.history]


def labels_alone(recipe, seed):
    """The accuracy of both frameworks, trained only on the labeled examples.

    Also the accuracy in jaxnets without augmentation.
    """
    data = recipes.load_data(recipe)
    run, seconds = timed(recipes.train, recipe, seed=seed, data=data, progress="none")
    this = from_recipe(recipe, data)
    side = Torch(this, paired=True, device="cpu")
    with side.at_work():
        training = side.begin(seed, this.build(seed))
        for epoch in range(recipe.epochs):
            training.epoch(epoch, lambda steps, loss: None)
        guesses = training.evaluate()[1].argmax(-1)
    right = float((guesses == data.test.labels).mean())
    found = {"score": run.test.accuracy, "seconds": seconds, "curve": curve(run)}
    plain = dataclasses.replace(recipe, augment=None)
    plain = recipes.train(plain, seed=seed, data=data, progress="none").test.accuracy
    return found | {"torch_score": right, "plain_score": plain}


def fixmatch(recipe, seed):
    """The accuracy of FixMatch."""
    data = recipes.load_data(recipe)
    run, seconds = timed(recipes.train, recipe, seed=seed, data=data, progress="none")
    found = {"score": run.test.accuracy, "seconds": seconds, "curve": curve(run)}
    found["confident"] = [round(record.train["confident"], 4) for record in run.history]
    return found


def beside_torch(recipe, seed):
    """The accuracy of FixMatch in both frameworks after fewer epochs."""
    data = recipes.load_data(recipe)
    return fixmatch(recipe, seed) | fixmatch_in_torch(recipe, data, seed)


def fixmatch_in_torch(recipe, data, seed):
    """FixMatch in PyTorch, from the same weights, on the views that jaxnets draws."""
    data, settings = recipes.fit_settings(recipe, data)
    sized = recipes.sized(recipe, data)
    step = recipes.objective_of(recipe).build(
        {name: settings[name] for name in ("loss", "transform", "augment", "train")},
        {"optimizer": settings["optimizer"]},
    )
    objective, model = step.objective, recipes.build_model(sized, seed)
    network = twin(model)
    network.load_state_dict(to_torch(model))
    plans = [
        epoch_plan(len(data.train), recipe.batch_size, seed=seed, epoch=epoch)
        for epoch in range(recipe.epochs)
    ]
    rates = jax.vmap(recipes.learning_rate(sized, len(data.train)))
    made = optimizer_of(recipe.optimizer, dict(recipe.optimizer_options))
    steps = sum(len(plan.full) + (len(plan.rest) > 0) for plan in plans)
    optimizer = with_rates(made, np.asarray(rates(np.arange(steps))))(network.parameters())
    swa = torch.optim.swa_utils
    averaged = swa.AveragedModel(network, multi_avg_fn=swa.get_ema_multi_avg_fn(recipe.ema))
    key = jax.random.fold_in(jax.random.key(seed), DRAWS)
    cross_entropy = torch.nn.functional.cross_entropy

    @jax.jit
    def views(batch, number):
        seen = objective.views(batch, jax.random.fold_in(key, number))
        ready = [applied(objective.transform, seen[place]) for place in (0, 2, 3)]
        return [x.transpose(0, 3, 1, 2) for x in ready], seen.labels

    seconds, number = 0.0, 0
    torch.set_num_threads(1)
    for plan in plans:
        for rows in rows_of(plan):
            inputs, labels = data.train.gather(rows)
            seen, labels = jax.device_get(views({"inputs": inputs, "labels": labels}, number))
            labelled, weak, strong = (torch.from_numpy(x.copy()) for x in seen)
            began = time.perf_counter()
            with torch.no_grad():
                guesses = network(weak).softmax(1)
            mask = (guesses.amax(1) >= objective.threshold).float()
            each = cross_entropy(network(strong), guesses.argmax(1), reduction="none")
            loss = cross_entropy(network(labelled), torch.from_numpy(labels.copy()).long())
            optimizer.zero_grad()
            (loss + objective.weight * (mask * each).mean()).backward()
            optimizer.step()
            averaged.update_parameters(network)
            seconds, number = seconds + time.perf_counter() - began, number + 1
    with torch.no_grad():
        ready = np.array(applied(objective.transform, data.test.inputs)).transpose(0, 3, 1, 2)
        right = averaged(torch.from_numpy(ready.copy())).argmax(1).numpy() == data.test.labels
    return {"torch_score": float(right.mean()), "torch_seconds": seconds}


MEASURED = {
    "mnist-autoencoder": autoencoder,
    "mnist-100-labels": labels_alone,
    "mnist-fixmatch": fixmatch,
}


def settings(recipe):
    """The settings that affect the scores of a recipe."""
    names = ("model_options", "epochs", "batch_size", "optimizer_options", "scheduler", "ema")
    return {name: getattr(recipe, name) for name in names}


def embeddings():
    """Draws the test digits by two principal components, and by codes of two values."""
    from jaxnets.figures import new_figure, save

    recipe = recipes.recipe("mnist-autoencoder")
    options = {**recipe.model_options, "code_features": 2}
    recipe = dataclasses.replace(recipe, model_options=options)
    data = recipes.load_data(recipe)
    run = recipes.train(recipe, data=data, progress="none")
    transform = Compose(recipes.build_transform(recipe), flatten)
    pixels = flat(data.test.inputs)
    components = pca(flat(data.train.inputs), 2)
    projected = components.transform(pixels)
    error = np.mean((components.inverse_transform(projected) - pixels) ** 2)
    codes = predict(run.model.encoder, data.test.inputs, transform=transform)
    print(f"two values: PCA {error:.4f}, autoencoder {run.test.loss:.4f}")
    figure = new_figure(11, 5)
    names = (f"PCA, error {error:.4f}", f"autoencoder, error {run.test.loss:.4f}")
    panels = figure.subplots(1, 2)
    for axes, name, points in zip(panels, names, (projected, codes), strict=True):
        print(name, clusters(points, data.test.labels, 0))
        some, colors = points[::4], {"c": data.test.labels[::4], "cmap": "tab10"}
        dots = axes.scatter(*some.T, vmin=-0.5, vmax=9.5, s=7, linewidths=0, **colors)
        low, high = np.percentile(points, [0.5, 99.5], axis=0)
        margin = 0.05 * (high - low)
        axes.set(title=name, xticks=[], yticks=[])
        axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
        axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    figure.colorbar(dots, ax=panels[-1], ticks=range(10), label="digit")
    save(figure, IMAGES / "unsupervised.png")


def curves():
    """Draws the recorded accuracy of FixMatch and of the labels alone after each epoch."""
    from jaxnets.figures import new_figure, save

    figure = new_figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    measured = records.recorded(RECORD)
    for name, color, label in (
        ("mnist-100-labels", "tab:gray", "100 labels alone"),
        ("mnist-fixmatch", "tab:blue", "FixMatch"),
    ):
        for row in measured[name]["seeds"]:
            share = np.arange(1, len(row["curve"]) + 1) / len(row["curve"])
            accuracy = 100 * np.array(row["curve"])
            left.plot(share, accuracy, color=color, label=None if row["seed"] else label)
            confident = 100 * np.array(row.get("confident", ()))
            right.plot(range(1, len(confident) + 1), confident, color=color)
    left.set(xlabel="fraction of the training", ylabel="test accuracy in %", ylim=(60, 100))
    left.legend()
    right.set(xlabel="epoch of FixMatch", ylabel="confident pseudo-labels in %", ylim=(0, 100))
    save(figure, IMAGES / "fixmatch.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=list(MEASURED), metavar="RECIPE")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="number of epochs, for a test without a record")
    parser.add_argument("--twin", action="store_true", help="FixMatch in both frameworks, 2 epochs")
    parser.add_argument("--pictures", action="store_true", help="draw the pictures of the guide")
    told = parser.parse_args()
    if told.pictures:
        embeddings()
        curves()
        return
    if told.twin:
        recipe = dataclasses.replace(recipes.recipe("mnist-fixmatch"), epochs=2)
        row = {"seed": 0, **beside_torch(recipe, 0)}
        records.add(RECORD, "mnist-fixmatch, 2 epochs", row, settings(recipe), **ABOUT)
        return
    for name in told.recipes:
        recipe = recipes.recipe(name)
        recipe = dataclasses.replace(recipe, epochs=told.epochs or recipe.epochs)
        for seed in told.seeds:
            row = {"seed": seed, **MEASURED[name](seeded(recipe, seed), seed)}
            print(name, row, flush=True)
            if told.epochs is None:
                records.add(RECORD, name, row, settings(recipe), **ABOUT)


if __name__ == "__main__":
    main()

"""Recipes for unsupervised and semi-supervised learning."""

from collections.abc import Mapping
from typing import Any

from jaxnets.arrays import InputError
from jaxnets.data import Compose, Dataset, RandomAffine, RandomErasing, Split
from jaxnets.recipes.recipe import Objective, Recipe
from jaxnets.training.fixmatch import fixmatch
from jaxnets.training.minimize import minimize
from jaxnets.training.reconstruction import reconstruction

#: What FixMatch's strong augmentation adds to the weak one.
STRONG = Compose(
    RandomAffine(30, (0.15, 0.15), (0.7, 1.3), 30, interpolation="bilinear"),
    RandomErasing(1, (0.1, 0.3), (0.5, 2)),
)
#: Number of labelled examples in a step of FixMatch.
LABELLED = 32


def _reconstruction(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    return minimize(reconstruction(**objective), **update)


def _fixmatch(objective: Mapping[str, Any], update: Mapping[str, Any]) -> Any:
    options = dict(objective)
    weak, train = options.pop("augment") or Compose(), options.pop("train")
    del options["loss"]  # always the cross-entropy
    made = fixmatch(train, weak=weak, strong=Compose(weak, STRONG), labelled=LABELLED, **options)
    return minimize(made, **update)


def _train_split(recipe: Recipe, data: Dataset) -> dict[str, Any]:
    """The training examples, of which FixMatch draws those with a label."""
    if not isinstance(data.train, Split):
        raise InputError("streaming", "False for FixMatch", True)
    return {"train": data.train}


#: The objectives of these recipes; see ``jaxnets.recipes.OBJECTIVES``.
OBJECTIVES = {
    "reconstruction": Objective(_reconstruction),
    "fixmatch": Objective(_fixmatch, settings=_train_split),
}

_MNIST: dict[str, Any] = {"data": "mnist", "layout": "images"}

RECIPES = (
    Recipe(
        name="mnist-autoencoder",
        document=(
            "Hinton and Salakhutdinov (2006): a fully connected autoencoder, here 784-512-256-16 "
            "with ReLU and Adam, trained as a whole"
        ),
        expect=(
            "mean squared error 0.0097 (seeds 0 to 2: 0.0096 to 0.0097), where 16 principal "
            "components have 0.0269; in about 2 minutes on 2 shared CPU cores"
        ),
        model="autoencoder",
        model_options={
            "in_features": 784,
            "hidden_features": (512, 256),
            "code_features": 16,
            "output": "sigmoid",
        },
        loss="mse",
        objective="reconstruction",
        score="loss",
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        scheduler="cosine",
        epochs=10,
        batch_size=128,
        **_MNIST,
    ),
    Recipe(
        name="mnist-fixmatch",
        document=(
            "Sohn et al. (2020): FixMatch with 100 labels, 10 of each digit, and the other images "
            "without labels; here LeNet, batches of 32 labelled and 128 other images, shifts as "
            "the weak augmentation, and affine maps and erased rectangles as the strong one"
        ),
        expect="mnist-100-labels is the same network without the other images",
        data_options={"labels": 100},
        model="lenet",
        model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
        objective="fixmatch",
        optimizer="sgd",
        optimizer_options={"lr": 0.03, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005},
        scheduler="cosine",
        epochs=8,
        batch_size=128,
        normalize=(0.1307, 0.3081),
        augment="shift",
        ema=0.995,
        **_MNIST,
    ),
    Recipe(
        name="mnist-100-labels",
        document=(
            "the network of mnist-fixmatch on the 100 images with labels alone, with the same weak "
            "augmentation"
        ),
        data_options={"labels": 100, "unlabelled": False},
        model="lenet",
        model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
        optimizer="adam",
        optimizer_options={"lr": 0.002},
        scheduler="cosine",
        epochs=100,
        batch_size=10,
        normalize=(0.1307, 0.3081),
        augment="shift",
        **_MNIST,
    ),
)

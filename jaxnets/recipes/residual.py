"""Recipes for residual networks."""

from jaxnets.recipes.images import CIFAR
from jaxnets.recipes.recipe import Recipe

RECIPES = (
    Recipe(
        name="cifar10-resnet20",
        document=(
            "000, section 4.2: ResNet-20 (He et al. 2015), here in 12 epochs with one cycle of the "
            "learning rate; images are padded by 4, cropped and mirrored at random"
        ),
        expect="87.6 % (seed 0) in about 15 minutes on 2 CPU cores",
        data="cifar10",
        model="cifar-resnet",
        model_options={"depth": 20, "num_classes": 10, "in_channels": 3},
        optimizer_options={"lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True},
        scheduler="onecycle",
        epochs=12,
        batch_size=128,
        normalize=CIFAR,
        augment="crop-flip",
    ),
    Recipe(
        name="cifar10-resnet20-paper",
        document=(
            "He et al. (2015), section 4.2: ResNet-20 with the paper's settings, 164 epochs, "
            "learning rate 0.1 divided by 10 after epochs 82 and 123"
        ),
        expect="the paper's 91.25 %; on a GPU, as it takes hours on a CPU",
        data="cifar10",
        model="cifar-resnet",
        model_options={"depth": 20, "num_classes": 10, "in_channels": 3},
        optimizer_options={"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        scheduler="multistep",
        scheduler_options={"milestones": (82, 123), "gamma": 0.1},
        epochs=164,
        batch_size=128,
        normalize=CIFAR,
        augment="crop-flip",
    ),
)

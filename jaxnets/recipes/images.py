"""Recipes for images."""

from jaxnets.recipes.recipe import Recipe

_MNIST = (0.1307, 0.3081)
_FASHION = (0.2860, 0.3530)
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
_ROWS = {"input_dim": 28, "hidden_dim": 128, "n_layers": 2, "output_dim": 10}

RECIPES = (
    Recipe(
        name="mnist-mlp",
        document="004, section 4: 784-128-64-10, normalised, SGD 0.01 with momentum 0.9",
        data="mnist",
        model="mlp",
        model_options={"features": (784, 128, 64, 10)},
        optimizer_options={"lr": 0.01, "momentum": 0.9},
        epochs=10,
        normalize=_MNIST,
    ),
    Recipe(
        name="mnist-softmax-mlp",
        document=(
            "001, section 4: 784-128-10 ending in a softmax, pixels in [0, 1]; its cross "
            "entropy takes the probabilities for logits, as the document's code does"
        ),
        data="mnist",
        model="mlp",
        model_options={"features": (784, 128, 10), "output": "softmax"},
        optimizer_options={"lr": 0.01, "momentum": 0.9},
        epochs=10,
    ),
    Recipe(
        name="mnist-lenet",
        document="003, section 3.2.3: LeNet, here normalised, SGD 0.01 with momentum 0.9",
        data="mnist",
        model="lenet",
        model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
        optimizer_options={"lr": 0.01, "momentum": 0.9},
        epochs=10,
        normalize=_MNIST,
    ),
    Recipe(
        name="mnist-lstm",
        document="002, section 3: the LSTM, here with ten logits over the rows of an image",
        data="mnist",
        model="recurrent-classifier",
        model_options={**_ROWS, "cell": "lstm"},
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=3,
        normalize=_MNIST,
        layout="rows",
    ),
    Recipe(
        name="mnist-gru",
        document="002, section 3: the GRU in the LSTM's place",
        data="mnist",
        model="recurrent-classifier",
        model_options={**_ROWS, "cell": "gru"},
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=3,
        normalize=_MNIST,
        layout="rows",
    ),
    Recipe(
        name="fashion-mnist-lenet",
        document="003, section 3.2.3: LeNet, here on Fashion-MNIST, normalised, Adam 0.001",
        expect="90.3 % (seed 1: 90.4 %) in about 100 s on 2 CPU cores",
        data="fashion_mnist",
        model="lenet",
        model_options={"in_channels": 1, "num_classes": 10, "image_size": 28},
        optimizer="adam",
        optimizer_options={"lr": 0.001},
        epochs=10,
        normalize=_FASHION,
    ),
    Recipe(
        name="cifar10-lenet",
        document=(
            "002, section 3: the CNN, three channels of 32×32; the document names no data and "
            "no optimizer, here they are CIFAR-10, normalised, and SGD 0.01 with momentum 0.9; "
            "images are mirrored at random"
        ),
        expect="66 % (seeds 0 and 1: 65.7, 66.4 %) in about 200 s on 2 CPU cores",
        data="cifar10",
        model="lenet",
        model_options={"in_channels": 3, "num_classes": 10, "image_size": 32},
        optimizer_options={"lr": 0.01, "momentum": 0.9},
        epochs=15,
        normalize=CIFAR,
        augment="flip",
    ),
    Recipe(
        name="cifar10-image-classifier",
        document=(
            "000, section 3.2: pixels in [0, 1], SGD 0.001, batch 64, 10 epochs, as there; the "
            "document's network takes 100 inputs where an image has 3,072 values, is never "
            "given the second layer that its text names, and its gradients are never reset "
            "to zero; here they are as they must have been meant: 3072-64-10; images are "
            "mirrored at random"
        ),
        data="cifar10",
        model="image-classifier",
        model_options={"input_size": 3072, "hidden_size": 64, "num_classes": 10},
        optimizer_options={"lr": 0.001},
        epochs=10,
        augment="flip",
    ),
)

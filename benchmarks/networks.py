"""The networks that are timed: sizes, random data, and how jaxnets builds them.

The documented networks in the other libraries are in `torch_networks.py`, `flax_networks.py` and
`keras_networks.py`; the ordinary networks are in `ordinary_*.py`. A process therefore imports only
the library that it times.
"""

from typing import Any, NamedTuple

import numpy as np


class Network(NamedTuple):
    """The inputs and outputs of a network, and its multiplications per example.

    Attributes:
        kind: a documented network, or the name of the class of an ordinary one.
        shape: shape of an input, channels last.
        multiplications: number in convolutions and matrix products of the forward pass.
        sizes: the arguments of an ordinary network's class.
        vocabulary: number of tokens if inputs are tokens, otherwise 0.
        loss: name of the loss in jaxnets and PyTorch.
        labels: the shape of a label.
        classes: number of classes for the cross entropy.
        axes: number of axes after the channels in PyTorch, of an image or a signal.
    """

    kind: str
    shape: tuple[int, ...]
    multiplications: int
    sizes: tuple[int, ...] = ()
    vocabulary: int = 0
    loss: str = "cross_entropy"
    labels: tuple[int, ...] = ()
    classes: int = 10
    axes: int = 0


DENSE = 400 * 120 + 120 * 84 + 840
DOCUMENTED = {
    "mlp": Network("mlp", (784,), 784 * 128 + 128 * 64 + 640),
    "lenet-28": Network(
        "lenet", (28, 28, 1), 28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + DENSE, axes=2
    ),
    "lenet-32": Network(
        "lenet", (32, 32, 3), 28 * 28 * 75 * 6 + 10 * 10 * 150 * 16 + DENSE, axes=2
    ),
    "lstm": Network("lstm", (28, 28), 28 * 512 * (28 + 128 + 128 + 128) + 1280),
    "gru": Network("gru", (28, 28), 28 * 384 * (28 + 128 + 128 + 128) + 1280),
}

IMAGE, SIGNAL, BINARY = (32, 32, 3), (128, 16), "binary_cross_entropy_with_logits"
ORDINARY = {
    "mlp-3072": Network("MLP", (3072,), 197_248, sizes=(3072, 64, 10)),
    "mlp-784": Network("MLP", (784,), 1_861_632, sizes=(784, 1024, 1024, 10)),
    "cnn": Network("CNN", IMAGE, 10_342_400, axes=2),
    "vgg": Network("VGG", IMAGE, 38_896_896, axes=2),
    "resnet-20": Network("ResNet20", IMAGE, 40_813_184, axes=2),
    "mobilenet": Network("MobileNet", IMAGE, 4_510_976, axes=2),
    "u-net": Network("UNet", (32, 32, 1), 24_805_376, loss=BINARY, labels=(32, 32, 1), axes=2),
    "generator": Network(
        "Generator", (1, 1, 100), 17_973_248, loss="mse_loss", labels=IMAGE, axes=2
    ),
    "discriminator": Network("Discriminator", IMAGE, 17_567_744, loss=BINARY, labels=(1,), axes=2),
    "cnn-1d": Network("CNN1d", SIGNAL, 4_850_944, axes=1),
    "tcn": Network("TCN", SIGNAL, 11_534_976, axes=1),
    "bi-lstm": Network("BiLSTM", (64,), 16_779_776, vocabulary=5000),
    "char-lstm": Network("CharLSTM", (100,), 106_521_600, vocabulary=65, labels=(100,), classes=65),
    "transformer": Network("Transformer", (64,), 27_264_256, vocabulary=5000),
    "gpt": Network("GPT", (64,), 27_795_456, vocabulary=65, labels=(64,), classes=65),
    "autoencoder": Network(
        "MLP", (784,), 208_896, sizes=(784, 128, 32, 128, 784), loss="mse_loss", labels=(784,)
    ),
}
NETWORKS = {**DOCUMENTED, **ORDINARY}


def examples(network: Network, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns random inputs and labels from a fixed seed."""
    draw = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...], below: int) -> np.ndarray:
        """Returns integers below a number, or normal numbers if it is 0."""
        if below:
            return draw.integers(below, size=(count, *shape)).astype(np.int32)
        return draw.standard_normal((count, *shape), np.float32)

    inputs = drawn(network.shape, network.vocabulary)
    if network.loss == BINARY:
        return inputs, drawn(network.labels, 2).astype(np.float32)
    classes = network.classes if network.loss == "cross_entropy" else 0
    return inputs, drawn(network.labels, classes)


def build(network: Network) -> Any:
    """Returns the network in jaxnets."""
    from flax import nnx

    from jaxnets.models import MLP, LeNet, RecurrentClassifier

    rngs = nnx.Rngs(0)
    if network.kind == "mlp":
        return MLP((784, 128, 64, 10), rngs=rngs)
    if network.kind == "lenet":
        return LeNet(network.shape[2], image_size=network.shape[0], rngs=rngs)
    if network.kind in ("lstm", "gru"):
        return RecurrentClassifier(28, 128, 2, output_dim=10, cell=network.kind, rngs=rngs)
    import ordinary_jaxnets

    return getattr(ordinary_jaxnets, network.kind)(*network.sizes, rngs=rngs)

"""The documented networks that are timed: sizes, random data, and how jaxnets builds them.

Their forms in the other libraries stand in `torch_networks.py`, `flax_networks.py` and
`keras_networks.py`, so that a process imports no library but that which it times.
"""

from typing import Any, NamedTuple

import numpy as np


class Network(NamedTuple):
    """A network's kind, its sizes, and its multiplications forward, per example."""

    kind: str
    shape: tuple[int, ...]  # of an input, images NHWC
    multiplications: int


DENSE = 400 * 120 + 120 * 84 + 840
NETWORKS = {
    "mlp": Network("mlp", (784,), 784 * 128 + 128 * 64 + 640),
    "lenet-28": Network("lenet", (28, 28, 1), 28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + DENSE),
    "lenet-32": Network("lenet", (32, 32, 3), 28 * 28 * 75 * 6 + 10 * 10 * 150 * 16 + DENSE),
    "lstm": Network("lstm", (28, 28), 28 * 512 * (28 + 128 + 128 + 128) + 1280),
    "gru": Network("gru", (28, 28), 28 * 384 * (28 + 128 + 128 + 128) + 1280),
}


def examples(network: Network, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and labels, always the same."""
    draw = np.random.default_rng(0)
    inputs = draw.standard_normal((count, *network.shape), np.float32)
    return inputs, draw.integers(10, size=count).astype(np.int32)


def build(network: Network) -> Any:
    """The network as jaxnets has it."""
    from flax import nnx

    from jaxnets.models import MLP, LeNet, RecurrentClassifier

    rngs = nnx.Rngs(0)
    if network.kind == "mlp":
        return MLP((784, 128, 64, 10), rngs=rngs)
    if network.kind == "lenet":
        return LeNet(network.shape[2], image_size=network.shape[0], rngs=rngs)
    return RecurrentClassifier(28, 128, 2, output_dim=10, cell=network.kind, rngs=rngs)

"""The documented networks of Flax's own layers, and the losses of all."""

from typing import Any

import jax
import optax
import ordinary_flax
from flax import nnx
from networks import Network


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.fc1, self.fc2 = nnx.Linear(784, 128, rngs=rngs), nnx.Linear(128, 64, rngs=rngs)
        self.fc3 = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc3(nnx.relu(self.fc2(nnx.relu(self.fc1(x)))))


class LeNet(nnx.Module):
    def __init__(self, channels, size, rngs):
        padding = (32 - size) // 2
        self.conv1 = nnx.Conv(channels, 6, (5, 5), padding=padding, rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding=0, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(400, 120, rngs=rngs), nnx.Linear(120, 84, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2):
            x = nnx.max_pool(nnx.relu(conv(x)), (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        return self.fc3(nnx.relu(self.fc2(nnx.relu(self.fc1(x)))))


class Recurrent(nnx.Module):
    def __init__(self, cell, rngs):
        self.one = nnx.RNN(cell(28, 128, rngs=rngs))
        self.two = nnx.RNN(cell(128, 128, rngs=rngs))
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.two(self.one(x))[:, -1])


def build(network: Network) -> Any:
    rngs = nnx.Rngs(0)
    if network.kind == "mlp":
        return MLP(rngs)
    if network.kind == "lenet":
        return LeNet(network.shape[2], network.shape[0], rngs)
    if network.kind in ("lstm", "gru"):
        return Recurrent({"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[network.kind], rngs)
    return getattr(ordinary_flax, network.kind)(*network.sizes, rngs=rngs)


def loss(network: Network, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    losses = {
        "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
        "mse_loss": optax.squared_error,
        "binary_cross_entropy_with_logits": optax.sigmoid_binary_cross_entropy,
    }
    return losses[network.loss](outputs, labels).mean()

"""The documented networks in Keras 3 on JAX, and the losses of all."""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
import ordinary_keras
from networks import Network


def build(network: Network) -> Any:
    kinds = {"mlp": mlp, "lenet": lenet, "lstm": recurrent, "gru": recurrent}
    if network.kind not in kinds:
        return getattr(ordinary_keras, network.kind)(*network.sizes)
    body = kinds[network.kind](network)
    return keras.Sequential([keras.Input(network.shape), *body, keras.layers.Dense(10)])


def loss(network: Network) -> Any:
    if network.loss == "cross_entropy":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if network.loss == "mse_loss":
        return keras.losses.MeanSquaredError()
    return keras.losses.BinaryCrossentropy(from_logits=True)


def mlp(network: Network) -> list:
    return [keras.layers.Dense(size, activation="relu") for size in (128, 64)]


def lenet(network: Network) -> list:
    convolution, pool = keras.layers.Conv2D, keras.layers.MaxPooling2D
    padding = "same" if network.shape[0] == 28 else "valid"
    dense = [keras.layers.Dense(size, activation="relu") for size in (120, 84)]
    return [
        convolution(6, 5, padding=padding, activation="relu"),
        pool(),
        convolution(16, 5, activation="relu"),
        pool(),
        keras.layers.Flatten(),
        *dense,
    ]


def recurrent(network: Network) -> list:
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[network.kind]
    return [layer(128, return_sequences=True), layer(128)]

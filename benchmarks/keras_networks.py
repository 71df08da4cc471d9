"""The documented networks in Keras 3 on JAX."""

import os
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import keras
from networks import Network


def build(network: Network) -> Any:
    body = {"mlp": mlp, "lenet": lenet}.get(network.kind, recurrent)(network)
    return keras.Sequential([keras.Input(network.shape), *body, keras.layers.Dense(10)])


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

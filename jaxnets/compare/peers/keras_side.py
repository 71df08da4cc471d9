"""Training in Keras 3 on JAX, with its layers and ``model.fit``."""

import contextlib
import os
import sys
import time
from typing import Any

import numpy as np
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.compare.experiment import Experiment
from jaxnets.compare.peers.networks import Sizes, sizes_of, weights_of
from jaxnets.compare.sides import EVALUATED, Advance, Clock, order, together
from jaxnets.optional import require


class Keras:
    """See ``Other``."""

    framework: str = "keras"
    threads: int | None = None

    def __init__(self, this: Experiment, *, paired: bool) -> None:
        self.keras = _keras()
        self.this, self.sizes = this, sizes_of(this, "Keras")
        self.takes_weights = self.sizes.carries
        self.paired = paired and self.takes_weights
        splits = (this.train, this.test)
        self.train, self.test = ((this.inputs(split.inputs), split.labels) for split in splits)

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """See ``Other``."""
        return contextlib.nullcontext()

    def check(self, model: nnx.Module) -> None:
        """See ``Other``; the sizes were checked at construction."""

    def begin(self, seed: int, weights: nnx.Module | None) -> "KerasTraining":
        """See ``Other``."""
        keras, options = self.keras, self.sizes.options
        keras.utils.set_random_seed(seed)
        inputs = keras.Input(self.sizes.shape)
        model = keras.Sequential([inputs, *_body(keras, self.sizes)])
        if weights is not None:
            model.set_weights([each for pair in weights_of(weights, self.sizes) for each in pair])
        if self.sizes.optimizer == "adam":
            optimizer = keras.optimizers.Adam(options["lr"], epsilon=1e-8)
        else:
            optimizer = keras.optimizers.SGD(options["lr"], options["momentum"])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=optimizer, loss=loss)
        return KerasTraining(self, model, seed)


class KerasTraining:
    """See ``Training``."""

    def __init__(self, side: Keras, model: Any, seed: int) -> None:
        self._side, self._model, self._seed = side, model, seed
        self.compile_seconds = self._compiled()

    def epoch(self, number: int, advance: Advance) -> tuple[np.ndarray, float]:
        """See ``Training``.

        Keras reports the mean loss so far; the loss of a step follows from two such means.
        """
        batches = order(self._side.this, self._seed, number, paired=self._side.paired)
        inputs, labels = self._side.train
        rows, clock = np.concatenate(batches), Clock()
        means = _Means(self._side.keras, together(len(batches)), advance)
        x, y = inputs[rows], labels[rows]  # not timed, as Keras gathers the batches again
        with clock:
            self._fit(x, y, [means.callback])
        seen = np.cumsum([len(batch) for batch in batches])
        sums = np.array(means.found) * seen
        return np.diff(sums, prepend=0) / np.diff(seen, prepend=0), clock.seconds

    def evaluate(self) -> tuple[float, np.ndarray]:
        """See ``Training``."""
        inputs, labels = self._side.test
        outputs = self._model.predict(inputs, batch_size=EVALUATED, verbose=0)
        shifted = outputs.astype(np.float64) - outputs.max(-1, keepdims=True)
        chosen = shifted[np.arange(len(labels)), labels]
        return float(np.mean(np.log(np.exp(shifted).sum(-1)) - chosen)), outputs

    def _fit(self, x: np.ndarray, y: np.ndarray, callbacks: list[Any]) -> None:
        size = self._side.this.batch_size
        self._model.fit(x, y, size, epochs=1, shuffle=False, verbose=0, callbacks=callbacks)

    def _compiled(self) -> float:
        """Compiles a step for each batch size by running it and restoring all variables.

        Returns:
            The seconds.
        """
        began = time.perf_counter()
        optimizer = self._model.optimizer
        optimizer.build(self._model.trainable_variables)
        before = [np.array(each) for each in (*self._model.variables, *optimizer.variables)]
        inputs, labels = self._side.train
        rows = np.concatenate(order(self._side.this, self._seed, 0, paired=True)[-2:])
        self._fit(inputs[rows], labels[rows], [])
        variables = (*self._model.variables, *optimizer.variables)
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
        return time.perf_counter() - began


class _Means:
    """Records the mean loss that Keras reports after each batch."""

    def __init__(self, keras: Any, piece: int, advance: Advance) -> None:
        self.found: list[float] = []

        def noted(batch: int, logs: Any = None) -> None:
            self.found.append(float(logs["loss"]))
            if len(self.found) % piece == 0:
                advance(piece, self.found[-1])

        self.callback = keras.callbacks.LambdaCallback(on_train_batch_end=noted)


def _keras() -> Any:
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "jax"
    keras: Any = require("keras", extra="keras", feature="a comparison with Keras")
    if keras.backend.backend() != "jax":
        got = f"on {keras.backend.backend()}, as it was imported before"
        raise InputError("peer", "Keras on JAX", got)
    return keras


def _body(keras: Any, sizes: Sizes) -> list[Any]:
    layers = keras.layers
    if sizes.kind == "lenet":
        padding = "same" if sizes.shape[0] == 28 else "valid"
        body = [
            layers.Conv2D(6, 5, padding=padding, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            *(layers.Dense(width, activation="relu") for width in (120, 84)),
        ]
    elif sizes.kind == "mlp":
        hidden = (layers.Dense(width, activation="relu") for width in sizes.widths)
        body = [layers.Flatten(), *hidden]
    else:
        layer = {"lstm": layers.LSTM, "gru": layers.GRU}[sizes.kind]
        last = len(sizes.widths) - 1
        body = [layer(w, return_sequences=i < last) for i, w in enumerate(sizes.widths)]
    return [*body, layers.Dense(sizes.classes)]

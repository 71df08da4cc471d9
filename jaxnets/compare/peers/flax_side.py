"""Training in plain Flax NNX, with the loop of its MNIST example."""

import contextlib
import itertools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.compare.experiment import Experiment
from jaxnets.compare.peers.networks import Sizes, sizes_of, weights_of
from jaxnets.compare.sides import EVALUATED, Advance, Clock, order, together


class _MLP(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs) -> None:
        widths = (int(np.prod(sizes.shape)), *sizes.widths, sizes.classes)
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in pairs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class _LeNet(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs) -> None:
        size, _, channels = sizes.shape
        convolution = {"kernel_size": (5, 5), "rngs": rngs}
        self.layers = nnx.List(
            (
                nnx.Conv(channels, 6, padding=(32 - size) // 2, **convolution),
                nnx.Conv(6, 16, padding=0, **convolution),
                nnx.Linear(400, 120, rngs=rngs),
                nnx.Linear(120, 84, rngs=rngs),
                nnx.Linear(84, sizes.classes, rngs=rngs),
            )
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:2]:
            x = nnx.max_pool(nnx.relu(layer(x)), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers[2:4]:
            x = nnx.relu(layer(x))
        return self.layers[4](x)


class _Recurrent(nnx.Module):
    def __init__(self, sizes: Sizes, rngs: nnx.Rngs) -> None:
        cell: Any = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}[sizes.kind]
        widths = (sizes.shape[-1], *sizes.widths)
        pairs = itertools.pairwise(widths)
        self.layers = nnx.List(nnx.RNN(cell(*pair, rngs=rngs)) for pair in pairs)
        self.fc = nnx.Linear(widths[-1], sizes.classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.fc(x[:, -1])


#: The network for each kind in ``Sizes``.
NETWORKS: dict[str, Any] = {"mlp": _MLP, "lenet": _LeNet, "lstm": _Recurrent, "gru": _Recurrent}


def carry(model: Any, weights: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Sets the kernel and bias of each layer.

    Args:
        model: one of ``NETWORKS``.
        weights: kernel and bias of each layer, see ``weights_of``.
    """
    for layer, (kernel, bias) in zip(model.layers, weights, strict=True):
        layer.kernel[...], layer.bias[...] = kernel, bias


class Flax:
    """See ``Other``."""

    framework: str = "flax"
    threads: int | None = None

    def __init__(self, this: Experiment, *, paired: bool) -> None:
        self.this, self.sizes = this, sizes_of(this, "Flax")
        self.takes_weights = self.sizes.carries
        self.paired = paired and self.takes_weights
        splits = (this.train, this.test)
        self.train, self.test = (
            (this.inputs(split.inputs), split.labels.astype(np.int32)) for split in splits
        )

    def at_work(self) -> contextlib.AbstractContextManager[None]:
        """See ``Other``."""
        return contextlib.nullcontext()

    def check(self, model: nnx.Module) -> None:
        """See ``Other``; the sizes were checked at construction."""

    def begin(self, seed: int, weights: nnx.Module | None) -> "FlaxTraining":
        """See ``Other``."""
        model = NETWORKS[self.sizes.kind](self.sizes, nnx.Rngs(seed))
        if weights is not None:
            carry(model, weights_of(weights, self.sizes))
        return FlaxTraining(self, model, seed)


class FlaxTraining:
    """See ``Training``."""

    def __init__(self, side: Flax, model: nnx.Module, seed: int) -> None:
        self._side, self._model, self._seed = side, model, seed
        options = side.sizes.options
        if side.sizes.optimizer == "adam":
            rule = optax.adam(options["lr"])
        else:
            rule = optax.sgd(options["lr"], options["momentum"] or None)
        self._optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)
        self.compile_seconds = self._compiled()

    def epoch(self, number: int, advance: Advance) -> tuple[np.ndarray, float]:
        """See ``Training``."""
        batches = order(self._side.this, self._seed, number, paired=self._side.paired)
        inputs, labels = self._side.train
        piece, clock, found = together(len(batches)), Clock(), []
        for start in range(0, len(batches), piece):
            with clock:
                lost = []
                for rows in batches[start : start + piece]:
                    lost.append(_step(self._model, self._optimizer, inputs[rows], labels[rows]))
                found += jax.device_get(lost)
            advance(len(lost), float(found[-1]))
        return np.array(found), clock.seconds

    def evaluate(self) -> tuple[float, np.ndarray]:
        """See ``Training``."""
        inputs, labels = self._side.test
        total, found = 0.0, []
        for start in range(0, len(inputs), EVALUATED):
            part = slice(start, start + EVALUATED)
            loss, outputs = _evaluated(self._model, inputs[part], labels[part])
            total += float(loss) * (1 if self._side.this.adds_up else len(outputs))
            found.append(np.asarray(outputs))
        return total / len(inputs), np.concatenate(found)

    def _compiled(self) -> float:
        """Compiles a step for each batch size by running it on a copy, and returns the seconds."""
        began = time.perf_counter()
        model, optimizer = nnx.clone((self._model, self._optimizer))
        inputs, labels = self._side.train
        for rows in order(self._side.this, self._seed, 0, paired=True)[-2:]:
            jax.block_until_ready(_step(model, optimizer, inputs[rows], labels[rows]))
        return time.perf_counter() - began


def _loss(model: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    outputs = model(x)
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean(), outputs


@nnx.jit
def _step(model: Any, optimizer: Any, x: Any, y: Any) -> jax.Array:
    (loss, _), gradients = nnx.value_and_grad(_loss, has_aux=True)(model, x, y)
    optimizer.update(model, gradients)
    return loss


@nnx.jit
def _evaluated(model: Any, x: Any, y: Any) -> Any:
    return _loss(model, jnp.asarray(x), jnp.asarray(y))

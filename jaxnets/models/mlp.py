"""The fully connected network of documents 004 and 001."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, InputError, check_choice, check_positive, entries
from jaxnets.layers import Linear
from jaxnets.layers.flatten import flatten_to


class MLP(nnx.Module):
    """A multilayer perceptron: linear layers ``fc1``, ``fc2``, … with ReLU between them.

    The network of document 004 has the sizes 784-128-64-10 and returns logits. The network of
    document 001 is ``MLP((784, 128, 10), output="softmax")``. It returns softmax probabilities,
    which the document passes to a cross entropy of logits.

    Args:
        features: the sizes of the input, of each hidden layer and of the output.
        output: ``"logits"``, or ``"softmax"`` for probabilities.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer, there are fewer than two sizes, or
            ``output`` is unknown.
    """

    def __init__(
        self,
        features: Sequence[int] = (784, 128, 64, 10),
        *,
        output: Literal["logits", "softmax"] = "logits",
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        sizes = entries(features)
        if sizes is None or len(sizes) < 2:
            raise InputError("features", "at least an input and an output size", features)
        checked = [check_positive("features", size) for size in sizes]
        self.output = check_choice("output", output, ("logits", "softmax"))
        for index, (size, next_size) in enumerate(itertools.pairwise(checked), start=1):
            setattr(self, f"fc{index}", Linear(size, next_size, rngs=rngs, param_dtype=param_dtype))

    @property
    def features(self) -> tuple[int, ...]:
        """The sizes of the input, of each hidden layer and of the output."""
        sized = [layer for layer in self._layers if hasattr(layer, "out_features")]
        return sized[0].in_features, *(layer.out_features for layer in sized)

    @property
    def _layers(self) -> list[Linear]:
        names = (f"fc{index}" for index in itertools.count(1))
        return [
            getattr(self, name) for name in itertools.takewhile(lambda n: hasattr(self, n), names)
        ]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {"features": self.features, "output": self.output}

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns logits or probabilities [batch, features[-1]].

        Args:
            inputs: [batch, ...] with features[0] values per example; images are NHWC.
        """
        *hidden, last = self._layers
        x = flatten_to(self.features[0], inputs)
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        x = last(x)
        return jax.nn.softmax(x) if self.output == "softmax" else x

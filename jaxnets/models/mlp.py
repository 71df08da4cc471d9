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
    """Linear layers ``fc1``, ``fc2``, … with ReLU between them.

    Document 004 has 784-128-64-10 and returns logits. Document 001 has 784-128-10 and returns
    softmax probabilities, which it then hands to a cross entropy that takes logits; that network
    is ``MLP((784, 128, 10), output="softmax")``.

    Args:
        features: sizes of the input, of each hidden layer and of the output.
        output: ``"logits"``, or ``"softmax"`` for probabilities.
        rngs: where the initial values are drawn from.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, there are fewer than two of them, or the
            output is neither of the two.
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
        """Sizes of the input, of each hidden layer and of the output."""
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
        """The arguments that make a network of this kind and these sizes, except for ``rngs``."""
        return {"features": self.features, "output": self.output}

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns logits or probabilities [batch, features[-1]].

        Args:
            inputs: [batch, ...] with features[0] values an example; images are NHWC.
        """
        *hidden, last = self._layers
        x = flatten_to(self.features[0], inputs)
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        x = last(x)
        return jax.nn.softmax(x) if self.output == "softmax" else x

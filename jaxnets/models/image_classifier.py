"""The two-layer image classifier of document 000."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, check_positive
from jaxnets.layers import Linear
from jaxnets.layers.flatten import flatten_to


class ImageClassifier(nnx.Module):
    """A classifier with one hidden layer: ``fc1``, ReLU, ``fc2``; returns logits.

    The text of document 000 describes fc1, relu and fc2. The code of the document lacks fc2, so
    that the network ends in a ReLU of hidden_size values, and passes images [batch, 3, 32, 32] to a
    Linear without flattening them. This network has fc2, and flattens images in PyTorch's order
    (channel by channel).

    Args:
        input_size: the number of values per example; 3072 for CIFAR-10.
        hidden_size: the width of the hidden layer.
        num_classes: the number of classes.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer.
    """

    def __init__(
        self,
        input_size: int = 3072,
        hidden_size: int = 64,
        num_classes: int = 10,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("input_size", input_size)
        check_positive("hidden_size", hidden_size)
        check_positive("num_classes", num_classes)
        self.fc1 = Linear(input_size, hidden_size, rngs=rngs, param_dtype=param_dtype)
        self.fc2 = Linear(hidden_size, num_classes, rngs=rngs, param_dtype=param_dtype)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        sizes = self.fc1.in_features, self.fc1.out_features, self.fc2.out_features
        return dict(zip(("input_size", "hidden_size", "num_classes"), sizes, strict=True))

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns logits [batch, num_classes].

        Args:
            inputs: [batch, height, width, channels], or [batch, input_size].
        """
        x = flatten_to(self.fc1.in_features, inputs)
        return self.fc2(jax.nn.relu(self.fc1(x)))

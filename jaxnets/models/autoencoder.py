"""A fully connected autoencoder."""

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, InputError, check_choice, check_positive, entries
from jaxnets.layers import Linear, ReLU, Sigmoid
from jaxnets.layers.flatten import flatten_to


class Autoencoder(nnx.Module):
    """Compresses examples to short codes, and reconstructs them from their codes.

    Hinton and Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", 2006, here
    with ReLU and trained as a whole. ``encoder`` and ``decoder`` are ``Sequential``: linear layers
    with ReLU between them, those of the decoder in the reverse order. Codes are not bounded.

    ``jaxnets.training.reconstruction`` is the objective. ``jaxnets.predict(model.encoder, x)``
    computes the codes of many flat examples, ``jaxnets.predict(model.decoder, codes)`` decodes.

    Args:
        in_features: number of values in an example.
        hidden_features: the sizes of the hidden layers of the encoder. Without any, encoder and
            decoder are linear, and the best possible codes are those of a PCA.
        code_features: the size of a code.
        output: ``"linear"``, or ``"sigmoid"`` for values from 0 to 1 such as pixels.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a size is not a positive integer, or ``output`` is unknown.

    Examples:
        >>> model = Autoencoder(784, (128, 64), 2, rngs=nnx.Rngs(0))
        >>> images = jnp.zeros((5, 28, 28, 1))
        >>> model.encode(images).shape, model(images).shape
        ((5, 2), (5, 784))
    """

    def __init__(
        self,
        in_features: int = 784,
        hidden_features: Sequence[int] = (512, 256),
        code_features: int = 32,
        *,
        output: Literal["linear", "sigmoid"] = "linear",
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        hidden = entries(hidden_features)
        if hidden is None:
            raise InputError("hidden_features", "a sequence of sizes", hidden_features)
        self.in_features = check_positive("in_features", in_features)
        self.hidden_features = tuple(check_positive("hidden_features", size) for size in hidden)
        self.code_features = check_positive("code_features", code_features)
        self.output = check_choice("output", output, ("linear", "sigmoid"))
        sizes = (self.in_features, *self.hidden_features, self.code_features)
        made = {"rngs": rngs, "param_dtype": param_dtype}
        self.encoder = nnx.Sequential(*_layers(sizes, made))
        ends = [Sigmoid()] if output == "sigmoid" else []
        self.decoder = nnx.Sequential(*_layers(sizes[::-1], made), *ends)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        names = ("in_features", "hidden_features", "code_features", "output")
        return {name: getattr(self, name) for name in names}

    def encode(self, inputs: ArrayLike) -> jax.Array:
        """Returns codes [batch, code_features].

        Args:
            inputs: [batch, ...] with in_features values per example; images are NHWC.
        """
        return self.encoder(flatten_to(self.in_features, inputs))

    def decode(self, codes: ArrayLike) -> jax.Array:
        """Returns reconstructions [batch, in_features]; images are flattened as in PyTorch.

        Args:
            codes: [batch, code_features].
        """
        return self.decoder(codes)

    def __call__(self, inputs: ArrayLike) -> jax.Array:
        """Returns reconstructions [batch, in_features].

        Args:
            inputs: see ``encode``.
        """
        return self.decode(self.encode(inputs))


def _layers(sizes: Sequence[int], made: dict[str, Any]) -> list[nnx.Module]:
    """Returns linear layers with ReLU between them."""
    layers: list[nnx.Module] = []
    for size, next_size in itertools.pairwise(sizes):
        layers += [Linear(size, next_size, **made), ReLU()]
    return layers[:-1]

"""Neural collaborative filtering of implicit feedback."""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import InputError, check_positive, entries
from jaxnets.layers import Embedding, Linear
from jaxnets.layers.parameters import check_rngs
from jaxnets.models.matrix_factorization import check_pairs


class NeuMF(nnx.Module):
    """Predicts whether a user chooses an item, by matrix factorization and an MLP together.

    Generalized matrix factorization (GMF) multiplies an embedding of the user and one of the item
    element by element. The MLP concatenates another pair of embeddings and applies ``fc1``,
    ``fc2``, … with ReLU. ``output`` is a linear layer from both results to a logit. As in the
    paper, embeddings are initialized from N(0, 0.01²), and the layers of the MLP from Xavier's
    uniform distribution, with zero biases.

    Source: He et al., "Neural Collaborative Filtering", 2017.

    Args:
        num_users: number of users.
        num_items: number of items.
        factors: size of the vectors of GMF.
        features: the size of the input of the MLP, which is even, followed by the output size of
            each layer.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or ``features`` has fewer than two sizes
            or an odd first one.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        factors: int = 8,
        features: Sequence[int] = (64, 32, 16, 8),
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        sizes = entries(features)
        if sizes is None or len(sizes) < 2 or check_positive("features", sizes[0]) % 2:
            raise InputError("features", "two or more sizes, of which the first is even", features)
        self.features = tuple(check_positive("features", size) for size in sizes)
        check_positive("factors", factors)
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        for kind, number in (("user", num_users), ("item", num_items)):
            check_positive(f"num_{kind}s", number)
            for part, size in (("gmf", factors), ("mlp", self.features[0] // 2)):
                setattr(self, f"{kind}_{part}", Embedding(number, size, **options))
        for index, (size, next_size) in enumerate(itertools.pairwise(self.features), start=1):
            setattr(self, f"fc{index}", Linear(size, next_size, **options))
        self.output = Linear(factors + self.features[-1], 1, **options)
        self._initialize(check_rngs(rngs))

    def _initialize(self, rngs: nnx.Rngs) -> None:
        """Draws the initial values as the paper does."""
        near_zero, xavier = initializers.normal(0.0, 0.01), initializers.xavier_uniform()
        for name in ("user_gmf", "item_gmf", "user_mlp", "item_mlp"):
            table = getattr(self, name).embedding
            table.set_value(near_zero(rngs.params(), table.shape, table.dtype))
        for layer in self._layers:
            kernel, bias = layer.kernel, layer.bias
            kernel.set_value(xavier(rngs.params(), kernel.shape, kernel.dtype))
            bias.set_value(jnp.zeros_like(bias[...]))

    @property
    def _layers(self) -> list[Linear]:
        return [getattr(self, f"fc{index}") for index in range(1, len(self.features))]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "num_users": self.user_gmf.num_embeddings,
            "num_items": self.item_gmf.num_embeddings,
            "factors": self.user_gmf.embedding_dim,
            "features": self.features,
        }

    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        """Returns logits [batch].

        Args:
            user: integers [batch] in [0, num_users).
            item: integers [batch] in [0, num_items).
        """
        check_pairs(user, item)
        product = self.user_gmf(user) * self.item_gmf(item)  # [batch, factors]
        x = jnp.concatenate([self.user_mlp(user), self.item_mlp(item)], axis=-1)
        for layer in self._layers:
            x = jax.nn.relu(layer(x))
        return self.output(jnp.concatenate([product, x], axis=-1))[:, 0]

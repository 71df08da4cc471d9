"""Matrix factorization of ratings, with biases."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import (
    InputError,
    check_number,
    check_positive,
    check_usable,
    describe,
)
from jaxnets.layers import Embedding
from jaxnets.layers.parameters import check_rngs


def check_pairs(user: Any, item: Any) -> None:
    """Checks that two arrays are indices of users and items, [batch] each.

    Raises:
        InputError: if they are not.
    """
    for name, array in (("user", user), ("item", item)):
        check_usable(name, "integers [batch]", array)
        if len(array.shape) != 1 or not jnp.issubdtype(array.dtype, jnp.integer):
            raise InputError(name, "integers [batch]", describe(array))
    if user.shape != item.shape:
        raise InputError("item", f"integers [{len(user)}], one for each user", describe(item))


class MatrixFactorization(nnx.Module):
    """Predicts the rating of an item by a user: μ + b_u + b_i + p_u · q_i.

    Koren, Bell and Volinsky, "Matrix Factorization Techniques for Recommender Systems", 2009. Each
    user and each item has a bias and a vector of factors, rows of four embeddings: ``user_bias``,
    ``item_bias``, ``user_factors`` and ``item_factors``. Biases start at zero, and factors as
    N(0, init_std²). The mean μ is a constant.

    Args:
        num_users: number of users.
        num_items: number of items.
        factors: size of a vector of factors.
        mean: μ, the mean of the training ratings; 0 for implicit feedback, where the prediction
            is a logit.
        init_std: standard deviation of the initial factors.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, ``mean`` is not finite or ``init_std`` is
            negative.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        factors: int = 16,
        *,
        mean: float = 0.0,
        init_std: float = 0.1,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        self.mean = check_number("mean", mean)
        self.init_std = check_number("init_std", init_std, least=0)
        for kind, size in (("user", num_users), ("item", num_items)):
            check_positive(f"num_{kind}s", size)
            check_positive("factors", factors)
            bias = Embedding(size, 1, rngs=rngs, param_dtype=param_dtype)
            vectors = Embedding(size, factors, rngs=rngs, param_dtype=param_dtype)
            draw, key = initializers.normal(0.0, self.init_std), check_rngs(rngs).params()
            bias.embedding.set_value(jnp.zeros((size, 1), param_dtype))
            vectors.embedding.set_value(draw(key, (size, factors), param_dtype))
            setattr(self, f"{kind}_bias", bias)
            setattr(self, f"{kind}_factors", vectors)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {
            "num_users": self.user_factors.num_embeddings,
            "num_items": self.item_factors.num_embeddings,
            "factors": self.user_factors.embedding_dim,
            "mean": self.mean,
            "init_std": self.init_std,
        }

    def __call__(self, user: jax.Array, item: jax.Array) -> jax.Array:
        """Returns predicted ratings [batch].

        Args:
            user: integers [batch] in [0, num_users).
            item: integers [batch] in [0, num_items).
        """
        check_pairs(user, item)
        biases = self.user_bias(user)[:, 0] + self.item_bias(item)[:, 0]
        return self.mean + biases + jnp.sum(self.user_factors(user) * self.item_factors(item), 1)

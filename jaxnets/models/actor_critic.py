"""A policy and a value function for reinforcement learning."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import check_floats, check_positive
from jaxnets.layers import Linear


class ActorCritic(nnx.Module):
    """Two networks with two hidden layers and tanh; returns logits of actions and a value.

    Args:
        observations: number of values in an observation.
        actions: number of actions.
        hidden: number of units of a hidden layer.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer.
    """

    def __init__(
        self,
        observations: int = 4,
        actions: int = 2,
        hidden: int = 64,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        for name, size in (("observations", observations), ("actions", actions)):
            check_positive(name, size)
        check_positive("hidden", hidden)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.actor1 = Linear(observations, hidden, **kw)
        self.actor2 = Linear(hidden, hidden, **kw)
        self.actor3 = Linear(hidden, actions, **kw)
        self.critic1 = Linear(observations, hidden, **kw)
        self.critic2 = Linear(hidden, hidden, **kw)
        self.critic3 = Linear(hidden, 1, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that make a network of these sizes, except for ``rngs``."""
        hidden, actions = self.actor3.in_features, self.actor3.out_features
        return {"observations": self.actor1.in_features, "actions": actions, "hidden": hidden}

    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns logits [batch, actions] and values [batch] of observations [batch, values]."""
        check_floats("observation", observation, ("batch", self.actor1.in_features))
        x = jnp.tanh(self.actor1(observation))
        x = jnp.tanh(self.actor2(x))
        y = jnp.tanh(self.critic1(observation))
        y = jnp.tanh(self.critic2(y))
        return self.actor3(x), self.critic3(y)[:, 0]

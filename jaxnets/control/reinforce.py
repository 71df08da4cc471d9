"""REINFORCE."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import check_number
from jaxnets.control.cartpole import CartPole, check_environment
from jaxnets.control.playing import Return, logits_of, play
from jaxnets.training.minimize import Minimize, minimize
from jaxnets.training.objective import Batch


@dataclass(frozen=True)
class Reinforce:
    """The objective of REINFORCE; see ``reinforce``."""

    environment: CartPole
    discount: float

    @property
    def evaluation(self) -> Return:
        """The mean return of the best actions."""
        return Return(self.environment)

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        """Returns the loss, and the metric ``return``."""
        played = play(model, self.environment, batch["inputs"], key)

        def discounted(later: jax.Array, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
            total = reward + self.discount * later
            return total, total

        _, returns = lax.scan(
            discounted, jnp.zeros_like(played.reward[0]), played.reward, reverse=True
        )
        count = played.played.sum().astype(played.reward.dtype)
        baseline = returns.mean(axis=1, keepdims=True)  # over the episodes, at each step
        advantage = jnp.where(played.played, returns - baseline, 0)
        steps, episodes, _ = played.observation.shape
        logits = logits_of(model, played.observation.reshape(steps * episodes, -1))
        logs = jax.nn.log_softmax(logits).reshape(steps, episodes, -1)
        taken = jnp.take_along_axis(logs, played.action[..., None], axis=-1)[..., 0]
        loss = -(lax.stop_gradient(advantage) * taken).sum() / count
        return loss, {"return": played.reward.sum(axis=0).mean()}


def reinforce(
    environment: CartPole,
    optimizer: optax.GradientTransformation,
    *,
    discount: float = 0.99,
    **update: Any,
) -> Minimize:
    """Makes the training step of REINFORCE.

    It plays an episode from each initial state in the batch, and minimizes
    -Σ (Gₜ - bₜ) log π(aₜ | sₜ), divided by the number of steps played. Gₜ is the discounted return
    from step t on, and the baseline bₜ is its mean over the episodes of the batch.

    Args:
        environment: the environment.
        optimizer: the optimizer.
        discount: γ in [0, 1].
        **update: further arguments of ``minimize``.

    Raises:
        ValueError: if an argument is invalid.

    Source: Williams (1992), "Simple statistical gradient-following algorithms for connectionist
    reinforcement learning".
    """
    check_environment(environment)
    check_number("discount", discount, least=0, most=1)
    return minimize(Reinforce(environment, float(discount)), optimizer, **update)

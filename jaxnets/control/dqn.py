"""Deep Q-learning."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.control.cartpole import CartPole
from jaxnets.control.playing import Return, advanced, logits_of, started
from jaxnets.training import minimize
from jaxnets.training.minimize import Minimize
from jaxnets.training.objective import Batch


class Transitions(NamedTuple):
    """Steps that were taken, each array [transitions, …].

    Attributes:
        state: the states.
        action: the actions.
        reward: the rewards.
        after: the states after the steps.
        terminated: whether the episodes terminated.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    after: jax.Array
    terminated: jax.Array


def squared_error(model: nnx.Module, batch: Batch, key: jax.Array) -> jax.Array:
    """Returns the mean of w (Q(s, a) - target)², with w the weight of the batch."""
    taken, target, weight = batch["inputs"]
    values = logits_of(model, taken.state)
    value = jnp.take_along_axis(values, taken.action[:, None], axis=-1)[:, 0]
    return weight * ((value - target) ** 2).mean()


@dataclass(frozen=True)
class DQN:
    """The step that ``dqn`` makes."""

    environment: CartPole
    update: Minimize
    environments: int
    capacity: int
    batch_size: int
    begin: int
    refresh: int
    explore: int
    least: float
    discount: float

    @property
    def evaluation(self) -> Return:
        """The mean return of the best actions."""
        return Return(self.environment)

    def init(self, model: nnx.Module) -> dict[str, Any]:
        """Returns the optimizer's state, the target network, and an empty replay buffer."""
        running = started(self.environment, self.environments, model)
        rows = jnp.zeros((self.capacity, self.environment.observations), running.state.dtype)
        numbers = rows[:, 0]
        empty = Transitions(rows, numbers.astype(jnp.int32), numbers, rows, numbers.astype(bool))
        return {
            "update": self.update.init(model),
            "target": jax.tree.map(jnp.array, nnx.state(model, nnx.Param)),
            "running": running,
            "buffer": empty,
            "taken": jnp.zeros((), jnp.int32),
        }

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """Takes one step in each environment, and one update on samples of the buffer."""
        chance_key, action_key, sample_key = jax.random.split(key, 3)
        running, number = slots["running"], slots["taken"]
        best = jnp.argmax(logits_of(model, running.state), axis=-1)
        rate = jnp.maximum(self.least, 1 - (1 - self.least) * number / self.explore)
        explores = jax.random.uniform(chance_key, best.shape) < rate
        other = jax.random.randint(action_key, best.shape, 0, self.environment.actions)
        action = jnp.where(explores, other, best).astype(jnp.int32)
        after, taken = advanced(self.environment, running, action, batch["inputs"], number)
        new = Transitions(running.state, action, taken.reward, taken.after, taken.terminated)
        place = (number * self.environments) % self.capacity
        buffer = jax.tree.map(
            lambda kept, rows: lax.dynamic_update_slice_in_dim(kept, rows, place, axis=0),
            slots["buffer"],
            new,
        )
        filled = jnp.minimum((number + 1) * self.environments, self.capacity)
        rows = jax.random.randint(sample_key, (self.batch_size,), 0, filled)
        sample = jax.tree.map(lambda kept: kept[rows], buffer)
        target = self._target(model, slots["target"], sample)
        weight = (filled >= self.begin).astype(target.dtype)
        part = {"inputs": (sample, target, weight)}
        update, metrics = self.update.apply(model, slots["update"], part, key)
        due = number % self.refresh == 0
        network = jax.tree.map(
            lambda old, new: jnp.where(due, new, old), slots["target"], nnx.state(model, nnx.Param)
        )
        slots = {"update": update, "target": network, "running": after, "buffer": buffer}
        loss = metrics["loss"].value
        return {**slots, "taken": number + 1}, {"loss": loss, "return": taken.finished()}

    def _target(self, model: nnx.Module, network: Any, sample: Transitions) -> jax.Array:
        """Returns r + γ Q'(s', argmaxₐ Q(s', a)), with Q' the target network."""
        graph, _, others = nnx.split(model, nnx.Param, ...)
        values = logits_of(nnx.merge(graph, network, others, copy=True), sample.after)
        best = jnp.argmax(logits_of(model, sample.after), axis=-1)
        value = jnp.take_along_axis(values, best[:, None], axis=-1)[:, 0]
        following = jnp.where(sample.terminated, 0, value)
        return sample.reward + self.discount * following


def dqn(
    environment: CartPole,
    optimizer: optax.GradientTransformation,
    *,
    environments: int = 8,
    capacity: int = 16_384,
    batch_size: int = 128,
    begin: int = 1_024,
    refresh: int = 200,
    explore: int = 4_000,
    least: float = 0.05,
    discount: float = 0.99,
    **update: Any,
) -> DQN:
    """Makes the training step of deep Q-learning (DQN), with double Q-learning.

    Each training step takes one step in each of several environments, stores them in a replay
    buffer, and minimizes (Q(s, a) - r - γ Q'(s', argmaxₐ' Q(s', a')))² on a sample of the buffer. The
    target network Q' is a copy of the model that is renewed from time to time. An action is random with a
    probability that falls linearly from 1, and else the one of the largest value. The states in a
    batch are those in which new episodes start.

    The model returns the values of the actions, [batch, actions].

    Args:
        environment: the environment.
        optimizer: the optimizer.
        environments: number of environments that are played at once.
        capacity: number of steps in the buffer, a multiple of ``environments``.
        batch_size: number of samples of an update.
        begin: number of steps in the buffer before the first update.
        refresh: number of training steps after which the target network is renewed.
        explore: number of training steps until the smallest probability of a random action.
        least: that probability, in [0, 1].
        discount: γ in [0, 1].
        **update: further arguments of ``minimize``.

    Raises:
        ValueError: if an argument is invalid.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van
    Hasselt, Guez, Silver (2016), "Deep reinforcement learning with double Q-learning".
    """
    counts = {"environments": environments, "capacity": capacity, "batch_size": batch_size}
    counts |= {"begin": begin, "refresh": refresh, "explore": explore}
    for name, count in counts.items():
        check_positive(name, count)
    if capacity % environments:
        raise InputError("capacity", f"a multiple of {environments} environments", capacity)
    check_number("least", least, least=0, most=1)
    check_number("discount", discount, least=0, most=1)
    made = minimize(squared_error, optimizer, **update)
    return DQN(environment, made, **counts, least=float(least), discount=float(discount))

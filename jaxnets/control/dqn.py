"""Deep Q-networks."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_function, check_number, check_positive
from jaxnets.control.cartpole import CartPole, check_environment
from jaxnets.control.playing import Return, advanced, logits_of, started
from jaxnets.losses import mse_loss
from jaxnets.training.labels import Loss
from jaxnets.training.minimize import Minimize, minimize
from jaxnets.training.objective import Batch
from jaxnets.training.steps import check_hashable


class Transitions(NamedTuple):
    """Steps that were taken, each array [transitions, …].

    Attributes:
        state: the states before the steps.
        action: the actions.
        reward: the rewards.
        after: the states after the steps, before new episodes start.
        terminated: whether the episodes terminated, after which there are no rewards.
    """

    state: jax.Array
    action: jax.Array
    reward: jax.Array
    after: jax.Array
    terminated: jax.Array


class Targets(NamedTuple):
    """Targets of the values of actions, each array [batch, …].

    Attributes:
        state: the states.
        action: the actions.
        value: the target of the value of each action.
    """

    state: jax.Array
    action: jax.Array
    value: jax.Array


@dataclass(frozen=True)
class ValueLoss:
    """The objective of DQN on ``Targets``; see ``dqn``."""

    loss: Loss

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        """Returns the loss, and the metric ``value``, the mean value of the actions."""
        wanted = batch["inputs"]
        values = logits_of(model, wanted.state)
        value = jnp.take_along_axis(values, wanted.action[:, None], axis=-1)[:, 0]
        return self.loss(value, wanted.value), {"value": value.mean()}


@dataclass(frozen=True)
class DQN:
    """The step that ``dqn`` makes."""

    environment: CartPole
    update: Minimize
    environments: int
    memory: int
    samples: int
    exploration: int
    discount: float
    rate: float
    epsilon: float

    @property
    def evaluation(self) -> Return:
        """The mean return of the best actions."""
        return Return(self.environment)

    def init(self, model: nnx.Module) -> dict[str, Any]:
        """Returns the optimizer's state, the target network, an empty memory and environments."""
        running = started(self.environment, self.environments, model)
        rows, dtype = self.memory, running.state.dtype
        state = jnp.zeros((rows, self.environment.observations), dtype)
        action, ended = jnp.zeros(rows, jnp.int32), jnp.zeros(rows, bool)
        return {
            "update": self.update.init(model),
            "target": nnx.state(nnx.clone(model), nnx.Param),
            "memory": Transitions(state, action, jnp.zeros(rows, dtype), state, ended),
            "taken": jnp.zeros((), jnp.int32),
            "running": running,
        }

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """Takes a step in each environment, and updates the model."""
        playing_key, drawing_key = jax.random.split(key)
        slots, finished = self._play(model, slots, batch["inputs"], playing_key)
        slots, metrics = self._learn(model, slots, drawing_key)
        return slots, {**metrics, "return": finished}

    def _play(
        self, network: nnx.Module, slots: Any, starts: jax.Array, key: jax.Array
    ) -> tuple[Any, Any]:
        """Takes one step in each environment, and stores it in the memory."""
        running, count = slots["running"], slots["taken"]
        best = jnp.argmax(logits_of(network, running.state), axis=-1)
        which, what = jax.random.split(key)
        at_random = jax.random.uniform(which, best.shape) < self._chance(count)
        drawn = jax.random.randint(what, best.shape, 0, self.environment.actions)
        action = jnp.where(at_random, drawn, best).astype(jnp.int32)
        after, taken = advanced(self.environment, running, action, starts)
        new = Transitions(running.state, action, taken.reward, taken.after, taken.terminated)
        row = count % self.memory
        memory = jax.tree.map(
            lambda old, new: lax.dynamic_update_slice_in_dim(old, new, row, 0), slots["memory"], new
        )
        count += self.environments
        return {**slots, "memory": memory, "running": after, "taken": count}, taken.finished()

    def _chance(self, taken: jax.Array) -> jax.Array:
        """Returns the probability of a random action, which falls from 1 to ε."""
        return 1 - (1 - self.epsilon) * jnp.minimum(taken / self.exploration, 1)

    def _learn(self, network: nnx.Module, slots: Any, key: jax.Array) -> tuple[Any, Any]:
        """Updates the network on transitions from the memory, and then its target network."""
        filled = jnp.minimum(slots["taken"], self.memory)
        rows = jax.random.randint(key, (self.samples,), 0, filled)
        drawn = jax.tree.map(lambda column: column[rows], slots["memory"])
        graph, _, others = nnx.split(network, nnx.Param, ...)
        target = nnx.merge(graph, slots["target"], others, copy=True)
        wanted = Targets(drawn.state, drawn.action, self._value(network, target, drawn))
        update, metrics = self.update.apply(network, slots["update"], {"inputs": wanted}, key)
        trained = nnx.state(network, nnx.Param)
        moved = optax.incremental_update(trained, slots["target"], self.rate)
        return {**slots, "update": update, "target": moved}, metrics

    def _value(self, network: nnx.Module, target: nnx.Module, taken: Transitions) -> jax.Array:
        """Returns r + γ Q'(s', argmax Q(s')), or r where the episode terminated."""
        best = jnp.argmax(logits_of(network, taken.after), axis=-1)
        values = logits_of(target, taken.after)
        following = jnp.take_along_axis(values, best[:, None], axis=-1)[:, 0]
        return taken.reward + self.discount * jnp.where(taken.terminated, 0, following)


def dqn(
    environment: CartPole,
    optimizer: optax.GradientTransformation,
    *,
    loss: Loss = mse_loss,
    environments: int = 8,
    memory: int = 100_000,
    samples: int = 128,
    discount: float = 0.99,
    rate: float = 0.01,
    epsilon: float = 0.05,
    exploration: int = 100_000,
    **update: Any,
) -> DQN:
    """Makes the training step of deep Q-networks (DQN), with the targets of double DQN.

    Each training step takes one step in each of several environments, which continue in the next
    training step, and stores these transitions (s, a, r, s') in a replay memory, which replaces the
    oldest ones. An action is random with a probability that falls from 1 to ε, and otherwise the
    best one. The model is then updated on transitions drawn from the memory: it minimizes the loss
    between Q(s, a) and the target r + γ Q'(s', argmax Q(s')), or r if the episode terminated. Q' is
    the target network, whose weights follow those of the model: w' ← w' + τ (w - w'). The states in
    a batch are the initial states of new episodes.

    The model returns a value for each action, [batch, actions].

    Args:
        environment: the environment.
        optimizer: the optimizer.
        loss: (values, targets) → scalar. The original paper clips errors at 1, as the gradient of
            the Huber loss does; this is suitable for returns of about 1.
        environments: number of environments that are stepped at once.
        memory: number of transitions in the memory, a multiple of ``environments``.
        samples: number of transitions in an update.
        discount: γ in [0, 1].
        rate: τ in [0, 1].
        epsilon: ε in [0, 1], the final probability of a random action.
        exploration: number of transitions after which this probability is ε.
        **update: further arguments of ``minimize``.

    Raises:
        ValueError: if an argument is invalid.

    Source: Mnih et al. (2015), "Human-level control through deep reinforcement learning"; van
    Hasselt, Guez, Silver (2016), "Deep reinforcement learning with double Q-learning".
    """
    check_environment(environment)
    check_function("loss", loss, "a function of (values, targets)")
    check_hashable("loss", loss)
    counts = {"environments": environments, "memory": memory, "samples": samples}
    for name, count in (*counts.items(), ("exploration", exploration)):
        check_positive(name, count)
    if memory % environments:
        raise InputError("memory", f"a multiple of the {environments} environments", memory)
    made = minimize(ValueLoss(loss), optimizer, **update)
    return DQN(
        environment,
        made,
        **counts,
        exploration=exploration,
        discount=check_number("discount", discount, least=0, most=1),
        rate=check_number("rate", rate, least=0, most=1),
        epsilon=check_number("epsilon", epsilon, least=0, most=1),
    )

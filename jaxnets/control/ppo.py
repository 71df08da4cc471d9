"""Proximal policy optimization."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.control.cartpole import CartPole, check_environment
from jaxnets.control.playing import Return, Running, advanced, started
from jaxnets.training.minimize import Minimize, minimize
from jaxnets.training.objective import Batch


class Samples(NamedTuple):
    """Steps that were taken, each array [samples, …].

    Attributes:
        observation: the states.
        action: the actions.
        log_probability: the logarithm of the probability of each action when it was taken.
        advantage: the estimated advantage of each action.
        target: the estimated return from each state on.
    """

    observation: jax.Array
    action: jax.Array
    log_probability: jax.Array
    advantage: jax.Array
    target: jax.Array


@dataclass(frozen=True)
class Clipped:
    """The objective of PPO on samples; see ``ppo``."""

    clip: float
    value_weight: float
    entropy_weight: float

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> jax.Array:
        """Returns the loss of a model that returns (logits, values)."""
        taken = batch["inputs"]
        network: Any = model
        logits, values = network(taken.observation)
        logs = jax.nn.log_softmax(logits)
        log = jnp.take_along_axis(logs, taken.action[:, None], axis=-1)[:, 0]
        ratio = jnp.exp(log - taken.log_probability)
        advantage = taken.advantage - taken.advantage.mean()
        advantage = advantage / (advantage.std() + 1e-8)
        clipped = jnp.clip(ratio, 1 - self.clip, 1 + self.clip)
        policy = jnp.minimum(ratio * advantage, clipped * advantage).mean()
        value = 0.5 * ((values - taken.target) ** 2).mean()
        entropy = -(jnp.exp(logs) * logs).sum(axis=-1).mean()
        return -policy + self.value_weight * value - self.entropy_weight * entropy


@dataclass(frozen=True)
class PPO:
    """The step that ``ppo`` makes."""

    environment: CartPole
    update: Minimize
    environments: int
    steps: int
    epochs: int
    minibatches: int
    discount: float
    trace: float

    @property
    def evaluation(self) -> Return:
        """The mean return of the best actions."""
        return Return(self.environment)

    def init(self, model: nnx.Module) -> dict[str, Any]:
        """Returns the optimizer's state, and new environments."""
        running = started(self.environment, self.environments, model)
        return {"update": self.update.init(model), "running": running}

    def apply(
        self, model: nnx.Module, slots: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, dict[str, Any]]:
        """Plays some steps, and updates the model in several passes over them."""
        playing_key, order_key = jax.random.split(key)
        running, samples, finished = self._play(model, slots["running"], batch, playing_key)
        rows = self._minibatches(order_key)
        graph, variables = nnx.split(model)

        def updated(carry: Any, rows: jax.Array) -> tuple[Any, jax.Array]:
            variables, update = carry
            network = nnx.merge(graph, variables, copy=True)
            part = {"inputs": jax.tree.map(lambda column: column[rows], samples)}
            update, metrics = self.update.apply(network, update, part, key)
            return (nnx.state(network), update), metrics["loss"].value

        (variables, update), losses = lax.scan(updated, (variables, slots["update"]), rows)
        nnx.update(model, variables)
        metrics = {"loss": losses.mean(), "return": finished}
        return {"update": update, "running": running}, metrics

    def _minibatches(self, key: jax.Array) -> jax.Array:
        """Returns the rows of the samples of each update, [updates, rows]."""
        count = self.environments * self.steps
        size = count // self.minibatches
        keys = jax.random.split(key, self.epochs)
        orders = jax.vmap(lambda key: jax.random.permutation(key, count))(keys)
        return orders[:, : size * self.minibatches].reshape(-1, size)

    def _play(
        self, model: nnx.Module, running: Running, batch: Batch, key: jax.Array
    ) -> tuple[Running, Samples, tuple[jax.Array, jax.Array]]:
        """Plays some steps of each environment, and estimates the advantages.

        The estimate is generalized advantage estimation: Aₜ = Σₖ (γλ)ᵏ δₜ₊ₖ within an episode,
        with δₜ = rₜ + γ V(sₜ₊₁) - V(sₜ).
        """
        graph, variables = nnx.split(model)

        def step(running: Running, number: jax.Array) -> tuple[Running, Any]:
            network: Any = nnx.merge(graph, variables, copy=True)
            logits, value = network(running.state)
            action = jax.random.categorical(jax.random.fold_in(key, number), logits)
            log = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], axis=-1)[:, 0]
            after, taken = advanced(self.environment, running, action, batch["inputs"], number)
            following = jnp.where(taken.terminated, 0, network(taken.after)[1])
            error = taken.reward + self.discount * following - value
            return after, (running.state, action, log, value, error, taken)

        steps = jnp.arange(self.steps)
        running, (state, action, log, value, error, taken) = lax.scan(step, running, steps)

        def summed(later: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
            error, over = now
            advantage = error + self.discount * self.trace * jnp.where(over, 0, later)
            return advantage, advantage

        ends = jnp.zeros_like(error[0])
        _, advantage = lax.scan(summed, ends, (error, taken.over), reverse=True)
        columns = Samples(state, action, log, advantage, advantage + value)
        samples = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), columns)
        return running, samples, taken.finished()


def ppo(
    environment: CartPole,
    optimizer: optax.GradientTransformation,
    *,
    environments: int = 8,
    steps: int = 128,
    epochs: int = 4,
    minibatches: int = 4,
    discount: float = 0.99,
    trace: float = 0.95,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
    **update: Any,
) -> PPO:
    """Makes the training step of proximal policy optimization (PPO).

    Each training step plays ``steps`` steps in each of several environments, which continue in the
    next training step. It then passes over these samples several times in random order, and
    minimizes -min(r A, clip(r, 1 - ε, 1 + ε) A) + c₁ ½ (V - R)² - c₂ H for each minibatch. r is the
    probability of an action divided by its probability when it was taken, A the normalized
    advantage, R the estimated return, V the value that the model returns, and H the entropy of the
    policy. The states in a batch are the initial states of new episodes.

    The model returns (logits [batch, actions], values [batch]).

    Args:
        environment: the environment.
        optimizer: the optimizer.
        environments: number of environments that are stepped at once.
        steps: number of steps in each environment in a training step.
        epochs: number of passes over the samples.
        minibatches: number of updates in a pass.
        discount: γ in [0, 1].
        trace: λ in [0, 1].
        clip: ε > 0.
        value_weight: c₁ ≥ 0.
        entropy_weight: c₂ ≥ 0.
        **update: further arguments of ``minimize``.

    Raises:
        ValueError: if an argument is invalid.

    Source: Schulman et al. (2017), "Proximal policy optimization algorithms", arXiv:1707.06347.
    """
    check_environment(environment)
    counts = {"environments": environments, "steps": steps, "epochs": epochs}
    for name, count in (*counts.items(), ("minibatches", minibatches)):
        check_positive(name, count)
    if minibatches > environments * steps:
        expected = f"at most {environments * steps}, the number of samples"
        raise InputError("minibatches", expected, minibatches)
    check_number("discount", discount, least=0, most=1)
    check_number("trace", trace, least=0, most=1)
    check_number("clip", clip, above=0)
    check_number("value_weight", value_weight, least=0)
    check_number("entropy_weight", entropy_weight, least=0)
    objective = Clipped(float(clip), float(value_weight), float(entropy_weight))
    made = minimize(objective, optimizer, **update)
    numbers = (environments, steps, epochs, minibatches)
    return PPO(environment, made, *numbers, discount=float(discount), trace=float(trace))

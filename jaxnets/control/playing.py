"""Plays episodes with a policy."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_positive, check_seed
from jaxnets.control.cartpole import CartPole
from jaxnets.optional import require
from jaxnets.training.objective import Batch
from jaxnets.training.predictor import predictor


class Episodes(NamedTuple):
    """Whole episodes, padded to ``max_steps`` steps.

    Attributes:
        observation: the state before each step, float [steps, episodes, observations].
        action: the action of each step, int32 [steps, episodes].
        reward: the reward of each step, 0 after the end, float [steps, episodes].
        played: whether the step is before the end of the episode, bool [steps, episodes].
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    played: jax.Array


def logits_of(model: nnx.Module, observation: jax.Array) -> jax.Array:
    """Returns a logit or value for each action, [episodes, actions].

    Args:
        model: a network that returns them, or a tuple whose first element they are.
        observation: [episodes, observations].
    """
    network: Any = model
    outputs = network(observation)
    logits: jax.Array = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits


def play(
    model: nnx.Module, environment: CartPole, start: jax.Array, key: jax.Array | None
) -> Episodes:
    """Plays one episode from each initial state.

    Args:
        model: the policy; see ``logits_of``.
        environment: the environment.
        start: the initial states, float [episodes, observations].
        key: the random key of the actions, which are drawn from the softmax of the logits; None
            takes the best actions.
    """
    graph, variables = nnx.split(model)

    def step(carry: Any, number: jax.Array) -> tuple[Any, Episodes]:
        state, running = carry
        logits = logits_of(nnx.merge(graph, variables, copy=True), state)
        if key is None:
            action = jnp.argmax(logits, axis=-1)
        else:
            action = jax.random.categorical(jax.random.fold_in(key, number), logits)
        after, reward, terminated = environment.step(state, action)
        taken = Episodes(state, action, jnp.where(running, reward, 0), running)
        return (after, running & ~terminated), taken

    numbers = jnp.arange(environment.max_steps)
    return lax.scan(step, (start, jnp.ones(len(start), bool)), numbers)[1]


class Running(NamedTuple):
    """Environments that continue from one training step to the next.

    Attributes:
        state: the states, float [environments, observations].
        time: number of steps of each episode so far, int32 [environments].
        total: sum of the rewards of each episode so far, float [environments].
    """

    state: jax.Array
    time: jax.Array
    total: jax.Array


class Taken(NamedTuple):
    """A step of running environments, each array [environments, …].

    Attributes:
        after: the states after the step, before a new episode starts.
        reward: the rewards.
        terminated: whether the episode terminated, after which there are no rewards.
        over: whether the episode terminated or was truncated.
        total: sum of the rewards of the episode so far.
    """

    after: jax.Array
    reward: jax.Array
    terminated: jax.Array
    over: jax.Array
    total: jax.Array

    def finished(self) -> tuple[jax.Array, jax.Array]:
        """Returns the sum of the returns of finished episodes, and their number."""
        return jnp.where(self.over, self.total, 0).sum(), self.over.sum()


def started(environment: CartPole, count: int, model: nnx.Module) -> Running:
    """Returns environments in the state of zeros.

    Args:
        environment: the environment.
        count: number of environments.
        model: the policy; its parameters determine the dtype of the states.
    """
    dtype = jax.tree.leaves(nnx.state(model, nnx.Param))[0].dtype
    state = jnp.zeros((count, environment.observations), dtype)
    return Running(state, jnp.zeros(count, jnp.int32), jnp.zeros(count, dtype))


def advanced(
    environment: CartPole,
    running: Running,
    action: jax.Array,
    starts: jax.Array,
    number: jax.Array | int = 0,
) -> tuple[Running, Taken]:
    """Takes one step in each environment; a new episode starts where one has ended.

    Args:
        environment: the environment.
        running: the environments.
        action: the actions, integer [environments].
        starts: initial states of new episodes, float [starts, observations].
        number: number of the step, so that successive episodes start in different states.
    """
    state, reward, terminated = environment.step(running.state, action)
    time, total = running.time + 1, running.total + reward
    over = terminated | (time >= environment.max_steps)
    rows = (jnp.arange(len(time)) + number) % len(starts)
    fresh = jnp.where(over[:, None], starts[rows].astype(state.dtype), state)
    after = Running(fresh, jnp.where(over, 0, time), jnp.where(over, 0, total))
    return after, Taken(state, reward, terminated, over, total)


@dataclass(frozen=True)
class Return:
    """The objective that tests a policy: minus the mean return of its best actions.

    Each test example is the first state of an episode.

    Attributes:
        environment: the environment.
    """

    environment: CartPole

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> tuple[jax.Array, Any]:
        """Returns the loss, and the metric ``return``."""
        rewards = play(model, self.environment, batch["inputs"], None).reward
        mean = rewards.sum(axis=0).mean()
        return -mean, {"return": mean}


def play_gymnasium(
    model: nnx.Module, name: str = "CartPole-v1", *, episodes: int = 100, seed: int = 0
) -> np.ndarray:
    """Plays episodes of an environment of Gymnasium with the best action of each state.

    Args:
        model: the policy; see ``logits_of``.
        name: the name of an environment with a vector as observation and a number of actions.
        episodes: number of episodes.
        seed: the first episode starts with this seed, and each one after it with the next.

    Returns:
        The return of each episode, float [episodes].

    Raises:
        ValueError: if an argument is invalid or there is no such environment.
        ImportError: if Gymnasium is not installed.
    """
    gymnasium = require("gymnasium", extra="control", feature="an environment of Gymnasium")
    if not isinstance(name, str):
        raise InputError("name", "an environment of Gymnasium", name)
    check_positive("episodes", episodes)
    check_seed("seed", seed)
    try:
        environment = gymnasium.make(name)
    except (gymnasium.error.Error, AttributeError) as error:
        raise InputError("name", "an environment of Gymnasium", name) from error
    space, actions = environment.observation_space, environment.action_space
    if len(space.shape or ()) != 1 or not isinstance(actions, gymnasium.spaces.Discrete):
        expected = "an environment with a vector as observation and a number of actions"
        raise InputError("name", expected, name)
    best = predictor(model)
    returns = np.zeros(episodes)
    for number in range(episodes):
        state, _ = environment.reset(seed=seed + number)
        ended = False
        while not ended:
            outputs = best(np.asarray(state, np.float32)[None])
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            action = int(np.argmax(np.asarray(logits)[0])) + int(actions.start)
            state, reward, terminated, cut, _ = environment.step(action)
            returns[number] += float(reward)
            ended = terminated or cut
    environment.close()
    return returns

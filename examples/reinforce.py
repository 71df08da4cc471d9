"""Balance a pole on a cart.

Teaches:    training without a data set: the objective plays episodes in an environment written in
            JAX, with random numbers from its key, and returns their length as a metric.
Reproduces: REINFORCE (Williams 1992) as in Sutton and Barto, section 13.4, on the cart and pole of
            Barto, Sutton and Anderson (1983) as in Gymnasium's CartPole-v1, with up to 500 steps
            in each episode. The baseline is the mean over the episodes of a batch.
Run:        python examples/reinforce.py
Time:       about 5 s on 2 CPU cores.
Length:     episodes of 34 to 40 steps in the first epoch, 499 to 500 in the last (seeds 0 to 2).
"""

import argparse

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxnets import MLP, fit, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.control import CartPole
from jaxnets.data import Draws
from jaxnets.training import minimize

EPISODES, DISCOUNT = 32, 0.99
GAME = CartPole(max_steps=500)


def play(policy, start, uniform):
    """Plays episodes.

    Args:
        policy: maps states [episodes, 4] to logits of a push to the right, [episodes, 1].
        start: initial states.
        uniform: random numbers from 0 to 1 that select the pushes, [episodes, steps].

    Returns:
        The logarithms of the probabilities of the pushes, and whether each step was played;
        [episodes, steps] both.
    """

    def step(carry, uniform):
        state, alive = carry
        logit = policy(state)[:, 0]
        right = uniform < jax.nn.sigmoid(logit)
        log_probability = jax.nn.log_sigmoid(jnp.where(right, logit, -logit))
        after, _, terminated = GAME.step(state, right.astype(jnp.int32))
        return (after, alive & ~terminated), (log_probability, alive)

    alive = jnp.ones(len(start), bool)
    _, (log_probabilities, played) = lax.scan(step, (start, alive), uniform.T)
    return log_probabilities.T, played.T


def reinforce(policy, batch, key):
    """Returns the negative mean of (return - baseline) times the log-probability of each push."""
    if batch:  # the random numbers may be a column of the data
        start, uniform = batch["inputs"]["start"], batch["inputs"]["uniform"]
    else:
        first, second = jax.random.split(key)
        start = jax.random.uniform(first, (EPISODES, 4), jnp.float32, -0.05, 0.05)
        uniform = jax.random.uniform(second, (EPISODES, GAME.max_steps), jnp.float32)
    log_probabilities, played = play(policy, start, uniform)
    rewards = played.astype(start.dtype)

    def discounted(later, reward):
        later = reward + DISCOUNT * later
        return later, later

    _, returns = lax.scan(discounted, jnp.zeros_like(rewards[:, 0]), rewards.T, reverse=True)
    advantages = (returns - returns.mean(axis=1, keepdims=True)).T * rewards
    loss = -(advantages * log_probabilities).sum() / rewards.sum()
    return loss, {"length": rewards.sum(axis=1).mean()}


step = minimize(reinforce, optimizers.adam(lr=0.01))


def main():
    """Trains, and prints the mean length of the episodes for every 20 batches."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="of 20 batches of 32 episodes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        policy = MLP((4, 64, 1), rngs=nnx.Rngs(args.seed))
        run = fit(policy, Draws(steps=20), step, epochs=args.epochs, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    first, last = run.history[0].train["length"], run.history[-1].train["length"]
    print(f"the pole stays up for {last:.0f} of {GAME.max_steps} steps, at first for {first:.0f}")


if __name__ == "__main__":
    keep_programs()
    main()

"""Reinforcement learning: the environment beside Gymnasium's, episodes, and training."""

import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import fit, optimizers
from jaxnets.cli import main
from jaxnets.commands import examples
from jaxnets.control import CartPole, Return, play_gymnasium, ppo, reinforce
from jaxnets.control.playing import play
from jaxnets.data import Dataset, Split, load
from jaxnets.models import MLP, ActorCritic

ADAM = optimizers.adam(0.01)


class Left(nnx.Module):
    """Always pushes to the left."""

    def __init__(self):
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, state):
        return self.scale[...] * jnp.stack([state[:, 0] * 0 + 1, state[:, 0] * 0], axis=1)


def test_each_step_is_that_of_gymnasium():
    theirs = gymnasium.make("CartPole-v1").unwrapped
    actions = np.random.default_rng(0).integers(0, 2, 40)
    with jax.enable_x64(True):
        step = jax.jit(CartPole().step)
        for seed in range(3):
            theirs.reset(seed=seed)
            state = jnp.asarray(np.array(theirs.state, np.float64))[None]
            for action in actions:
                _, reward, ended, _, _ = theirs.step(int(action))
                state, ours, terminated = step(state, jnp.array([action]))
                np.testing.assert_allclose(state[0], np.array(theirs.state), rtol=1e-12, atol=1e-14)
                assert (float(ours[0]), bool(terminated[0])) == (reward, ended)
                if ended:
                    break
            else:
                pytest.fail("the pole should fall")


def test_an_episode_ends_when_the_pole_falls():
    start = load("cartpole").test.inputs[:5]
    played = jax.jit(lambda model, start: play(model, CartPole(30), start, None))(Left(), start)
    lengths = played.reward.sum(axis=0)
    assert played.observation.shape == (30, 5, 4)
    assert ((lengths >= 8) & (lengths <= 11)).all()
    np.testing.assert_array_equal(played.played.sum(axis=0), lengths)
    loss, metrics = Return(CartPole(30))(Left(), {"inputs": jnp.asarray(start)}, None)
    assert float(metrics["return"]) == -float(loss) == float(lengths.mean())
    expected = play_gymnasium(Left(), episodes=2, seed=3)
    assert ((expected >= 8) & (expected <= 11)).all()


STEPS = {
    "reinforce": (lambda game: reinforce(game, ADAM), lambda: MLP((4, 16, 2), rngs=nnx.Rngs(0))),
    "ppo": (
        lambda game: ppo(game, ADAM, environments=8, steps=32, epochs=2, minibatches=2),
        lambda: ActorCritic(hidden=16, rngs=nnx.Rngs(0)),
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.slow
def test_a_policy_learns(name):
    make, build = STEPS[name]
    starts = load("cartpole")
    data = Dataset("few", Split(starts.train.inputs[:320]), Split(starts.test.inputs[:10]))
    run = fit(build(), data, make(CartPole(100)), epochs=3, batch_size=16, progress="none")
    first, last = run.history[0].train["return"], run.test.metrics["return"]
    assert 10 < first < 60
    assert last > 1.5 * first
    again = fit(build(), data, make(CartPole(100)), epochs=3, batch_size=16, progress="none")
    assert again.test.metrics == run.test.metrics


def test_advantages_are_sums_of_errors_within_an_episode():
    step = ppo(CartPole(5), ADAM, environments=2, steps=12, discount=0.9, trace=0.8)
    model = ActorCritic(hidden=4, rngs=nnx.Rngs(0))
    starts = jnp.asarray(load("cartpole").train.inputs[:7])
    running = step.init(model)["running"]
    after, samples, (total, count) = step._play(
        model, running, {"inputs": starts}, jax.random.key(0)
    )
    observation = samples.observation.reshape(12, 2, 4)
    value = np.asarray(model(samples.observation)[1]).reshape(12, 2)
    advantage = np.asarray(samples.advantage).reshape(12, 2)
    np.testing.assert_allclose(samples.target, samples.advantage + value.ravel(), rtol=1e-6)
    # Every episode of five steps is cut off, so that it goes on from the value of its last state.
    ends = np.arange(12) % 5 == 4
    for row in np.flatnonzero(~ends)[:-1]:
        error = 1 + 0.9 * value[row + 1] - value[row]
        np.testing.assert_allclose(
            advantage[row], error + 0.9 * 0.8 * advantage[row + 1], rtol=1e-4, atol=1e-6
        )
    last, _, _ = CartPole(5).step(observation[4], samples.action.reshape(12, 2)[4])
    error = 1 + 0.9 * np.asarray(model(last)[1]) - value[4]
    np.testing.assert_allclose(advantage[4], error, rtol=1e-4, atol=1e-6)
    assert (float(total), int(count), after.time.tolist()) == (20.0, 4, [2, 2])


MESSAGES = [
    (lambda: reinforce("CartPole-v1", ADAM), r"environment: expected .* such as CartPole\(\), got"),
    (lambda: CartPole(0), "max_steps: expected a positive integer, got 0"),
    (lambda: ppo(CartPole(), ADAM, minibatches=2000), "minibatches: expected at most 1024, the"),
    (lambda: ppo(CartPole(), ADAM, trace=2), r"trace: expected a number in \[0, 1\], got 2"),
    (
        lambda: reinforce(CartPole(), ADAM, discount=-1),
        r"discount: expected a number in \[0, 1\]",
    ),
    (lambda: play_gymnasium(Left(), "Nothing-v0"), "name: expected an environment of Gymnasium"),
    (lambda: play_gymnasium(Left(), "Pendulum-v1"), "name: expected an environment with a vector"),
    (lambda: ActorCritic(0, rngs=nnx.Rngs(0)), "observations: expected a positive integer, got 0"),
]


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_commands_train_a_policy(tmp_path, capsys):
    out = str(tmp_path / "run")
    few = ["--epochs", "1", "--batch-size", "32000", "--quiet"]
    assert main(["train", "cartpole-ppo", *few, "--out", out]) == 0
    assert re.search(r"return \d+\.\d", capsys.readouterr().out)
    assert main(["predict", out, "--index", "0"]) == 2
    expected = "run: expected a network that predicts .*, got ActorCritic$"
    assert re.search(expected, capsys.readouterr().err, re.M)


def test_examples_without_labels_are_chosen_by_number():
    chosen = examples._chosen(load("cartpole"), [0, 3], None)
    assert [(each.name, each.label) for each in chosen] == [
        ("test example 0", None),
        ("test example 3", None),
    ]

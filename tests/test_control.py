"""Reinforcement learning: the environment compared with Gymnasium's, episodes, and training."""

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
from jaxnets.control import CartPole, Return, dqn, play_gymnasium, ppo, reinforce
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
    "reinforce": (
        lambda game: reinforce(game, ADAM),
        lambda: MLP((4, 16, 2), rngs=nnx.Rngs(0)),
        16,
    ),
    "ppo": (
        lambda game: ppo(game, ADAM, environments=8, steps=32, epochs=2, minibatches=2),
        lambda: ActorCritic(hidden=16, rngs=nnx.Rngs(0)),
        16,
    ),
    "dqn": (
        lambda game: dqn(game, ADAM, memory=8000, samples=32, rate=0.05, exploration=3000),
        lambda: MLP((4, 32, 2), rngs=nnx.Rngs(0)),
        1,
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.slow
def test_a_policy_learns(name):
    make, build, batch = STEPS[name]
    starts = load("cartpole")
    data = Dataset("few", Split(starts.train.inputs[:320]), Split(starts.test.inputs[:10]))
    run = fit(build(), data, make(CartPole(100)), epochs=3, batch_size=batch, progress="none")
    first, last = run.history[0].train["return"], run.test.metrics["return"]
    assert 10 < first < 60
    assert last > 1.5 * first
    again = fit(build(), data, make(CartPole(100)), epochs=3, batch_size=batch, progress="none")
    assert again.test.metrics == run.test.metrics


@pytest.mark.slow
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
    # Episodes are truncated after five steps, so returns include the value of the last state.
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


def test_the_memory_keeps_the_newest_transitions():
    step = dqn(CartPole(5), ADAM, environments=2, memory=16, samples=4)
    model = MLP((4, 4, 2), rngs=nnx.Rngs(0))
    starts, apply = load("cartpole").train.inputs, nnx.jit(step.apply)
    slots, returns = step.init(model), []
    for number in range(12):
        batch = {"inputs": jnp.asarray(starts[2 * number : 2 * number + 2])}
        slots, metrics = apply(model, slots, batch, jax.random.key(number))
        returns.append([float(part) for part in metrics["return"]])
    assert int(slots["taken"]) == 24
    # Each episode is truncated after five steps, and does not terminate.
    assert returns == [[10, 2] if number % 5 == 4 else [0, 0] for number in range(12)]
    memory = slots["memory"]
    assert not memory.terminated.any()
    after, reward, _ = CartPole().step(memory.state, memory.action)
    np.testing.assert_allclose(memory.after, after, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(memory.reward, reward)
    # Steps 8 to 11 overwrote steps 0 to 3. Step 10 is the first of the third episode, which starts
    # in the states of the batch of step 9.
    np.testing.assert_array_equal(memory.state[4:6], starts[18:20])
    np.testing.assert_array_equal(memory.state[6:8], memory.after[4:6])
    np.testing.assert_array_equal(memory.state[10:12], starts[8:10])


@pytest.mark.slow
def test_targets_are_rewards_where_an_episode_terminated():
    step = dqn(CartPole(), ADAM, environments=1, memory=40, samples=4, discount=0.5)
    model = MLP((4, 4, 2), rngs=nnx.Rngs(0))
    slots, apply = step.init(model), nnx.jit(step.apply)
    batch = {"inputs": jnp.zeros((1, 4))}
    for number in range(40):
        slots, _ = apply(model, slots, batch, jax.random.key(number))
    memory, target = slots["memory"], nnx.merge(nnx.graphdef(model), slots["target"])
    assert 0 < memory.terminated.sum() < 5
    found = step._value(model, target, memory)
    best = model(memory.after).argmax(axis=1)
    following = np.asarray(target(memory.after))[np.arange(40), best]
    np.testing.assert_allclose(found, np.where(memory.terminated, 1, 1 + 0.5 * following), 1e-5)


def test_actions_are_random_less_and_less_often():
    step = dqn(CartPole(), ADAM, epsilon=0.1, exploration=100)
    chances = [float(step._chance(jnp.int32(taken))) for taken in (0, 50, 100, 1000)]
    np.testing.assert_allclose(chances, [1, 0.55, 0.1, 0.1], rtol=1e-6)


MESSAGES = [
    (lambda: reinforce("CartPole-v1", ADAM), r"environment: expected .* such as CartPole\(\), got"),
    (lambda: CartPole(0), "max_steps: expected a positive integer, got 0"),
    (lambda: ppo(CartPole(), ADAM, minibatches=2000), "minibatches: expected at most 1024, the"),
    (lambda: dqn("CartPole-v1", ADAM), r"environment: expected .* such as CartPole\(\), got"),
    (lambda: dqn(CartPole(), ADAM, samples=0), "samples: expected a positive integer, got 0"),
    (lambda: dqn(CartPole(), ADAM, rate=2), r"rate: expected a number in \[0, 1\], got 2"),
    (
        lambda: dqn(CartPole(), ADAM, loss="mse"),
        r"loss: expected a function of \(values, targets\)",
    ),
    (
        lambda: dqn(CartPole(), ADAM, memory=100),
        "memory: expected a multiple of the 8 environments, got 100",
    ),
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


@pytest.mark.slow
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

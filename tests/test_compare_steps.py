"""The same training steps in PyTorch and here: honest pairs agree, and planted faults are found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxnets import compare, fit, layers, losses, optimizers
from jaxnets.arrays import InputError
from jaxnets.data import Dataset, Draws, Split
from jaxnets.models import MLP
from jaxnets.training import in_turn, minimize, supervised

DRAW = np.random.default_rng(0)
PAIRED = {
    "real": DRAW.normal(1, 0.5, (40, 3)).astype(np.float32),
    "noise": DRAW.normal(size=(40, 2)).astype(np.float32),
}
DATA = Dataset("points", Split(PAIRED))


class GAN(nnx.Module):
    def __init__(self, rngs):
        self.generator = MLP((2, 4, 3), rngs=rngs)
        self.critic = MLP((3, 4, 1), rngs=rngs)


class TorchGAN(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = compare.twin(MLP((2, 4, 3), rngs=nnx.Rngs(0)))
        self.critic = compare.twin(MLP((3, 4, 1), rngs=nnx.Rngs(0)))


def critic_loss(model, batch, key):
    fake = jax.lax.stop_gradient(model.generator(batch["inputs"]["noise"]))
    real = jax.nn.softplus(-model.critic(batch["inputs"]["real"])).mean()
    return real + jax.nn.softplus(model.critic(fake)).mean()


def generator_loss(model, batch, key):
    return jax.nn.softplus(-model.critic(model.generator(batch["inputs"]["noise"]))).mean()


STEP = in_turn(
    minimize(critic_loss, optimizers.adam(1e-2), wrt="critic"),
    minimize(generator_loss, optimizers.adam(1e-2), wrt="generator"),
)


def two_adams(model, critic_rate=1e-2):
    return {
        "critic": torch.optim.Adam(model.critic.parameters(), critic_rate),
        "generator": torch.optim.Adam(model.generator.parameters(), 1e-2),
    }


def torch_step(model, optimizers, batch, *, detach=True, names=("critic_loss", "generator_loss")):
    softplus = torch.nn.functional.softplus
    for optimizer in optimizers.values():
        optimizer.zero_grad()
    fake = model.generator(batch["inputs"]["noise"])
    seen = fake.detach() if detach else fake
    critic = softplus(-model.critic(batch["inputs"]["real"])).mean()
    critic = critic + softplus(model.critic(seen)).mean()
    critic.backward(retain_graph=True)
    optimizers["critic"].step()
    generator = softplus(-model.critic(fake)).mean()
    generator.backward()
    optimizers["generator"].step()
    found = dict(zip(names, (critic, generator), strict=True))
    return {"loss": critic.item() + generator.item(), **found}


def run(jax_model=GAN, torch_model=TorchGAN, data=DATA, **options):
    given = {"step": STEP, "torch_step": torch_step, "torch_optimizers": two_adams}
    given |= {"epochs": 2, "batch_size": 16, "seeds": [3], "progress": "none"}
    return compare.run(jax_model, torch_model, data, **given | options)


@pytest.fixture(scope="module")
def honest():
    return run(seeds=[3, 5])


def test_a_gan_is_the_same_in_both_step_by_step(honest):
    assert honest.findings == ()
    assert honest.metrics == ("loss", "critic_loss", "generator_loss")
    for ours, theirs in zip(honest.ours, honest.theirs, strict=True):
        assert (ours.seed, ours.framework, theirs.framework) == (theirs.seed, "jaxnets", "torch")
        for name in honest.metrics:
            assert ours.steps[name].shape == (6,)
            np.testing.assert_allclose(ours.steps[name], theirs.steps[name], rtol=1e-4)
            weighted = np.average(ours.steps[name].reshape(2, 3), axis=1, weights=[16, 16, 8])
            np.testing.assert_allclose(ours.epochs[name], weighted, rtol=1e-6)
    mean = honest.equivalence("critic_loss")
    assert mean.equivalent
    assert mean.interval[0] <= mean.difference <= mean.interval[1]


def test_what_is_compared_is_what_fit_trains(honest):
    trained = fit(GAN(nnx.Rngs(3)), DATA, STEP, epochs=2, batch_size=16, seed=3, progress="none")
    np.testing.assert_allclose(trained.step_losses, honest.ours[0].steps["loss"], rtol=1e-5)
    for name in honest.metrics:
        means = [record.train[name] for record in trained.history]
        np.testing.assert_allclose(means, honest.ours[0].epochs[name], rtol=1e-5)


def test_the_control_shows_what_rounding_does(honest):
    apart = np.abs(honest.control.steps["loss"] - honest.theirs[0].steps["loss"])
    assert 0 < apart.max() < 1e-4
    print(honest)

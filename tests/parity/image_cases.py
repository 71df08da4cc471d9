"""Networks of images for ``test_anything``: two optimizers, no labels, several inputs or outputs."""

import functools

import numpy as np
import torch
from torch.nn import functional

from jaxnets.data import Split
from tests.parity.anything import COUNT, Case, example

gan = example("gan")

SIZE = 8  # height and width of the images


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(COUNT, *shape))


def images():
    """Values from 0 to 1, [COUNT, SIZE, SIZE, 1]."""
    return np.random.default_rng(1).uniform(size=(COUNT, SIZE, SIZE, 1))


# -- a generative adversarial network ----------------------------------------------------------


class TorchGAN(torch.nn.Module):
    def __init__(self, noise=3, channels=4):
        super().__init__()
        self.generator = torch.nn.Sequential(
            torch.nn.ConvTranspose2d(noise, 2 * channels, SIZE // 4, bias=False),
            torch.nn.BatchNorm2d(2 * channels),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1, bias=False),
            torch.nn.BatchNorm2d(channels),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(channels, 1, 4, 2, 1),
            torch.nn.Tanh(),
        )
        self.critic = torch.nn.Sequential(
            torch.nn.Conv2d(1, channels, 4, 2, 1),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Conv2d(2 * channels, 1, SIZE // 4),
            torch.nn.Flatten(),
        )


def train_gan(network, batches):
    generator, critic = network.generator, network.critic
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.0002, betas=(0.5, 0.999))
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    for batch in batches:
        image, noise = batch["image"], batch["noise"][:, :, None, None]
        of_critic.zero_grad()
        real, fake = critic(image), critic(generator(noise).detach())
        logits = torch.cat([real, fake])
        labels = torch.cat([torch.ones_like(real), torch.zeros_like(fake)])
        critic_loss = functional.binary_cross_entropy_with_logits(logits, labels)
        critic_loss.backward()
        of_critic.step()
        accuracy = ((logits > 0) == (labels > 0)).double().mean()

        of_generator.zero_grad()
        fooled = critic(generator(noise))
        loss = functional.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))
        loss.backward()
        of_generator.step()
        yield {
            "loss": (critic_loss + loss).item(),
            "critic_loss": critic_loss.item(),
            "critic_accuracy": accuracy.item(),
            "generator_loss": loss.item(),
        }


GAN = Case(
    build=functools.partial(gan.GAN, size=SIZE, noise=3, channels=4),
    data=lambda dtype: Split(
        {"image": (2 * images() - 1).astype(dtype), "noise": drawn(3).astype(dtype)}
    ),
    step=gan.step,
    twin=TorchGAN,
    loop=train_gan,
)

CASES = {"gan": GAN}

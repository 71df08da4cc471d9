"""Networks of images for ``test_anything``: several optimizers, inputs, outputs, or no labels."""

import functools

import numpy as np
import torch
from torch.nn import functional

from jaxnets import optimizers
from jaxnets.data import Split
from jaxnets.training import minimize, supervised
from tests.parity.anything import COUNT, Case, example

gan, vae, denoising, siamese, two_tasks = map(
    example, ("gan", "vae", "denoising_autoencoder", "siamese", "two_tasks")
)

SIZE = 8  # height and width of the images


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(COUNT, *shape))


def images():
    """Values from 0 to 1, [COUNT, SIZE, SIZE, 1]."""
    return np.random.default_rng(1).uniform(size=(COUNT, SIZE, SIZE, 1))


def with_noise(images, noise, dtype):
    return Split({"image": images.astype(dtype), "noise": noise.astype(dtype)})


# -- a generative adversarial network ----------------------------------------------------------


class TorchGAN(torch.nn.Module):
    def __init__(self, noise=3, width=4):
        super().__init__()
        self.generator = torch.nn.Sequential(
            torch.nn.Unflatten(1, (noise, 1, 1)),
            torch.nn.ConvTranspose2d(noise, 2 * width, SIZE // 4, bias=False),
            torch.nn.BatchNorm2d(2 * width),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(width, 1, 4, 2, 1),
            torch.nn.Tanh(),
        )
        self.critic = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 4, 2, 1),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Conv2d(width, 2 * width, 4, 2, 1),
            torch.nn.LeakyReLU(0.2),
            torch.nn.Conv2d(2 * width, 1, SIZE // 4),
            torch.nn.Flatten(),
        )


def train_gan(network, batches):
    generator, critic = network.generator, network.critic
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.0002, betas=(0.5, 0.999))
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999))
    for batch in batches:
        image, noise = batch["image"], batch["noise"]
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
    build=functools.partial(gan.GAN, size=SIZE, noise=3, width=4),
    data=lambda dtype: with_noise(2 * images() - 1, drawn(3), dtype),
    step=gan.step,
    twin=TorchGAN,
    loop=train_gan,
)


# -- autoencoders --------------------------------------------------------------------------------


class TorchVAE(torch.nn.Module):
    def __init__(self, pixels=SIZE * SIZE, hidden=10, codes=3):
        super().__init__()
        self.hidden = torch.nn.Linear(pixels, hidden)
        self.mean = torch.nn.Linear(hidden, codes)
        self.log_variance = torch.nn.Linear(hidden, codes)
        self.decoder = torch.nn.Sequential(
            torch.nn.Linear(codes, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, pixels)
        )

    def forward(self, images, noise):
        hidden = functional.relu(self.hidden(images))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        return self.decoder(mean + (0.5 * log_variance).exp() * noise), mean, log_variance


def train_vae(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for batch in batches:
        optimizer.zero_grad()
        logits, mean, log_variance = network(batch["image"], batch["noise"])
        reconstruction = functional.binary_cross_entropy_with_logits(
            logits, batch["image"], reduction="sum"
        ) / len(logits)
        divergence = -0.5 * (1 + log_variance - mean**2 - log_variance.exp()).sum() / len(logits)
        loss = reconstruction + divergence
        loss.backward()
        optimizer.step()
        yield {
            "loss": loss.item(),
            "reconstruction": reconstruction.item(),
            "divergence": divergence.item(),
        }


VAE = Case(
    build=functools.partial(vae.VAE, pixels=SIZE * SIZE, hidden=10, codes=3),
    data=lambda dtype: with_noise(images().reshape(COUNT, -1), drawn(3), dtype),
    step=vae.step,
    twin=TorchVAE,
    loop=train_vae,
)

DRAWING_VAE = Case(  # its noise is drawn from the key
    build=VAE.build,
    data=lambda dtype: Split(images().reshape(COUNT, -1).astype(dtype)),
    step=vae.step,
)


class TorchAutoencoder(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Conv2d(1, width, 3, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            torch.nn.ReLU(),
        )
        self.decoder = torch.nn.Sequential(
            torch.nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            torch.nn.ReLU(),
            torch.nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
            torch.nn.Sigmoid(),
        )

    def forward(self, images):
        return self.decoder(self.encoder(images))


def train_autoencoder(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
    for batch in batches:
        noisy = batch["image"] + 0.5 * batch["noise"]
        optimizer.zero_grad()
        loss = functional.mse_loss(network(noisy), batch["image"])
        loss.backward()
        optimizer.step()
        noisy_error = functional.mse_loss(noisy, batch["image"])
        yield {"loss": loss.item(), "noisy_error": noisy_error.item()}


DENOISING = Case(
    build=functools.partial(denoising.Autoencoder, width=2),
    data=lambda dtype: with_noise(images(), drawn(SIZE, SIZE, 1), dtype),
    step=denoising.step,
    twin=TorchAutoencoder,
    loop=train_autoencoder,
)


# -- two inputs, two outputs -----------------------------------------------------------------------


class TorchSiamese(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Sequential()
        self.embed.add_module("fc1", torch.nn.Linear(SIZE * SIZE, 10))
        self.embed.add_module("relu", torch.nn.ReLU())
        self.embed.add_module("fc2", torch.nn.Linear(10, 4))

    def forward(self, first, second):
        first, second = self.embed(first.flatten(1)), self.embed(second.flatten(1))
        return functional.pairwise_distance(first, second)


def train_siamese(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for (first, second), same in batches:
        optimizer.zero_grad()
        distance = network(first, second)
        loss = (same * distance**2 + (1 - same) * functional.relu(1 - distance) ** 2).mean()
        loss.backward()
        optimizer.step()
        accuracy = ((distance < 0.5) == (same == 1)).double().mean()
        yield {"loss": loss.item(), "accuracy": accuracy.item()}


SIAMESE = Case(
    build=functools.partial(siamese.Siamese, (SIZE * SIZE, 10, 4)),
    data=lambda dtype: Split(
        (images().astype(dtype), images()[::-1].astype(dtype)), np.arange(COUNT, dtype=np.int32) % 2
    ),
    step=minimize(
        supervised(siamese.contrastive_loss, correct=siamese.is_right), optimizers.adam(lr=0.001)
    ),
    twin=TorchSiamese,
    loop=train_siamese,
)


class TorchTwoHeads(torch.nn.Module):
    def __init__(self, pixels=SIZE * SIZE, hidden=12):
        super().__init__()
        self.trunk = torch.nn.Linear(pixels, hidden)
        self.digit = torch.nn.Linear(hidden, 10)
        self.odd = torch.nn.Linear(hidden, 1)

    def forward(self, images):
        features = functional.relu(self.trunk(images.flatten(1)))
        return self.digit(features), self.odd(features)


def train_two_heads(network, batches):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for images, labels in batches:
        optimizer.zero_grad()
        digit, odd = network(images)
        digit_loss = functional.cross_entropy(digit, labels["digit"])
        odd_loss = functional.binary_cross_entropy_with_logits(odd, labels["odd"].to(odd.dtype))
        (digit_loss + odd_loss).backward()
        optimizer.step()
        yield {
            "loss": (digit_loss + odd_loss).item(),
            "digit_loss": digit_loss.item(),
            "digit_accuracy": (digit.argmax(1) == labels["digit"]).double().mean().item(),
            "odd_loss": odd_loss.item(),
            "odd_accuracy": ((odd >= 0) == (labels["odd"] == 1)).double().mean().item(),
        }


TWO_TASKS = Case(
    build=functools.partial(two_tasks.TwoHeads, pixels=SIZE * SIZE, hidden=12),
    data=lambda dtype: two_tasks.with_both_labels(
        Split(images().astype(dtype), np.arange(COUNT, dtype=np.int32) % 10)
    ),
    step=minimize(
        supervised(two_tasks.loss, correct=None, metrics=two_tasks.each_task),
        optimizers.adam(lr=0.001),
    ),
    twin=TorchTwoHeads,
    loop=train_two_heads,
)

CASES = {
    "gan": GAN,
    "vae": VAE,
    "vae-drawing": DRAWING_VAE,
    "denoising": DENOISING,
    "siamese": SIAMESE,
    "two-tasks": TWO_TASKS,
}

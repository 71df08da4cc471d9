"""Image networks for ``test_anything``: several optimizers, inputs or outputs, or no labels."""

import functools
import itertools

import jax
import numpy as np
import torch
from flax import nnx
from torch.nn import functional

from jaxnets import DCGAN, VAE, Diffusion, optimizers
from jaxnets.compare import twin
from jaxnets.data import Split
from jaxnets.models.diffusion import diffusion_loss, signal
from jaxnets.training import minimize, supervised
from jaxnets.training.state import DRAWS
from tests.parity.anything import COUNT, Case, as_tensor, example

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


def classes():
    return np.arange(COUNT, dtype=np.int32) % 3


def keys(seed=0):
    """The key of each step of ``fit``."""
    root = jax.random.fold_in(jax.random.key(seed), DRAWS)
    return (jax.random.fold_in(root, step) for step in itertools.count())


def noise(key, *shape, like):
    """The normal numbers that a step draws from a key, as a tensor with the dtype of ``like``."""
    dtype = np.float64 if like.dtype == torch.float64 else np.float32
    return as_tensor(np.asarray(jax.random.normal(key, shape, dtype)))


# -- a generative adversarial network ----------------------------------------------------------


def train_gan(network, batches, seed=0):
    generator, discriminator = network.generator, network.discriminator
    adam = functools.partial(torch.optim.Adam, lr=0.0005, betas=(0.5, 0.999))
    of_discriminator = adam(discriminator.parameters())
    of_generator = adam(generator.parameters())
    cross_entropy = functional.binary_cross_entropy_with_logits
    size = generator.embedding.embedding_dim  # of the noise
    for (image, label), key in zip(batches, keys(seed), strict=False):
        of_discriminator.zero_grad()
        drawn = noise(jax.random.fold_in(key, 0), len(image), size, like=image)
        samples = generator(drawn, label).detach()
        real, fake = discriminator(2 * image - 1, label), discriminator(samples, label)
        real_loss = cross_entropy(real, torch.ones_like(real))
        discriminator_loss = real_loss + cross_entropy(fake, torch.zeros_like(fake))
        discriminator_loss.backward()
        of_discriminator.step()
        right = torch.cat([real > 0, fake <= 0]).double().mean()

        of_generator.zero_grad()
        drawn = noise(jax.random.fold_in(key, 1), len(image), size, like=image)
        fooled = discriminator(generator(drawn, label), label)
        loss = cross_entropy(fooled, torch.ones_like(fooled))
        loss.backward()
        of_generator.step()
        yield {
            "loss": (discriminator_loss + loss).item(),
            "discriminator_loss": discriminator_loss.item(),
            "discriminator_accuracy": right.item(),
            "generator_loss": loss.item(),
        }


build_gan = functools.partial(DCGAN, 3, 4, 4, image_size=SIZE, num_classes=3)
GAN = Case(
    build=build_gan,
    data=lambda dtype: Split(images().astype(dtype), classes()),
    step=gan.step,
    twin=lambda: twin(build_gan(rngs=nnx.Rngs(0))),
    loop=train_gan,
)


# -- a diffusion model ---------------------------------------------------------------------------


def train_diffusion(network, batches, seed=0, optimizer=None):
    # With groups of one channel, a bias before a normalization has a gradient of zero except for
    # rounding, which Adam would amplify.
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=0.1)
    steps, none = len(network.unet.table), network.unet.label.num_embeddings - 1
    shares = torch.tensor(signal(steps, "cosine"))
    for (image, label), key in zip(batches, keys(seed), strict=False):
        time_key, noise_key, hiding_key = jax.random.split(key, 3)
        time = jax.random.randint(time_key, (len(image),), 0, steps)
        hidden = jax.random.bernoulli(hiding_key, 0.1, (len(image),))
        time, hidden = (torch.tensor(np.asarray(each)) for each in (time.astype(int), hidden))
        drawn = noise(noise_key, *image.permute(0, 2, 3, 1).shape, like=image)
        share = shares[time].to(image.dtype)[:, None, None, None]
        noisy = share.sqrt() * (2 * image - 1) + (1 - share).sqrt() * drawn
        optimizer.zero_grad()
        found = network(noisy, time, torch.where(hidden, none, label))
        loss = functional.mse_loss(found, drawn)
        loss.backward()
        optimizer.step()
        yield {"loss": loss.item()}


build_diffusion = functools.partial(Diffusion, SIZE, 1, 8, 3, 20)
DIFFUSION = Case(
    build=build_diffusion,
    data=GAN.data,
    step=minimize(diffusion_loss, optimizers.sgd(lr=0.1)),
    twin=lambda: twin(build_diffusion(rngs=nnx.Rngs(0))),
    loop=train_diffusion,
)


# -- autoencoders --------------------------------------------------------------------------------


def train_vae(network, batches, seed=0):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.001)
    for image, key in zip(batches, keys(seed), strict=False):
        optimizer.zero_grad()
        mean, log_variance = network.encode(image)
        drawn = noise(key, *mean.shape, like=mean)
        logits = network.decode(mean + (0.5 * log_variance).exp() * drawn)
        reconstruction = functional.binary_cross_entropy_with_logits(
            logits, image, reduction="sum"
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


build_vae = functools.partial(VAE, SIZE, 1, 10, 3)
OF_VAE = Case(
    build=build_vae,
    data=lambda dtype: Split(images().astype(dtype)),
    step=vae.step,
    twin=lambda: twin(build_vae(rngs=nnx.Rngs(0))),
    loop=train_vae,
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
    "vae": OF_VAE,
    "diffusion": DIFFUSION,
    "denoising": DENOISING,
    "siamese": SIAMESE,
    "two-tasks": TWO_TASKS,
}

"""Draw digits with a generative adversarial network.

Teaches:    two steps in turn, each with its own Adam and its own part of one model; noise drawn
            from the key of a step; a picture of what the generator draws.
Reproduces: PyTorch's DCGAN example with images of 28×28 and no BatchNorm in the critic.
Data:       the first 6,000 images of MNIST, bundled; no labels, no test.
Run:        python examples/gan.py --samples digits.png
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.image import imsave

from jaxnets import fit, layers, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import Split, load
from jaxnets.training import in_turn, minimize


class GAN(nnx.Module):
    """A generator of images [batch, size, size, 1] from noise, and a critic of them."""

    def __init__(self, size=28, noise=64, channels=32, *, rngs, param_dtype=jnp.float32):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.noise = noise
        self.generator = nnx.Sequential(
            layers.ConvTranspose2d(noise, 2 * channels, size // 4, bias=False, **options),
            layers.BatchNorm2d(2 * channels, **options),
            layers.ReLU(),
            layers.ConvTranspose2d(
                2 * channels, channels, 4, stride=2, padding=1, bias=False, **options
            ),
            layers.BatchNorm2d(channels, **options),
            layers.ReLU(),
            layers.ConvTranspose2d(channels, 1, 4, stride=2, padding=1, **options),
            layers.Tanh(),
        )
        self.critic = nnx.Sequential(
            layers.Conv2d(1, channels, 4, stride=2, padding=1, **options),
            layers.LeakyReLU(0.2),
            layers.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, **options),
            layers.LeakyReLU(0.2),
            layers.Conv2d(2 * channels, 1, size // 4, **options),
            layers.Flatten(),
        )

    def draw(self, noise):
        """Images for noise [batch, noise]."""
        return self.generator(noise[:, None, None, :])


def images_and_noise(model, batch, key):
    """The images of a batch, and noise for as many samples: a column of the batch, or drawn."""
    inputs = batch["inputs"]
    if isinstance(inputs, dict):
        return inputs["image"], inputs["noise"]
    return inputs, jax.random.normal(key, (len(inputs), model.noise), inputs.dtype)


def critic_loss(model, batch, key):
    """Images are to get the label 1, samples the label 0."""
    images, noise = images_and_noise(model, batch, key)
    logits = jnp.concatenate([model.critic(images), model.critic(model.draw(noise))])
    labels = jnp.concatenate(
        [jnp.ones_like(logits[: len(images)]), jnp.zeros((len(noise), 1), logits.dtype)]
    )
    right = ((logits > 0) == (labels > 0)).sum()
    return losses.binary_cross_entropy_with_logits(logits, labels), {
        "accuracy": (right, len(logits))
    }


def generator_loss(model, batch, key):
    """The critic is to take samples for images."""
    _, noise = images_and_noise(model, batch, key)
    logits = model.critic(model.draw(noise))
    return losses.binary_cross_entropy_with_logits(logits, jnp.ones_like(logits))


adam = optimizers.adam(lr=0.0002, betas=(0.5, 0.999))
step = in_turn(
    minimize(critic_loss, adam, wrt="critic"), minimize(generator_loss, adam, wrt="generator")
)

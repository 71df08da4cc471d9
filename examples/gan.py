"""Draw digits with a generative adversarial network (GAN).

Teaches:    ``in_turn`` runs two steps on each batch, each with a separate Adam and a separate part
            of the model; noise comes from the key of the step.
Data:       the first 6,000 images of MNIST, included, without labels.
Settings:   a small DCGAN, BatchNorm in the generator, two Adams (0.0002, β₁ = 0.5), batch 64,
            12 epochs.
Run:        python examples/gan.py --samples digits.png
Time:       about a minute on 2 CPU cores.
Result:     samples that look like digits; the accuracy of the critic is 62 %.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.image import imsave

from jaxnets import fit, layers, losses, optimizers, predict
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Split, load
from jaxnets.training import in_turn, minimize


def one_pixel(noise):
    """Reshapes noise [batch, n] to images [batch, 1, 1, n]."""
    return noise[:, None, None, :]


class GAN(nnx.Module):
    """A generator of images [batch, size, size, 1] from noise [batch, noise], and a critic."""

    def __init__(self, size=28, noise=64, width=16, *, rngs, param_dtype=jnp.float32):
        kw = {"rngs": rngs, "param_dtype": param_dtype}
        twice = {"kernel_size": 4, "stride": 2, "padding": 1, **kw}  # or half the size
        self.noise = noise
        self.generator = nnx.Sequential(
            one_pixel,
            layers.ConvTranspose2d(noise, 2 * width, size // 4, bias=False, **kw),
            layers.BatchNorm2d(2 * width, **kw),
            layers.ReLU(),
            layers.ConvTranspose2d(2 * width, width, bias=False, **twice),
            layers.BatchNorm2d(width, **kw),
            layers.ReLU(),
            layers.ConvTranspose2d(width, 1, **twice),
            layers.Tanh(),
        )
        self.critic = nnx.Sequential(
            layers.Conv2d(1, width, **twice),
            layers.LeakyReLU(0.2),
            layers.Conv2d(width, 2 * width, **twice),
            layers.LeakyReLU(0.2),
            layers.Conv2d(2 * width, 1, size // 4, **kw),
            layers.Flatten(),
        )


def images_and_noise(model, batch, key):
    """Returns the images of a batch and noise for as many samples, from a column or drawn."""
    inputs = batch["inputs"]
    if isinstance(inputs, dict):
        return inputs["image"], inputs["noise"]
    return inputs, jax.random.normal(key, (len(inputs), model.noise), inputs.dtype)


def critic_loss(model, batch, key):
    """Returns the cross-entropy of the critic, with labels 1 for images and 0 for samples."""
    images, noise = images_and_noise(model, batch, key)
    logits = model.critic(jnp.concatenate([images, model.generator(noise)]))
    labels = jnp.repeat(jnp.array([[1], [0]], logits.dtype), len(images), axis=0)
    right = jnp.sum((logits > 0) == (labels > 0))
    loss = losses.binary_cross_entropy_with_logits(logits, labels)
    return loss, {"accuracy": (right, len(labels))}


def generator_loss(model, batch, key):
    """Returns the cross-entropy of the critic for samples with label 1, the label of images."""
    _, noise = images_and_noise(model, batch, key)
    logits = model.critic(model.generator(noise))
    return losses.binary_cross_entropy_with_logits(logits, jnp.ones_like(logits))


adam = optimizers.adam(lr=0.0002, betas=(0.5, 0.999))
step = in_turn(
    minimize(critic_loss, adam, wrt="critic"), minimize(generator_loss, adam, wrt="generator")
)


def main():
    """Trains, prints a line for each epoch, and saves a picture of 64 samples with --samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="PNG file for samples")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        images = load("mnist", train=f"train[:{args.images}]").train.inputs
        data = Split(images.astype(np.float32) / 127.5 - 1)  # from -1 to 1, as of Tanh
        run = fit(GAN(rngs=nnx.Rngs(args.seed)), data, step, epochs=args.epochs, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    print(f"accuracy of the critic: {run.history[-1].train['critic_accuracy']:.1%}")
    if args.samples:
        noise = np.random.default_rng(args.seed).normal(size=(64, run.model.noise))
        drawn = predict(run.model.generator, noise.astype(np.float32)).reshape(8, 8, 28, 28)
        imsave(args.samples, drawn.swapaxes(1, 2).reshape(8 * 28, 8 * 28), cmap="gray")


if __name__ == "__main__":
    keep_programs()
    main()

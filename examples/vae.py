"""Learn to draw digits with a variational autoencoder (VAE).

Teaches:    an objective is any function of model, batch and key; it may ignore labels, draw random
            numbers from the key, and return metrics.
Data:       the first 20,000 images of MNIST, included, and 2,000 test images, without labels.
Settings:   784-400-20-400-784 as in PyTorch's example, Adam 0.001, batch 64, 10 epochs.
Run:        python examples/vae.py --samples digits.png
Time:       about 15 s on 2 CPU cores.
Result:     109.3 nats per test image, 85.1 of reconstruction and 24.3 of divergence.
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
from jaxnets.data import Dataset, Split, load
from jaxnets.training import minimize


class VAE(nnx.Module):
    """An encoder from images to normal distributions of codes, and a decoder to pixel logits."""

    def __init__(self, pixels=784, hidden=400, codes=20, *, rngs, param_dtype=jnp.float32):
        kw = {"rngs": rngs, "param_dtype": param_dtype}
        self.codes = codes
        self.hidden = layers.Linear(pixels, hidden, **kw)
        self.mean = layers.Linear(hidden, codes, **kw)
        self.log_variance = layers.Linear(hidden, codes, **kw)
        self.decoder = nnx.Sequential(
            layers.Linear(codes, hidden, **kw), layers.ReLU(), layers.Linear(hidden, pixels, **kw)
        )

    def encode(self, images):
        """Returns the mean and the log variance of the codes, both [batch, codes]."""
        hidden = nnx.relu(self.hidden(images))
        return self.mean(hidden), self.log_variance(hidden)


def negative_elbo(model, batch, key):
    """Returns reconstruction error plus KL divergence, in nats per image."""
    inputs = batch["inputs"]
    if isinstance(inputs, dict):  # the noise is a column of the data
        images, noise = inputs["image"], inputs["noise"]
    else:
        images = inputs
        noise = jax.random.normal(key, (len(images), model.codes), images.dtype)
    mean, log_variance = model.encode(images)
    logits = model.decoder(mean + jnp.exp(log_variance / 2) * noise)
    pixels = losses.binary_cross_entropy_with_logits(logits, images, reduction="sum")
    reconstruction = pixels / len(images)
    divergence = jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance) / (2 * len(images))
    metrics = {"reconstruction": reconstruction, "divergence": divergence}
    return reconstruction + divergence, metrics


step = minimize(negative_elbo, optimizers.adam(lr=0.001))


def as_split(images):
    """Returns images as rows of pixels from 0 to 1, without labels."""
    return Split(images.reshape(len(images), -1).astype(np.float32) / 255)


def main():
    """Trains, prints a line for each epoch, and saves a picture of 64 samples with --samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="PNG file for samples")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        mnist = load("mnist", train=f"train[:{args.images}]", test="test[:2000]")
        data = Dataset("mnist", as_split(mnist.train.inputs), as_split(mnist.test.inputs))
        run = fit(VAE(rngs=nnx.Rngs(args.seed)), data, step, epochs=args.epochs, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    for name, nats in run.test.metrics.items():
        print(f"test {name}: {nats:.1f} nats per image")
    if args.samples:
        codes = np.random.default_rng(args.seed).normal(size=(64, run.model.codes))
        drawn = predict(run.model.decoder, codes.astype(np.float32)).reshape(8, 8, 28, 28)
        imsave(args.samples, nnx.sigmoid(drawn).swapaxes(1, 2).reshape(224, 224), cmap="gray")


if __name__ == "__main__":
    keep_programs()
    main()

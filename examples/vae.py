"""Learn to draw digits with a variational autoencoder (VAE).

Teaches:    an objective is any function of model, batch and key: ``vae_loss`` ignores labels, draws
            random numbers from the key, and returns metrics.
Data:       the first 20,000 images of MNIST, included, and 2,000 test images, without labels.
Settings:   784-400-20-400-784 as in PyTorch's example, Adam 0.001, batch 64, 10 epochs.
Run:        python examples/vae.py --samples digits.png
Time:       about 15 s on 2 CPU cores.
Result:     109.3 nats per test image, 85.1 of reconstruction and 24.3 of divergence.
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import VAE, fit, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, Split, load, save_image
from jaxnets.models.vae import vae_loss
from jaxnets.sampling import sample_images
from jaxnets.training import minimize

step = minimize(vae_loss, optimizers.adam(lr=0.001))


def as_split(images):
    """Returns images with values from 0 to 1, without labels."""
    return Split(images.astype(np.float32) / 255)


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
        save_image(sample_images(run.model, 64, seed=args.seed), args.samples)


if __name__ == "__main__":
    keep_programs()
    main()

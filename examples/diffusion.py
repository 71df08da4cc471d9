"""Draw digits with a denoising diffusion model.

Teaches:    ``Diffusion`` learns to predict the noise in an image; its sampler removes noise step by
            step, in few steps (DDIM) or many (DDPM); the weights that draw are averages of those
            in training.
Data:       the first 20,000 images of MNIST, included, and 1,000 test images.
Settings:   a small U-Net that is given the classes, Adam 0.002, batch 128, 4 epochs, averages
            with a decay of 0.995.
Run:        python examples/diffusion.py --samples digits.png
Time:       a few minutes on 2 CPU cores.
Result:     samples that look like digits, a class in each column.
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import Diffusion, fit, optimizers
from jaxnets.arrays import check_seed
from jaxnets.averaging import averaged, ema
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, Split, load, save_image
from jaxnets.models.diffusion import diffusion_loss
from jaxnets.sampling import sample_images
from jaxnets.training import minimize

step = ema(minimize(diffusion_loss, optimizers.adam(lr=0.002)), 0.995)


def as_split(split):
    """Returns images with values from 0 to 1, and their classes."""
    return Split(split.inputs.astype(np.float32) / 255, split.labels)


def main():
    """Trains, prints a line for each epoch, and saves a picture of 100 samples with --samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--channels", type=int, default=32, help="of the U-Net, a multiple of 8")
    parser.add_argument("--steps", type=int, default=50, help="steps of the sampler, up to 1000")
    parser.add_argument("--eta", type=float, default=0.0, help="0 for DDIM, 1 for DDPM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="PNG file for samples")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        mnist = load("mnist", train=f"train[:{args.images}]", test="test[:1000]")
        data = Dataset("mnist", as_split(mnist.train), as_split(mnist.test))
        model = Diffusion(channels=args.channels, num_classes=10, rngs=nnx.Rngs(args.seed))
        settings = {"epochs": args.epochs, "batch_size": 128, "seed": args.seed}
        run = fit(model, data, step, **settings)
        if args.samples:
            how = {"steps": args.steps, "eta": args.eta, "seed": args.seed}
            drawn = sample_images(averaged(run), 100, np.arange(100) % 10, **how)
            save_image(drawn, args.samples, nrow=10)
    except ValueError as error:
        parser.error(str(error))
    print(f"test error of the predicted noise: {run.test.loss:.4f}")


if __name__ == "__main__":
    keep_programs()
    main()

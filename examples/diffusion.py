"""Draw digits with a denoising diffusion model.

Teaches:    ``Diffusion`` learns to predict the noise in an image; its sampler removes noise step by
            step, in a few steps or in as many as it was trained with.
Data:       MNIST, included; 2,000 images to test with.
Settings:   a small U-Net that is given the classes, Adam with one cycle of the learning rate up to
            0.002, batch 64, 2 epochs.
Run:        python examples/diffusion.py --samples digits.png
Time:       5 minutes of CPU time.
Result:     a LeNet recognizes 99 % of the samples as their class.
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import Diffusion, fit, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, Split, load, save_image
from jaxnets.models.diffusion import diffusion_loss
from jaxnets.sampling import sample_images
from jaxnets.training import minimize


def as_split(split):
    """Returns images with values from 0 to 1, and their classes."""
    return Split(split.inputs.astype(np.float32) / 255, split.labels)


def main():
    """Trains, prints a line for each epoch, and saves a picture of 100 samples with --samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--channels", type=int, default=32, help="of the U-Net, a multiple of 8")
    parser.add_argument("--steps", type=int, default=25, help="steps of the sampler, up to 1000")
    parser.add_argument("--eta", type=float, default=1.0, help="0 for DDIM, 1 for DDPM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="PNG file for samples")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        mnist = load("mnist", train=f"train[:{args.images}]", test="test[:2000]")
        data = Dataset("mnist", as_split(mnist.train), as_split(mnist.test))
        model = Diffusion(channels=args.channels, num_classes=10, rngs=nnx.Rngs(args.seed))
        steps = -(-args.images // 64)
        rate = optimizers.one_cycle_lr(0.002, epochs=args.epochs, steps_per_epoch=steps)
        step = minimize(diffusion_loss, optimizers.adam(lr=rate))
        run = fit(model, data, step, epochs=args.epochs, batch_size=64, seed=args.seed)
        if args.samples:
            how = {"steps": args.steps, "eta": args.eta, "seed": args.seed}
            drawn = sample_images(run.model, 100, np.arange(100) % 10, **how)
            save_image(drawn, args.samples, nrow=10)
    except ValueError as error:
        parser.error(str(error))
    print(f"test error of the predicted noise: {run.test.loss:.4f}")


if __name__ == "__main__":
    keep_programs()
    main()

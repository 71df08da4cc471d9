"""Draw digits with a generative adversarial network (GAN).

Teaches:    ``in_turn`` runs two steps on each batch, each with a separate Adam and a separate part
            of the model; noise comes from the key of the step.
Data:       the first 6,000 images of MNIST, included.
Settings:   a small DCGAN that is given the classes, two Adams (0.0005, β₁ = 0.5), batch 64,
            12 epochs.
Run:        python examples/gan.py --samples digits.png
Time:       50 s of CPU time.
Result:     samples that look like digits, a class in each column.
"""

import argparse

import numpy as np
from flax import nnx

from jaxnets import DCGAN, fit, optimizers
from jaxnets.arrays import check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Split, load, save_image
from jaxnets.models.dcgan import discriminator_loss, generator_loss
from jaxnets.sampling import sample_images
from jaxnets.training import in_turn, minimize

adam = optimizers.adam(lr=0.0005, betas=(0.5, 0.999))
step = in_turn(
    minimize(discriminator_loss, adam, wrt="discriminator"),
    minimize(generator_loss, adam, wrt="generator"),
)


def main():
    """Trains, prints a line for each epoch, and saves a picture of 100 samples with --samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=6000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", help="PNG file for samples")
    args = parser.parse_args()
    try:
        check_seed("--seed", args.seed)
        mnist = load("mnist", train=f"train[:{args.images}]").train
        data = Split(mnist.inputs.astype(np.float32) / 255, mnist.labels)
        model = DCGAN(num_classes=10, rngs=nnx.Rngs(args.seed))
        run = fit(model, data, step, epochs=args.epochs, seed=args.seed)
    except ValueError as error:
        parser.error(str(error))
    accuracy = run.history[-1].train["discriminator_accuracy"]
    print(f"accuracy of the discriminator: {accuracy:.1%}")
    if args.samples:
        labels = np.arange(100) % 10
        save_image(sample_images(run.model, 100, labels, seed=args.seed), args.samples, nrow=10)


if __name__ == "__main__":
    keep_programs()
    main()

"""Train a residual network on CIFAR-10, or test published weights.

Document:   000, section 4.2, mentions residual networks. This is ResNet-20 of He et al. (2015).
Data:       CIFAR-10, normalized, not included; see docs/data.md for how to obtain it.
Settings:   SGD with Nesterov momentum 0.9, one cycle of the learning rate up to 0.2, weight decay
            5e-4, batch 128, 12 epochs; images are padded, cropped and mirrored at random.
Run:        python examples/cifar10_resnet.py --data-dir FOLDER
Time:       about 15 minutes on 2 CPU cores.
Accuracy:   87.6 % (seed 0).
"""

import argparse

from flax import nnx

from jaxnets import evaluate, fit, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import Compose, Normalize, RandomCrop, RandomHorizontalFlip, ToFloat, load
from jaxnets.interop import load_torch
from jaxnets.models import CifarResNet
from jaxnets.training import supervised


def main():
    """Trains or loads a network, and prints the test accuracy."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="where CIFAR-10 is, else the folder JAXNETS_DATA")
    parser.add_argument("--epochs", type=int, default=12, help="12 by default")
    parser.add_argument("--depth", type=int, default=20, help="20, 32, 44, 56 or another 6n + 2")
    parser.add_argument("--shortcut", default="A", help="A or B; A by default")
    parser.add_argument("--weights", help="test the weights of a PyTorch file instead of training")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order; 0")
    parser.add_argument("--fast", action="store_true", help="4 %% of the images, 8 layers")
    args = parser.parse_args()
    part = "[:4%]" if args.fast else ""
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of red, green and blue
    transform = Compose(ToFloat(), Normalize(mean, std))
    try:
        data = load("cifar10", data_dir=args.data_dir, train=f"train{part}", test=f"test{part}")
    except (ImportError, ValueError) as error:
        parser.exit(2, f"{parser.prog}: {error}; see docs/data.md for how to obtain CIFAR-10\n")
    try:
        depth = 8 if args.fast else args.depth
        model = CifarResNet(depth, shortcut=args.shortcut, rngs=nnx.Rngs(args.seed))
        if args.weights:
            load_torch(model, args.weights)
            test = evaluate(model, data.test, supervised(losses.cross_entropy, transform=transform))
        else:
            steps = -(-len(data.train) // 128)
            rate = optimizers.one_cycle_lr(0.2, epochs=args.epochs, steps_per_epoch=steps)
            run = fit(
                model,
                data,
                loss=losses.cross_entropy,
                optimizer=optimizers.sgd(rate, momentum=0.9, weight_decay=5e-4, nesterov=True),
                epochs=args.epochs,
                batch_size=128,
                seed=args.seed,
                transform=transform,
                augment=Compose(RandomCrop(32, padding=4), RandomHorizontalFlip()),
            )
            test = run.test
    except ValueError as error:
        parser.error(str(error))
    print(f"test accuracy: {test.accuracy:.2%} ({test.correct}/{test.total})")


if __name__ == "__main__":
    keep_programs()
    main()

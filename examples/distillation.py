"""Teach a network a digit that is not in its training data, with soft probabilities of another.

Teaches:    a model with a frozen part, your own loss with augmentation and a metric,
            and an evaluation objective that differs from the training objective.
Reproduces: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015),
            section 3: there is no 3 among the student's images.
Data:       the first 10,000 images of MNIST, included, shifted by up to two pixels, and 2,000
            test images.
Run:        python examples/distillation.py
Time:       about 40 s on 2 CPU cores.
Accuracy:   94.3 %, and 75 % for the 3s; of the teacher 97.0 %, and 98 % for the 3s.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import MLP, evaluate, fit, layers, losses, optimizers
from jaxnets.arrays import check_positive, check_seed
from jaxnets.compilation import keep_programs
from jaxnets.data import Dataset, RandomCrop, load
from jaxnets.training import minimize, supervised

TEMPERATURE = 8.0
moved = RandomCrop(28, padding=2)


def pixels(images):
    """Scales pixels from [0, 255] to [0, 1]."""
    return images / 255


by_labels = supervised(losses.cross_entropy, transform=pixels, augment=moved)


class Teacher(nnx.Module):
    """Two convolutions with batch normalization, for images [batch, 28, 28, 1]."""

    def __init__(self, channels=16, *, rngs, param_dtype=jnp.float32):
        options = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = layers.Conv2d(1, channels, kernel_size=5, padding=2, **options)
        self.norm1 = layers.BatchNorm2d(channels, **options)
        self.conv2 = layers.Conv2d(channels, 2 * channels, kernel_size=5, padding=2, **options)
        self.norm2 = layers.BatchNorm2d(2 * channels, **options)
        self.pool = layers.MaxPool2d(2)
        self.fc = layers.Linear(2 * channels * 7 * 7, 10, **options)

    def __call__(self, x):
        x = self.pool(jax.nn.relu(self.norm1(self.conv1(x))))
        x = self.pool(jax.nn.relu(self.norm2(self.conv2(x))))
        return self.fc(layers.flatten(x))


class Pair(nnx.Module):
    """A teacher and its student; the model returns the logits of the student."""

    def __init__(self, teacher, student):
        self.teacher, self.student = teacher, student

    def __call__(self, x):
        return self.student(x)


def divergence(model, batch, key):
    """Returns the divergence of the student's soft probabilities from the teacher's."""
    images = pixels(moved(batch["inputs"], key))
    teacher, student = model.teacher(images), model.student(images)
    loss = losses.kl_div(
        jax.nn.log_softmax(student / TEMPERATURE),
        jax.nn.log_softmax(teacher / TEMPERATURE),
        reduction="batchmean",
        log_target=True,
    )
    agreement = jnp.mean(student.argmax(-1) == teacher.argmax(-1))
    # The gradients of soft probabilities shrink with the square of the temperature.
    return TEMPERATURE**2 * loss, {"agreement": agreement}


adam = optimizers.adam(lr=0.003)
step = minimize(divergence, adam, wrt="student", frozen="teacher")


def main():
    """Trains the teacher and the student, and prints their test accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=10_000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=10, help="of the student; the teacher has 3")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    try:
        check_positive("epochs", args.epochs)
        check_seed("--seed", args.seed)
        tests = min(args.images, 2_000)
        data = load("mnist", train=f"train[:{args.images}]", test=f"test[:{tests}]")
        rngs = nnx.Rngs(args.seed)
        learn = minimize(by_labels, optimizers.adam(lr=0.001))
        teacher = fit(Teacher(rngs=rngs), data, learn, epochs=3, seed=args.seed).model
        others = data.train.chosen(np.flatnonzero(data.train.labels != 3))
        pair = Pair(teacher, MLP((784, 256, 10), rngs=rngs))
        student = fit(
            pair, Dataset("no 3", others, data.test), step,
            evaluate=by_labels.evaluation, epochs=args.epochs, seed=args.seed,
        ).model  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    threes = data.test.chosen(np.flatnonzero(data.test.labels == 3))
    for name, model in [("teacher", teacher), ("student", student)]:
        every, of_3 = (evaluate(model, s, by_labels.evaluation) for s in (data.test, threes))
        print(f"{name}: test accuracy {every.accuracy:.2%}, of the 3s {of_3.accuracy:.2%}")


if __name__ == "__main__":
    keep_programs()
    main()

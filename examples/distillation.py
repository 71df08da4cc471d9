"""Teach a small network what a large one has learned, by its softened probabilities.

Reproduces: Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network (2015): the
student learns from the teacher's probabilities at a temperature, on digits moved by up to two
pixels. The teacher is part of the model and frozen.
Data:       the first 10,000 images of MNIST, bundled; the test is on all 10,000 test images.
Run:        python examples/distillation.py
"""

import argparse

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets import MLP, fit, layers, losses, optimizers
from jaxnets.compilation import keep_programs
from jaxnets.data import RandomCrop, ToFloat, load
from jaxnets.training import minimize, supervised

TEMPERATURE = 4.0
pixels = ToFloat()  # [0, 255] to [0, 1]
jitter = RandomCrop(28, padding=2)


class Teacher(nnx.Module):
    """Two convolutions with batch normalization; images come as [batch, 28, 28, 1]."""

    def __init__(self, rngs):
        self.conv1 = layers.Conv2d(1, 16, kernel_size=5, padding=2, rngs=rngs)
        self.norm1 = layers.BatchNorm2d(16, rngs=rngs)
        self.conv2 = layers.Conv2d(16, 32, kernel_size=5, padding=2, rngs=rngs)
        self.norm2 = layers.BatchNorm2d(32, rngs=rngs)
        self.pool = layers.MaxPool2d(2)
        self.fc = layers.Linear(32 * 7 * 7, 10, rngs=rngs)

    def __call__(self, x):
        x = self.pool(jax.nn.relu(self.norm1(self.conv1(x))))
        x = self.pool(jax.nn.relu(self.norm2(self.conv2(x))))
        return self.fc(layers.flatten(x))


class Distillation(nnx.Module):
    """A teacher and its student; what the model returns is the student's."""

    def __init__(self, teacher, student):
        self.teacher, self.student = teacher, student

    def __call__(self, x):
        return self.student(x)


def distill(model, batch, key):
    """The divergence of the student's soft probabilities from the teacher's, and how often they agree."""
    images = pixels(jitter(batch["inputs"], key))
    teacher, student = model.teacher(images), model.student(images)
    soft_teacher, soft_student = (
        jax.nn.log_softmax(logits / TEMPERATURE) for logits in (teacher, student)
    )
    soft = losses.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
    hard = losses.cross_entropy(student, batch["labels"])
    agreement = jnp.mean(teacher.argmax(-1) == student.argmax(-1))
    # Gradients of soft probabilities are smaller by the square of the temperature.
    return TEMPERATURE**2 * soft + hard, {"agreement": agreement}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20, help="of the student; the teacher has 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="640 images in place of 10,000")
    parser.add_argument("--hidden", type=int, default=32)
    args = parser.parse_args()
    data = load("mnist", train=f"train[:{640 if args.fast else 10_000}]")
    adam = optimizers.adam(lr=0.001)
    by_labels = supervised(losses.cross_entropy, transform=pixels, augment=jitter)
    by_labels = minimize(by_labels, adam)
    student = lambda: MLP((784, args.hidden, 10), rngs=nnx.Rngs(args.seed))
    teacher = fit(Teacher(nnx.Rngs(args.seed)), data, by_labels, epochs=4, seed=args.seed)
    alone = fit(student(), data, by_labels, epochs=args.epochs, seed=args.seed)
    taught = fit(Distillation(teacher.model, student()), data,
                 minimize(distill, adam, wrt="student", frozen="teacher"),
                 evaluate=by_labels.evaluation, epochs=args.epochs, seed=args.seed)
    for name, run in [("teacher", teacher), ("alone", alone), ("taught", taught)]:
        print(f"{name} {run.test.accuracy:.2%} {run.timings.train_seconds:.1f} s")


if __name__ == "__main__":
    keep_programs()
    main()

"""Distillation of 784-128-64-10 into 784-32-10 on MNIST.

python benchmarks/after_training/distillation.py
"""

import dataclasses

import jax
import record
from flax import nnx

from jaxnets import MLP, fit, losses, optimizers, recipes
from jaxnets.training import Summary, count_parameters, minimize, supervised

RECIPE = recipes.recipe("mnist-mlp")
TRANSFORM = recipes.build_transform(RECIPE)
SEEDS, TEMPERATURE, SHARE = 5, 4.0, 0.9
SGD = optimizers.sgd(lr=0.01, momentum=0.9)


class Pair(nnx.Module):
    """A teacher and its student, whose logits the model returns."""

    def __init__(self, teacher: nnx.Module, student: nnx.Module) -> None:
        self.teacher, self.student = teacher, student

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.student(x)


def distilled(model: Pair, batch: dict, key: jax.Array) -> jax.Array:
    """The labels' cross-entropy, and the divergence from the teacher's soft probabilities."""
    x = TRANSFORM(batch["inputs"])
    teacher, student = model.teacher(x), model.student(x)
    soft = losses.kl_div(
        jax.nn.log_softmax(student / TEMPERATURE),
        jax.nn.log_softmax(teacher / TEMPERATURE),
        reduction="batchmean",
        log_target=True,
    )
    hard = losses.cross_entropy(student, batch["labels"])
    return SHARE * TEMPERATURE**2 * soft + (1 - SHARE) * hard


def main() -> None:
    data = recipes.load_data(RECIPE)
    teacher = recipes.train(RECIPE, data=data, progress="none")
    options = {"data": data, "epochs": RECIPE.epochs, "seeds": SEEDS, "progress": "none"}
    small = {"model_options": {"features": (784, 32, 10)}}
    plain = recipes.train_many(
        dataclasses.replace(RECIPE, **small), seeds=SEEDS, data=data, progress="none"
    )
    by_labels = supervised(losses.cross_entropy, transform=TRANSFORM)
    taught = fit(
        lambda rngs: Pair(teacher.model, MLP((784, 32, 10), rngs=rngs)),
        step=minimize(distilled, SGD, wrt="student", frozen="teacher"),
        evaluate=by_labels,
        **options,
    )
    sizes = [count_parameters(m) for m in (teacher.model, plain.members[0].model)]
    rows = [
        ["teacher, 784-128-64-10", f"{sizes[0]:,}", f"{teacher.test.accuracy:.2%}"],
        ["student, 784-32-10, by the labels", f"{sizes[1]:,}", words(plain.accuracy)],
        ["student, 784-32-10, distilled", f"{sizes[1]:,}", words(taught.accuracy)],
    ]
    rows = [[*row[:2], row[2].replace("%", " %")] for row in rows]
    about = {
        "title": "Distillation",
        "method": (
            "mnist-mlp teaches a network with a quarter of its parameters. The students train "
            f"like the teacher, for 10 epochs of SGD; mean ± standard deviation over {SEEDS} "
            f"seeds. The loss of the distilled students is {SHARE:g} times the divergence from "
            f"the teacher's probabilities at temperature {TEMPERATURE:g}, times its square, plus "
            f"{1 - SHARE:.1f} times the cross-entropy of the labels (Hinton, Vinyals and Dean, "
            "2015)."
        ),
        "columns": ["network", "parameters", "test accuracy"],
        "rows": rows,
        "command": "python benchmarks/after_training/distillation.py",
    }
    record.write("distillation", about)
    for row in rows:
        print(*row, sep="  ")


def words(found: Summary) -> str:
    return f"{found.mean:.2%} ± {found.std:.2%}"


if __name__ == "__main__":
    main()

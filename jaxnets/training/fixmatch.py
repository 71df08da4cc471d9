"""FixMatch, an objective for data in which few examples have labels."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import losses
from jaxnets.arrays import InputError, check_number, check_positive, describe
from jaxnets.data.dataset import Split, check_split, in_memory
from jaxnets.data.transforms import Augmentation, Transform, check_transforms
from jaxnets.metrics import Ratio
from jaxnets.training.objective import Batch, Supervised, supervised

#: The label of an example without one.
UNLABELLED = -1


class Views(NamedTuple):
    """The inputs of a training step, after augmentation.

    Attributes:
        labelled: labelled examples, weakly augmented, [labelled, …].
        labels: their classes, integers [labelled].
        weak: the examples of the batch, weakly augmented, [batch, …].
        strong: the same examples, strongly augmented, [batch, …].
    """

    labelled: Any
    labels: jax.Array
    weak: Any
    strong: Any


def fixmatch_loss(
    labelled: jax.Array,
    labels: jax.Array,
    weak: jax.Array,
    strong: jax.Array,
    *,
    threshold: float = 0.95,
    weight: float = 1.0,
) -> tuple[jax.Array, jax.Array]:
    """Computes the loss of FixMatch from logits.

    It is H(y, labelled) + λ · mean(1[max p ≥ τ] · H(argmax p, strong)), where H is the
    cross-entropy, p = softmax(weak), τ the threshold and λ the weight. The pseudo-labels argmax p
    are constants: no gradient passes through ``weak``.

    Args:
        labelled: logits of labelled examples, [labelled, C].
        labels: their classes, integers [labelled].
        weak: logits of weakly augmented examples, [batch, C].
        strong: logits of the same examples, strongly augmented, [batch, C].
        threshold: τ, the smallest probability of a pseudo-label.
        weight: λ, the weight of the loss of pseudo-labels.

    Returns:
        The loss, and which pseudo-labels count, bool [batch].
    """
    guesses = jax.lax.stop_gradient(jax.nn.softmax(weak))
    counts = guesses.max(axis=-1) >= threshold
    each = losses.cross_entropy(strong, guesses.argmax(axis=-1), reduction="none")
    of_guesses = jnp.mean(jnp.where(counts, each, 0))
    return losses.cross_entropy(labelled, labels) + weight * of_guesses, counts


@dataclasses.dataclass(frozen=True, eq=False)
class FixMatch:
    """The objective that ``fixmatch`` makes.

    Attributes:
        labelled: the labelled examples.
        weak: an objective with the weak augmentation.
        strong: an objective with the strong augmentation.
        count: number of labelled examples in a step.
        threshold: see ``fixmatch``.
        weight: see ``fixmatch``.
    """

    labelled: Split
    weak: Supervised
    strong: Supervised
    count: int
    threshold: float
    weight: float

    @property
    def transform(self) -> Transform | None:
        """The transform of the inputs."""
        return self.weak.transform

    @property
    def evaluation(self) -> Supervised:
        """The cross-entropy and the accuracy of labelled examples, without augmentation."""
        return self.weak.evaluation

    def views(self, batch: Batch, key: jax.Array) -> Views:
        """Draws labelled examples, and augments them and a batch; without ``transform``."""
        keys = jax.random.split(key, 4)
        rows = jax.random.randint(keys[0], (self.count,), 0, len(self.labelled))
        columns = jax.tree.map(lambda column: jnp.asarray(column)[rows], self.labelled.columns)
        labelled = self.weak.augmented(columns, keys[1])
        weak, strong = (
            each.augmented({"inputs": batch["inputs"], "labels": batch["labels"]}, own)["inputs"]
            for each, own in zip((self.weak, self.strong), keys[2:], strict=True)
        )
        return Views(labelled["inputs"], labelled["labels"], weak, strong)

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> Any:
        """Returns the loss of a batch and its metrics."""
        seen = self.views(batch, key)
        labelled = self.weak.of_augmented.outputs(model, seen.labelled)
        weak = self.weak.of_augmented.outputs(model, seen.weak)
        strong = self.strong.of_augmented.outputs(model, seen.strong)
        how = {"threshold": self.threshold, "weight": self.weight}
        loss, counts = fixmatch_loss(labelled, seen.labels, weak, strong, **how)
        right = labelled.argmax(axis=-1).astype(seen.labels.dtype) == seen.labels
        return loss, {
            "accuracy": Ratio(jnp.sum(right, dtype=jnp.int32), jnp.int32(self.count)),
            "confident": jnp.mean(counts.astype(loss.dtype)),
        }


def fixmatch(
    train: Split,
    *,
    weak: Augmentation,
    strong: Augmentation,
    transform: Transform | None = None,
    labelled: int = 64,
    threshold: float = 0.95,
    weight: float = 1.0,
    compute_dtype: DTypeLike | None = None,
) -> FixMatch:
    """Makes the objective of FixMatch, for a classifier and data in which few examples have labels.

    Each step draws some of the labelled examples, and computes two losses: their cross-entropy, and
    the cross-entropy of the examples in the batch after a strong augmentation. The targets of the
    second one are pseudo-labels: the classes that the network predicts after a weak augmentation,
    if their probability is at least τ. The labels of the batch are not used. The loss is

        H(y, f(weak(x))) + λ · mean(1[max p ≥ τ] · H(argmax p, f(strong(u)))), p = f(weak(u)),

    with the cross-entropy H, labelled examples x, labels y and examples u of the batch. No gradient
    passes through p.

    Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
    2020.

    Args:
        train: the training examples, with class numbers; -1 is the label of an example without
            one, as ``jaxnets.data.load(…, labels=100)`` returns them.
        weak: the augmentation of labelled examples, and of the examples for which pseudo-labels are
            predicted, such as shifts and flips.
        strong: the augmentation of the examples that are trained with pseudo-labels.
        transform: see ``fit``.
        labelled: number of labelled examples in a step, drawn with replacement.
        threshold: τ, the smallest probability of a pseudo-label that counts.
        weight: λ, the weight of the loss of pseudo-labels.
        compute_dtype: see ``fit``.

    Returns:
        An objective for ``minimize`` and ``fit``. Its metrics in training are the accuracy on the
        labelled examples, and ``confident``, the fraction of pseudo-labels that count.

    Raises:
        ValueError: if an argument is invalid, or no example has a label.

    Examples:
        >>> from jaxnets import data, optimizers
        >>> from jaxnets.training import minimize
        >>> digits = data.load("mnist", labels=100)
        >>> weak = data.RandomCrop(28, padding=2)
        >>> strong = data.Compose(weak, data.RandomErasing())
        >>> objective = fixmatch(digits.train, weak=weak, strong=strong, transform=data.ToFloat())
        >>> step = minimize(objective, optimizers.sgd(0.03, momentum=0.9))
    """
    known = _labelled(train)
    loss = functools.partial(losses.cross_entropy, ignore_index=UNLABELLED)
    how: dict[str, Any] = {"transform": transform, "compute_dtype": compute_dtype}
    for name, augmentation in (("weak", weak), ("strong", strong)):
        check_transforms(name, (augmentation,))
    weakly, strongly = (supervised(loss, augment=each, **how) for each in (weak, strong))
    count = check_positive("labelled", labelled)
    share = check_number("threshold", threshold, least=0, most=1)
    return FixMatch(known, weakly, strongly, count, share, check_number("weight", weight, least=0))


def _labelled(train: Any) -> Split:
    """Returns the examples that have a label."""
    check_split("train", train)
    labels = in_memory(train).labels
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "ui" or labels.ndim != 1:
        got = "none" if labels is None else "others"
        got = describe(labels) if isinstance(labels, np.ndarray) else got
        raise InputError("train", "examples with class numbers [N]", f"labels {got}")
    rows = np.flatnonzero(labels != UNLABELLED)
    if not len(rows):
        raise InputError("train", "at least one example with a label", "none")
    return train.chosen(rows)

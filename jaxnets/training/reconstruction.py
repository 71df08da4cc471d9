"""The objective of autoencoders."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.data.transforms import Augmentation, Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.layers.flatten import flatten
from jaxnets.training.labels import Loss
from jaxnets.training.objective import Batch, Supervised, supervised


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """The objective that ``reconstruction`` makes.

    Attributes:
        supervised: the loss of outputs and inputs, the transform, the augmentation and metrics.
    """

    supervised: Supervised

    @property
    def transform(self) -> Transform | None:
        """The transform of the inputs."""
        return self.supervised.transform

    @property
    def evaluation(self) -> "Reconstruction":
        """The objective without augmentation."""
        return Reconstruction(self.supervised.evaluation)

    def __call__(self, model: nnx.Module, batch: Batch, key: jax.Array) -> Any:
        """Returns the loss of a batch and its metrics."""
        how, target = self.supervised, applied(self.transform, batch["inputs"])
        seen = how.augmented({"inputs": batch["inputs"], "labels": target}, key)
        outputs = how.of_augmented.outputs(model, seen["inputs"])
        if outputs.ndim == 2:
            target = flatten(target)
        return how.of_outputs(outputs, target, target)


def reconstruction(
    loss: Loss,
    *,
    transform: Transform | None = None,
    augment: Augmentation | None = None,
    metrics: Mapping[str, Callable[[Any, Any], Any]] | None = None,
    compute_dtype: DTypeLike | None = None,
) -> Reconstruction:
    """Makes the objective of an autoencoder: a loss of the model's outputs and its own inputs.

    Labels are not used, and the data need none. With an augmentation, such as noise or erased
    rectangles, the model learns to remove it (a denoising autoencoder): the outputs are compared
    with the inputs before the augmentation.

    Args:
        loss: (outputs, inputs) → scalar, such as ``jaxnets.losses.mse_loss``. The inputs are those
            after ``transform``. If the outputs are [batch, values], the inputs are flattened as by
            ``jaxnets.layers.flatten``.
        transform: see ``fit``.
        augment: see ``fit``; labels that it changes are not used.
        metrics: further metrics by name: functions of (outputs, inputs); see ``fit``.
        compute_dtype: see ``fit``.

    Returns:
        An objective for ``minimize``, ``evaluate`` and ``fit``.

    Raises:
        ValueError: if an argument is invalid.

    Examples:
        >>> from jaxnets import losses, optimizers
        >>> from jaxnets.data import ToFloat
        >>> from jaxnets.training import minimize
        >>> objective = reconstruction(losses.mse_loss, transform=ToFloat())
        >>> step = minimize(objective, optimizers.adam(1e-3))
    """
    how: dict[str, Any] = {"transform": transform, "augment": augment, "metrics": metrics}
    return Reconstruction(supervised(loss, correct=None, compute_dtype=compute_dtype, **how))

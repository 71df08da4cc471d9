"""An experiment: a network in jaxnets, one in another framework, and how both are trained."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError
from jaxnets.data import Dataset, Split, epoch_plan
from jaxnets.data.batching import Plan
from jaxnets.data.transforms import Augmentation, Transform, augment
from jaxnets.data.transforms.compose import stages
from jaxnets.metrics import Mean, Ratio
from jaxnets.training.labels import Loss, adds_up
from jaxnets.training.state import DRAWS

_CHUNK = 10_000  # examples that are transformed at a time


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One training, as each of two frameworks does it.

    Attributes:
        name: such as a recipe's.
        description: what is trained, in a line.
        build: makes our network from a seed.
        build_torch: makes PyTorch's, from its global random numbers; None where a peer builds.
        data: what both train and test on; in memory.
        loss: ours.
        optimizer: ours.
        torch_loss: (outputs, labels) → scalar tensor.
        torch_optimizer: from parameters to a ``torch.optim.Optimizer``.
        epochs: times through the training data.
        batch_size: examples in a step.
        transform: what inputs go through first; None for nothing.
        augment: what training batches go through before that, on both sides; None for nothing.
        torch_inputs: from the data set's inputs to those of PyTorch's network; None for what
            ``transform`` makes of them, images as NCHW, volumes as NCDHW.
        ported: whether our network is the port of PyTorch's. In pairs PyTorch's functions of
            dropout are then off, as our layers are.
        settings: what decides the numbers, ready for JSON.
        reference: see ``Comparison``.
        record: what a folder holds besides, from which the experiment can be made again.
    """

    name: str
    description: str
    build: Callable[[int], nnx.Module]
    build_torch: Callable[[], Any] | None
    data: Dataset
    loss: Loss
    optimizer: optax.GradientTransformation
    torch_loss: Callable[[Any, Any], Any] | None
    torch_optimizer: Callable[[Any], Any] | None
    epochs: int
    batch_size: int = 64
    transform: Transform | None = None
    augment: Augmentation | None = None
    torch_inputs: Callable[[np.ndarray], np.ndarray] | None = None
    ported: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    reference: str | None = None
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the examples can be had by their numbers, and what varies them."""
        if stages(self.augment)[1] is not None:
            expected = "one that comes before the transform, which both sides are given"
            raise InputError("augment", expected, "AfterTransform")
        for name in ("train", "test"):
            split = getattr(self.data, name)
            if not isinstance(split, Split):
                raise InputError(f"data.{name}", "a Split in memory", type(split).__name__)
            for column in ("inputs", "labels"):
                value = getattr(split, column)
                if not isinstance(value, np.ndarray):
                    expected = "an array, as step is None"
                    raise InputError(f"data.{name}.{column}", expected, type(value).__name__)

    @property
    def train(self) -> Split:
        """The training examples."""
        assert isinstance(self.data.train, Split)
        return self.data.train

    @property
    def test(self) -> Split:
        """The test examples."""
        assert isinstance(self.data.test, Split)
        return self.data.test

    @functools.cached_property
    def adds_up(self) -> bool:
        """Whether the loss is a sum over the examples of a batch, and not a mean."""
        inputs, labels = self.train.gather(np.zeros(2, np.int32))
        model = self.build(0)
        model.eval()
        outputs = jax.eval_shape(model, self.inputs(inputs))
        return adds_up(self.loss, outputs, labels)

    def mean_loss(self, losses: np.ndarray, sizes: np.ndarray) -> float:
        """The mean loss over the examples, from the losses of batches of these sizes."""
        kind = Ratio if self.adds_up else Mean
        return float(kind(losses, sizes).over())

    def plan(self, seed: int, epoch: int) -> Plan:
        """The batches of an epoch, in the order in which ``fit`` takes them."""
        return epoch_plan(len(self.train), self.batch_size, seed=seed, epoch=epoch)

    def inputs(self, raw: np.ndarray) -> np.ndarray:
        """What our network is given for inputs of the data set."""
        if self.transform is None:
            return raw
        first = np.asarray(self.transform(raw[:_CHUNK]))
        made = np.empty((len(raw), *first.shape[1:]), first.dtype)  # one copy, not two
        made[:_CHUNK] = first
        for start in range(_CHUNK, len(raw), _CHUNK):
            part = slice(start, start + _CHUNK)
            made[part] = self.transform(raw[part])
        return made

    def their_inputs(self, raw: np.ndarray) -> np.ndarray:
        """What PyTorch's network is given for them, of the dtype that JAX gives ours."""
        if self.torch_inputs is not None:
            return canonical(np.asarray(self.torch_inputs(raw)))
        inputs = canonical(self.inputs(raw))
        if inputs.ndim not in (4, 5):
            return inputs
        # a copy, as PyTorch takes the strides of one channel for its own channels-last layout
        return np.moveaxis(inputs, -1, 1).copy()

    def augmented(self, rows: np.ndarray, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step as the data set holds it, varied as ``fit`` varies it."""
        inputs, labels = self.train.gather(rows)
        if self.augment is None:
            return inputs, labels
        varied, targets = _augmented(self.augment, inputs, labels, seed, step)
        return np.asarray(varied), np.asarray(targets)


def canonical(array: np.ndarray) -> np.ndarray:
    """An array of the dtype that JAX takes it for: float64 as float32, unless that is enabled."""
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def _augmented(
    augmentation: Augmentation, inputs: Any, labels: Any, seed: int, step: int
) -> tuple[jax.Array, jax.Array]:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), DRAWS), step)
    return _varied(augmentation, jnp.asarray(inputs), jnp.asarray(labels), key)


@jax.jit(static_argnums=0)
def _varied(augmentation: Augmentation, inputs: Any, labels: Any, key: Any) -> Any:
    return augment(augmentation, inputs, labels, key)

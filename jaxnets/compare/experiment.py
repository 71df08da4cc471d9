"""An experiment: a network in jaxnets, one in another framework, and their training settings."""

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
from jaxnets.data.transforms.compose import applied, stages
from jaxnets.metrics import Mean, Ratio
from jaxnets.training.labels import Loss, adds_up
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import DRAWS

_CHUNK = 10_000  # number of examples to transform at a time


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A training that two frameworks can run.

    Attributes:
        name: the name of the experiment, such as that of a recipe.
        description: one line about the network and the data.
        build: a function from a seed to the jaxnets network.
        build_torch: a function that makes the PyTorch network, with PyTorch's global random
            numbers; None for other frameworks, which build their own.
        data: the data set for training and test; in memory.
        loss: the loss of jaxnets.
        optimizer: the optimizer of jaxnets.
        torch_loss: PyTorch's loss, a function (outputs, labels) → scalar tensor.
        torch_optimizer: a function from parameters to a ``torch.optim.Optimizer``.
        epochs: number of epochs.
        batch_size: number of examples in a batch.
        transform: the preprocessing of inputs; None for no preprocessing.
        augment: the augmentation of training batches in both frameworks, before ``transform``; None
            for no augmentation.
        torch_inputs: a function from the data set's inputs to those of the PyTorch network; None
            for the result of ``transform``, with images as NCHW and volumes as NCDHW.
        ported: whether the jaxnets network is the port of the PyTorch network. In pairs,
            PyTorch's functional dropout is then off, too, as are the dropout layers of the port.
        settings: the settings that determine the results, ready for JSON.
        reference: see ``Comparison``.
        record: further data to store in the folder, from which the experiment can be made again.
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
        """Checks that the examples are arrays in memory, and that the augmentation comes first."""
        if stages(self.augment)[1] is not None:
            expected = "one that comes before the transform, which both sides are given"
            raise InputError("augment", expected, "AfterTransform")
        for name in ("train", "test"):
            split = getattr(self.data, name)
            if not isinstance(split, Split):
                raise InputError(f"data.{name}", "a Split in memory", type(split).__name__)
            for column in ("inputs", "labels"):
                value = getattr(split, column)
                several = column == "inputs" and isinstance(value, dict) and not self.torch_inputs
                if not isinstance(value, np.ndarray) and not several:
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
        """Whether the loss is a sum over the examples of a batch rather than a mean."""
        inputs, labels = self.train.gather(np.zeros(2, np.int32))
        model = self.build(0)
        model.eval()
        outputs = jax.eval_shape(lambda x: outputs_of(model, x), self.inputs(inputs))
        return adds_up(self.loss, outputs, labels)

    def mean_loss(self, losses: np.ndarray, sizes: np.ndarray) -> float:
        """Returns the mean loss over all examples, from the losses and sizes of batches."""
        kind = Ratio if self.adds_up else Mean
        return float(kind(losses, sizes).over())

    def plan(self, seed: int, epoch: int) -> Plan:
        """Returns the batches of an epoch, in the order of ``fit``."""
        return epoch_plan(len(self.train), self.batch_size, seed=seed, epoch=epoch)

    def inputs(self, raw: Any) -> Any:
        """Returns the inputs of the jaxnets network for inputs of the data set.

        Args:
            raw: one array, or a dictionary of several.
        """
        if self.transform is None:
            return raw
        if isinstance(raw, dict):
            return jax.tree.map(np.asarray, applied(self.transform, raw))
        first = np.asarray(self.transform(raw[:_CHUNK]))
        made = np.empty((len(raw), *first.shape[1:]), first.dtype)  # one copy, not two
        made[:_CHUNK] = first
        for start in range(_CHUNK, len(raw), _CHUNK):
            part = slice(start, start + _CHUNK)
            made[part] = self.transform(raw[part])
        return made

    def their_inputs(self, raw: Any) -> Any:
        """Returns the inputs of the PyTorch network, in the dtype that JAX uses."""
        if self.torch_inputs is not None:
            return canonical(np.asarray(self.torch_inputs(raw)))
        inputs = jax.tree.map(canonical, self.inputs(raw))
        if isinstance(inputs, dict) or inputs.ndim not in (4, 5):
            return inputs
        # copied because PyTorch mistakes the strides of a moved axis for its channels-last layout
        # if there is one channel
        return np.moveaxis(inputs, -1, 1).copy()

    def augmented(self, rows: np.ndarray, seed: int, step: int) -> tuple[Any, np.ndarray]:
        """Returns the batch of a step before the transform, augmented as in ``fit``."""
        inputs, labels = self.train.gather(rows)
        if self.augment is None:
            return inputs, labels
        varied, targets = in_step(self.augment, inputs, labels, seed, step)
        return jax.tree.map(np.asarray, varied), np.asarray(targets)


def canonical(array: np.ndarray) -> np.ndarray:
    """Converts an array to the dtype that JAX uses: float64 to float32, unless x64 is enabled."""
    return array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)


def in_step(
    augmentation: Augmentation, inputs: Any, labels: Any, seed: int, step: int
) -> tuple[Any, Any]:
    """Applies an augmentation to a batch with the random numbers of a step of ``fit``.

    Args:
        augmentation: the augmentation.
        inputs: [batch, …], or a tuple or dictionary of arrays.
        labels: likewise.
        seed: the seed of the run.
        step: the number of the step, from 0.
    """
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), DRAWS), step)
    return _varied(augmentation, *jax.tree.map(jnp.asarray, (inputs, labels)), key)


@jax.jit(static_argnums=0)
def _varied(augmentation: Augmentation, inputs: Any, labels: Any, key: Any) -> Any:
    return augment(augmentation, inputs, labels, key)

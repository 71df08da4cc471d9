"""What training carries from step to step, and what stays the same throughout."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from jaxnets.arrays import InputError, check_bool, check_function, check_positive, check_seed
from jaxnets.data.transforms import Augmentation, Transform, augment, check_transforms, is_random
from jaxnets.layers.native.gradients import in_reverse_alone
from jaxnets.training.placement import AXIS

#: The loss of a batch: (outputs [batch, …], labels [batch, …]) → scalar, as PyTorch's criteria.
Loss = Callable[[jax.Array, jax.Array], jax.Array]
#: Counts the correct predictions; see ``fit``.
Count = Callable[[jax.Array, jax.Array], Any]

# Dropout is drawn from fold_in(key, step), and a step is an int32 from 0: none has these numbers.
#: From fold_in(key, this) augmentation is drawn.
AUGMENTATION = np.uint32(2**32 - 1)
_DEVICE = np.uint32(2**32 - 2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class TrainState:
    """Everything that a training step changes: a pytree, so that it can be compiled and saved.

    The model stands here as arrays alone; the rest of it is the ``Program``'s graph definition.

    Attributes:
        parameters: the trained variables (``nnx.Param``).
        model_state: the model's other variables: running statistics, dropout keys.
        optimizer_state: the optimizer's.
        step: optimizer steps taken, int32.
        epoch: epochs completed, int32.
        key: the source of all randomness inside the step; never changed, only folded with
            ``step``.
    """

    parameters: Any
    model_state: Any
    optimizer_state: Any
    step: jax.Array
    epoch: jax.Array
    key: jax.Array

    def __repr__(self) -> str:
        kinds = {
            "parameters": self.parameters,
            "other numbers of the model": self.model_state,
            "of the optimizer": self.optimizer_state,
        }
        sizes = [f"{_size(tree):,} {name}" for name, tree in kinds.items()]
        return f"TrainState of {', '.join(sizes)}"


@dataclass(frozen=True)
class Program:
    """What a compiled training step is made of, besides its state and data. Hashable.

    Attributes:
        graphdef: the model without its arrays.
        loss: of a batch.
        optimizer: the gradient transformation.
        transform: what inputs go through first; None for nothing.
        correct: counts correct predictions; None where the notion has no meaning.
        augment: what a batch goes through before ``transform``, in training alone; None for
            nothing.
        shards: the number of devices that share a batch.
        accumulate: the number of parts in which a device takes its batch, one after the other.
        compute_dtype: in which the network computes; None for that of its parameters.
        skip_non_finite: whether an update is left out whose loss or gradient is not finite.
        adds_up: whether the loss is a sum over the examples of a batch, and not a mean.

    Raises:
        InputError: if a part is none; if the transform is random, or it or augmentation cannot be
            called or hashed.
    """

    graphdef: Any = dataclasses.field(repr=False)
    loss: Loss
    optimizer: optax.GradientTransformation
    transform: Transform | None = None
    correct: Count | None = None
    augment: Augmentation | None = None
    shards: int = 1
    accumulate: int = 1
    compute_dtype: Any = None
    skip_non_finite: bool = False
    adds_up: bool = False

    def __post_init__(self) -> None:
        """Checks the parts, and that evaluation draws nothing."""
        check_function("loss", self.loss, "a function of (outputs, labels)")
        check_optimizer(self.optimizer)
        check_positive("shards", self.shards)
        check_positive("accumulate", self.accumulate)
        check_bool("skip_non_finite", self.skip_non_finite)
        check_bool("adds_up", self.adds_up)
        if is_random(self.transform):
            expected = "one that is not random (augment takes those)"
            raise InputError("transform", expected, self.transform)
        for name in ("transform", "augment"):
            if getattr(self, name) is not None:
                check_transforms(name, (getattr(self, name),))

    def inputs(self, batch: jax.Array) -> jax.Array:
        """The model's inputs for a batch of the data set's."""
        return self.cast(batch if self.transform is None else self.transform(batch))

    def cast(self, tree: Any) -> Any:
        """Parameters or inputs as the network computes with them."""
        return tree if self.compute_dtype is None else _cast(tree, self.compute_dtype)

    def uncast(self, outputs: Any) -> Any:
        """Outputs as the loss takes them: of at least 32 bits."""
        if self.compute_dtype is None:
            return outputs
        wide = jnp.dtype(self.compute_dtype).itemsize > 4
        return _cast(outputs, self.compute_dtype if wide else jnp.float32)

    def device_key(self, key: jax.Array) -> jax.Array:
        """The key from which a device draws: one for each, where there are several."""
        if self.shards == 1:
            return key
        return jax.random.fold_in(jax.random.fold_in(key, _DEVICE), lax.axis_index(AXIS))

    def augmented(
        self, inputs: jax.Array, labels: jax.Array, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """A batch as a training step sees it: a function of key and step."""
        if self.augment is None:
            return inputs, labels
        key = jax.random.fold_in(jax.random.fold_in(key, AUGMENTATION), step)
        return augment(self.augment, inputs, labels, key)


def _size(tree: Any) -> int:
    return sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(tree))


def initialize(
    model: nnx.Module, optimizer: optax.GradientTransformation, seed: int
) -> tuple[Any, TrainState]:
    """Splits a model into its graph definition and the state in which training begins.

    Args:
        model: the model; its arrays are copied, so that training leaves it as it is.
        optimizer: the gradient transformation.
        seed: seeds dropout and the like.

    Returns:
        The graph definition, and the state before the first step.

    Raises:
        InputError: if the model or the optimizer is none, or the seed no integer of 32 bits.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    check_optimizer(optimizer)
    check_seed("seed", seed)
    model = nnx.clone(model)
    nnx.pop(model, nnx.Intermediate)  # what was sown in calls before
    graphdef, parameters, model_state = nnx.split(model, nnx.Param, ...)
    parameters, model_state = _copied((parameters, model_state))
    return graphdef, TrainState(
        parameters=parameters,
        model_state=model_state,
        optimizer_state=_copied(optimizer.init(parameters)),
        step=jnp.zeros((), jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        key=jax.random.key(seed),
    )


def check_optimizer(optimizer: Any) -> None:
    """Raises unless an optimizer is a gradient transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, optimizer)


def _copied(arrays: Any) -> Any:
    """``jnp.copy`` would compile a program for each shape."""
    return jax.device_put(arrays, may_alias=False)


def outputs(
    program: Program, state: TrainState, inputs: jax.Array, *, both_modes: bool = False
) -> Any:
    """What the model of a state makes of a batch of the data set's inputs, in evaluation mode.

    It may be differentiable in reverse mode only, unless both are asked for.
    """
    parameters = program.cast(state.parameters)
    model = merge(program.graphdef, dataclasses.replace(state, parameters=parameters))
    with in_reverse_alone(None if both_modes else model):
        return program.uncast(model(program.inputs(inputs)))


def _cast(tree: Any, dtype: Any) -> Any:
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


def merge(graphdef: Any, state: TrainState) -> nnx.Module:
    """The model that a state holds, ready for evaluation."""
    model = nnx.merge(graphdef, state.parameters, state.model_state, copy=True)
    model.eval()
    return model

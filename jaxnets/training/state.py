"""What training carries from step to step, and what stays the same throughout."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError, check_seed, shown

# Dropout is drawn from fold_in(key, step), and a step is an int32 from 0: none has this number.
#: From fold_in(fold_in(key, this), step) the key of an objective is drawn.
DRAWS = np.uint32(2**32 - 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class TrainState:
    """Everything that a training step changes, as a pytree.

    Attributes:
        graphdef: the model without its arrays; static.
        parameters: the model's ``nnx.Param``.
        model_state: the model's other variables: running statistics, dropout keys.
        optimizer_state: the optimizer's; of a step other than ``minimize`` its slots.
        step: optimizer steps taken, int32.
        epoch: epochs completed, int32.
        key: the source of all randomness inside the step; never changed, only folded with
            ``step``.
    """

    graphdef: Any = dataclasses.field(metadata={"static": True})
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

    @property
    def model(self) -> nnx.Module:
        """The model that the state holds, in evaluation mode."""
        model = nnx.merge(self.graphdef, self.parameters, self.model_state, copy=True)
        model.eval()
        return model


def _size(tree: Any) -> int:
    return sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(tree))


def initialize(model: nnx.Module, step: Any, seed: int = 0) -> TrainState:
    """The initial state of training.

    Args:
        model: the model; its arrays are copied, so that training leaves it as it is.
        step: what ``minimize`` or ``in_turn`` makes, or any other ``Step``.
        seed: seeds dropout and the like.

    Returns:
        The state before the first step.

    Raises:
        ValueError: if the model or the step is not valid, the step trains nothing of the model, or
            the seed is no integer of 32 bits.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    if not callable(getattr(type(step), "init", None)):
        raise InputError("step", "a step, such as jaxnets.training.minimize makes", shown(step))
    check_seed("seed", seed)
    model = nnx.clone(model)
    nnx.pop(model, nnx.Intermediate)  # what was sown in calls before
    graphdef, parameters, model_state = nnx.split(model, nnx.Param, ...)
    parameters, model_state, slots = _copied((parameters, model_state, step.init(model)))
    return TrainState(
        graphdef=graphdef,
        parameters=parameters,
        model_state=model_state,
        optimizer_state=slots,
        step=jnp.zeros((), jnp.int32),
        epoch=jnp.zeros((), jnp.int32),
        key=jax.random.key(seed),
    )


class _Untrained:
    """The step of a model that is not trained."""

    def init(self, model: nnx.Module) -> tuple[()]:
        """Nothing."""
        return ()


untrained = _Untrained()


def check_optimizer(optimizer: Any) -> None:
    """Raises unless an optimizer is a gradient transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, optimizer)


def _copied(arrays: Any) -> Any:
    """``jnp.copy`` would compile a program for each shape."""
    return jax.device_put(arrays, may_alias=False)

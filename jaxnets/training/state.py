"""The training state, which each training step takes and returns."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.arrays import InputError, check_seed, shown

# The model's random streams are seeded with fold_in(key, step). A step is a non-negative int32, so
# it never equals this number, and the two derivations never give the same key.
#: An objective's key is fold_in(fold_in(key, DRAWS), step).
DRAWS = np.uint32(2**32 - 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class TrainState:
    """The state of training, as a pytree.

    Attributes:
        graphdef: the model without its arrays; static.
        parameters: the model's ``nnx.Param``.
        model_state: the model's other variables: running statistics, dropout keys.
        optimizer_state: the state of the optimizer; in general what ``Step.init`` returns.
        step: number of training steps taken, int32.
        epoch: number of completed epochs, int32.
        key: the random key of the run. It never changes; each step folds ``step`` into it.
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
        """A copy of the model, in evaluation mode."""
        model = nnx.merge(self.graphdef, self.parameters, self.model_state, copy=True)
        model.eval()
        return model


def _size(tree: Any) -> int:
    return sum(getattr(leaf, "size", 1) for leaf in jax.tree.leaves(tree))


def initialize(model: nnx.Module, step: Any, seed: int = 0) -> TrainState:
    """Makes the initial state of training.

    Args:
        model: the model. Its arrays are copied, so training does not change it.
        step: a step that ``minimize`` or ``in_turn`` makes, or any other ``Step``.
        seed: seed of dropout and the like.

    Returns:
        The state before the first step.

    Raises:
        ValueError: if the model or the step is not valid, the step trains no parameter of the
            model, or the seed is not a 32-bit integer.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    if not callable(getattr(type(step), "init", None)):
        raise InputError("step", "a step, such as jaxnets.training.minimize makes", shown(step))
    check_seed("seed", seed)
    model = nnx.clone(model)
    nnx.pop(model, nnx.Intermediate)  # values sown in earlier calls
    graphdef, parameters, model_state = nnx.split(model, nnx.Param, ...)
    # All arrays are copied, because training donates their buffers.
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
    """A step without slots, for models that are not trained."""

    def init(self, model: nnx.Module) -> tuple[()]:
        """Returns no slots."""
        return ()


untrained = _Untrained()


def check_optimizer(optimizer: Any) -> None:
    """Checks that an optimizer is a gradient transformation."""
    if not isinstance(optimizer, optax.GradientTransformation):
        expected = "a gradient transformation, such as jaxnets.optimizers.sgd(0.01)"
        raise InputError("optimizer", expected, optimizer)


def _copied(arrays: Any) -> Any:
    """Copies arrays; ``jnp.copy`` would compile a program for each shape."""
    return jax.device_put(arrays, may_alias=False)

"""The explained output: one output of a model for each example, as a function of the inputs."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    as_host_array,
    called,
    check_fits,
    check_function,
    check_usable,
    describe,
    shown,
)
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.training.evaluation import for_prediction
from jaxnets.training.objective import outputs_of
from jaxnets.training.state import TrainState

#: The output to explain: the number of a class, for all examples or one for each; a function of the
#: outputs that returns floats [batch]; None for the predicted class, with the largest output.
Target = int | ArrayLike | Callable[[jax.Array], jax.Array] | None

_NUMBERS = int | np.integer | np.ndarray | jax.Array | list | tuple
_TARGET = "the number of a class, one for each example, a function of the outputs, or None"


class Request(NamedTuple):
    """The arguments of a compiled explanation.

    Attributes:
        state: the model.
        inputs: the inputs before the transform, [batch, …].
        target: an int32 array [batch], a function, or None; see ``Target``.
    """

    state: TrainState
    inputs: jax.Array
    target: Any


def checked_request(
    model: nnx.Module,
    inputs: Any,
    target: Target,
    transform: Transform | None,
    *,
    floats: bool = True,
) -> Request:
    """Checks the arguments of an explanation, and returns them as a ``Request``.

    Args:
        model: any ``nnx.Module``.
        inputs: the inputs before the transform, [batch, …].
        target: see ``Target``.
        transform: the preprocessing of the inputs; None for no preprocessing.
        floats: whether the model's inputs must be floating-point numbers.

    Raises:
        InputError: if the model does not accept the inputs, or has no such output.
    """
    state, _ = for_prediction(model, transform)
    expected = "an array [examples, …]"
    check_usable("inputs", expected, inputs)
    check_fits("inputs", inputs)
    if not inputs.ndim or not len(inputs):
        raise InputError("inputs", "at least one example", describe(inputs))
    x = after(transform, as_array("inputs", inputs))
    if floats and not jnp.issubdtype(x.dtype, jnp.floating):
        what = "floating-point inputs, as gradients need; transform= can convert others"
        raise InputError("inputs", what, describe(x))
    outputs = called(
        "inputs",
        "an array that the model accepts",
        jax.eval_shape,
        model_outputs,
        state,
        x,
        got=describe(x),
    )
    chosen = _checked_target(target, outputs, len(inputs))
    return Request(state, as_array("inputs", inputs), chosen)


def after(transform: Transform | None, inputs: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of the transformed inputs.

    Raises:
        InputError: if the transform does not accept the inputs, or does not return an array.
    """
    expected, got = f"a function of a batch {describe(inputs)}", shown(transform)
    shapes = functools.partial(jax.eval_shape, functools.partial(applied, transform))
    x = called("transform", expected, shapes, inputs, got=got)
    if not hasattr(x, "shape"):
        raise InputError("transform", f"{expected} to an array", f"one that returns {shown(x)}")
    return x


def spec_of(inputs: Any) -> jax.ShapeDtypeStruct:
    """Returns the shape and dtype of inputs [batch, …].

    Args:
        inputs: an array, or its ``jax.ShapeDtypeStruct``.

    Raises:
        InputError: if the inputs are neither.
    """
    if not isinstance(inputs, jax.ShapeDtypeStruct):
        inputs = as_array("inputs", inputs)
    if not inputs.shape:
        raise InputError("inputs", "an array [batch, …], or its shape", describe(inputs))
    return jax.ShapeDtypeStruct(inputs.shape, jax.dtypes.canonicalize_dtype(inputs.dtype))


def _checked_target(target: Any, outputs: Any, batch: int) -> Any:
    if callable(target):
        function = Partial(check_function("target", target, _TARGET))
        made = called("target", _TARGET, jax.eval_shape, function, outputs, got=shown(target))
        if not hasattr(made, "shape") or made.shape != (batch,) or made.dtype.kind != "f":
            got = describe(made) if hasattr(made, "shape") else shown(made)
            raise InputError("target", f"a function that returns floats [{batch}]", got)
        return function
    whole = hasattr(outputs, "shape") and jnp.issubdtype(outputs.dtype, jnp.floating)
    if not whole or len(outputs.shape) not in (1, 2) or outputs.shape[0] != batch:
        got = describe(outputs) if hasattr(outputs, "shape") else f"a {type(outputs).__name__}"
        what = "a function of the outputs, as they are not floats [batch] or [batch, classes]"
        raise InputError("target", what, f"outputs {got}")
    classes = outputs.shape[1] if len(outputs.shape) == 2 else 1
    if target is None:
        return None
    if isinstance(target, bool) or not isinstance(target, _NUMBERS):
        raise InputError("target", _TARGET, shown(target))
    numbers = np.asarray(target) if isinstance(target, int) else as_host_array("target", target)
    if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (batch,)):
        raise InputError("target", _TARGET, shown(target))
    wrong = (numbers < 0) | (numbers >= classes)
    if wrong.any():
        raise InputError("target", f"a class from 0 to {classes - 1}", int(numbers[wrong][0]))
    return np.broadcast_to(numbers, (batch,)).astype(np.int32)


def model_outputs(state: TrainState, x: Any) -> Any:
    """Returns the outputs of a state's model for transformed inputs."""
    return outputs_of(state.model, x)


def selected(outputs: jax.Array, target: Any) -> jax.Array:
    """Selects the explained output of each example, [batch].

    Args:
        outputs: the outputs, [batch] or [batch, classes]; of any shape if the target is a function.
        target: see ``Request``.
    """
    if callable(target):
        return target(outputs)
    if outputs.ndim == 1:
        return outputs
    classes = jnp.argmax(outputs, axis=1) if target is None else target
    return jnp.take_along_axis(outputs, classes[:, None], axis=1)[:, 0]


def settled(state: TrainState, x: jax.Array, target: Any) -> Any:
    """Replaces a target of None by the predicted classes, to use them for changed inputs too."""
    if target is not None:
        return target
    outputs = with_kernels(model_outputs)(state, x)
    return None if outputs.ndim == 1 else jnp.argmax(outputs, axis=1).astype(jnp.int32)


def score(state: TrainState, x: jax.Array, target: Any) -> jax.Array:
    """Returns the explained output [batch] for transformed inputs."""
    return with_kernels(_score)(state, x, target)


def gradient(state: TrainState, x: jax.Array, target: Any) -> jax.Array:
    """Returns the gradient of each example's explained output by its transformed input."""

    def total(x: jax.Array, state: TrainState, target: Any) -> jax.Array:
        # examples do not depend on each other, so one gradient of the sum has those of all
        return _score(state, x, target).sum()

    return jax.grad(with_kernels(total))(x, state, target)


def _score(state: TrainState, x: jax.Array, target: Any) -> jax.Array:
    return selected(model_outputs(state, x), target)


def per_example(values: jax.Array, like: jax.Array) -> jax.Array:
    """Reshapes numbers [batch] to broadcast with an array [batch, …]."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))

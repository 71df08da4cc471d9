"""A trained network as one function of raw inputs, with a description for other programs."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export

from jaxnets.arrays import InputError, check_positive, shown
from jaxnets.data import Standardizer, Transform
from jaxnets.data.spec import map_named, named
from jaxnets.kernels import native
from jaxnets.training.epoch import predicted
from jaxnets.training.evaluation import for_prediction

#: The name of the batch size in a file.
BATCH = "batch"


@dataclass(frozen=True)
class Program:
    """A trained network with its preprocessing and postprocessing.

    Args:
        model: any ``nnx.Module``; it runs in evaluation mode and is not changed.
        inputs: the shape and dtype of one example before the transform: a
            ``jax.ShapeDtypeStruct``, or a tuple or dictionary of them.
        transform: the preprocessing of inputs, see ``fit``; None for no preprocessing.
        inputs_scaler: standardizes raw numbers before the transform; None for no scaler.
        labels_scaler: a scaler whose inverse converts outputs to the labels' units; None for no
            scaler.
        about: further entries of the description, as JSON values, such as the names of classes.
        batch: the fixed number of examples; None for any number.

    Raises:
        InputError: if the model does not accept such inputs.

    Examples:
        >>> program = Program(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), jax.ShapeDtypeStruct((3,), float))
        >>> program.description()["outputs"]
        [{'name': 'outputs', 'shape': ['batch', 2], 'dtype': 'float32'}]
    """

    model: nnx.Module
    inputs: Any
    transform: Transform | None = field(default=None, kw_only=True)
    inputs_scaler: Standardizer | None = field(default=None, kw_only=True)
    labels_scaler: Standardizer | None = field(default=None, kw_only=True)
    about: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    batch: int | None = field(default=None, kw_only=True)
    _state: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the arguments."""
        named("inputs", self.inputs)
        map_named(_check_spec, "inputs", self.inputs)
        for name in ("inputs_scaler", "labels_scaler"):
            if not isinstance(getattr(self, name), Standardizer | None):
                raise InputError(name, "a Standardizer, or None", getattr(self, name))
        if not isinstance(self.about, Mapping):
            raise InputError("about", "a dict of JSON values", self.about)
        if self.batch is not None:
            check_positive("batch", self.batch)
        object.__setattr__(self, "_state", for_prediction(self.model, self.transform)[0])

    def __call__(self, inputs: Any) -> Any:
        """Returns the outputs for raw inputs, [batch, …]."""
        if self.inputs_scaler is not None:
            scaler = self.inputs_scaler
            inputs = (inputs - _row(scaler.mean, inputs)) / _row(scaler.std, inputs)
        outputs = predicted(self.transform, self._state, inputs)
        if self.labels_scaler is not None:
            scaler = self.labels_scaler
            outputs = outputs * _row(scaler.std, outputs) + _row(scaler.mean, outputs)
        return outputs

    @cached_property
    def specs(self) -> Any:
        """The shape and dtype of the inputs with the batch axis, whose size may be symbolic."""
        (batch,) = export.symbolic_shape(BATCH) if self.batch is None else (self.batch,)

        def batched(_: str, spec: Any) -> jax.ShapeDtypeStruct:
            dtype = jax.dtypes.canonicalize_dtype(spec.dtype)
            return jax.ShapeDtypeStruct((batch, *spec.shape), dtype)

        return map_named(batched, "inputs", self.inputs)

    @cached_property
    def traced(self) -> tuple[Any, Any]:
        """The traced function, without kernels, and the shapes and dtypes of its outputs.

        Raises:
            InputError: if the model does not accept the inputs, or not any number of examples.
        """
        with native.aside():
            try:
                return jax.make_jaxpr(self.__call__, return_shape=True)(self.specs)
            except Exception as error:
                expected = "a network for any number of examples (or batch=N for a fixed one)"
                if self.batch is not None or not self._takes_one_size():
                    if isinstance(error, InputError):
                        raise
                    expected = "a network that JAX traces with these inputs"
                reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
                got = f"{type(self.model).__name__} ({reason})"
                raise InputError("model", expected, got) from error

    def _takes_one_size(self) -> bool:
        try:
            jax.eval_shape(self.__call__, dataclasses.replace(self, batch=2).specs)
        except Exception:
            return False
        return True

    def description(self) -> dict[str, Any]:
        """Returns the description in the file: names, shapes and dtypes, and ``about``."""
        outputs = self.traced[1]
        return {
            "network": type(self.model).__name__,
            "inputs": [_described(*each) for each in named("inputs", self.specs).items()],
            "outputs": [_described(*each) for each in outputs_named(outputs).items()],
            **self.about,
        }


def description_of(program: Any) -> str:
    """Returns ``Program.description()`` as JSON.

    Raises:
        InputError: if ``program`` is not a ``Program``, or ``about`` cannot be written as JSON.
    """
    if not isinstance(program, Program):
        raise InputError("program", "an export.Program", program)
    try:
        return json.dumps(program.description(), ensure_ascii=False, indent=2)
    except (TypeError, RecursionError, OverflowError) as error:
        raise InputError("about", "JSON values", str(error)) from error


def outputs_named(outputs: Any) -> dict[str, Any]:
    """Returns each output by a name such as ``outputs`` or ``outputs[0]``, in pytree order."""
    paths = jax.tree_util.tree_flatten_with_path(outputs)[0]
    return {f"outputs{jax.tree_util.keystr(path)}": leaf for path, leaf in paths}


def _described(name: str, spec: Any) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else str(size) for size in spec.shape]
    return {"name": name, "shape": shape, "dtype": str(spec.dtype)}


def _check_spec(name: str, spec: Any) -> None:
    if not isinstance(spec, jax.ShapeDtypeStruct):
        expected = "the shape and dtype of one example, a jax.ShapeDtypeStruct"
        raise InputError(name, expected, shown(spec))


def _row(numbers: tuple[float, ...], array: jax.Array) -> jax.Array:
    """Reshapes numbers to broadcast along the last axis of an array."""
    return jnp.asarray(numbers, jnp.float32).reshape(*[1] * (array.ndim - 1), -1)

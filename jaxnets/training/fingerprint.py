"""Fingerprints of runs: descriptions of the computation and the data that can be compared.

A run may be resumed only with the same model, data and settings. Functions such as the loss have no
usable equality, so the hash of their jaxpr stands for them.
"""

import functools
import os
import platform
import zlib
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxnets.data.dataset import AnySplit, Dataset, Draws, Split
from jaxnets.data.spec import column_spec, described
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.transforms.compose import applied
from jaxnets.kernels import native
from jaxnets.training.computation import digest, digest_of
from jaxnets.training.epoch import evaluate_batch
from jaxnets.training.evaluation import EVALUATION_BATCH, as_batch, batch_of
from jaxnets.training.minimize import Minimize
from jaxnets.training.objective import Objective, Supervised
from jaxnets.training.state import TrainState
from jaxnets.training.steps import Step, train_step

#: Version of the description. It increases whenever the same run is described differently.
FORM = 4
_CHECK = ", checksum "
_PACKAGES = ("jaxnets", "jax", "flax", "optax", "numpy")


def fingerprint(
    step: Step,
    objective: Objective | None,
    state: TrainState,
    data: Dataset,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Describes a run.

    Functions such as the loss and the optimizer are described by a hash of their jaxpr and of that
    of their gradients, constants such as the learning rate included.

    Args:
        step: the training step.
        objective: the objective that is evaluated; None for none.
        state: the initial state.
        data: the data set to train and test on.
        settings: other settings that affect the results, ``"batch_size"`` among them.

    Returns:
        A dictionary of JSON values; see ``differences``.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    parts: dict[str, Any] = {"network": {"is": f"{count} parameters"}}
    if isinstance(step, Minimize) and isinstance(step.objective, Supervised):
        # Two examples are enough: the parts are hashed separately, and the batch size is compared
        # as a setting.
        parts |= _of_supervised(step, step.objective, shapes, state, as_batch(data.train, 2))
    else:
        batch = _batch(data.train, settings["batch_size"])
        computes = _digest(functools.partial(train_step, step), shapes, batch)
        parts["step"] = {"computes": f"{computes} {_numbers(state.optimizer_state)}"}
    # The step's own objective is already part of the step's hash.
    own = getattr(step, "evaluation", None)
    another = objective is not own and objective != own
    if objective is not None and data.test is not None and another:

        def evaluated(state: TrainState, batch: Any) -> Any:
            return evaluate_batch(objective, state, batch, np.int32(0))

        batch = _batch(data.test, EVALUATION_BATCH)
        parts["evaluate"] = {"computes": _digest(evaluated, shapes, batch)}
    splits = {f"data.{name}": _data(split) for name, split in data.splits.items()}
    return {**parts, **splits, **settings, "versions": versions(), "form": FORM}


def _batch(split: AnySplit, batch_size: int) -> dict[str, Any]:
    """Returns the shapes of a full batch, because a model may have variables of its size."""
    return as_batch(split, min(batch_of(split, batch_size), len(split)))


def _of_supervised(
    step: Minimize, objective: Supervised, shapes: TrainState, state: TrainState, batch: Any
) -> dict[str, Any]:
    """Describes each part of supervised training, so that an error message can name the part."""
    inputs, labels = batch["inputs"], batch["labels"]

    def trained(state: TrainState) -> tuple[Any, Any, Any]:
        model = state.model
        model.train()
        return nnx.split(model, step.wrt, ...)

    def network(state: TrainState, inputs: Any) -> Any:
        graphdef, parameters, rest = trained(state)

        def run(parameters: Any) -> tuple[Any, Any]:
            model = step.model(graphdef, parameters, rest)
            return objective.outputs(model, inputs), step.others(model)

        # The gradient is hashed too, because a custom differentiation rule is not visible in the
        # forward jaxpr.
        made, pull_back, after = jax.vjp(run, parameters, has_aux=True)
        tested = objective.outputs(state.model, inputs)
        return tested, made, pull_back(_cotangents(made)), after

    def loss(made: Any, labels: Any) -> Any:
        value, pull_back = jax.vjp(lambda made: objective.loss(made, labels), made)
        return value, pull_back(_cotangents(value))

    def measured(made: Any, labels: Any) -> Any:
        return objective.of_outputs(made, labels, labels)[1]

    def transform(inputs: Any) -> Any:
        return applied(objective.transform, inputs)

    made = jax.eval_shape(lambda s, x: objective.outputs(s.model, x), shapes, inputs)
    parameters = jax.eval_shape(lambda state: trained(state)[1], shapes)
    update = _digest(functools.partial(_update, step), parameters, shapes.optimizer_state)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    return {
        "network": {"is": f"{count} parameters", "computes": _digest(network, shapes, inputs)},
        "correct": {"computes": _digest(measured, made, labels)},
        "optimizer": {"computes": f"{update} {_numbers(state.optimizer_state)}"},
        "loss": {"computes": _digest(loss, made, labels)},
        "transform": {"computes": _digest(transform, inputs)},
        "augment": {"computes": _digest(objective.augmented, batch, shapes.key)},
        "accumulate": step.accumulate,
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that affect the computation."""
    found = {package: metadata.version(package) for package in _PACKAGES}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def machine(devices: int = 1, libraries: Iterable[str] = ()) -> dict[str, Any]:
    """Describes the hardware and the native kernels, on which the bits of the results depend.

    Args:
        devices: number of devices that share a batch.
        libraries: names of native kernel libraries to include, in addition to those requested so
            far in this process.

    Returns:
        A dictionary of JSON values; see ``other_bits``.
    """
    if jax.default_backend() != "cpu":
        return {"devices": devices, "processor": jax.devices()[0].device_kind}
    known = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if known else os.cpu_count()
    return {
        "devices": devices,
        "processor": native.processor(),
        "cores": int(os.environ.get("NPROC") or cores or 1),  # as XLA counts them
        "kernels": native.asked_for(libraries),
    }


def other_bits(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describes the differences between machines and versions that may change bits of the results.

    Args:
        before: the saved run's ``machine``, with its ``versions``.
        now: this process's ``machine`` and ``versions``. Entries that only one of the two
            dictionaries has are not compared.
    """
    known, found = _flat(before), _flat(now)
    names = [name for name in known if name in found and found[name] != known[name]]
    return [f"{name} {found[name]}, before {known[name]}" for name in names]


def _flat(machine: dict[str, Any]) -> dict[str, Any]:
    """Flattens a ``machine`` to entries by readable name."""
    kernels, versions = machine.get("kernels", {}), machine.get("versions", {})
    others = {name: machine[name] for name in machine.keys() - {"kernels", "versions"}}
    named = {f"native {name} kernels:": found or "none" for name, found in kernels.items()}
    return {**named, **{f"{name}:": others[name] for name in sorted(others)}, **versions}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Describes the differences between two fingerprints, one string for each.

    Hashes are compared only if the versions of the packages and of the description are equal,
    because another version may trace the same function to another jaxpr.
    """
    same_form = before.get("form", 1) == now.get("form", 1)
    comparable = same_form and before.get("versions") == now.get("versions")
    faults = []
    for name in sorted({*before, *now} - {"versions", "form"}):
        one, other = _plain(before.get(name)), _plain(now.get(name))
        # Older forms of the description may have data without a checksum.
        if not same_form and isinstance(one, str) and isinstance(other, str):
            other = other if _CHECK in one else other.partition(_CHECK)[0]
        if one != other:
            faults.append(f"{name} is {other}, was {one}")
        elif comparable and before.get(name) != now.get(name):
            faults.append(f"{name} computes something else")
    return faults


def _plain(item: Any) -> Any:
    return item.get("is") if isinstance(item, dict) else item


def _numbers(initial: Any) -> str:
    """Hashes the small arrays of the optimizer's initial state, such as the learning rate.

    Optimizers keep hyperparameters either there or as constants in the jaxpr.
    """
    # Larger arrays are accumulators such as momentum, which start at zero.
    return digest_of([x for x in jax.tree.leaves(initial) if np.size(x) < 5])


def _digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Hashes a function's jaxpr, traced without native kernels so that they do not affect it."""
    with native.aside():
        return digest(function, *arguments)


def _update(step: Minimize, parameters: Any, slots: Any) -> Any:
    """Computes the optimizer's update; the loss is ‖p‖² for optimizers that evaluate it."""

    def loss(parameters: Any) -> jax.Array:
        squares = (jnp.sum(p * p) for p in jax.tree.leaves(parameters))
        return sum((square.astype(jnp.float32) for square in squares), jnp.float32(0))

    update = optax.with_extra_args_support(step.optimizer).update
    value = np.zeros((), np.float32)
    return update(parameters, slots, parameters, value=value, grad=parameters, value_fn=loss)


def _cotangents(outputs: Any) -> Any:
    """Returns ones as cotangents of floating-point outputs, and ``float0`` zeros for integers."""

    def of(output: Any) -> Any:
        shape, dtype = jnp.shape(output), jnp.result_type(output)
        if jnp.issubdtype(dtype, jnp.inexact):
            return jnp.ones(shape, dtype)
        return np.zeros(shape, jax.dtypes.float0)

    return jax.tree.map(of, outputs)


def _data(split: AnySplit) -> str:
    if isinstance(split, Draws):
        return split.described()
    columns = " and ".join(described(column) for column in column_spec(split.spec).values())
    shape = f"{len(split)} examples of {columns}"
    check = split.checksum() if isinstance(split, StreamedSplit) else _checksum(split)
    return shape if check is None else f"{shape}{_CHECK}{check:08x}"


def _checksum(split: Split) -> int:
    checksum = 0
    for array in jax.tree.leaves((split.inputs, split.labels)):
        checksum = zlib.crc32(array.tobytes(), checksum)
    return checksum

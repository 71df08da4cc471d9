"""What a run trains, on what, and how, in a form that a later one can be compared with."""

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

#: Another one where the same run is described otherwise than before.
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

    Functions such as the loss and the optimizer are told by what they compute, and by how their
    gradients are computed, numbers like the learning rate included.

    Args:
        step: how it trains.
        objective: what it evaluates; None for nothing.
        state: in which training begins.
        data: what is trained and tested on.
        settings: what else decides the run's numbers, ``"batch_size"`` among it.

    Returns:
        A dictionary that JSON can hold; see ``differences``.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    parts: dict[str, Any] = {"network": {"is": f"{count} parameters"}}
    if isinstance(step, Minimize) and isinstance(step.objective, Supervised):
        parts |= _of_supervised(step, step.objective, shapes, state, as_batch(data.train, 2))
    else:
        batch = _batch(data.train, settings["batch_size"])
        computes = _digest(functools.partial(train_step, step), shapes, batch)
        parts["step"] = {"computes": f"{computes} {_numbers(state.optimizer_state)}"}
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
    """The shapes and dtypes of a whole batch, as a model may have variables of its size."""
    return as_batch(split, min(batch_of(split, batch_size), len(split)))


def _of_supervised(
    step: Minimize, objective: Supervised, shapes: TrainState, state: TrainState, batch: Any
) -> dict[str, Any]:
    """What the parts of supervised training compute, so that a message can name one."""
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
    """Of what computes, and of what says so."""
    found = {package: metadata.version(package) for package in _PACKAGES}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def machine(devices: int = 1, libraries: Iterable[str] = ()) -> dict[str, Any]:
    """On what this process computes, as far as the bits of a run follow from it.

    Args:
        devices: how many share a batch.
        libraries: native kernels to look for, besides those that were requested so far.

    Returns:
        A dictionary that JSON can hold; see ``other_bits``.
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
    """Why a run may have other bits on a machine, and with versions, than it began with, in words.

    Args:
        before: a ``machine``, with the ``versions`` of the run.
        now: likewise; what only one of them says is not compared.
    """
    known, found = _flat(before), _flat(now)
    names = [name for name in known if name in found and found[name] != known[name]]
    return [f"{name} {found[name]}, before {known[name]}" for name in names]


def _flat(machine: dict[str, Any]) -> dict[str, Any]:
    """Each thing by a name for people."""
    kernels, versions = machine.get("kernels", {}), machine.get("versions", {})
    others = {name: machine[name] for name in machine.keys() - {"kernels", "versions"}}
    named = {f"native {name} kernels:": found or "none" for name, found in kernels.items()}
    return {**named, **{f"{name}:": others[name] for name in sorted(others)}, **versions}


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two runs, item by item, in words.

    What functions compute is compared only between the same versions of the libraries, and the same
    form of the description: another one may describe the same thing otherwise.
    """
    same_form = before.get("form", 1) == now.get("form", 1)
    comparable = same_form and before.get("versions") == now.get("versions")
    faults = []
    for name in sorted({*before, *now} - {"versions", "form"}):
        one, other = _plain(before.get(name)), _plain(now.get(name))
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
    """Numbers such as the learning rate are part of the equations, or of the initial state."""
    return digest_of([x for x in jax.tree.leaves(initial) if np.size(x) < 5])


def _digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Tells functions apart by what JAX makes of them, with native kernels or without."""
    with native.aside():
        return digest(function, *arguments)


def _update(step: Minimize, parameters: Any, slots: Any) -> Any:
    """The optimizer's update, on the loss ‖p‖² where it evaluates one."""

    def loss(parameters: Any) -> jax.Array:
        squares = (jnp.sum(p * p) for p in jax.tree.leaves(parameters))
        return sum((square.astype(jnp.float32) for square in squares), jnp.float32(0))

    update = optax.with_extra_args_support(step.optimizer).update
    value = np.zeros((), np.float32)
    return update(parameters, slots, parameters, value=value, grad=parameters, value_fn=loss)


def _cotangents(outputs: Any) -> Any:
    """Ones for what is differentiated, and JAX's nothing for integers."""

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

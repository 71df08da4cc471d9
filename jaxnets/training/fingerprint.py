"""What a run trains, on what, and how, in a form that a later one can be compared with."""

import dataclasses
import os
import platform
import zlib
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import describe
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.layers import native
from jaxnets.training.computation import digest, digest_of
from jaxnets.training.state import Program, TrainState, outputs
from jaxnets.training.step import forward

#: Another one where the same run is described otherwise than before.
FORM = 2
_CHECK = ", checksum "
_PACKAGES = ("jaxnets", "jax", "flax", "optax", "numpy")


def fingerprint(
    program: Program, state: TrainState, data: Dataset, settings: dict[str, Any]
) -> dict[str, Any]:
    """Describes a run.

    Functions such as the loss and the optimizer are told by what they compute, and by how their
    gradients are computed, numbers like the learning rate included.

    Args:
        program: what is run.
        state: in which training begins.
        data: what is trained and tested on.
        settings: what else decides the run's numbers.

    Returns:
        A dictionary that JSON can hold; see ``differences``.
    """
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)
    spec = data.train.spec
    inputs, labels = (jax.ShapeDtypeStruct((2, *s.shape), s.dtype) for s in spec)

    alone = dataclasses.replace(program, shards=1, accumulate=1)

    def network(state: TrainState, inputs: jax.Array) -> Any:
        trained, pull_back, after = forward(alone, state, inputs, state.key)
        return outputs(alone, state, inputs), trained, pull_back(_cotangents(trained)), after

    def loss(made: Any, labels: jax.Array) -> Any:
        value, pull_back = jax.vjp(lambda made: program.loss(made, labels), made)
        return value, pull_back(_cotangents(value))

    made = jax.eval_shape(lambda state, inputs: outputs(alone, state, inputs), shapes, inputs)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    return {
        "network": {"is": f"{count} parameters", "computes": _digest(network, shapes, inputs)},
        "correct": {"computes": program.correct and _digest(program.correct, made, labels)},
        "optimizer": {"computes": _optimizer_digest(program, state.optimizer_state, shapes)},
        "loss": {"computes": _digest(loss, made, labels)},
        "transform": {"computes": _digest(program.inputs, inputs)},
        "augment": {
            "computes": _digest(program.augmented, inputs, labels, shapes.key, shapes.step)
        },
        "data.train": _data(data.train),
        "data.test": _data(data.test),
        **settings,
        "versions": versions(),
        "form": FORM,
    }


def versions() -> dict[str, str]:
    """Of what computes, and of what says so."""
    found = {package: metadata.version(package) for package in _PACKAGES}
    return found | {"python": ".".join(platform.python_version_tuple()[:2])}


def machine(devices: int = 1, libraries: Iterable[str] = ()) -> dict[str, Any]:
    """On what this process computes, as far as the bits of a run follow from it.

    Args:
        devices: how many share a batch.
        libraries: native kernels to look for, besides those that were asked for so far.

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


def _optimizer_digest(program: Program, initial: Any, shapes: TrainState) -> str:
    """Numbers such as the learning rate stand in what is computed, or in the state at first."""
    arguments = shapes.parameters, shapes.optimizer_state, shapes.parameters
    numbers = [x for x in jax.tree.leaves(initial) if np.size(x) < 5]
    return f"{_digest(program.optimizer.update, *arguments)} {digest_of(numbers)}"


def _digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Tells functions apart by what JAX makes of them, with native kernels or without."""
    with native.aside():
        return digest(function, *arguments)


def _cotangents(outputs: Any) -> Any:
    """Ones for what is differentiated, and JAX's nothing for integers."""

    def of(output: Any) -> Any:
        shape, dtype = jnp.shape(output), jnp.result_type(output)
        if jnp.issubdtype(dtype, jnp.inexact):
            return jnp.ones(shape, dtype)
        return np.zeros(shape, jax.dtypes.float0)

    return jax.tree.map(of, outputs)


def _data(split: Split | StreamedSplit) -> str:
    inputs, labels = map(describe, split.spec)
    shape = f"{len(split)} examples of {inputs} and {labels}"
    check = split.checksum() if isinstance(split, StreamedSplit) else _checksum(split)
    return shape if check is None else f"{shape}{_CHECK}{check:08x}"


def _checksum(split: Split) -> int:
    return zlib.crc32(split.labels.tobytes(), zlib.crc32(split.inputs.tobytes()))

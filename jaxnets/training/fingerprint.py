"""What a run trains, on what, and how, in a form that a later one can be compared with."""

import dataclasses
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import describe
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.layers import native
from jaxnets.training.state import Program, TrainState, outputs
from jaxnets.training.step import forward

_PACKAGES = ("jaxnets", "jax", "flax", "optax", "numpy")


def fingerprint(
    program: Program, state: TrainState, data: Dataset, settings: dict[str, Any]
) -> dict[str, Any]:
    """Describes a run.

    Functions such as the loss and the optimizer are told by what they compute, as JAX writes it
    down, numbers like the learning rate included.

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
        trained, _, _ = forward(alone, state, inputs, state.key)
        return trained, outputs(alone, state, inputs)

    _, made = jax.eval_shape(network, shapes, inputs)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    return {
        "network": {"is": f"{count} parameters", "computes": _digest(network, shapes, inputs)},
        "correct": {"computes": program.correct and _digest(program.correct, made, labels)},
        "optimizer": {"computes": _optimizer_digest(program, state.optimizer_state, shapes)},
        "loss": {"computes": _digest(program.loss, made, labels)},
        "transform": {"computes": _digest(program.inputs, inputs)},
        "augment": {
            "computes": _digest(program.augmented, inputs, labels, shapes.key, shapes.step)
        },
        "data.train": _data(data.train),
        "data.test": _data(data.test),
        **settings,
        "versions": {package: metadata.version(package) for package in _PACKAGES},
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs between two runs, item by item, in words.

    What functions compute is compared only between the same versions of the libraries, as another
    one may write the same thing down otherwise.
    """
    same_versions = before.get("versions") == now.get("versions")
    faults = []
    for name in sorted({*before, *now} - {"versions"}):
        one, other = _plain(before.get(name)), _plain(now.get(name))
        if one != other:
            faults.append(f"{name} is {other}, was {one}")
        elif same_versions and before.get(name) != now.get(name):
            faults.append(f"{name} computes something else")
    return faults


def _plain(item: Any) -> Any:
    return item.get("is") if isinstance(item, dict) else item


def _optimizer_digest(program: Program, initial: Any, shapes: TrainState) -> str:
    """Numbers such as the learning rate stand in what is computed, or in the state at first."""
    arguments = shapes.parameters, shapes.optimizer_state, shapes.parameters
    plain = [jax.random.key_data(x) if _is_key(x) else x for x in jax.tree.leaves(initial)]
    numbers = [np.asarray(x).tolist() for x in plain if np.size(x) < 5]
    return f"{_digest(program.optimizer.update, *arguments)} {numbers}"


def _digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Tells functions apart by what JAX makes of them, with native kernels or without."""
    with native.aside():  # a new function, as JAX remembers what it made of one it has seen
        traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(traced)).encode())
    for constant in _constants(traced):
        plain = jax.random.key_data(constant) if _is_key(constant) else constant
        digest.update(np.asarray(plain).tobytes())
    return digest.hexdigest()[:16]


def _is_key(value: Any) -> bool:
    return jax.dtypes.issubdtype(jnp.result_type(value), jax.dtypes.prng_key)


def _constants(traced: Any) -> Iterator[Any]:
    """The arrays that a computation closes over, and the computations within it."""
    if isinstance(traced, tuple | list):
        for part in traced:
            yield from _constants(part)
    elif hasattr(traced, "jaxpr"):  # closed
        yield from traced.consts
        yield from _constants(traced.jaxpr)
    elif hasattr(traced, "eqns"):
        for equation in traced.eqns:
            yield from _constants(list(equation.params.values()))


def _data(split: Split | StreamedSplit) -> str:
    inputs, labels = map(describe, split.spec)
    shape = f"{len(split)} examples of {inputs} and {labels}"
    if isinstance(split, StreamedSplit):
        return shape
    check = zlib.crc32(split.labels.tobytes(), zlib.crc32(split.inputs.tobytes()))
    return f"{shape}, checksum {check:08x}"

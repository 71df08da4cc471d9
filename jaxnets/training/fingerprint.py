"""What a run trains, on what, and how, in a form that a later one can be compared with."""

import hashlib
import re
import zlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import describe
from jaxnets.data.dataset import Dataset, Split
from jaxnets.data.streaming import StreamedSplit
from jaxnets.training.state import Program, TrainState, outputs

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

    def network(state: TrainState, inputs: jax.Array) -> Any:
        return outputs(program, state, inputs)

    made = jax.eval_shape(network, shapes, inputs)
    count = sum(x.size for x in jax.tree.leaves(shapes.parameters))
    return {
        "network": {"is": f"{count} parameters", "computes": _digest(network, shapes, inputs)},
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
    numbers = [np.asarray(x).tolist() for x in jax.tree.leaves(initial) if np.ndim(x) == 0]
    return f"{_digest(program.optimizer.update, *arguments)} {numbers}"


def _digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Tells functions apart by what JAX makes of them."""
    traced = jax.make_jaxpr(function)(*arguments)
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(traced)).encode())
    for constant in traced.consts:
        if not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.prng_key):
            digest.update(np.asarray(constant).tobytes())
    return digest.hexdigest()[:16]


def _data(split: Split | StreamedSplit) -> str:
    inputs, labels = map(describe, split.spec)
    shape = f"{len(split)} examples of {inputs} and {labels}"
    if isinstance(split, StreamedSplit):
        return shape
    check = zlib.crc32(split.labels.tobytes(), zlib.crc32(split.inputs.tobytes()))
    return f"{shape}, checksum {check:08x}"

"""Computes plain weights from the parts that PyTorch stores, and renames older parameters."""

import contextlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from jaxnets.interop.conversion import to_numpy, to_tensor

#: Older names of LayerNorm's parameters, as in checkpoints of BERT converted from TensorFlow.
_OLD_NAMES = {"gamma": "weight", "beta": "bias"}
#: Names of the extra arrays of a parametrization, which weight_norm does not have.
_WITH_BUFFERS = re.compile(r"((?:.*\.)?parametrizations\.[^.]+)\.\d+\..*")
#: The name endings of the parts of ``weight_norm`` and ``spectral_norm`` before PyTorch made them
#: parametrizations, and the names of the parts as parametrizations.
_OLDER_PARTS = (
    {"_g": "original0", "_v": "original1"},
    {"_orig": "original", "_u": "0._u", "_v": "0._v"},
)


def plain_weights(
    arrays: Mapping[str, Any], known: Collection[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Computes the weights that ``weight_norm`` or pruning has split from their parts.

    Parts whose last name the model has remain unchanged. Parts that the model has as
    parametrizations are renamed.

    Args:
        arrays: tensors or NumPy arrays by name.
        known: the names of the model.

    Returns:
        The arrays by name, and for each new name the names of the arrays it was computed from.
    """
    newer = newer_names(arrays, known)
    arrays = {newer.get(name, name): value for name, value in arrays.items()}
    own = {_last(name) for name in known}
    buffered = {found[1] for found in map(_WITH_BUFFERS.fullmatch, arrays) if found}
    plain: dict[str, Any] = {}
    origins = {new: old for old, new in newer.items()}
    used: set[str] = set()
    for name, value in arrays.items():
        whole, other, computed = _computed(name, value, arrays)
        is_part = _last(name) in own and not _has(known, whole)
        if is_part or whole in arrays or name.rpartition(".")[0] in buffered:
            computed = None
        if computed is None:
            plain[name] = value
        else:
            plain[whole] = computed
            origins[whole] = f"{name} and {other}" if other else name
            used.add(other)
    return {name: value for name, value in plain.items() if name not in used}, origins


def newer_names(arrays: Mapping[str, Any], known: Collection[str]) -> dict[str, str]:
    """Maps older names of parts to the names of the parametrizations in a model."""
    found: dict[str, str] = {}
    for parts in _OLDER_PARTS:
        first = next(iter(parts))
        for name in arrays:
            whole = name.removesuffix(first)
            start, dot, last = whole.rpartition(".")
            names = {
                whole + ending: f"{start}{dot}parametrizations.{last}.{part}"
                for ending, part in parts.items()
            }
            if name in names and names.keys() <= arrays.keys() and _has(known, names[name]):
                found |= names
    return found


def _has(known: Collection[str], name: str) -> bool:
    """Whether a model has a name, with or without some of its first parts."""
    parts = name.split(".")
    return any(".".join(parts[start:]) in known for start in range(len(parts)))


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _computed(name: str, value: Any, arrays: Mapping[str, Any]) -> tuple[str, str, Any]:
    """Returns the name of a plain weight, the name of its second part, and the weight or None."""
    for pattern, second, whole, compute in _FORMS:
        found = pattern.fullmatch(name)
        other = found.expand(second) if found else ""
        if found and other in arrays:
            return found.expand(whole), other, _tried(compute, value, arrays[other])
    start, dot, last = name.rpartition(".")
    if last in _OLD_NAMES:
        return f"{start}{dot}{_OLD_NAMES[last]}", "", value
    return name, "", None


def _tried(compute: Callable[[Any, Any], Any], one: Any, other: Any) -> Any:
    try:
        return compute(one, other)
    except (AttributeError, RuntimeError, TypeError, ValueError):  # the values are not plain
        return None


def _normed(length: Any, direction: Any) -> Any:
    """Computes a weight of weight_norm, g · v / ‖v‖; the norm is over the axes where g has size 1.

    Returns None if the shapes of g and v do not fit.
    """
    shape, own = tuple(length.shape), tuple(direction.shape)
    long = [axis for axis, size in enumerate(shape) if size != 1]
    fits = len(shape) == len(own) and len(long) <= 1 and all(shape[a] == own[a] for a in long)
    if shape and not fits:
        return None
    dim = long[0] if long else (0 if shape else -1)
    # PyTorch's arithmetic is used for bitwise equality. It does not support all dtypes.
    with contextlib.suppress(ImportError, RuntimeError):
        return to_numpy(_torch_normed(direction, length, dim))
    g, v = to_numpy(length), to_numpy(direction)
    axes = tuple(axis for axis in range(v.ndim) if axis not in long)
    norm = np.sqrt(np.square(v.astype(np.float64)).sum(axes, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):  # PyTorch does not warn either
        return (v * (g.astype(np.float64) / norm)).astype(v.dtype)


def _torch_normed(direction: Any, length: Any, dim: int) -> Any:
    import torch

    tensors = (to_tensor(np.array(to_numpy(value))) for value in (direction, length))
    return torch._weight_norm(*tensors, dim)


def _masked(weight: Any, mask: Any) -> Any:
    """Applies the mask of pruning to a weight; returns None if the shapes differ."""
    values, kept = to_numpy(weight), to_numpy(mask)
    return values * kept.astype(values.dtype) if values.shape == kept.shape else None


#: The pattern of the first part's name, the names of the second part and of the weight, and the
#: function that computes the weight from both parts.
_FORMS: tuple[tuple[re.Pattern[str], str, str, Callable[[Any, Any], Any]], ...] = (
    (re.compile(r"((?:.*\.)?(?:weight|bias)[^.]*)_g"), r"\1_v", r"\1", _normed),
    (
        re.compile(r"((?:.*\.)?)parametrizations\.([^.]+)\.original0"),
        r"\1parametrizations.\2.original1",
        r"\1\2",
        _normed,
    ),
    (re.compile(r"((?:.*\.)?[^.]+)_orig"), r"\1_mask", r"\1", _masked),
)

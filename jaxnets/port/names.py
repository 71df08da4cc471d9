"""Canonical names of functions, such as ``torch.cat``, ``Tensor.view`` and ``F.relu``."""

import builtins
import functools
import math
import operator
import types
from typing import Any

#: Functions of the module ``operator`` by the node classes of ``ast``.
OPERATORS = {
    "Add": "add",
    "Sub": "sub",
    "Mult": "mul",
    "Div": "truediv",
    "FloorDiv": "floordiv",
    "Mod": "mod",
    "Pow": "pow",
    "MatMult": "matmul",
    "LShift": "lshift",
    "RShift": "rshift",
    "BitOr": "or_",
    "BitXor": "xor",
    "BitAnd": "and_",
    "Invert": "invert",
    "Not": "not_",
    "UAdd": "pos",
    "USub": "neg",
    "Eq": "eq",
    "NotEq": "ne",
    "Lt": "lt",
    "LtE": "le",
    "Gt": "gt",
    "GtE": "ge",
}


@functools.cache
def _known() -> dict[int, str]:
    import torch
    import torch.nn.functional
    import torch.utils.checkpoint

    places: list[tuple[str, Any]] = [
        ("F", torch.nn.functional),
        ("init", torch.nn.init),
        ("torch", torch),
        ("torch.linalg", torch.linalg),
        ("torch.fft", torch.fft),
        ("torch.special", torch.special),
        ("torch.jit", torch.jit),
        ("torch.nn.utils.rnn", torch.nn.utils.rnn),
        ("torch.nn.utils", torch.nn.utils),
        ("torch.utils.checkpoint", torch.utils.checkpoint),
        ("Tensor", torch.Tensor),
        ("operator", operator),
        ("math", math),
        ("builtins", builtins),
    ]
    found: dict[int, str] = {}
    for prefix, place in places:
        for name in dir(place):
            value = getattr(place, name, None)
            if callable(value) and not name.startswith("__") and _belongs(value, prefix):
                found.setdefault(id(value), f"{prefix}.{name}")
    return found


def _belongs(value: Any, prefix: str) -> bool:
    """Whether a value is defined by a library, not imported into it."""
    module = getattr(value, "__module__", None) or "torch"
    own = prefix in ("operator", "math", "builtins")
    return own or module.partition(".")[0] in ("torch", "builtins")


def canonical(function: Any) -> str | None:
    """Returns the canonical name of a library function, under which rules are registered.

    Bound and unbound methods of tensors have names such as "Tensor.view". Returns None for other
    functions.
    """
    import random

    import torch

    if is_tensor_type(function):
        return f"torch.{function.__name__}"
    owner = getattr(function, "__self__", None)
    if owner is random._inst:  # functions of the module are methods of this instance
        return f"random.{function.__name__}"
    if type(owner).__module__.startswith("numpy.random"):
        return f"numpy.random.{function.__name__}"
    if isinstance(owner, torch.Tensor):
        return f"Tensor.{function.__name__}"
    if (name := _known().get(id(function))) is not None:
        return name
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", "")
    root = module.partition(".")[0]
    python = isinstance(function, types.FunctionType | types.BuiltinFunctionType)
    if root in ("einops", "torch") and name and python:
        return f"{root if root == 'einops' else module}.{name}"
    if type(function).__name__ == "method_descriptor" and hasattr(torch.Tensor, name):
        return f"Tensor.{name}"
    return None


def is_tensor_type(value: Any) -> bool:
    """Whether a class creates tensors when called, such as ``torch.FloatTensor``."""
    import torch

    plain = value in (torch.Tensor, torch.autograd.Variable)
    return plain or type(value) is type(torch.FloatTensor)


def is_einops(kind: type) -> bool:
    """Whether a layer class is from einops."""
    return kind.__module__ == "einops.layers.torch"

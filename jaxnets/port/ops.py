"""Finds the rule of each PyTorch function, method and operator."""

from jaxnets.port import (
    ops_activations,
    ops_attributes,
    ops_creation,
    ops_einops,
    ops_elementwise,
    ops_fourier,
    ops_images,
    ops_indexing,
    ops_networks,
    ops_products,
    ops_python,
    ops_reductions,
    ops_shapes,
)
from jaxnets.port.rules import RULES
from jaxnets.port.values import Context, Rule, Value

FAMILIES = (
    ops_activations,
    ops_attributes,
    ops_creation,
    ops_einops,
    ops_elementwise,
    ops_fourier,
    ops_images,
    ops_indexing,
    ops_networks,
    ops_products,
    ops_python,
    ops_reductions,
    ops_shapes,
)
_SHARED = ("torch.", "Tensor.", "F.", "operator.", "torch.special.", "builtins.")


def find(name: str) -> Rule | None:
    """Returns the rule of an operation, or None.

    Args:
        name: the canonical name, such as "torch.cat", "Tensor.view", "F.relu", "operator.add" or
            "torch.fft.fft". In-place operations, such as "Tensor.add_" or "operator.iadd", have
            the rule of the operation that is not in place. Reflected operators, such as
            "Tensor.__radd__", have the rule of the operator with swapped operands.
    """
    if name in RULES:
        return RULES[name]
    bare = name.removeprefix("torch.")
    if bare in RULES and "." in bare:
        return RULES[bare]
    prefix, _, last = name.rpartition(".")
    if f"{prefix}." not in _SHARED:
        return None
    if f"{prefix}.{last.removesuffix('_')}" in RULES:
        return RULES[f"{prefix}.{last.removesuffix('_')}"]
    if prefix == "builtins" and last not in _BUILTINS:
        return None
    for candidate in (last, last.removesuffix("_"), last.strip("_")):
        if candidate in RULES:
            return RULES[candidate]
    plain = last.strip("_")
    if plain[:1] == "i" and plain[1:] in RULES and (prefix == "operator" or "__" in last):
        return RULES[plain[1:]]
    if plain[:1] == "r" and plain[1:] in RULES and "__" in last:
        return _exchanged(RULES[plain[1:]])
    return None


_BUILTINS = ("abs", "len", "pow", "round")


def _exchanged(rule: Rule) -> Rule:
    def apply(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        return rule(args[::-1], kwargs, context)

    return apply

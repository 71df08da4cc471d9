"""What each of PyTorch's functions, methods and operators becomes in JAX: one table by meaning."""

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
    """The rule of an operation.

    Args:
        name: such as "torch.cat", "Tensor.view", "F.relu", "operator.add" or "torch.fft.fft".
            An operation in place, "Tensor.add_" or "operator.iadd", is the other one; "Tensor.
            __radd__" is that with the operands exchanged.

    Returns:
        The rule, or None.
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

"""Translates elementwise operations, reductions and casts to ONNX."""

from collections.abc import Callable
from functools import partial

import numpy as np

from jaxnets.arrays import InputError
from jaxnets.export.onnx_graph import Builder
from jaxnets.kernels.graph import Node

#: A function (builder, operation, *names of its inputs) → the name or names of its outputs.
Rule = Callable[..., str | list[str]]

#: JAX's operations, and the equivalent operators of ONNX.
_SAME = {
    "abs": "Abs",
    "acos": "Acos",
    "acosh": "Acosh",
    "add": "Add",
    "add_any": "Add",
    "asin": "Asin",
    "asinh": "Asinh",
    "atan": "Atan",
    "atanh": "Atanh",
    "ceil": "Ceil",
    "copy": "Identity",
    "copy_p": "Identity",
    "cos": "Cos",
    "cosh": "Cosh",
    "div": "Div",
    "eq": "Equal",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "log": "Log",
    "logistic": "Sigmoid",
    "lt": "Less",
    "max": "Max",
    "min": "Min",
    "mul": "Mul",
    "neg": "Neg",
    "optimization_barrier": "Identity",
    "pow": "Pow",
    "reduce_precision": "Identity",
    "reshard": "Identity",
    "sharding_constraint": "Identity",
    "sign": "Sign",
    "sin": "Sin",
    "sinh": "Sinh",
    "sqrt": "Sqrt",
    "stop_gradient": "Identity",
    "sub": "Sub",
    "tan": "Tan",
    "tanh": "Tanh",
}
#: Operators for booleans, and for the bits of integers.
_LOGIC = {
    "and": ("And", "BitwiseAnd"),
    "or": ("Or", "BitwiseOr"),
    "xor": ("Xor", "BitwiseXor"),
    "not": ("Not", "BitwiseNot"),
}
_REDUCTIONS = {
    "reduce_max": "ReduceMax",
    "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
    "reduce_sum": "ReduceSum",
}


def _same(kind: str, g: Builder, node: Node, *x: str) -> str:
    return g.add(kind, *x)


def _logic(kinds: tuple[str, str], g: Builder, node: Node, *x: str) -> str:
    return g.add(kinds[node.outputs[0].dtype != bool], *x)


def _one(g: Builder, node: Node) -> str:
    return g.constant(1, node.outputs[0].dtype)


def _not_equal(g: Builder, node: Node, x: str, y: str) -> str:
    return g.add("Not", g.add("Equal", x, y))


def _square(g: Builder, node: Node, x: str) -> str:
    return g.add("Mul", x, x)


def _integer_pow(g: Builder, node: Node, x: str) -> str:
    return g.add("Pow", x, g.constant(node.parameters["y"], node.outputs[0].dtype))


def _rsqrt(g: Builder, node: Node, x: str) -> str:
    return g.add("Reciprocal", g.add("Sqrt", x))


def _cbrt(g: Builder, node: Node, x: str) -> str:
    third = g.constant(1 / 3, node.outputs[0].dtype)
    return g.add("Mul", g.add("Sign", x), g.add("Pow", g.add("Abs", x), third))


def _exp2(g: Builder, node: Node, x: str) -> str:
    return g.add("Pow", g.constant(2, node.outputs[0].dtype), x)


def _expm1(g: Builder, node: Node, x: str) -> str:
    """Computes eˣ - 1 as tanh(x/2) · (eˣ + 1), which is accurate for small x."""
    half = g.add("Mul", x, g.constant(0.5, node.outputs[0].dtype))
    return g.add("Mul", g.add("Tanh", half), g.add("Add", g.add("Exp", x), _one(g, node)))


def _log1p(g: Builder, node: Node, x: str) -> str:
    """Computes log(1 + x) as x · log(u) / (u - 1) with u = 1 + x, which is accurate for small x."""
    one = _one(g, node)
    u = g.add("Add", one, x)
    log, rest = g.add("Log", u), g.add("Sub", u, one)
    small = g.add("Equal", rest, g.constant(0, node.outputs[0].dtype))
    exact = g.add("Mul", x, g.add("Div", log, g.add("Where", small, one, rest)))
    large = g.add("Greater", x, one)
    return g.add("Where", large, log, g.add("Where", small, x, exact))


def _erfc(g: Builder, node: Node, x: str) -> str:
    return g.add("Sub", _one(g, node), g.add("Erf", x))


def _remainder(g: Builder, node: Node, x: str, y: str) -> str:
    return g.add("Mod", x, y, fmod=1)


def _is_finite(g: Builder, node: Node, x: str) -> str:
    return g.add("Not", g.add("Or", g.add("IsInf", x), g.add("IsNaN", x)))


def _round(g: Builder, node: Node, x: str) -> str:
    if int(node.parameters["rounding_method"]) == 1:  # TO_NEAREST_EVEN
        return g.add("Round", x)
    half = g.constant(0.5, node.outputs[0].dtype)
    away = g.add("Floor", g.add("Add", g.add("Abs", x), half))
    return g.add("Mul", g.add("Sign", x), away)


def _clamp(g: Builder, node: Node, low: str, x: str, high: str) -> str:
    return g.add("Min", g.add("Max", low, x), high)


def _convert(g: Builder, node: Node, x: str) -> str:
    return g.cast(x, node.outputs[0].dtype)


def _select(g: Builder, node: Node, which: str, *cases: str) -> str:
    if len(cases) != 2 or node.inputs[0].dtype != bool:  # type: ignore[union-attr]
        raise InputError("model", "a choice between two arrays", f"a choice between {len(cases)}")
    otherwise, chosen = cases
    if node.outputs[0].dtype != bool:
        return g.add("Where", which, chosen, otherwise)
    rest = g.add("And", g.add("Not", which), otherwise)
    return g.add("Or", g.add("And", which, chosen), rest)


def _reduced(kind: str, g: Builder, node: Node, x: str) -> str:
    return g.add(kind, x, g.integers(*node.parameters["axes"]), keepdims=0)


def _every(kind: str, g: Builder, node: Node, x: str) -> str:
    """Reduces booleans by and (ReduceMin) or or (ReduceMax), as integers."""
    return g.cast(_reduced(kind, g, node, g.cast(x, np.int32)), bool)


def _place(kind: str, g: Builder, node: Node, x: str) -> str:
    (axis,) = node.parameters["axes"]
    return g.cast(g.add(kind, x, axis=axis, keepdims=0), node.parameters["index_dtype"])


def _cumulative_sum(g: Builder, node: Node, x: str) -> str:
    reverse = int(node.parameters["reverse"])
    return g.add("CumSum", x, g.integers(node.parameters["axis"]), reverse=reverse)


def _top_k(g: Builder, node: Node, x: str) -> list[str]:
    axis = node.parameters.get("axis", -1)
    count = g.integers(node.parameters["k"])
    values, places = g.add_several("TopK", 2, x, count, axis=axis)
    return [values, g.cast(places, node.outputs[1].dtype)]


def _sort(g: Builder, node: Node, *x: str) -> list[str]:
    """Sorts by the first array, and gathers the others in the same order."""
    if node.parameters["num_keys"] != 1:
        raise InputError("model", "a sort by one array", f"a sort by {node.parameters['num_keys']}")
    axis = node.parameters["dimension"]
    count = g.integers(node.inputs[0].shape[axis])
    values, places = g.add_several("TopK", 2, x[0], count, axis=axis, largest=0)
    return [values, *(g.add("GatherElements", each, places, axis=axis) for each in x[1:])]


RULES: dict[str, Rule] = {
    **{name: partial(_same, kind) for name, kind in _SAME.items()},
    **{name: partial(_logic, kinds) for name, kinds in _LOGIC.items()},
    **{name: partial(_reduced, kind) for name, kind in _REDUCTIONS.items()},
    "argmax": partial(_place, "ArgMax"),
    "argmin": partial(_place, "ArgMin"),
    "cbrt": _cbrt,
    "clamp": _clamp,
    "convert_element_type": _convert,
    "cumsum": _cumulative_sum,
    "erfc": _erfc,
    "exp2": _exp2,
    "expm1": _expm1,
    "integer_pow": _integer_pow,
    "is_finite": _is_finite,
    "log1p": _log1p,
    "ne": _not_equal,
    "reduce_and": partial(_every, "ReduceMin"),
    "reduce_or": partial(_every, "ReduceMax"),
    "rem": _remainder,
    "round": _round,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "sort": _sort,
    "square": _square,
    "top_k": _top_k,
}

"""Pairs of PyTorch and JAX code that assign the same results to the same names."""

import ast
import re
from typing import Any, NamedTuple

import jax
import numpy as np
import torch

from tests.pages import blocks

PYTORCH = "# PyTorch"
#: First line of a JAX block: all results agree, the last one differs, only the last one must agree.
AGREES, DIFFERS, DRAWS = "# JAX", "# JAX differs", "# JAX, other numbers"
Namespace = dict[str, Any]


class Pair(NamedTuple):
    """One idiom in both frameworks."""

    torch: str
    jax: str

    @property
    def head(self) -> str:
        """The first line of the JAX block, which states how the results compare."""
        return self.jax.partition("\n")[0]


def pairs(text: str) -> list[Pair]:
    """The pairs in a part of the page, in order."""
    code = blocks(text, "python")
    found = [Pair(*two) for two in zip(code[::2], code[1::2], strict=False)]
    for pair in found:
        right = pair.torch.startswith(PYTORCH + "\n") and pair.head in (AGREES, DIFFERS, DRAWS)
        assert right, f"no pair:\n{pair.torch}\n{pair.jax}"
    assert len(code) % 2 == 0, f"without a counterpart:\n{code[-1]}"
    return found


def sections(page: str) -> dict[str, list[Pair]]:
    """The pairs of each section, preceded by those of the introduction."""
    opening, *rest = re.split(r"^## ", page, flags=re.MULTILINE)
    texts = {title: text for title, _, text in (part.partition("\n") for part in rest)}
    return {title: pairs(opening) + pairs(text) for title, text in texts.items()}


def check(section: list[Pair]) -> int:
    """Runs the pairs of a section in shared namespaces; returns the number of comparisons.

    The JAX code can also read PyTorch's variables whose names begin with ``torch_``.
    """
    theirs: Namespace = {"__name__": "phrasebook"}
    ours: Namespace = {"__name__": "phrasebook"}
    compared = 0
    for pair in section:
        exec(compile(pair.torch, "PyTorch", "exec"), theirs)
        ours |= {name: value for name, value in theirs.items() if name.startswith("torch_")}
        exec(compile(pair.jax, "JAX", "exec"), ours)
        compared += compare(pair, theirs, ours)
    return compared


def compare(pair: Pair, theirs: Namespace, ours: Namespace) -> bool:
    """Compares the results that both blocks assign; PyTorch's last result must be one of them."""
    if all(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(pair.torch).body):
        return False
    results = [name for name in assigned(pair.torch) if is_result(theirs[name])]
    assert results, f"no result:\n{pair.torch}"
    named = assigned(pair.jax)
    shared = [name for name in results if name in named]
    assert results[-1] in shared, f"{results[-1]} is compared with nothing:\n{pair.torch}"
    for name in shared if pair.head == AGREES else results[-1:]:
        problem = difference(theirs[name], ours[name])
        if pair.head == DIFFERS:
            assert problem, f"{name} does not differ:\n{pair.torch}"
        else:
            assert not problem, f"{name}: {problem}\n{pair.torch}\n{pair.jax}"
    return True


def assigned(code: str) -> list[str]:
    """The names that a block assigns at its top level, in the order of their last assignments."""
    found: list[str] = []
    todo: list[ast.AST] = list(reversed(ast.parse(code).body))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        scopes = (ast.FunctionDef, ast.ClassDef, ast.ListComp, ast.DictComp, ast.GeneratorExp)
        if not isinstance(node, scopes):
            todo.extend(reversed(list(ast.iter_child_nodes(node))))
    found = [name for name in found if name != "_"]
    return list(dict.fromkeys(reversed(found)))[::-1]


def is_result(value: Any) -> bool:
    """Whether a value can be compared: a number, a text, an array, or several of these."""
    if isinstance(value, dict):
        return is_result(list(value.values()))
    if isinstance(value, list | tuple):
        return bool(value) and all(map(is_result, value))
    return isinstance(value, int | float | str | torch.Tensor | np.ndarray | jax.Array)


def difference(theirs: Any, ours: Any) -> str:
    """Describes how two results differ; returns an empty string if they are equal.

    64-bit integers and floats may have 32 bits in JAX; otherwise, dtypes must be equal. Floats are
    compared with the precision of the narrower dtype, and Python's floats with that of float32.
    """
    if isinstance(theirs, dict):
        return difference(sorted(theirs.items()), sorted(ours.items()))
    if isinstance(theirs, str) or isinstance(ours, str):
        return "" if theirs == ours else f"{theirs!r}, {ours!r}"
    if isinstance(theirs, list | tuple) != isinstance(ours, list | tuple):
        return f"{type(theirs).__name__}, {type(ours).__name__}"
    if isinstance(theirs, list | tuple):
        if len(theirs) != len(ours):
            return f"lengths {len(theirs)}, {len(ours)}"
        return next(filter(None, map(difference, theirs, ours)), "")
    return _array_difference(_array(theirs), _array(ours))


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().resolve_conj().numpy()
    if isinstance(value, float):
        return np.asarray(value, np.float32)
    return np.asarray(value)


def _array_difference(theirs: np.ndarray, ours: np.ndarray) -> str:
    if theirs.shape != ours.shape:
        return f"shapes {theirs.shape}, {ours.shape}"
    narrowed = {np.dtype("i8"): np.dtype("i4"), np.dtype("f8"): np.dtype("f4")}
    if ours.dtype not in (theirs.dtype, narrowed.get(theirs.dtype)):
        return f"dtypes {theirs.dtype}, {ours.dtype}"
    if theirs.dtype.kind in "fc":
        tolerance = 50 * max(np.finfo(theirs.dtype).eps, np.finfo(ours.dtype).eps)
        same = np.allclose(theirs, ours, rtol=tolerance, atol=tolerance, equal_nan=True)
    else:
        same = np.array_equal(theirs, ours)
    return "" if same else f"{theirs.tolist()}, {ours.tolist()}"

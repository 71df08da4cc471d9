"""Draws example inputs for a network from descriptions on the command line."""

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxnets.arrays import InputError
from jaxnets.networks import why
from jaxnets.optional import require

if TYPE_CHECKING:
    import torch

_INPUT = "sizes such as 2x3x32x32, with a dtype as in 2x7:int64, or a Python value such as [5, 3]"


def inputs_of(texts: Sequence[str], module: "torch.nn.Module", *, seed: int = 0) -> tuple[Any, ...]:
    """Draws random example inputs.

    Args:
        texts: for each input its shape, ``"2x3x32x32"``, optionally with a dtype, ``"2x7:int64"``,
            and an upper bound, ``"2x7:int64:1000"``; or a Python value, ``"[5, 3, 1]"``. Integers
            without a bound are smaller than the number of rows of the smallest embedding.
        module: the network, whose embeddings determine the bound.
        seed: the seed of the random numbers.

    Returns:
        A tensor or a Python value for each text; lists of numbers become tensors.

    Raises:
        InputError: if a text is neither a shape nor a Python value.
        ImportError: if torch is not installed.

    Examples:
        >>> import torch
        >>> [x.shape for x in inputs_of(["2x3x8x8", "2:int64"], torch.nn.Linear(2, 2))]
        [torch.Size([2, 3, 8, 8]), torch.Size([2])]
    """
    torch = require("torch", extra="torch", feature="the port of a network")
    tables = (m.num_embeddings for m in module.modules() if isinstance(m, torch.nn.Embedding))
    rows = min(tables, default=2)
    generator = torch.Generator().manual_seed(seed)
    try:
        return tuple(_input(torch, text, rows, generator) for text in texts)
    except InputError:
        raise
    except Exception as error:  # PyTorch's, such as a lack of memory
        raise InputError("input", _INPUT, f"{' '.join(texts)} ({why(error)})") from error


def _input(torch: Any, text: str, rows: int, generator: Any) -> Any:
    match = re.fullmatch(r"(\d+(?:x\d+)*)(?::(\w+))?(?::(\d+))?", text.strip())
    if match is None:
        return _literal(torch, text)
    sizes = [int(size) for size in match[1].split("x")]
    dtype = getattr(torch, match[2] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise InputError("input", f"a dtype of torch in {text!r}, such as int64", match[2])
    if dtype is torch.bool:
        return torch.randint(2, sizes, generator=generator).bool()
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator, dtype=dtype)
    if dtype.is_complex:
        raise InputError("input", _INPUT, text)
    return torch.randint(int(match[3] or rows), sizes, generator=generator, dtype=dtype)


def _literal(torch: Any, text: str) -> Any:
    try:
        value = ast.literal_eval(text.strip())
        return torch.tensor(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError("input", _INPUT, text) from error

"""PyTorch's compilers: the port reads and runs the Python code that they were given."""

import contextlib
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from jaxnets.port.sources import FOREIGN

#: Functions that return their first argument compiled.
COMPILERS = ("torch.jit.script", "torch.compile")


@contextlib.contextmanager
def without_compiled_functions() -> Iterator[None]:
    """Within the context, the user's modules have the functions that were compiled themselves."""
    with _replaced(_user_modules(), _original):
        yield


@contextlib.contextmanager
def without_compilers() -> Iterator[None]:
    """Within the context, no function is compiled by ``torch.jit.script`` or ``torch.compile``."""
    import torch

    compilers = (torch.jit.script, torch.compile)

    def idle(value: Any) -> Any:
        return _same if any(value is one for one in compilers) else None

    with without_compiled_functions(), _replaced([torch, torch.jit, *_user_modules()], idle):
        yield


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Within the context, what ``torch.compile`` returned runs its Python code."""
    import torch

    if "torch._dynamo" not in sys.modules:  # nothing was compiled
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _user_modules() -> list[types.ModuleType]:
    """Returns the imported modules whose code is rewritten."""
    modules = [one for one in list(sys.modules.values()) if isinstance(one, types.ModuleType)]
    return [one for one in modules if one.__name__.partition(".")[0] not in FOREIGN]


@contextlib.contextmanager
def _replaced(modules: list[types.ModuleType], new: Callable[[Any], Any]) -> Iterator[None]:
    """Within the context, the values of the modules are replaced unless ``new`` returns None."""
    found = [
        (vars(module), name, value, other)
        for module in modules
        for name, value in list(vars(module).items())
        if (other := new(value)) is not None
    ]
    for names, name, _, other in found:
        names[name] = other
    try:
        yield
    finally:
        for names, name, value, _ in found:
            names[name] = value


def _original(value: Any) -> Any:
    """Returns the function that ``torch.jit.script`` or ``torch.compile`` compiled, or None."""
    if type(value).__name__ == "ScriptFunction":
        return getattr(value, "_torchdynamo_inline", None)
    if isinstance(value, types.FunctionType):
        return vars(value).get("_torchdynamo_orig_callable")
    return None


def _same(*args: Any, **options: Any) -> Any:
    """Returns the first argument, or a decorator that returns its argument."""
    return args[0] if args else _same

"""Intercepts the calls of a model's modules."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from jaxnets.interop.entries import nodes

#: Replaces a call: (name of the module, module, original call, *arguments) → the outputs. The
#: function may run the original call with these or other arguments.
Around = Callable[..., Any]


@contextlib.contextmanager
def watched(model: nnx.Module, around: Around) -> Iterator[None]:
    """Routes each call of a model's modules, including the model itself, through a function.

    Works for modules of any library. The context replaces the ``__call__`` of the modules' classes
    in the whole process, so it is not thread-safe. Code that uses the weights of a module without
    calling the module is not intercepted.

    Args:
        model: the model whose modules are watched. Copies of the model are not watched.
        around: called with (name, module, call, *arguments) in place of each call. The caller
            receives its result. The name is PyTorch's, ``""`` for the model itself.
    """
    names: dict[int, str] = {}
    modules = []
    for _, name, node in nodes(model):
        if isinstance(node, nnx.Module) and callable(node):
            names.setdefault(id(node), name.rstrip("."))
            modules.append(node)
    with contextlib.ExitStack() as stack:
        for kind in dict.fromkeys(map(type, modules)):
            stack.enter_context(_replaced(kind, names, around))
        yield


@contextlib.contextmanager
def _replaced(kind: type[Any], names: dict[int, str], around: Around) -> Iterator[None]:
    """Replaces the ``__call__`` of a class by ``around`` within the context."""
    original, inherited = kind.__call__, "__call__" not in vars(kind)

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        # A subclass may call its parent's method, which is replaced too if the model has both.
        if type(self) is not kind or id(self) not in names:
            return original(self, *args, **kwargs)
        return around(names[id(self)], self, original.__get__(self), *args, **kwargs)

    kind.__call__ = call
    try:
        yield
    finally:
        if inherited:
            del kind.__call__
        else:
            kind.__call__ = original

"""The calls of a model's modules, watched or changed from outside."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from jaxnets.interop.entries import nodes

#: Takes the place of a call: (name of the module, module, what calls it) → the outputs. The last
#: takes the arguments of the call, which come after it, or others.
Around = Callable[..., Any]


@contextlib.contextmanager
def watched(model: nnx.Module, around: Around) -> Iterator[None]:
    """Within it, each call of a module of a model, itself included, goes through a function.

    Any module is watched, whoever wrote it: the ``__call__`` of its class is replaced,
    in this process, so not from several threads. What a module does with the weights of
    another without calling it is not seen.

    Args:
        model: whose modules are watched; not a copy of it.
        around: called with (name, module, call, *arguments) for each call; it returns what the
            caller gets. The name is PyTorch's, ``""`` for the model itself.
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
    """Has a class call ``around`` while the context lasts."""
    original, inherited = kind.__call__, "__call__" not in vars(kind)

    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        # A subclass calls its parent's method, which is watched too if the model has both kinds.
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

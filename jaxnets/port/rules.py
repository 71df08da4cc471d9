"""The table of rules, and how a rule reads its arguments and writes its result."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from jaxnets.port.values import (
    ATOM,
    Binding,
    Context,
    Items,
    Plain,
    Refused,
    Rule,
    Tensor,
    Value,
    bound,
    natural,
    text_of,
)

#: The rule of each operation: "cat" is torch.cat, Tensor.cat and F.cat, "F.unfold" that alone.
RULES: dict[str, Rule] = {}

#: An argument that may be left out.
Given = Value | None

#: PyTorch's arguments that change nothing in JAX.
_IGNORED = frozenset(
    ("device", "inplace", "layout", "memory_format", "non_blocking", "pin_memory", "requires_grad")
)
#: NumPy's names of arguments, which PyTorch takes too.
_SPELLINGS = {"axis": "dim", "keepdims": "keepdim", "self": "input", "x2": "other"}


_Function = TypeVar("_Function", bound=Callable[..., Value])


def rule(*names: str) -> Callable[[_Function], _Function]:
    """Registers ``function(context, *args, **kwargs)`` as what operations become.

    Args:
        names: of operations, as ``RULES`` has them. The function's parameters have PyTorch's names.
    """

    def register(function: _Function) -> _Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def apply(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
            given = _spelled(kwargs, signature)
            try:
                call = signature.bind(context, *args, **given)
            except TypeError as error:
                raise Refused(f"{names[0]}: {error}", "Call it with other arguments.") from None
            return function(*call.args, **call.kwargs)

        for name in names:
            assert name not in RULES, name
            RULES[name] = apply
        return function

    return register


def _spelled(kwargs: dict[str, Value], signature: inspect.Signature) -> dict[str, Value]:
    found = {}
    for name, value in kwargs.items():
        if name not in signature.parameters:
            if name in _IGNORED or (name in ("out", "generator") and known(value) is None):
                continue
            name = _SPELLINGS.get(name, name)
        found[name] = value
    return found


def refuse(why: str, what_to_do: str, *names: str) -> None:
    """Registers operations that are refused."""

    def refused(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        raise Refused(why, what_to_do)

    for name in names:
        assert name not in RULES, name
        RULES[name] = refused


def known(value: Given, default: Any = None) -> Any:
    """What an argument was: a number, a word, None or a tuple; the default where none was given."""
    if value is None:
        return default
    if isinstance(value, Items):
        return tuple(known(item) for item in value.items)
    if isinstance(value, Tensor):
        raise Refused(
            "the values of a tensor decide a shape or an option", "Make it a Python number."
        )
    if not value.known:
        raise Refused(f"the value of {value.text} is not known", "Use an example that comes by it.")
    return value.value


def present(value: Given) -> Given:
    """An argument; None where it was left out or is None."""
    none = isinstance(value, Plain) and value.known and value.value is None
    return None if none else value


def several(values: tuple[Value, ...]) -> list[Value]:
    """The values of ``f(1, 2)`` and ``f((1, 2))`` alike."""
    if len(values) == 1:
        (only,) = values
        if isinstance(only, Items):
            return list(only.items)
        if isinstance(only, Plain) and isinstance(only.value, tuple | list):
            items = enumerate(only.value)
            return [Plain(f"{bound(only, ATOM)}[{i}]", number) for i, number in items]
    return list(values)


def tensor(value: Value) -> Tensor:
    """A value that can only be a tensor."""
    if not isinstance(value, Tensor):
        raise Refused(f"{text_of(value)} is not a tensor", "Make it one with torch.as_tensor.")
    return value


def written(value: Any) -> str:
    """The text of an argument: of a value, of a text as it is, or of a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor | Plain | Items):
        return bound(value, Binding.TERNARY)
    return repr(value)


def word(text: str) -> str:
    """A word as a Python literal in double quotes."""
    return f'"{text}"'


def call(context: Context, function: str, *args: Any, **kwargs: Any) -> str:
    """The text of a call; ``F.pad`` is jaxnets.functional's. None leaves an argument out."""
    context.use(function.partition(".")[0])
    return f"{function}({_arguments(args, kwargs)})"


def method(context: Context, x: Tensor, name: str, *args: Any, **kwargs: Any) -> str:
    """``x.name(…)``, or ``jnp.name(x, …)`` where x would need parentheses."""
    if x.binding < ATOM:
        return call(context, f"jnp.{name}", x, *args, **kwargs)
    return f"{x.text}.{name}({_arguments(args, kwargs)})"


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    texts = [written(arg) for arg in args if arg is not None]
    texts += [f"{name}={written(arg)}" for name, arg in kwargs.items() if arg is not None]
    return ", ".join(texts)


def result(
    context: Context,
    text: str,
    order: tuple[int, ...] | None = None,
    binding: int = ATOM,
    *,
    value: Any = None,
    symbols: tuple[str | None, ...] = (),
    origin: Any = None,
) -> Tensor:
    """The result of an operation: PyTorch's tensor, by a text, in an order.

    Args:
        context: the rule's.
        text: the expression.
        order: of its axes; PyTorch's if None.
        binding: of the text.
        value: PyTorch's tensor, where it is not ``context.result``.
        symbols: texts of its sizes.
        origin: what made it, while its order is free.
    """
    value = context.result if value is None else value
    if value is None:
        raise Refused("the example does not come by it", "Use an example that does.")
    shape = tuple(value.shape)
    order = natural(len(shape)) if order is None else order
    return Tensor(text, shape, order, value.dtype, binding, symbols, origin)


def pair(context: Context, text: str, order: tuple[int, ...]) -> Items:
    """Results that a call returns as a tuple, as ``text[0]``, ``text[1]`` and so on."""
    parts = enumerate(context.result)
    items = tuple(result(context, f"{text}[{i}]", order, value=part) for i, part in parts)
    return Items(items, text)


def simple(text: str) -> bool:
    """Whether an expression may be written twice: a name or an attribute."""
    return text.replace(".", "").replace("_", "").isalnum()

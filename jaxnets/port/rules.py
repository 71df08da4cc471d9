"""The table of rules, and functions for reading arguments and writing results in rules."""

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

#: The rule of each operation. A bare name such as "cat" applies to torch.cat, Tensor.cat and F.cat;
#: a qualified name such as "F.unfold" only to that function.
RULES: dict[str, Rule] = {}

#: An optional argument.
Given = Value | None

#: PyTorch's arguments that have no effect in JAX.
_IGNORED = frozenset(
    ("device", "inplace", "layout", "memory_format", "non_blocking", "pin_memory", "requires_grad")
)
#: NumPy's names of arguments, which PyTorch also accepts, with PyTorch's names.
_SPELLINGS = {"axis": "dim", "keepdims": "keepdim", "self": "input", "x2": "other"}
#: PyTorch's names of arguments that rules take as variadic arguments.
_VARIADIC = frozenset(("dim", "dims", "repeats", "shape", "size"))


_Function = TypeVar("_Function", bound=Callable[..., Value])


def rule(*names: str) -> Callable[[_Function], _Function]:
    """Registers ``function(context, *args, **kwargs)`` as the rule of operations.

    The parameters of the function must have PyTorch's names.

    Args:
        names: the names of the operations, see ``RULES``.
    """

    def register(function: _Function) -> _Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def apply(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
            given = _spelled(kwargs, signature)
            several = _by_keyword(given, signature)
            try:
                call = signature.bind(context, *args, **given)
            except TypeError as error:
                raise Refused(f"{names[0]}: {error}", "Call it with other arguments.") from None
            call.arguments |= several
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


def _by_keyword(kwargs: dict[str, Value], signature: inspect.Signature) -> dict[str, Any]:
    """Removes the keyword of variadic arguments, as in ``x.permute(dims=(0, 2, 1))``.

    Returns:
        The arguments, by the name of the rule's parameter; empty if they are not keywords.
    """
    kinds = {one.kind: name for name, one in signature.parameters.items()}
    variadic = kinds.get(inspect.Parameter.VAR_POSITIONAL)
    if variadic is None or inspect.Parameter.VAR_KEYWORD in kinds:
        return {}
    others = _VARIADIC - signature.parameters.keys()
    found = [name for name in kwargs if name == variadic or name in others]
    return {variadic: (kwargs.pop(found[0]),)} if len(found) == 1 else {}


def refuse(why: str, what_to_do: str, *names: str) -> None:
    """Registers operations that cannot be ported, with the reason and a suggestion."""

    def refused(args: list[Value], kwargs: dict[str, Value], context: Context) -> Value:
        raise Refused(why, what_to_do)

    for name in names:
        assert name not in RULES, name
        RULES[name] = refused


def known(value: Given, default: Any = None) -> Any:
    """Returns the observed value of an argument, or the default if it was omitted.

    Raises:
        Refused: if the argument is a tensor, or its value is unknown.
    """
    if value is None:
        return default
    if isinstance(value, Items):
        return tuple(known(item) for item in value.items)
    if isinstance(value, Tensor):
        raise Refused(
            "the values of a tensor determine a shape or an option", "Make it a Python number."
        )
    if not value.known:
        raise Refused(f"the value of {value.text} is not known", "Use an example that runs it.")
    return value.value


def present(value: Given) -> Given:
    """Returns an argument, or None if it was omitted or is the constant None."""
    none = isinstance(value, Plain) and value.known and value.value is None
    return None if none else value


def several(values: tuple[Value, ...]) -> list[Value]:
    """Returns the values of variadic arguments, for both ``f(1, 2)`` and ``f((1, 2))``."""
    if len(values) == 1:
        (only,) = values
        if isinstance(only, Items):
            return list(only.items)
        if isinstance(only, Plain) and isinstance(only.value, tuple | list):
            items = enumerate(only.value)
            return [Plain(f"{bound(only, ATOM)}[{i}]", number) for i, number in items]
    return list(values)


def tensor(value: Value) -> Tensor:
    """Returns a value that must be a tensor.

    Raises:
        Refused: if the value is not a tensor.
    """
    if not isinstance(value, Tensor):
        raise Refused(f"{text_of(value)} is not a tensor", "Make it one with torch.as_tensor.")
    return value


def written(value: Any) -> str:
    """Returns the source text of an argument: a ``Value``, a text, or a number."""
    if isinstance(value, str):
        return value
    if isinstance(value, Tensor | Plain | Items):
        return bound(value, Binding.TERNARY)
    return repr(value)


def word(text: str) -> str:
    """Returns a text as a Python literal in double quotes."""
    return f'"{text}"'


def call(context: Context, function: str, *args: Any, **kwargs: Any) -> str:
    """Returns the source text of a call; arguments that are None are omitted.

    ``F`` in a function name is ``jaxnets.functional``.
    """
    context.use(function.partition(".")[0])
    return f"{function}({_arguments(args, kwargs)})"


def method(context: Context, x: Tensor, name: str, *args: Any, **kwargs: Any) -> str:
    """Returns the text ``x.name(…)``, or ``jnp.name(x, …)`` if x would need parentheses."""
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
    """Returns the result of an operation as a ``Tensor``.

    Args:
        context: the context of the rule.
        text: the expression of the result.
        order: the order of the axes; None for PyTorch's order.
        binding: the precedence of the text.
        value: PyTorch's result, if it is not ``context.result``.
        symbols: the texts of the sizes.
        origin: identifies the creation of the tensor while its order can still be chosen.

    Raises:
        Refused: if the operation did not run on the example inputs.
    """
    value = context.result if value is None else value
    if value is None:
        raise Refused("it does not run on the example inputs", "Use inputs that run it.")
    shape = tuple(value.shape)
    order = natural(len(shape)) if order is None else order
    return Tensor(text, shape, order, value.dtype, binding, symbols, origin)


def pair(context: Context, text: str, order: tuple[int, ...]) -> Items:
    """Returns the elements of a tuple that a call returns: ``text[0]``, ``text[1]`` and so on."""
    parts = enumerate(context.result)
    items = tuple(result(context, f"{text}[{i}]", order, value=part) for i, part in parts)
    return Items(items, text)


def simple(text: str) -> bool:
    """Whether an expression is a name or an attribute, so that it may be repeated."""
    return text.replace(".", "").replace("_", "").isalnum()

"""The values that rules take and return: expressions of the generated code.

A value has the source text of an expression and the object that PyTorch computed there on the
example inputs. A tensor also has an ``order``, the order of its axes in the port.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Binding(IntEnum):
    """The precedence of an expression in Python, lowest first."""

    TUPLE = 0
    TERNARY = 1  # also lambda
    OR = 2
    AND = 3
    NOT = 4
    COMPARISON = 5
    BIT_OR = 6
    BIT_XOR = 7
    BIT_AND = 8
    SHIFT = 9
    SUM = 10
    PRODUCT = 11
    UNARY = 12
    POWER = 13
    ATOM = 14  # names, calls, subscripts, attributes and everything in brackets


ATOM = Binding.ATOM


def bound(value: "Value", least: int) -> str:
    """Returns the text of a value, in parentheses if its precedence is lower than ``least``."""
    text = text_of(value)
    return text if binding_of(value) >= least else f"({text})"


def text_of(value: "Value") -> str:
    """Returns the source text of any value."""
    if not isinstance(value, Items):
        return value.text
    if value.text is not None:
        return value.text
    texts = [bound(item, Binding.TERNARY) for item in value.items]
    if value.kind is list:
        return f"[{', '.join(texts)}]"
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def binding_of(value: "Value") -> int:
    """Returns the precedence of any value's text."""
    return ATOM if isinstance(value, Items) else value.binding


@dataclass(frozen=True)
class Tensor:
    """An expression whose value is a tensor.

    Attributes:
        text: the expression in the generated code.
        shape: PyTorch's shape on the example inputs.
        order: the order of the axes in the port: ``order[i]`` is PyTorch's axis that is axis i of
            the array, such as (0, 2, 3, 1) for channels-last images.
        dtype: PyTorch's dtype.
        binding: the precedence of the text.
        symbols: the texts of the sizes in PyTorch's order; None for an unknown size.
        origin: identifies the creation of the tensor while the network runs and its order can
            still be chosen; None otherwise.
    """

    text: str
    shape: tuple[int, ...]
    order: tuple[int, ...]
    dtype: "torch.dtype"
    binding: int = ATOM
    symbols: tuple[str | None, ...] = ()
    origin: Any = None

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def natural(self) -> bool:
        """Whether the axes are in PyTorch's order."""
        return self.order == natural(self.ndim)

    @property
    def our_shape(self) -> tuple[int, ...]:
        """The shape of the array in the port."""
        return tuple(self.shape[axis] for axis in self.order)

    def axis(self, dim: int) -> int:
        """Returns the axis in the port for PyTorch's ``dim``, which may be negative."""
        return self.order.index(dim % max(self.ndim, 1))

    def with_text(self, text: str, binding: int = ATOM) -> "Tensor":
        """Returns the tensor with another expression."""
        return replace(self, text=text, binding=binding)


@dataclass(frozen=True)
class Plain:
    """Any other expression: a number, a text, None, a slice, a module, a class, a function.

    Attributes:
        text: the expression in the generated code; for a slice the text in brackets, ``1:n``.
        value: the value on the example inputs.
        binding: the precedence of the text.
        known: whether ``value`` is known; False if the expression did not run.
        constant: whether the text is a literal, so that ``value`` holds for all inputs.
    """

    text: str
    value: Any
    binding: int = ATOM
    known: bool = True
    constant: bool = False


@dataclass(frozen=True)
class Items:
    """A list or a tuple of values.

    Attributes:
        items: the values; for a variable, expressions such as ``variable[0]``.
        text: the expression of the list; None if it is written item by item.
        kind: list or tuple.
    """

    items: tuple["Value", ...]
    text: str | None = None
    kind: type = tuple


Value = Tensor | Plain | Items
#: Rewrites an operation: ``(args, kwargs, context) -> result``.
Rule = Callable[[list[Value], dict[str, Value], "Context"], Value]


class Refused(Exception):
    """Raised for a construct that cannot be ported.

    Args:
        why: the reason, in a sentence.
        what_to_do: a suggestion for the user, in a sentence; empty without one.
    """

    def __init__(self, why: str, what_to_do: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.what_to_do = what_to_do


@dataclass
class Context:
    """The context of applying a rule.

    Attributes:
        result: PyTorch's result: a tensor or any structure; None if unknown.
        order: the preferred order of the result, or None. A rule may return another order, which
            is then converted.
        imports: the imports of the generated file, added by ``use``.
        layers: layers that an expression needs, such as dropout: constructor by attribute name.
        notes: remarks for the user.
        writing: whether source code is written; False while the network runs, when only the
            orders of results are used.
        wish: called with a tensor whose order can be chosen and the preferred order.
        taken: names that a new attribute must not have.
        constructing: whether the code runs only while the network is created.
    """

    result: Any = None
    order: tuple[int, ...] | None = None
    imports: set[tuple[str, str]] = field(default_factory=set)
    layers: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    writing: bool = True
    wish: Callable[[Tensor, tuple[int, ...]], None] = lambda tensor, order: None
    taken: set[str] = field(default_factory=set)
    constructing: bool = False

    def use(self, module: str, name: str = "") -> str:
        """Adds an import to the generated file.

        Args:
            module: "jnp", "jax", "lax", "nnx", "np", "math", "layers", "functional", or the full
                name of any other module, from which ``name`` is imported.
            name: the name that is used; empty for the module itself.

        Returns:
            The text to refer to it: ``jnp``, ``jnp.sum`` for ("jnp", "sum"), or ``name`` alone for
            a module with a dot in its name.
        """
        if "." in module:
            self.imports.add((module, name))
            return name
        self.imports.add((module, ""))
        return f"{module}.{name}" if name else module

    def call(self, function: str, *args: "Value | str", **kwargs: "Value | str") -> str:
        """Returns the text of a call, such as ``context.call("jnp.sum", x, axis="1")``."""
        self.use(function.partition(".")[0])
        given = [a if isinstance(a, str) else bound(a, Binding.TERNARY) for a in args]
        named = {
            k: a if isinstance(a, str) else bound(a, Binding.TERNARY) for k, a in kwargs.items()
        }
        return f"{function}({', '.join([*given, *(f'{k}={a}' for k, a in named.items())])})"

    def convert(self, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        """Converts a tensor to another order, by a transposition if one is needed."""
        if tensor.order == order:
            return tensor
        if tensor.origin is not None:
            self.wish(tensor, order)
        steps = tuple(tensor.order.index(axis) for axis in order)
        if steps == tuple(range(tensor.ndim)):
            text, binding = tensor.text, tensor.binding
        else:
            self.use("jnp")
            text = f"jnp.transpose({tensor.text}, {steps})"
            binding = ATOM
        return replace(tensor, text=text, order=order, binding=binding)

    def natural(self, tensor: Tensor) -> Tensor:
        """Converts a tensor to PyTorch's order of axes."""
        return self.convert(tensor, natural(tensor.ndim))

    def layer(self, name: str, constructor: str) -> str:
        """Adds a layer to the module, as an attribute that its constructor sets.

        Args:
            name: the name of the attribute; a number is appended if the name is taken.
            constructor: the constructor call, such as ``layers.Dropout(0.5, rngs=rngs)``.

        Returns:
            The text of the attribute, such as ``self.dropout``.
        """
        self.use(constructor.partition(".")[0])
        for number in range(1, 1000):
            attribute = name if number == 1 else f"{name}_{number}"
            if self.layers.get(attribute, None if attribute in self.taken else constructor) == (
                constructor
            ):
                self.layers[attribute] = constructor
                return f"self.{attribute}"
        raise AssertionError(name)

    def rngs(self) -> str:
        """Returns the text of the random streams: ``self.rngs``, which the constructor stores.

        In a constructor, and in functions that it calls, the text is the argument ``rngs``.
        """
        if self.constructing:
            return "rngs"
        return self.layer("rngs", "rngs")

    def training(self) -> str:
        """Returns the expression for training mode, which uses Flax's attribute."""
        return f"not {self.layer('deterministic', 'False')}"

    def note(self, text: str) -> None:
        """Adds a remark for the user, once."""
        if text not in self.notes:
            self.notes.append(text)


def natural(ndim: int) -> tuple[int, ...]:
    """Returns PyTorch's order of axes, ``(0, 1, 2, …)``."""
    return tuple(range(ndim))


def channels_last(ndim: int) -> tuple[int, ...]:
    """Returns the channels-last order, such as (0, 2, 3, 1) for [N, C, H, W]."""
    return (0, *range(2, ndim), 1)


def like(tensor: "torch.Tensor", text: str, order: Iterable[int] | None = None) -> Tensor:
    """Returns a value for a PyTorch tensor, in PyTorch's order by default."""
    shape = tuple(tensor.shape)
    return Tensor(text, shape, natural(len(shape)) if order is None else tuple(order), tensor.dtype)


def size(tensor: Tensor) -> int:
    """Returns the number of elements of a tensor."""
    return math.prod(tensor.shape)

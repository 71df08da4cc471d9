"""What a rule of the port takes and returns: expressions of the emitted code, with what is known.

An expression is known by its text and by what PyTorch had there when the network ran on the
example. A tensor also has an ``order``, which gives the order of its axes in our array.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class Binding(IntEnum):
    """How strongly an expression holds together: Python's precedence, weakest first."""

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
    ATOM = 14  # names, calls, subscripts, attributes, whatever has brackets


ATOM = Binding.ATOM


def bound(value: "Value", least: int) -> str:
    """The text of a value, in parentheses if it holds together less strongly than ``least``."""
    text = text_of(value)
    return text if binding_of(value) >= least else f"({text})"


def text_of(value: "Value") -> str:
    """The text of any value."""
    if not isinstance(value, Items):
        return value.text
    if value.text is not None:
        return value.text
    texts = [bound(item, Binding.TERNARY) for item in value.items]
    if value.kind is list:
        return f"[{', '.join(texts)}]"
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def binding_of(value: "Value") -> int:
    """The binding of any value's text."""
    return ATOM if isinstance(value, Items) else value.binding


@dataclass(frozen=True)
class Tensor:
    """A tensor.

    Attributes:
        text: the expression in the emitted code.
        shape: as PyTorch has it, in its order of axes; the example's numbers.
        order: ``order[i]`` is the axis of PyTorch's that our axis i holds: (0, 2, 3, 1) for images.
        dtype: PyTorch's.
        binding: of the text.
        symbols: the text of each size (PyTorch's order) where it is known; None elsewhere.
        origin: while the network runs, where the order is still free: what made the tensor.
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
        """How many axes it has."""
        return len(self.shape)

    @property
    def natural(self) -> bool:
        """Whether our axes are PyTorch's."""
        return self.order == natural(self.ndim)

    @property
    def our_shape(self) -> tuple[int, ...]:
        """The shape of our array."""
        return tuple(self.shape[axis] for axis in self.order)

    def axis(self, dim: int) -> int:
        """Our axis of PyTorch's dim, which may be negative."""
        return self.order.index(dim % max(self.ndim, 1))

    def with_text(self, text: str, binding: int = ATOM) -> "Tensor":
        """The same tensor by another expression."""
        return replace(self, text=text, binding=binding)


@dataclass(frozen=True)
class Plain:
    """Anything else: a number, a word, None, a slice, a module, a class, a function.

    Attributes:
        text: the expression in the emitted code; of a slice what is in the brackets, ``1:n``.
        value: what it was for the example.
        binding: of the text.
        known: whether ``value`` is known; False where the example did not come by.
        constant: whether the text is a literal, so that ``value`` is it for any input.
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
        items: the values; where the code has a variable for the list, as ``variable[0]``.
        text: the expression of the whole; None where it is written item by item.
        kind: list or tuple.
    """

    items: tuple["Value", ...]
    text: str | None = None
    kind: type = tuple


Value = Tensor | Plain | Items
#: ``(args, kwargs, context) -> result``. What an operation becomes.
Rule = Callable[[list[Value], dict[str, Value], "Context"], Value]


class Refused(Exception):
    """What cannot be ported.

    Args:
        why: a sentence.
        what_to_do: a sentence for the user.
    """

    def __init__(self, why: str, what_to_do: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.what_to_do = what_to_do


@dataclass
class Context:
    """What rules are handed besides the values.

    Attributes:
        result: what PyTorch returned; a tensor, or any structure; None where it is not known.
        order: the order that the result should have, where it was chosen: a new tensor may be made
            in it at once; any other order is converted.
        imports: what the emitted file imports, by ``use``.
        layers: layers that an expression needs, such as a dropout: attribute → its constructor.
        notes: what the user should know.
        writing: False while the network runs, when only orders count.
        wish: called with a tensor whose order is free and the order that it should have.
        taken: names that a new attribute must not have.
        constructing: whether this is code that runs only while the network is built.
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
        """The text of a module, or of a name in it, which the emitted file then imports.

        Args:
            module: "jnp", "jax", "lax", "nnx", "np", "math", "layers", "functional", or the full
                name of any other module, from which ``name`` is imported.
            name: what is used of it.

        Returns:
            ``jnp``, ``jnp.sum`` for ("jnp", "sum"), ``jaxnets.port.x`` → ``name`` alone.
        """
        if "." in module:
            self.imports.add((module, name))
            return name
        self.imports.add((module, ""))
        return f"{module}.{name}" if name else module

    def call(self, function: str, *args: "Value | str", **kwargs: "Value | str") -> str:
        """The text of a call: ``context.call("jnp.sum", x, axis="1")``."""
        self.use(function.partition(".")[0])
        given = [a if isinstance(a, str) else bound(a, Binding.TERNARY) for a in args]
        named = {
            k: a if isinstance(a, str) else bound(a, Binding.TERNARY) for k, a in kwargs.items()
        }
        return f"{function}({', '.join([*given, *(f'{k}={a}' for k, a in named.items())])})"

    def convert(self, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        """A tensor in another order, by a transposition where one is needed.

        Axes of size 1 may lie anywhere, so a reshape or nothing may do.
        """
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
        """A tensor in PyTorch's order of axes."""
        return self.convert(tensor, natural(tensor.ndim))

    def layer(self, name: str, constructor: str) -> str:
        """An attribute ``self.name`` of the module with a layer made in its constructor.

        Args:
            name: what to call it; a number is appended if the module has another of this name.
            constructor: its expression, such as ``layers.Dropout(0.5, rngs=rngs)``.

        Returns:
            The text of the attribute.
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
        """The random streams of the module: ``self.rngs``, which its constructor keeps.

        In a constructor, and in what it calls, they are the argument ``rngs``.
        """
        if self.constructing:
            return "rngs"
        return self.layer("rngs", "rngs")

    def training(self) -> str:
        """Whether the module is in training mode, by Flax's attribute."""
        return f"not {self.layer('deterministic', 'False')}"

    def note(self, text: str) -> None:
        """Tells the user something, once."""
        if text not in self.notes:
            self.notes.append(text)


def natural(ndim: int) -> tuple[int, ...]:
    """PyTorch's own order of axes."""
    return tuple(range(ndim))


def channels_last(ndim: int) -> tuple[int, ...]:
    """The order of images and the like: (0, 2, 3, 1) for [N, C, H, W]."""
    return (0, *range(2, ndim), 1)


def like(tensor: "torch.Tensor", text: str, order: Iterable[int] | None = None) -> Tensor:
    """A value for a tensor of PyTorch's, in PyTorch's order if none is given."""
    shape = tuple(tensor.shape)
    return Tensor(text, shape, natural(len(shape)) if order is None else tuple(order), tensor.dtype)


def size(tensor: Tensor) -> int:
    """How many elements a tensor has."""
    return math.prod(tensor.shape)

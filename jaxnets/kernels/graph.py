"""A traced function as a graph of operations, some of which can be replaced by a kernel's call.

Only this module depends on the structure of JAX's jaxprs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jax import lax
from jax.extend import core

from jaxnets.kernels.borrowed import Borrowed, CannotBorrowError
from jaxnets.kernels.marks import Mark, mark_of


@dataclass(eq=False, frozen=True)
class Value:
    """An array in a graph. Two values are equal only if they are the same object."""

    shape: tuple[int, ...]
    dtype: Any

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return len(self.shape)


@dataclass(eq=False, frozen=True)
class Number:
    """A literal in the traced function."""

    value: Any
    shape: tuple[int, ...] = ()


#: An input of an operation.
Operand = Value | Number


@dataclass(eq=False)
class Node:
    """One step of a computation: an operation of the traced function, or a kernel's call.

    Attributes:
        kind: the name of the operation.
        inputs: the values and literals that it reads.
        outputs: the values that it computes.
        run: a function that takes the inputs' arrays and returns the outputs'.
        parameters: the parameters of a traced operation.
        mark: the mark, if it is a call of a marked function.
        effects: whether it has side effects.
        about: a readable description of a kernel's call; empty for a traced operation.
        borrows: whether its first input may be ``Borrowed``.
        examples: the batch axis of each input and of each output, None for arrays without one; None
            if the examples cannot be computed separately.
    """

    kind: str
    inputs: Sequence[Operand]
    outputs: Sequence[Value]
    run: Callable[..., Sequence[Any]]
    parameters: dict[str, Any] = field(default_factory=dict)
    mark: Mark | None = None
    effects: bool = False
    about: str = ""
    borrows: bool = False
    examples: tuple[Sequence[int | None], Sequence[int | None]] | None = None


class Graph:
    """The operations of a traced function in order, with calls of ``jax.jit`` inlined.

    Args:
        traced: a closed jaxpr.
    """

    def __init__(self, traced: Any) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[Value, Any] = {}
        self._readers: defaultdict[Operand, list[Node | None]] = defaultdict(list)
        self._maker: dict[Operand, Node] = {}
        self._taken: set[Operand] = set()
        self.inputs = [_value(variable) for variable in traced.jaxpr.invars]
        self.outputs = self._inline(traced, self.inputs)
        for value in self.outputs:
            self._readers[value].append(None)  # so that no pattern fuses it with its reader

    def _inline(self, traced: Any, inputs: Sequence[Operand]) -> list[Operand]:
        known: dict[Any, Operand] = dict(zip(traced.jaxpr.invars, inputs, strict=True))
        for variable, constant in zip(traced.jaxpr.constvars, traced.consts, strict=True):
            known[variable] = value = _value(variable)
            self.constants[value] = constant

        def operand(atom: Any) -> Operand:
            return Number(atom.val) if isinstance(atom, core.Literal) else known[atom]

        for equation in traced.jaxpr.eqns:
            read = [operand(atom) for atom in equation.invars]
            # Functions of jax.nn are jitted. Inlined, their operations match the same patterns as
            # those that a user writes directly.
            if equation.primitive.name == "jit" and mark_of(equation) is None:
                made: Sequence[Operand] = self._inline(equation.params["jaxpr"], read)
            else:
                node = _node(equation, read)
                self._add(node)
                made = node.outputs
            known.update(zip(equation.outvars, made, strict=True))
        return [operand(atom) for atom in traced.jaxpr.outvars]

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        for value in node.inputs:
            self._readers[value].append(node)
        self._maker.update(dict.fromkeys(node.outputs, node))

    def maker(self, value: Operand) -> Node | None:
        """Returns the operation that computes a value; None for inputs, constants and literals."""
        return self._maker.get(value)

    def only_reader(self, value: Operand) -> Node | None:
        """Returns the only operation that reads a value; None if several do or a call replaces it.

        A kernel may fuse an operation with the one after it only if nothing else needs the value
        between them.
        """
        readers = self.readers(value)
        reader = readers[0] if len(readers) == 1 else None
        return reader if reader is not None and self.is_free(reader) else None

    def readers(self, value: Operand) -> Sequence[Node | None]:
        """Returns the operations that read a value; None stands for the outputs of the graph."""
        return self._readers.get(value, ())

    def is_free(self, node: Node) -> bool:
        """Whether no call replaces an operation yet."""
        return self._taken.isdisjoint(node.outputs)

    def take(self, call: Node) -> None:
        """Records that a call replaces the operations between its inputs and outputs."""
        waiting: list[Operand] = list(call.outputs)
        while waiting:
            value = waiting.pop()
            maker = self.maker(value)
            if value not in call.inputs and value not in self._taken and maker is not None:
                self._taken.update(maker.outputs)
                waiting += maker.inputs

    def depends(self, value: Operand, on: Sequence[Value]) -> bool:
        """Whether a value is one of the given ones, or depends on one of them."""
        seen, waiting = set(), [value]
        while waiting:
            one = waiting.pop()
            if one in on:
                return True
            node = self.maker(one)
            if node is not None and node not in seen:
                seen.add(node)
                waiting += node.inputs
        return False

    def origins(self, value: Operand) -> set[Operand]:
        """Returns the inputs, constants and literals from which a value is computed."""
        found, seen, waiting = set(), set(), [value]
        while waiting:
            node = self.maker(one := waiting.pop())
            if node is None:
                found.add(one)
            elif node not in seen:
                seen.add(node)
                waiting += node.inputs
        return found

    def run(self, calls: Iterable[Node], arrays: Sequence[Any]) -> list[Any]:
        """Computes the outputs.

        Operations that no output needs after the replacement are not run.

        Args:
            calls: the calls to run instead of the operations that compute the same values.
            arrays: the inputs.

        Raises:
            CannotBorrowError: if an input is ``Borrowed`` and an operation other than a kernel's
                call reads it.
        """
        makers = dict(self._maker)
        makers.update((value, call) for call in calls for value in call.outputs)
        known: dict[Operand, Any] = dict(zip(self.inputs, arrays, strict=True))
        known.update(self.constants.items())

        def array(operand: Operand) -> Any:
            return operand.value if isinstance(operand, Number) else known[operand]

        # Operations with side effects, such as prints, run even if no output needs them.
        roots = [node for node in self.nodes if node.effects]
        roots += [makers[value] for value in self.outputs if value in makers]
        for node in _in_order(roots, makers):
            made = _run(node, [array(operand) for operand in node.inputs])
            known.update(zip(node.outputs, made, strict=True))
        return [array(value) for value in self.outputs]


def _run(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    """Runs an operation on arrays, of which some may be ``Borrowed``."""
    borrowed = [isinstance(array, Borrowed) for array in arrays]
    if not any(borrowed) or (node.borrows and not any(borrowed[1:])):
        return node.run(*arrays)
    if _keeps_order(node):
        return [arrays[0].reshape(*node.outputs[0].shape)]
    raise CannotBorrowError(node.kind)


def _keeps_order(node: Node) -> bool:
    """Whether an operation keeps the row-major order of an array's elements in memory."""
    if node.kind == "transpose":
        shape = node.inputs[0].shape
        # Axes of size 1 may move without a change of the order in memory.
        moved = [axis for axis in node.parameters["permutation"] if shape[axis] > 1]
        return moved == sorted(moved)
    return node.kind == "reshape" and node.parameters["dimensions"] is None


def _in_order(roots: Iterable[Node], makers: dict[Operand, Node]) -> Iterator[Node]:
    """Yields the operations that the roots need, each after those that compute its inputs.

    It is a depth-first search with a stack, because graphs may be deeper than Python's recursion
    limit.
    """
    done: set[Node] = set()
    waiting = [(node, False) for node in roots][::-1]
    while waiting:
        node, ready = waiting.pop()
        if node in done:
            continue
        if ready:
            done.add(node)
            yield node
        else:
            waiting.append((node, True))
            waiting += [(makers[value], False) for value in node.inputs if value in makers]


def _value(variable: Any) -> Value:
    aval = variable.aval
    return Value(getattr(aval, "shape", ()), getattr(aval, "dtype", None))


def _node(equation: Any, inputs: Sequence[Operand]) -> Node:
    return Node(
        kind=equation.primitive.name,
        inputs=inputs,
        outputs=[_value(variable) for variable in equation.outvars],
        run=partial(_bind, equation),
        parameters=equation.params,
        mark=mark_of(equation),
        effects=bool(equation.effects),
    )


def _bind(equation: Any, *arrays: Any) -> Sequence[Any]:
    """Runs a traced operation unchanged, with its own differentiation rules."""
    given = equation.primitive.get_bind_params(equation.params)
    # The return type of ``get_bind_params`` depends on JAX's version.
    functions, parameters = given if isinstance(given, tuple) else ((), given)
    with equation.ctx.manager:  # restores the settings of the trace, such as Threefry's form
        made = equation.primitive.bind(*functions, *arrays, **parameters)
    return made if equation.primitive.multiple_results else [made]


def inner(node: Node) -> Any:
    """Returns the traced function that a scan or a checkpoint runs; None for other operations."""
    if node.kind == "scan":
        return node.parameters["jaxpr"]
    if node.kind in ("remat2", "checkpoint"):
        return core.ClosedJaxpr(node.parameters["jaxpr"], ())
    return None


def around(node: Node, function: Callable[..., list[Any]]) -> Callable[..., Sequence[Any]]:
    """Makes a scan or a checkpoint like a given one that runs another function.

    Args:
        node: an operation that has an ``inner`` function.
        function: a function of the same arrays, to run instead of the inner one.
    """
    given = node.parameters
    if node.kind != "scan":
        options = {name: given[name] for name in ("prevent_cse", "policy")}
        kept: Callable[..., Sequence[Any]] = jax.checkpoint(function, **options)
        return kept
    consts, carried = given["num_consts"], given["num_carry"]

    def loop(*arrays: Any) -> list[Any]:
        fixed, state = arrays[:consts], list(arrays[consts : consts + carried])

        def body(state: list[Any], each: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            made = function(*fixed, *state, *each)
            return made[:carried], made[carried:]

        options = {name: given[name] for name in ("length", "reverse", "unroll")}
        state, made = lax.scan(body, state, arrays[consts + carried :], **options)
        return [*state, *made]

    return loop


def is_whole(value: Operand) -> bool:
    """Whether an array has a static shape without empty axes."""
    return isinstance(value, Value) and all(isinstance(n, int) and n > 0 for n in value.shape)


def other_input(node: Node, value: Operand) -> Operand:
    """Returns the other input of an operation with two inputs."""
    first, second = node.inputs
    return first if second is value else second


def sizes_of(value: Operand) -> str:
    """Returns a readable shape, such as ``"64 × 28"``."""
    return " × ".join(map(str, value.shape)) if isinstance(value, Value) else "a number"


def is_relu(node: Node | None) -> bool:
    """Whether an operation is ``jax.nn.relu``, whose gradient at zero is zero."""
    if node is None or node.kind != "custom_jvp_call":
        return False
    # jax.nn.relu is a custom_jvp of a jit of ``max(x, 0)``. A plain ``max(x, 0)`` has another
    # gradient at zero, ½, and is not matched.
    traced = node.parameters["call_jaxpr"].jaxpr
    while len(traced.eqns) == 1 and traced.eqns[0].primitive.name == "jit":
        traced = traced.eqns[0].params["jaxpr"].jaxpr
    # Under ``shard_map``, a pvary makes the zero vary over devices as the array does.
    varied = [each for each in traced.eqns if each.primitive.name == "pvary"]
    others = [each for each in traced.eqns if each not in varied]
    if len(others) != 1 or others[0].primitive.name != "max":
        return False
    read = {variable: each.invars[0] for each in varied for variable in each.outvars}
    terms = [x if isinstance(x, core.Literal) else read.get(x, x) for x in others[0].invars]
    return any(isinstance(x, core.Literal) and x.val == 0 for x in terms)

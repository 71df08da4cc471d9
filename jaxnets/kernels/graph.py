"""A traced function as a graph of operations, some of which can be taken together.

All that depends on how JAX represents a traced function is in this module.
"""

from collections import Counter
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
    """An array in a graph, known by its shape and dtype."""

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
    """A number that is written in the traced function."""

    value: Any
    shape: tuple[int, ...] = ()


#: What an operation reads.
Operand = Value | Number


@dataclass(eq=False)
class Node:
    """Some operations that are run together: one of the traced ones, or a kernel's call.

    Attributes:
        kind: the name of the operation.
        inputs: what it reads.
        outputs: what it makes.
        run: takes the inputs' arrays and returns the outputs'.
        parameters: of a traced operation.
        mark: of a call of a marked function.
        effects: whether it does anything beside its outputs.
        about: what a kernel's call computes, for people; empty of a traced operation.
        borrows: whether its first input may be ``Borrowed``.
        examples: along which axis each input and each output has the examples of the batch, None
            of what has no such axis; None where the examples are not computed apart.
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
    """The operations of a traced function in order, calls of plain ``jax.jit`` written out."""

    def __init__(self, traced: Any) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[Value, Any] = {}
        self._readers: Counter[Operand] = Counter()
        self._reader: dict[Operand, Node] = {}
        self._maker: dict[Operand, Node] = {}
        self._taken: set[Operand] = set()
        self.inputs = [_value(variable) for variable in traced.jaxpr.invars]
        self.outputs = self._write_out(traced, self.inputs)
        self._readers.update(self.outputs)
        self._readers.update(self.outputs)  # an output has never a single reader

    def _write_out(self, traced: Any, inputs: Sequence[Operand]) -> list[Operand]:
        known: dict[Any, Operand] = dict(zip(traced.jaxpr.invars, inputs, strict=True))
        for variable, constant in zip(traced.jaxpr.constvars, traced.consts, strict=True):
            known[variable] = value = _value(variable)
            self.constants[value] = constant

        def operand(atom: Any) -> Operand:
            return Number(atom.val) if isinstance(atom, core.Literal) else known[atom]

        for equation in traced.jaxpr.eqns:
            read = [operand(atom) for atom in equation.invars]
            if equation.primitive.name == "jit" and mark_of(equation) is None:
                made: Sequence[Operand] = self._write_out(equation.params["jaxpr"], read)
            else:
                node = _node(equation, read)
                self._add(node)
                made = node.outputs
            known.update(zip(equation.outvars, made, strict=True))
        return [operand(atom) for atom in traced.jaxpr.outvars]

    def _add(self, node: Node) -> None:
        self.nodes.append(node)
        self._readers.update(node.inputs)
        self._reader.update(dict.fromkeys(node.inputs, node))
        self._maker.update(dict.fromkeys(node.outputs, node))

    def maker(self, value: Operand) -> Node | None:
        """The operation that makes a value; None of an input, a constant or a literal."""
        return self._maker.get(value)

    def only_reader(self, value: Operand) -> Node | None:
        """The operation that reads a value, if there is one alone, which no call has taken."""
        reader = self._reader[value] if self._readers[value] == 1 else None
        return reader if reader is not None and self.is_free(reader) else None

    def is_free(self, node: Node) -> bool:
        """Whether no call has taken the place of an operation."""
        return self._taken.isdisjoint(node.outputs)

    def take(self, call: Node) -> None:
        """Notes that a call takes the place of the operations between its inputs and outputs."""
        waiting: list[Operand] = list(call.outputs)
        while waiting:
            value = waiting.pop()
            maker = self.maker(value)
            if value not in call.inputs and value not in self._taken and maker is not None:
                self._taken.update(maker.outputs)
                waiting += maker.inputs

    def depends(self, value: Operand, on: Node) -> bool:
        """Whether a value follows from what an operation makes."""
        seen, waiting = set(), [value]
        while waiting:
            node = self.maker(waiting.pop())
            if node is on:
                return True
            if node is not None and node not in seen:
                seen.add(node)
                waiting += node.inputs
        return False

    def origins(self, value: Operand) -> set[Operand]:
        """The inputs, constants and numbers from which a value is computed."""
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

        Args:
            calls: what is run in place of the operations that make the same outputs.
            arrays: the inputs.

        Raises:
            CannotBorrowError: if an input is ``Borrowed`` and anything but a kernel reads it.
        """
        makers = dict(self._maker)
        makers.update((value, call) for call in calls for value in call.outputs)
        known: dict[Operand, Any] = dict(zip(self.inputs, arrays, strict=True))
        known.update(self.constants.items())

        def array(operand: Operand) -> Any:
            return operand.value if isinstance(operand, Number) else known[operand]

        roots = [node for node in self.nodes if node.effects]
        roots += [makers[value] for value in self.outputs if value in makers]
        for node in _in_order(roots, makers):
            made = _run(node, [array(operand) for operand in node.inputs])
            known.update(zip(node.outputs, made, strict=True))
        return [array(value) for value in self.outputs]


def _run(node: Node, arrays: Sequence[Any]) -> Sequence[Any]:
    """What an operation makes of arrays, of which some may be ``Borrowed``."""
    borrowed = [isinstance(array, Borrowed) for array in arrays]
    if not any(borrowed) or (node.borrows and not any(borrowed[1:])):
        return node.run(*arrays)
    if _keeps_order(node):
        return [arrays[0].reshape(*node.outputs[0].shape)]
    raise CannotBorrowError(node.kind)


def _keeps_order(node: Node) -> bool:
    """Whether an operation leaves an array's numbers where they are, in row-major order."""
    if node.kind == "transpose":
        shape = node.inputs[0].shape
        moved = [axis for axis in node.parameters["permutation"] if shape[axis] > 1]
        return moved == sorted(moved)
    return node.kind == "reshape" and node.parameters["dimensions"] is None


def _in_order(roots: Iterable[Node], makers: dict[Operand, Node]) -> Iterator[Node]:
    """The operations that the roots need, each after those that make its inputs."""
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
    """Runs a traced operation as it is, with its own rules of differentiation."""
    given = equation.primitive.get_bind_params(equation.params)
    functions, parameters = given if isinstance(given, tuple) else ((), given)  # by JAX's version
    with equation.ctx.manager:
        made = equation.primitive.bind(*functions, *arrays, **parameters)
    return made if equation.primitive.multiple_results else [made]


def inner(node: Node) -> Any:
    """The traced function that a loop or a checkpoint runs; None of other operations."""
    if node.kind == "scan":
        return node.parameters["jaxpr"]
    if node.kind in ("remat2", "checkpoint"):
        return core.ClosedJaxpr(node.parameters["jaxpr"], ())
    return None


def around(node: Node, function: Callable[..., list[Any]]) -> Callable[..., Sequence[Any]]:
    """A loop or a checkpoint that runs another function of the same arrays.

    Args:
        node: an operation that has an ``inner`` function.
        function: in its place.
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


def is_relu(node: Node | None) -> bool:
    """Whether an operation is ``jax.nn.relu``, whose gradient at zero is zero."""
    if node is None or node.kind != "custom_jvp_call":
        return False
    traced = node.parameters["call_jaxpr"].jaxpr
    while len(traced.eqns) == 1 and traced.eqns[0].primitive.name == "jit":
        traced = traced.eqns[0].params["jaxpr"].jaxpr
    # under shard_map, the zero varies by device as the array does
    varied = [each for each in traced.eqns if each.primitive.name == "pvary"]
    others = [each for each in traced.eqns if each not in varied]
    if len(others) != 1 or others[0].primitive.name != "max":
        return False
    read = {variable: each.invars[0] for each in varied for variable in each.outvars}
    terms = [x if isinstance(x, core.Literal) else read.get(x, x) for x in others[0].invars]
    return any(isinstance(x, core.Literal) and x.val == 0 for x in terms)

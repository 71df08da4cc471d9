"""Builds an ONNX graph."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from jaxnets.arrays import InputError
from jaxnets.export.program import BATCH
from jaxnets.kernels.graph import Number, Operand, Value
from jaxnets.optional import require

#: The version of ONNX's operators, and the version of the file format.
OPSET, IR_VERSION = 18, 9

#: An array in a graph: its values if they are known, else its name.
Held = np.ndarray | str


class Builder:
    """Collects the nodes of a graph, or of a graph within a node.

    Args:
        outer: the builder of the graph whose node contains this graph; None for the main graph.
    """

    def __init__(self, outer: "Builder | None" = None) -> None:
        self.onnx = require("onnx", extra="onnx", feature="an ONNX file")
        self.nodes: list[Any] = []
        self.held: dict[Operand, Held] = {}
        self._outer = outer
        self.initializers: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._numbers: Iterator[int] = itertools.count() if outer is None else outer._numbers
        self._batch: str | None = None

    def fresh(self, word: str = "value") -> str:
        """Returns a name that no other array of the model has."""
        return f"{word}_{next(self._numbers)}"

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns the name of the output."""
        return self.add_several(kind, 1, *inputs, **attributes)[0]

    def add_several(self, kind: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Adds a node, and returns the names of its outputs."""
        names = [self.fresh(kind) for _ in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, names, **attributes))
        return names

    def constant(self, array: Any, dtype: Any = None) -> str:
        """Adds a constant, and returns its name; equal constants are stored once."""
        if self._outer is not None:
            return self._outer.constant(array, dtype)
        # reshaped because ascontiguousarray makes a scalar an array [1]
        array = np.ascontiguousarray(array, dtype).reshape(np.shape(array))
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self.fresh("constant")
            tensor = self.onnx.numpy_helper.from_array(array, self._constants[key])
            self.initializers.append(tensor)
        return self._constants[key]

    def integers(self, *numbers: int) -> str:
        """Adds a constant vector of int64, for shapes and axes, and returns its name."""
        return self.constant(numbers, np.int64)

    def value(self, operand: Operand) -> Held:
        """Returns an array's values if they are known, else its name."""
        if isinstance(operand, Number):
            found = np.asarray(operand.value)
            return found.astype(jax.dtypes.canonicalize_dtype(found.dtype))
        here: Builder | None = self
        while here is not None and operand not in here.held:
            here = here._outer
        assert here is not None
        return here.held[operand]

    def name(self, operand: Operand) -> str:
        """Returns the name of an array; known values become a constant."""
        value = self.value(operand)
        return value if isinstance(value, str) else self.constant(value)

    def type_of(self, dtype: Any) -> int:
        """Returns ONNX's number of a dtype.

        Raises:
            InputError: if ONNX does not have the dtype.
        """
        try:
            return int(self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError("model", "dtypes that ONNX supports", str(dtype)) from error

    def cast(self, name: str, dtype: Any) -> str:
        """Casts an array to a dtype, and returns the name of the result."""
        return self.add("Cast", name, to=self.type_of(dtype))

    def shape(self, sizes: Sequence[Any]) -> str:
        """Returns the name of a shape, int64 [axes]; sizes may be multiples of the batch size."""
        if not any(map(export.is_symbolic_dim, sizes)):
            return self.integers(*sizes)
        return self.add("Concat", *map(self._size, sizes), axis=0)

    def _size(self, size: Any) -> str:
        if not export.is_symbolic_dim(size):
            return self.integers(size)
        factor = multiple(size)
        return self.batch if factor == 1 else self.add("Mul", self.batch, self.integers(factor))

    @property
    def batch(self) -> str:
        """The name of the number of examples, int64 [1]."""
        if self._outer is not None:
            return self._outer.batch
        assert self._batch is not None
        return self._batch

    def read_batch(self, of: str) -> None:
        """Reads the number of examples from the first axis of an array."""
        shape = self.add("Shape", of)
        self._batch = self.add("Gather", shape, self.integers(0), axis=0)

    def reshape(self, name: str, sizes: Sequence[Any]) -> str:
        """Reshapes an array, and returns the name of the result."""
        symbols = [export.is_symbolic_dim(size) for size in sizes]
        if symbols.count(True) == 1 and 0 not in sizes:
            pairs = zip(sizes, symbols, strict=True)
            sizes = [-1 if symbol else size for size, symbol in pairs]
        empty = {"allowzero": 1} if 0 in sizes else {}
        return self.add("Reshape", name, self.shape(sizes), **empty)

    def transpose(self, name: str, order: Sequence[int]) -> str:
        """Transposes an array, and returns the name of the result."""
        if list(order) == sorted(order):
            return name
        return self.add("Transpose", name, perm=list(order))

    def outputs(self, operands: Sequence[Operand], names: Sequence[str] | None = None) -> list[Any]:
        """Declares the outputs of a graph, each with a new name or a name of ``names``."""
        made = []
        for place, operand in enumerate(operands):
            name = self.fresh("result") if names is None else names[place]
            node = self.onnx.helper.make_node("Identity", [self.name(operand)], [name])
            self.nodes.append(node)
            made.append(self.declared(name, operand))
        return made

    def declared(self, name: str, operand: Operand) -> Any:
        """Returns ONNX's declaration of an array, with its dtype and shape."""
        if isinstance(operand, Value):
            dtype, shape = operand.dtype, operand.shape
        else:
            known = self.value(operand)
            dtype, shape = known.dtype, known.shape  # type: ignore[union-attr]
        sizes = [_word(size) if export.is_symbolic_dim(size) else size for size in shape]
        return self.onnx.helper.make_tensor_value_info(name, self.type_of(dtype), sizes)


def _word(size: Any) -> str:
    return str(size).replace("*", "_times_")


def multiple(size: Any) -> int:
    """Returns the factor of a symbolic size that is a multiple of the batch size.

    Raises:
        InputError: if the size is not a multiple.
    """
    (symbol,) = export.symbolic_shape(BATCH, scope=size.scope)
    factor = size // symbol
    if not isinstance(factor, int) or factor * symbol != size:
        expected = "a network whose sizes are numbers or multiples of the batch size"
        raise InputError("model", expected, f"the size {size}")
    return factor

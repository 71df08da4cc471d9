"""Hashes of computations: SHA-256 of a jaxpr's structure, stable across processes.

A hash of the printed jaxpr would depend on printing options, variable names and memory addresses.
Here variables are represented by the order in which they are bound, arrays by their bytes, and
functions by their code and the values that they close over. Names, source locations, addresses and
devices are left out.
"""

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

# Parameters of primitives that do not affect the results.
_IDLE = {
    *("name", "debug", "debug_info", "inline", "keep_unused", "donated_invars"),
    *("in_shardings", "out_shardings", "in_layouts", "out_layouts", "compiler_options_kvs"),
    *("resource_env", "ctx_mesh", "cost_estimate", "backend", "device"),
}
# Their differentiation rules are left out: they appear as equations where a gradient is taken.
_WITH_RULES = ("custom_jvp_call", "custom_vjp_call")
_PLAIN = bool | int | float | complex | str | bytes | None
_COMMON = {bool, int, str, type(None)}  # cached by equality; not floats, because 0.0 == -0.0
_DEEPEST = 30


def digest(function: Callable[..., Any], *arguments: Any) -> str:
    """Hashes a function's jaxpr.

    Args:
        function: a function of arrays.
        arguments: the arguments, pytrees of arrays or ``jax.ShapeDtypeStruct``.
    """
    with jax.disable_jit(False):
        # A new function, because JAX caches the jaxpr of a function that it has traced.
        traced = jax.make_jaxpr(lambda *given: function(*given))(*arguments)
    return _Digest().of(traced).hex()[:16]


def digest_of(value: Any) -> str:
    """Hashes a value: arrays, numbers, and containers of them."""
    return _Digest().of(value).hex()[:16]


def primitives(traced: Any) -> Iterator[str]:
    """Yields the names of the primitives in a jaxpr and its inner jaxprs."""
    if isinstance(traced, tuple | list):
        for part in traced:
            yield from primitives(part)
    elif _is_closed(traced):
        yield from primitives(traced.jaxpr)
    elif _is_open(traced):
        for equation in traced.eqns:
            yield equation.primitive.name
            yield from primitives(list(equation.params.values()))


class _Digest:
    """Computes the SHA-256 of a value from those of its parts."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}  # hashes of jaxprs by id, as many occur repeatedly
        self._alive: list[Any] = []  # keeps these jaxprs alive, so that their ids stay unique
        self._within: set[int] = set()  # ids of enclosing values, to end cycles

    def of(self, value: Any) -> bytes:
        if type(value) in _COMMON:
            return _common(type(value).__name__, value)
        if isinstance(value, _PLAIN) and not isinstance(value, enum.Enum):
            return _sum(type(value).__name__, _bytes(value))
        if type(value) not in (dict, list, tuple):  # the most frequent types skip these checks
            if _is_closed(value) or _is_open(value):
                return self._computation(value)
            if _is_array(value):
                return self._array(value)
        # A cycle, or a structure so deep that its content is not worth hashing.
        if id(value) in self._within or len(self._within) > _DEEPEST:
            return _sum("within", b"")
        self._within.add(id(value))
        try:
            return self._composed(value)
        finally:
            self._within.discard(id(value))

    def _composed(self, value: Any) -> bytes:
        """Hashes a value that consists of other values."""
        if isinstance(value, dict | Mapping):
            pairs = [self.of(key) + self.of(each) for key, each in value.items()]
            return _sum("mapping", *sorted(pairs))  # independent of the order of insertion
        name = "sequence" if type(value) in (tuple, list) else _qualified(type(value))
        if isinstance(value, tuple | list):
            return _sum(name, *map(self.of, value))
        if isinstance(value, enum.Enum):
            return _sum(name, value.name.encode())
        if isinstance(value, np.dtype):
            return _sum("dtype", value.name.encode())
        if isinstance(value, type):
            return _sum("type", _qualified(value).encode())
        if isinstance(value, jax.core.AbstractValue):
            return self._kind(value)
        if isinstance(value, set | frozenset):
            return _sum("set", *sorted(map(self.of, value)))
        if isinstance(value, jax.sharding.NamedSharding):
            return _sum(name, self.of([value.mesh, value.spec]))
        if isinstance(value, jax.sharding.Sharding):
            return _sum(name)
        if isinstance(value, jax.sharding.Mesh | jax.sharding.AbstractMesh):
            return _sum("mesh", self.of([value.axis_names, value.axis_sizes, value.axis_types]))
        if isinstance(value, jax.tree_util.PyTreeDef):
            return _sum("tree", self.of([value.num_leaves, value.num_nodes]))
        if callable(value):
            return self._function(value)
        return _sum(name, self.of(_content(value)))

    def _computation(self, value: Any) -> bytes:
        if id(value) not in self._known:
            self._alive.append(value)
            closed = _is_closed(value)
            jaxpr, constants = (value.jaxpr, value.consts) if closed else (value, ())
            self._known[id(value)] = self._equations(jaxpr, constants)
        return self._known[id(value)]

    def _equations(self, jaxpr: Any, constants: Any) -> bytes:
        # JAX puts a constant either into a constvar or into the equations as a literal, depending
        # on version and context. Both are hashed as the value.
        known = {id(v): self.of(c) for v, c in zip(jaxpr.constvars, constants, strict=False)}
        numbers: dict[int, int] = {}

        def atom(each: Any) -> bytes:
            if isinstance(each, core.Literal):
                return self._literal(each)
            return known.get(id(each)) or _variable(numbers.get(id(each)))

        def bind(variable: Any) -> bytes:
            numbers[id(variable)] = len(numbers)
            return self._kind(variable.aval)

        free = [each for each in jaxpr.constvars if id(each) not in known]
        parts = [bind(variable) for variable in (*free, *jaxpr.invars)]
        for equation in jaxpr.eqns:
            parts += [equation.primitive.name.encode(), *map(atom, equation.invars)]
            parts += [self._parameters(equation), *map(bind, equation.outvars)]
        return _sum("computation", *parts, *map(atom, jaxpr.outvars))

    def _parameters(self, equation: Any) -> bytes:
        name, given = equation.primitive.name, equation.params
        parameters = {key: value for key, value in given.items() if key not in _IDLE}
        if name.startswith(_WITH_RULES):
            parameters = {key: value for key, value in parameters.items() if not callable(value)}
        # This setting changes the random numbers but is not a parameter of the primitive.
        if name.startswith(("random_", "threefry")):
            parameters["partitionable"] = equation.ctx.threefry_partitionable
        return self.of(parameters)

    def _kind(self, kind: Any) -> bytes:
        """Hashes the abstract value of a variable: its dtype, shape and weak type."""
        if not hasattr(kind, "dtype"):
            inner = getattr(kind, "inner_aval", None)
            return _sum(type(kind).__name__, b"" if inner is None else self._kind(inner))
        weak = getattr(kind, "weak_type", False)
        return _array_kind(kind.dtype, tuple(map(_size, kind.shape)), weak)

    def _literal(self, literal: Any) -> bytes:
        dtype = getattr(literal.aval, "dtype", None)
        if dtype is None or not isinstance(dtype, np.dtype):
            return self.of(literal.val)
        return self._array(np.asarray(literal.val, dtype))

    def _array(self, array: Any) -> bytes:
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            kind = str(jax.random.key_impl(array))
            return _sum("keys", kind.encode(), self._array(jax.random.key_data(array)))
        plain = np.asarray(array)
        shape = self.of([plain.dtype, [*plain.shape]])
        if plain.dtype == object:
            return _sum("objects", shape, self.of(plain.tolist()))
        return _sum("numbers", shape, plain.tobytes())

    def _function(self, function: Any) -> bytes:
        """Hashes a function by its name, code, and the immutable values it closes over."""
        if isinstance(function, functools.partial):
            given = [*function.args, *sorted(function.keywords.items())]
            return _sum("partial", self.of(function.func), *map(self._fixed, given))
        if isinstance(function, types.MethodType):
            return _sum("method", self.of(function.__func__), self._fixed(function.__self__))
        if isinstance(function, types.FunctionType):
            cells = [_cell(cell) for cell in function.__closure__ or ()]
            defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
            made_with = map(self._fixed, [*cells, *defaults])
            code = self.of([*_code(function.__code__)])
            return _sum("function", _qualified(function).encode(), code, *made_with)
        if hasattr(function, "__wrapped__"):
            return _sum("wrapped", self.of(function.__wrapped__))
        if isinstance(function, types.BuiltinFunctionType):
            return _sum("function", _qualified(function).encode())
        return self._fixed(function)

    def _fixed(self, value: Any) -> bytes:
        """Hashes a value that a function holds; of mutable objects only the type.

        The content of a mutable object may change during a run, and with it the hash.
        """
        if isinstance(value, tuple):
            return _sum("tuple", *map(self._fixed, value))
        fixed = isinstance(value, _PLAIN | enum.Enum | np.generic | jax.Array | frozenset | type)
        function = types.FunctionType | types.MethodType | functools.partial
        if fixed or isinstance(value, function):
            return self.of(value)
        name = _qualified(type(value)).encode()
        if not dataclasses.is_dataclass(value) or isinstance(value, type):
            return _sum("object", name)
        return _sum("object", name, *map(self._fixed, _content(value).values()))


def _sum(kind: str, *parts: bytes) -> bytes:
    """Hashes parts with their lengths, so that different lists of parts differ in their bytes."""
    total = hashlib.sha256(kind.encode())
    for part in parts:
        total.update(b"%d:" % len(part))
        total.update(part)
    return total.digest()


# A jaxpr has thousands of equations, but few distinct values of these kinds.


@functools.lru_cache(maxsize=10_000)
def _common(kind: str, value: bool | int | str | None) -> bytes:
    return _sum(kind, _bytes(value))


@functools.lru_cache(maxsize=10_000)
def _variable(number: int | None) -> bytes:
    return _sum("variable", str(number).encode())


@functools.lru_cache(maxsize=10_000)
def _array_kind(dtype: Any, shape: tuple[int | str, ...], weak: bool) -> bytes:
    return _sum("array", _Digest().of([str(dtype), [*shape], weak]))


def _bytes(value: Any) -> bytes:
    if isinstance(value, float | complex):  # bytes distinguish 0.0 from -0.0, and NaNs
        return np.asarray(value).tobytes()
    return value if isinstance(value, bytes) else str(value).encode(errors="surrogatepass")


def _size(size: Any) -> Any:
    return size if isinstance(size, int) else str(size)


def _qualified(named: Any) -> str:
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}"


def _content(value: Any) -> dict[str, Any]:
    """Returns the attributes of an object of unknown type."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return found | getattr(value, "__dict__", {})


def _slots(kind: type) -> list[str]:
    given = kind.__dict__.get("__slots__", ())
    names = [given] if isinstance(given, str) else list(given)
    return [name for name in names if name not in ("__weakref__", "__dict__")]


def _code(code: types.CodeType) -> Iterator[Any]:
    """Yields a code object's bytecode, names and numbers, without docstrings and line numbers."""
    yield from (code.co_code, code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        elif isinstance(constant, int | float | complex):
            yield constant


def _cell(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


def _is_closed(value: Any) -> bool:
    return isinstance(value, core.ClosedJaxpr)


def _is_open(value: Any) -> bool:
    return isinstance(value, core.Jaxpr)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic | jax.Array) or (
        not isinstance(value, type)
        and all(hasattr(value, name) for name in ("__array__", "dtype", "shape"))
    )

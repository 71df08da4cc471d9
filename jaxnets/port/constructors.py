"""Writes constructors that create the objects of a class."""

import base64
import enum
import inspect
import itertools
import math
import re
import types
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.port.dtypes import jax_dtype
from jaxnets.port.instances import (
    CHILDREN,
    Instances,
    array,
    base_layer,
    container,
    only,
    texts_of_layers,
)
from jaxnets.port.making import Constant, Made, Node, Path, key
from jaxnets.port.names import is_einops
from jaxnets.port.observe import leaf
from jaxnets.port.sources import is_users
from jaxnets.port.values import ATOM, Context, Items, Plain, Refused, Value

if TYPE_CHECKING:
    from jaxnets.port.rewrite import Renderer

_LEAST_REPEATS = 3
_WRITTEN = 64  # largest size of an array that is written as a list of numbers
_LINE, _MOST_LETTERS = 80, 40_000  # line length and largest length of a compressed array
_SMALL = 64  # largest size of an initial value that is written as a list of numbers
_GROUPS = {
    "Sequential": "layers.Sequential",
    "ModuleList": "nnx.List",
    "ModuleDict": "layers.ModuleDict",
    "ParameterList": "nnx.List",
    "ParameterDict": "nnx.Dict",
}
_NUMBER = re.compile(r"(?<![\w.\-])\d+(?![\w.])")


class Constructor:
    """Writes the constructor of one class.

    Args:
        renderer: the renderer of the class.
        instances: the objects of the network.
        cls: the class.
    """

    def __init__(self, renderer: "Renderer", instances: Instances, cls: type) -> None:
        self.renderer, self.instances, self.cls = renderer, instances, cls
        self.context: Context = renderer.context()
        self.taken = instances.signature(cls)
        self.written: dict[int, str] = {}  # the texts of layers that the object has already, by id

    def text(self, added: str) -> str | None:
        """Returns the text of the constructor, or None if its body is empty.

        Args:
            added: further lines of the body, which set attributes that methods need.
        """
        tree = self.instances.first(self.cls)
        lines = self._super(tree)
        inside = container(self.cls) is not None
        for name, arg in tree.args.items():
            if not name.startswith("argument.") and not (inside and name == CHILDREN):
                text = self.node(arg, (name,))
                module = tree.value._modules.get(name)
                if module is not None:
                    self.written = texts_of_layers(module, f"self.{name}") | self.written
                named = name.isidentifier()
                lines.append(
                    f"self.{name} = {text}" if named else f'setattr(self, "{name}", {text})'
                )
        body = "".join(f"\n        {line}" for line in lines) + added
        if not body:
            return None
        rngs = re.search(r"(?<![\w.])rngs\b(?!\s*:)", body) is not None
        self.renderer.rngs = self.renderer.rngs or rngs
        given = ["self", *map(self._parameter, self.taken.parameters)]
        if rngs:
            given += ["*", "rngs"]
        return f"def __init__({', '.join(given)}):{body}"

    def _parameter(self, one: Any) -> str:
        return one.name if one.default is None else f"{one.name}={self.node(one.default)}"

    def _super(self, tree: Made) -> list[str]:
        """Returns the call of the base class's constructor, if the base is a layer or container."""
        base = base_layer(self.cls)
        if base is not None:
            start = "argument."
            given = {n.removeprefix(start): v for n, v in tree.args.items() if n.startswith(start)}
            paths: dict[str, Path] = {name: (start + name,) for name in given}
            made = self._layer(base, given, paths, tree.value)
            return [re.sub(r"^[\w.]+\(", "super().__init__(", made)]
        if container(self.cls) is None:
            return []
        children = tree.args[CHILDREN]
        if (CHILDREN,) not in self.taken.texts:
            return [f"super().__init__{self._inside(children, (CHILDREN,))}"]
        star = "*" if _numbered(children) else ""
        return [f"super().__init__({star}{self.taken.texts[(CHILDREN,)]})"]

    # Texts of trees.

    def node(self, node: Node, path: Path = ()) -> str:
        """Returns the source text that creates a value.

        Args:
            node: the tree of the value.
            path: the path of the node in the tree of the class; empty for other trees.
        """
        if isinstance(node, Made) and id(node.value) in self.written:
            return self.written[id(node.value)]
        if path and path in self.taken.texts:
            return self.taken.texts[path]
        if isinstance(node, Constant):
            return self._constant(node.value)
        write = getattr(self, f"_{node.head[0]}_text")
        text: str = write(node, path)
        return text

    def _args(self, node: Made, path: Path) -> dict[str, str]:
        inner = {name: (*path, name) if path else () for name in node.args}
        return {name: self.node(arg, inner[name]) for name, arg in node.args.items()}

    def _layer_text(self, node: Made, path: Path) -> str:
        paths = {name: (*path, name) if path else () for name in node.args}
        return self._layer(node.head[1], node.args, paths, node.value)

    def _layer(self, kind: type, args: dict[str, Node], paths: dict[str, Path], module: Any) -> str:
        """Returns the constructor call of a layer of torch.nn, without default arguments."""
        rule, standard = leaf(kind), _standard(kind)
        by_place: list[Value] = []
        by_name: dict[str, Value] = {}
        for name, arg in args.items():
            path = paths[name]
            fixed = path not in self.taken.texts
            if fixed and name in standard and key(arg) == key(Constant(standard[name])):
                continue
            value = self._value(arg, path)
            if name in standard or by_name or is_einops(kind):
                by_name[name] = value
            else:
                by_place.append(value)
        self.context.result = module
        made = rule.construct(by_place, by_name, self.context)
        assert isinstance(made, Plain)
        return made.text

    def _value(self, node: Node, path: Path) -> Value:
        """Returns an argument as a ``Value`` for rules."""
        text = self.node(node, path)
        if isinstance(node, Made) and node.head in (("tuple",), ("list",)):
            inner = [
                self._value(arg, (*path, name) if path else ()) for name, arg in node.args.items()
            ]
            values = tuple(inner)
            if path not in self.taken.texts:
                return Items(values, None, tuple if node.head == ("tuple",) else list)
        value = node.value
        if isinstance(node, Made) and node.head == ("tuple",):
            value = tuple(getattr(arg, "value", None) for arg in node.args.values())
        literal = isinstance(node, Constant) and path not in self.taken.texts
        return Plain(text, value, ATOM, constant=literal)

    def _class_text(self, node: Made, path: Path) -> str:
        cls: type = node.head[1]
        texts = self._args(node, path)
        given = []
        for name, text in texts.items():
            standard = node.defaults.get(name, inspect.Parameter.empty)
            fixed = not path or (*path, name) not in self.taken.texts
            if standard is inspect.Parameter.empty:
                given.append(text)
            elif not fixed or key(node.args[name]) != key(Constant(standard)):
                given.append(f"{name}={text}")
        if self.renderer.class_needs(cls):
            given.append("rngs=rngs")
        return f"{self._named(cls)}({', '.join(given)})"

    def _named(self, value: Any) -> str:
        name = self.instances.name(value) if isinstance(value, type) else value.__name__
        self.renderer.job.reached[name] = value
        return name

    def _group_text(self, node: Made, path: Path) -> str:
        kind: str = node.head[1]
        place = (*path, CHILDREN) if path else ()
        name = self.context.use(*_GROUPS[kind].split("."))
        return f"{name}{self._inside(node.args[CHILDREN], place)}"

    def _inside(self, node: Node, path: Path) -> str:
        """Returns the children of a container as arguments in parentheses."""
        assert isinstance(node, Made)
        if path in self.taken.texts:
            star = "*" if _numbered(node) and node.head == ("children", "Sequential") else ""
            return f"({star}{self.taken.texts[path]})"
        if not _numbered(node):
            return f"({self.node(node, path)})"
        parts = _repeated(list(self._args(node, path).values()))
        if node.head == ("children", "Sequential"):
            return f"({', '.join(parts)})"
        if len(parts) == 1 and parts[0].startswith("*("):
            return parts[0][1:]
        return f"([{', '.join(parts)}])"

    def _children_text(self, node: Made, path: Path) -> str:
        """Returns the children of a container as a list or a dict."""
        texts = self._args(node, path)
        if _numbered(node):
            return f"[{', '.join(_repeated(list(texts.values())))}]"
        return "{" + ", ".join(f'"{name}": {text}' for name, text in texts.items()) + "}"

    def _tuple_text(self, node: Made, path: Path) -> str:
        texts = list(self._args(node, path).values())
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"

    def _list_text(self, node: Made, path: Path) -> str:
        return f"[{', '.join(self._args(node, path).values())}]"

    def _dict_text(self, node: Made, path: Path) -> str:
        names, texts = node.head[1], self._args(node, path).values()
        pairs = zip(map(self._constant, names), texts, strict=True)
        return "{" + ", ".join(f"{name}: {text}" for name, text in pairs) + "}"

    def _partial_text(self, node: Made, path: Path) -> str:
        partial = self.context.use("functools", "partial")
        texts = self._args(node, path).items()
        given = [t if n == "function" or n.isdigit() else f"{n}={t}" for n, t in texts]
        return f"{partial}({', '.join(given)})"

    def _namespace_text(self, node: Made, path: Path) -> str:
        namespace = self.context.use("types", "SimpleNamespace")
        return f"{namespace}({', '.join(f'{n}={t}' for n, t in self._args(node, path).items())})"

    def _object_text(self, node: Made, path: Path) -> str:
        given = ", ".join(f"{n}={t}" for n, t in self._args(node, path).items())
        return f"{self._named(node.head[1])}({given})"

    def _text_text(self, node: Made, path: Path) -> str:
        return str(node.head[1])

    def _unknown_text(self, node: Made, path: Path) -> str:
        raise Refused(f"nn.{node.head[1].__name__} has no counterpart")

    # Arrays.

    def _variable_text(self, node: Made, path: Path) -> str:
        kind = node.head[1]
        self.context.use("nnx")
        inner = node.args["value"]
        place = (*path, "value") if path else ()
        if isinstance(inner, Made) and inner.head[0] == "initial":
            return f"{kind}({self._initial(inner, place, random=kind == 'nnx.Param')})"
        return f"{kind}({self.node(inner, place)})"

    def _initial(self, node: Made, path: Path, random: bool) -> str:
        value = node.value
        constant = value.numel() and only(value) is not None and not value.is_complex()
        if not constant and not random and value.numel() <= _SMALL:
            return self.node(array(value))
        shape = self.node(node.args["shape"], (*path, "shape") if path else ())
        if not constant and random and value.numel():
            self.context.use("jax")
            spread = float(f"{value.float().std().item():.1g}")
            return f"{spread} * jax.random.normal(rngs.params(), {shape})"
        return self._filled(only(value) if constant else 0, shape, value.dtype)

    def _filled_text(self, node: Made, path: Path) -> str:
        shape = self.node(node.args["shape"], (*path, "shape") if path else ())
        _, dtype, number = node.head
        return self._filled(number, shape, dtype)

    def _filled(self, number: Any, shape: str, dtype: Any) -> str:
        self.context.use("jnp")
        kind = self._dtype(dtype)
        if number in (0, 1):
            return f"jnp.{'ones' if number else 'zeros'}({shape}{kind})"
        return f"jnp.full({shape}, {self._constant(number)}{kind})"

    def _range_text(self, node: Made, path: Path) -> str:
        self.context.use("jnp")
        start, stop, step = self._args(node, path).values()
        kind = self._dtype(node.head[1], "int64")
        ends = stop if (start, step) == ("0", "1") else f"{start}, {stop}"
        return f"jnp.arange({ends}{'' if step == '1' else f', {step}'}{kind})"

    def _array_text(self, node: Made, path: Path) -> str:
        self.context.use("jnp")
        dtype = node.head[1]
        numbers = node.value
        if numbers.size > _WRITTEN:
            return self._packed(numbers, dtype)
        standard = str(dtype) if str(dtype) in ("torch.int64", "torch.bool") else "torch.float32"
        kind = self._dtype(dtype, standard.removeprefix("torch."))
        return f"jnp.array({self._constant(numbers.tolist())}{kind})"

    def _packed(self, numbers: Any, dtype: Any) -> str:
        """Returns the expression of a large array, whose bytes are compressed and encoded."""
        if numbers.dtype.kind in "iu":
            numbers = numbers.astype(np.min_scalar_type(int(numbers.max()) or 1))
            numbers = numbers if numbers.min() >= 0 else numbers.astype(np.int64)
        elif numbers.dtype.kind == "f":
            numbers = numbers.astype(np.float64 if dtype.itemsize > 4 else np.float32)
        letters = base64.b85encode(zlib.compress(numbers.tobytes(), 9)).decode()
        if len(letters) > _MOST_LETTERS:
            raise Refused(f"a buffer of {numbers.size} numbers that is not in the state_dict")
        parts = [letters[i : i + _LINE] for i in range(0, len(letters), _LINE)]
        text = " ".join(f'"{part}"' for part in parts)
        self.context.use("np")
        unpacked = f"{self.context.use('zlib', 'decompress')}"
        unpacked += f"({self.context.use('base64', 'b85decode')}({text}))"
        array = f"np.frombuffer({unpacked}, np.{numbers.dtype.name}).reshape({numbers.shape})"
        return f"jnp.array({array}{self._dtype(dtype, numbers.dtype.name)})"

    def _dtype(self, dtype: Any, standard: str = "float32") -> str:
        if str(dtype) == f"torch.{standard}":
            return ""
        return f", dtype={jax_dtype(self.context, dtype)}"

    # Values.

    def _constant(self, value: Any) -> str:
        import torch

        if isinstance(value, enum.Enum) and is_users(type(value)):
            return f"{self._named(type(value))}.{value.name}"
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        if isinstance(value, str):
            return '"' + repr(value)[1:-1].replace('"', '\\"') + '"'
        if isinstance(value, list):
            return f"[{', '.join(map(self._constant, value))}]"
        if isinstance(value, int | float | bool | complex | bytes | None | types.EllipsisType):
            return repr(value)
        if isinstance(value, torch.dtype):
            return jax_dtype(self.context, value)
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return self._function(value)
        why = f"the attribute {str(value)[:60]!r} cannot be written as source code"
        raise Refused(why, "make it a number")

    def _function(self, value: Any) -> str:
        import torch

        if isinstance(value, type) and issubclass(value, torch.nn.Module) and not is_users(value):
            rule = leaf(value)
            if rule is None:
                raise Refused(f"nn.{value.__name__} has no counterpart")
            self.context.use(rule.reference.partition(".")[0])
            return str(rule.reference)
        text = self.renderer.function_text(value)
        if text is not None:
            return text
        if is_users(value) and "<" not in value.__qualname__:
            return self._named(value)
        why = f"the function {value.__name__} cannot be written as source code"
        raise Refused(why, "define it in the file")


def _numbered(node: Any) -> bool:
    """Whether the children of a container are numbered from 0."""
    names = [str(number) for number in range(len(node.args))]
    return not node.head[1].endswith("Dict") and list(node.args) == names


def _standard(kind: type) -> dict[str, Any]:
    from jaxnets.port.settings import defaults

    return {n: v for n, v in defaults(kind).items() if v is not inspect.Parameter.empty}


def _repeated(texts: Sequence[str]) -> list[str]:
    """Replaces runs of similar texts by comprehensions."""
    parts: list[str] = []
    place = 0
    while place < len(texts):
        loop, count = _loop(texts[place:])
        parts.append(loop)
        place += count
    return parts


def _loop(texts: Sequence[str]) -> tuple[str, int]:
    """Returns the longest comprehension for the first texts, and the number of texts it replaces.

    The texts must be equal except for integers that change by constant steps.
    """
    first = texts[0]
    skeleton = _NUMBER.split(first)
    numbers = []
    for text in texts:
        if _NUMBER.split(text) != skeleton:
            break
        numbers.append([int(n) for n in _NUMBER.findall(text)])
    for count in range(len(numbers), _LEAST_REPEATS - 1, -1):
        columns = list(zip(*numbers[:count], strict=True))
        steps = [{b - a for a, b in itertools.pairwise(c)} for c in columns]
        if all(len(step) == 1 for step in steps):
            words = [_progress(c[0], step.pop()) for c, step in zip(columns, steps, strict=True)]
            changing = any("i" in word for word in words)
            body = "".join(a + b for a, b in zip(skeleton, [*words, ""], strict=True))
            return f"*({body} for {'i' if changing else '_'} in range({count}))", count
    return first, 1


def _progress(start: int, step: int) -> str:
    if not step:
        return str(start)
    times = "i" if step == 1 else f"{step} * i"
    return f"{start} + {times}" if start else times

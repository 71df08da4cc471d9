"""The user's source files: their texts and syntax trees with numbered nodes."""

import ast
import inspect
import linecache
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxnets.port.trees import is_docstring
from jaxnets.port.values import Refused

#: Packages whose code is not rewritten: their functions have rules or are imported.
FOREIGN = frozenset(
    (
        *sys.stdlib_module_names,
        *("torch", "numpy", "jax", "jaxlib", "flax", "optax", "einops", "scipy", "jaxnets"),
        *("functorch", "typing_extensions", "pytest", "_pytest"),
    )
) - {"__main__"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@dataclass
class Source:
    """One source file.

    Attributes:
        path: the file name in code objects, which need not be a file on disk.
        text: the content of the file.
        tree: the syntax tree; each node has the attributes ``number`` and ``parent``.
        names: the globals of the module.
        moved: by line, how many more columns its indentation has in ``text`` than in the file.
    """

    path: str
    text: str
    tree: ast.Module
    names: dict[str, Any]
    moved: dict[int, int] = field(default_factory=dict)
    _starts: list[int] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lines = self.text.split("\n")
        position = 0
        for line in self._lines:
            self._starts.append(position)
            position += len(line) + 1

    def position(self, line: int, column: int) -> int:
        """Returns the index in the text of a line (from 1) and a column (in bytes)."""
        if line > len(self._lines):
            return len(self.text)
        start = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(start)

    def span(self, node: Any) -> tuple[int, int]:
        """Returns the start and end index of a node in the text."""
        start = self.position(node.lineno, node.col_offset)
        return start, self.position(node.end_lineno, node.end_col_offset)

    def segment(self, node: Any) -> str:
        """Returns the source text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def place(self, node: Any) -> str:
        """Returns the location of a node for messages, such as ``file.py:12``."""
        return f"{Path(self.path).name}:{getattr(node, 'lineno', 0)}"


class Sources:
    """All files of the user that were read."""

    def __init__(self) -> None:
        self.nodes: list[ast.AST] = []
        self._files: dict[str, Source] = {}
        self._source_of: dict[int, Source] = {}
        self._found: dict[Any, Any] = {}

    def of(self, node: ast.AST) -> Source:
        """Returns the file of a node."""
        return self._source_of[number_of(_root(node))]

    def file(self, path: str, names: dict[str, Any]) -> Source:
        """Returns the file of a path, which is read once.

        Args:
            path: the file name in a code object.
            names: the globals of the module.

        Raises:
            Refused: if the source is not available.
        """
        if path not in self._files:
            linecache.checkcache(path)
            text = "".join(linecache.getlines(path, names))
            if not text:
                raise Refused(f"the source of {path} is not available", "put the class in a file")
            text, moved = _with_spaces(text)
            tree = ast.parse(text)
            self._number(tree)
            self._files[path] = Source(path, text, tree, names, moved)
            self._source_of[number_of(tree)] = self._files[path]
        return self._files[path]

    def define(self, name: str, base: str) -> type:
        """Defines a subclass of a layer of torch.nn, for a network that is a plain layer.

        Args:
            name: the name of the class.
            base: the name of the layer in torch.nn.
        """
        path = f"<{name} of nn.{base}>"
        text = f"import torch.nn as nn\n\n\nclass {name}(nn.{base}):\n    pass\n"
        linecache.cache[path] = (len(text), None, text.splitlines(True), path)
        names: dict[str, Any] = {"__name__": "network"}
        exec(compile(text, path, "exec"), names)
        self._found[names[name]] = self.file(path, names).tree.body[-1]
        cls: type = names[name]
        return cls

    def _number(self, tree: ast.Module) -> None:
        for node in _walk(tree, None):
            node.number = len(self.nodes)  # type: ignore[attr-defined]
            self.nodes.append(node)

    def function(self, function: types.FunctionType) -> FunctionNode:
        """Returns the node that defines a function.

        Raises:
            Refused: if the source is not found.
        """
        if function not in self._found:
            self._found[function] = self._function(function)
        return self._found[function]

    def _function(self, function: types.FunctionType) -> FunctionNode:
        code = function.__code__
        source = self.file(code.co_filename, function.__globals__)
        for node in ast.walk(source.tree):
            if not isinstance(node, FunctionNode):
                continue
            if isinstance(node, ast.Lambda):
                moved = source.moved.get(node.body.lineno, 0)
                if code.co_name == "<lambda>" and _same_place(node.body, code, moved):
                    return node
            # The first line of a code object is that of the first decorator.
            elif node.name == code.co_name and code.co_firstlineno == min(
                [node.lineno, *(d.lineno for d in node.decorator_list)]
            ):
                return node
        raise Refused(f"the source of {code.co_name} is not found", "put it in a file")

    def class_node(self, cls: type) -> ast.ClassDef:
        """Returns the node that defines a class.

        Raises:
            Refused: if the source is not found.
        """
        if cls not in self._found:
            self._found[cls] = self._class_node(cls)
        return self._found[cls]

    def _class_node(self, cls: type) -> ast.ClassDef:
        names = vars(sys.modules.get(cls.__module__, types.ModuleType("none")))
        for value in vars(cls).values():
            function = plain_function(value)
            # Generated methods of dataclasses have the file name <string>.
            if function is None or function.__code__.co_filename == "<string>":
                continue
            if function.__qualname__.startswith(f"{cls.__qualname__}."):
                path, names = function.__code__.co_filename, function.__globals__
                break
        else:
            try:
                path = inspect.getfile(cls)
            except (TypeError, OSError) as error:
                raise Refused(f"the source of {cls.__name__} is not found") from error
        source = self.file(path, names)
        found = [
            node
            for node in ast.walk(source.tree)
            if isinstance(node, ast.ClassDef) and qualified(node) == cls.__qualname__
        ]
        if not found:
            raise Refused(f"the source of {cls.__name__} is not found", "put the class in a file")
        return found[-1]


def plain_function(value: Any) -> types.FunctionType | None:
    """Returns the Python function of a method, a property or a decorated function, or None."""
    if isinstance(value, staticmethod | classmethod | types.MethodType):
        value = value.__func__
    if isinstance(value, property):
        value = value.fget
    try:
        value = inspect.unwrap(value)
    except ValueError:
        return None
    return value if isinstance(value, types.FunctionType) else None


def is_users(value: Any) -> bool:
    """Whether a function or a class is defined by the user or in a package that is inlined."""
    module = getattr(value, "__module__", None) or ""
    if isinstance(value, types.FunctionType):
        module = value.__globals__.get("__name__") or module
    return bool(module) and module.partition(".")[0] not in FOREIGN


def _same_place(node: Any, code: types.CodeType, moved: int) -> bool:
    """Whether a code object contains an instruction for a node, which was moved to the right."""
    reports = any(name.startswith("__port_") for name in code.co_names)  # compiled from the node
    wanted = (node.lineno, node.col_offset - (0 if reports else moved))
    return any(wanted == (line, column) for line, _, column, _ in code.co_positions())


def _with_spaces(text: str) -> tuple[str, dict[int, int]]:
    """Returns a text indented with spaces, without form feeds before its statements.

    Returns:
        The text, and by line the number of columns that its indentation became longer.
    """
    if not re.search(r"^[ \t\f]*[\t\f]", text, re.MULTILINE):
        return text, {}
    kept = _inside_strings(ast.parse(text))
    lines, moved = text.split("\n"), {}
    for number, line in enumerate(lines, 1):
        code = line.lstrip(" \t\f")
        before = line[: len(line) - len(code)]
        if number in kept or before.strip(" ") == "":
            continue
        # A form feed sets the column back to zero.
        after = before.rpartition("\f")[2].expandtabs(4)
        lines[number - 1], moved[number] = after + code, len(after) - len(before)
    return "\n".join(lines), moved


def _inside_strings(tree: ast.Module) -> set[int]:
    """Returns the lines that begin inside a string, other than docstrings."""
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Expr))
    docstrings = {id(one.value) for one in statements if is_docstring(one)}
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))
        if id(node) not in docstrings
        for line in range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)
    }


def number_of(node: Any) -> int:
    """Returns the number of a node, which is unique in all files of the user."""
    number: int = node.number
    return number


def _root(node: ast.AST) -> ast.AST:
    while (above := node.parent) is not None:  # type: ignore[attr-defined]
        node = above
    return node


def _walk(node: ast.AST, parent: ast.AST | None) -> Iterator[ast.AST]:
    node.parent = parent  # type: ignore[attr-defined]
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(
            child, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop
        ):
            continue  # Python shares these objects between nodes
        yield from _walk(child, node)


def qualified(node: ast.AST) -> str:
    """Returns the qualified name of the node of a class or a function."""
    parts: list[str] = []
    at: Any = node
    while at is not None:
        if isinstance(at, ast.ClassDef):
            parts.append(at.name)
        elif isinstance(at, ast.FunctionDef | ast.AsyncFunctionDef):
            parts.append(at.name if at is node else f"{at.name}.<locals>")
        at = at.parent
    return ".".join(reversed(parts))


def enclosing(node: Any, kind: Any) -> Any:
    """Returns the nearest enclosing node of a kind, or None."""
    at = node.parent
    while at is not None and not isinstance(at, kind):
        at = at.parent
    return at

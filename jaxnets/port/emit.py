"""Assembles the rewritten definitions into one file, with imports and in a valid order."""

import ast
import builtins
import functools
import io
import re
import shutil
import subprocess
import symtable
import sys
import tokenize
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxnets.port import modules
from jaxnets.port.job import Job, Refusal
from jaxnets.port.rewrite import Renderer
from jaxnets.port.sources import (
    FOREIGN,
    Source,
    enclosing,
    is_users,
    number_of,
    plain_function,
    qualified,
)
from jaxnets.port.texts import LIBRARIES, MARK
from jaxnets.port.values import Refused

_IMPORTS = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "np": "import numpy as np",
    "math": "import math",
    "einops": "import einops",
    "operator": "import operator",
    "functools": "import functools",
    "types": "import types",
    "base64": "import base64",
    "zlib": "import zlib",
    "nnx": "from flax import nnx",
    "lax": "from jax import lax",
    "layers": "from jaxnets import layers",
    "functional": "from jaxnets import functional",
    "tensors": "from jaxnets import tensors",
    "F": "from jaxnets import functional as F",
}
_MOST_ROUNDS = 20


@dataclass
class Definition:
    """One top-level statement of a file of the user.

    Attributes:
        source: the file.
        node: the statement.
        text: the rewritten statement; empty if nothing is left.
        needs: the global names in the rewritten statement.
    """

    source: Source
    node: Any
    text: str = ""
    needs: set[str] = field(default_factory=set)


class Emitter:
    """Writes the file of a network.

    Args:
        job: the sources and the observations.
        roots: the classes and functions that the file must define.
        made: the created objects by id, with class and arguments.
    """

    def __init__(self, job: Job, roots: list[Any], made: dict[int, Any] | None = None) -> None:
        self.job, self.roots, self.made = job, roots, made or {}
        self.definitions: dict[int, Definition] = {}
        self.aliases: dict[str, str] = {}
        self.arguments = ""
        self._imports: set[str] = set()
        self._files: list[Source] = []

    def text(self, given: Sequence[tuple[str, Any]] = ()) -> str:
        """Returns the source code of the file.

        The definitions are rewritten until the set of functions that take ``rngs`` is stable. As a
        side effect, ``arguments`` is the source text of ``given``.

        Args:
            given: the (name, value) pairs of the network's arguments; the name is empty for
                positional arguments.
        """
        for _ in range(_MOST_ROUNDS):
            before = self._state()
            if self.job.instances is not None:
                self.job.instances.restart()
            self.job.imports.clear()
            self.job.refusals.clear()
            self.definitions.clear()
            self.aliases.clear()
            self._imports.clear()
            for root in self.roots:
                self._add_object(root, root.__name__)
            texts = [(name, self._argument(value)) for name, value in given]
            self.arguments = ", ".join(f"{n}={text}" if n else text for n, text in texts)
            if before == self._state():
                break
        return self._assembled()

    def _state(self) -> Any:
        """Returns the results of a round that affect the text of the next round."""
        read = {} if self.job.instances is None else dict(self.job.instances.read)
        return set(self.job.needs), set(self.job.empty), read, dict(self.job.layers)

    def _argument(self, value: Any) -> str:
        """Returns the source text of an argument, and adds required definitions to the file."""
        if isinstance(value, functools.partial):
            self._imports.add("from functools import partial")
            named = (f"{k}={self._argument(v)}" for k, v in value.keywords.items())
            parts = [self._argument(value.func), *map(self._argument, value.args), *named]
            return f"partial({', '.join(parts)})"
        if isinstance(value, list | tuple) and type(value) in (list, tuple):
            inner = ", ".join(map(self._argument, value))
            if isinstance(value, list):
                return f"[{inner}]"
            return f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, dict):
            return f"{{{', '.join(f'{k!r}: {self._argument(v)}' for k, v in value.items())}}}"
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return self._named(value)
        if id(value) in self.made and is_users(type(value)):
            _, cls, args, kwargs = self.made[id(value)]
            if self._needs(cls):
                raise Refused(f"the argument {cls.__name__} draws random numbers")
            named = (f"{k}={self._argument(v)}" for k, v in kwargs.items())
            return f"{self._named(cls)}({', '.join([*map(self._argument, args), *named])})"
        text = repr(value)
        try:
            ast.literal_eval(text)
        except (ValueError, SyntaxError):
            why = f"the argument {text[:60]} cannot be written as source code"
            raise Refused(why, "pass a function") from None
        return text

    def _needs(self, cls: type) -> bool:
        """Whether the constructor of a class takes ``rngs``."""
        node = self.job.sources.class_node(cls)
        return Renderer(self.job, self.job.sources.of(node), node).class_needs(cls)

    def _named(self, value: Any) -> str:
        """Returns the source text of a class or a function that is an argument."""
        if is_users(value):
            self._add_object(value, value.__name__)
            return str(value.__name__)
        rule = modules.find(value) if isinstance(value, type) else None
        if rule is None:
            raise Refused(f"the argument {value.__name__} has no counterpart")
        self.job.imports.add((rule.reference.partition(".")[0], ""))
        return str(rule.reference)

    def _add_object(self, value: Any, name: str) -> None:
        """Adds the definition of a class or a function of the user."""
        try:
            if isinstance(value, type):
                node: Any = self.job.sources.class_node(value)
            else:
                node = self.job.sources.function(plain_function(value))  # type: ignore[arg-type]
        except Refused as refused:
            self.job.note(f"{name}: {refused.why}")
            return
        source = self.job.sources.of(node)
        while node.parent is not None and not isinstance(node.parent, ast.Module):
            node = node.parent
        instances = self.job.instances
        if value.__name__ != name and (instances is None or value not in instances.names):
            self.aliases[name] = value.__name__
        self._add(source, node)

    def _add(self, source: Source, node: Any) -> None:
        """Adds the rewritten text of a top-level statement and everything that it needs."""
        if number_of(node) in self.definitions:
            return
        definition = self.definitions[number_of(node)] = Definition(source, node)
        if source not in self._files:
            self._files.append(source)
        renderer = Renderer(self.job, source, node)
        definition.text = renderer.statement(node) or ""
        if not definition.text:
            return
        definition.needs = _free_names(definition.text)
        self._refuse_torch(definition)
        for name in sorted(definition.needs):
            self._add_name(source, name)

    def _refuse_torch(self, definition: Definition) -> None:
        """Refuses the names of PyTorch that are left in a rewritten definition."""
        import torch

        source, node = definition.source, definition.node
        for name in definition.needs:
            value = source.names.get(name.removeprefix(MARK))
            if type(value) is torch.Tensor:  # its own definition is rewritten
                continue
            module = getattr(value, "__name__", "")
            if not isinstance(value, types.ModuleType):
                module = getattr(value, "__module__", "") or ""
            if module.partition(".")[0] != "torch" or self._is_library(name):
                continue
            found = re.search(rf"(?<![\w.]){name.removeprefix(MARK)}\.[\w.]+", definition.text)
            construct = found.group() if found else name
            why = f"{construct} has no counterpart"
            names = (one for one in ast.walk(node) if isinstance(one, ast.Name | ast.Attribute))
            at = next((one for one in names if source.segment(one) == construct), node)
            owner = at if at is node else enclosing(at, ast.FunctionDef) or node
            where = qualified(owner) or getattr(node, "name", "")
            refusal = Refusal(source.place(at), where, construct, why)
            self.job.refusals.setdefault((refusal.place, construct), refusal)

    def _is_library(self, name: str) -> bool:
        """Whether a name in the new text is a library that a rule refers to."""
        names = (name, "functional") if name == "F" else (name,)
        return name in _IMPORTS and any((one, "") in self.job.imports for one in names)

    def _add_name(self, source: Source, name: str) -> None:
        """Adds the definitions or the import of a global name of a file."""
        if name.startswith(MARK):
            name = name.removeprefix(MARK)
        elif self._is_library(name):
            return
        if self.job.instances is not None and name in self.job.reached:
            self._add_object(self.job.reached[name], name)
            return
        found = False
        for node in source.tree.body:
            if name in _binds(node):
                found = True
                if isinstance(node, ast.Import | ast.ImportFrom):
                    self._add_import(source, node, name)
                else:
                    self._add(source, node)
        if not found and name in source.names and not hasattr(builtins, name):
            value = source.names[name]
            if is_users(value) and isinstance(value, type | types.FunctionType):
                self._add_object(value, name)
        elif not found and name in self.job.reached:
            self._add_object(self.job.reached[name], name)

    def _add_import(self, source: Source, node: Any, name: str) -> None:
        """Adds an import, or the imported definitions if their module is inlined."""
        value = source.names.get(name)
        if isinstance(node, ast.Import) or isinstance(value, types.ModuleType):
            root = (getattr(value, "__name__", "") or "").partition(".")[0]
            if root not in ("torch", "torchvision"):
                self._imports.add(_single(node, name))
            return
        if isinstance(value, type | types.FunctionType) and is_users(value):
            self._add_object(value, name)
            return
        module = node.module or ""
        package = source.names.get("__package__") or ""
        if node.level:
            base = package.split(".")
            base = base[: len(base) - node.level + 1]
            module = ".".join([*base, *([module] if module else [])])
        root = module.partition(".")[0]
        if root in ("torch",):
            if getattr(value, "__module__", "") == "typing":  # as in torch.jit.annotations
                self._imports.add(f"from typing import {name}")
            return
        from_user = sys.modules.get(module)
        if from_user is not None and root not in sys.stdlib_module_names and _has_source(from_user):
            original = next(a.name for a in node.names if (a.asname or a.name) == name)
            own = (source.names.get("__package__") or "").partition(".")[0]
            if root == own or (root not in FOREIGN and _is_inlined(from_user)):
                other = self.job.sources.file(str(from_user.__file__), vars(from_user))
                if original != name:
                    self.aliases[name] = original
                self._add_name(other, original)
                return
        self._imports.add(_single(node, name))

    # The file.

    def _assembled(self) -> str:
        """Joins imports and definitions to the text of the file."""
        ordered = sorted(
            self.definitions.values(),
            key=lambda d: (-self._files.index(d.source), d.node.lineno),
        )
        ordered = _in_order(ordered)
        parts: list[tuple[Definition | None, str]] = []
        for definition in ordered:
            if definition.text:
                parts.append((definition, self._above(definition) + definition.text))
                for name, original in self.aliases.items():
                    if original in _binds(definition.node):
                        parts.append((None, f"{name} = {original}"))
        body = _spaced(parts)
        body, libraries = self._renamed(body)
        used = {n.id for n in ast.walk(ast.parse(body)) if isinstance(n, ast.Name)}
        lines = {line for line in self._imports if _imported_name(line) in used}
        lines |= {
            line if line.split()[-1] == alias or name not in LIBRARIES else _aliased(line, alias)
            for name, alias in libraries.items()
            for line in [_IMPORTS[name]]
            if alias in used
        }
        lines |= {f"from {m} import {n}" for m, n in self.job.imports if "." in m and n in used}
        future = "from __future__ import annotations\n\n" if self._future() else ""
        large = body.lstrip().startswith(("class ", "def ", "@"))
        gap = "\n\n\n" if large else "\n\n"
        head = _noqa(ast.parse(body))
        return f"{head}{future}{_sorted_imports(lines)}{gap}{body.strip()}\n"

    def _future(self) -> bool:
        return any(
            isinstance(node, ast.ImportFrom) and node.module == "__future__"
            for source in self._files
            for node in source.tree.body
        )

    def _above(self, definition: Definition) -> str:
        """Returns the comments directly above a definition."""
        node = definition.node
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda n: n.lineno)
        lines = definition.source.text.split("\n")[: first.lineno - 1]
        comments: list[str] = []
        while lines and lines[-1].startswith("#"):
            comments.insert(0, lines.pop())
        if comments and comments[0].startswith("#!"):
            return ""
        return "".join(f"{line}\n" for line in comments)

    def _renamed(self, body: str) -> tuple[str, dict[str, str]]:
        """Renames imported libraries whose names clash with variables of the user."""
        libraries = {}
        for name in _IMPORTS:
            clash = MARK + name in body
            short = {"layers": "nn", "functional": "F"}.get(name, f"{name}_")
            libraries[name] = short if clash else name
        aliases = {name: alias for name, alias in libraries.items() if name != alias}
        if aliases:
            body = _with_names(body, aliases)
        return body.replace(MARK, ""), libraries


def _with_names(body: str, aliases: dict[str, str]) -> str:
    """Replaces names in a text, except for attributes and argument names."""
    marked = body.replace(MARK, "marked_by_port_")
    lines = marked.split("\n")
    tokens = list(tokenize.generate_tokens(io.StringIO(marked).readline))
    # From the end, so that the positions of earlier tokens stay valid.
    for before, token, after in reversed(list(zip(tokens, tokens[1:], tokens[2:], strict=False))):
        if token.string in aliases and before.string != "." and after.string != "=":
            line, (row, start) = lines[token.start[0] - 1], token.start
            lines[row - 1] = line[:start] + aliases[token.string] + line[token.end[1] :]
    return "\n".join(lines).replace("marked_by_port_", MARK)


def _aliased(line: str, alias: str) -> str:
    start = line.partition(" as ")[0]
    return f"{start} as {alias}"


def _is_inlined(module: Any) -> bool:
    """Whether an imported module is inlined: it uses PyTorch, or is not an installed package."""
    installed = "site-packages" in str(module.__file__)
    roots = {
        (getattr(value, "__name__", "") or "").partition(".")[0]
        for value in vars(module).values()
        if isinstance(value, types.ModuleType)
    }
    return not installed or "torch" in roots


def _noqa(tree: ast.Module) -> str:
    """Returns the ``noqa`` line for ruff's rules that the user's style violates; may be empty."""
    codes = set()
    for node in ast.walk(tree):
        names = (getattr(node, "arg", None), getattr(node, "id", None))
        stored = isinstance(node, ast.arg) or isinstance(getattr(node, "ctx", None), ast.Store)
        if stored and any(name in ("l", "O", "I") for name in names):
            codes.add("E741")
        elif isinstance(node, ast.ExceptHandler) and node.type is None:
            codes.add("E722")
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
            codes |= {"E731"} if isinstance(node.targets[0], ast.Name) else set()
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            value = getattr(node.comparators[0], "value", "")
            if value is None or isinstance(value, bool):
                codes.add("E711" if value is None else "E712")
    return f"# ruff: noqa: {', '.join(sorted(codes))}\n\n" if codes else ""


def _has_source(module: Any) -> bool:
    return str(getattr(module, "__file__", "")).endswith(".py")


def _single(node: Any, name: str) -> str:
    """Returns the import statement of a single name."""
    alias = next(a for a in node.names if (a.asname or a.name).partition(".")[0] == name)
    renamed = f" as {alias.asname}" if alias.asname else ""
    if isinstance(node, ast.Import):
        return f"import {alias.name}{renamed}"
    return f"from {'.' * node.level}{node.module or ''} import {alias.name}{renamed}"


def _imported_name(line: str) -> str:
    return line.split()[-1].partition(".")[0]


def _binds(node: Any) -> set[str]:
    """Returns the names that a top-level statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(a.asname or a.name).partition(".")[0] for a in node.names}
    if isinstance(node, ast.If | ast.Try | ast.With | ast.For):
        return {name for one in ast.iter_child_nodes(node) for name in _binds(one)}
    names = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            names.add(one.id)
    if isinstance(node, ast.Expr | ast.AugAssign):  # cfgs["a"] = …, registry.update(…)
        return set()
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript | ast.Attribute) and isinstance(
                target.value, ast.Name
            ):
                names.add(target.value.id)
    return names


def _free_names(text: str) -> set[str]:
    """Returns the global names in a text, including their marks."""
    # symtable parses the text, so marks have to be valid in names.
    top = symtable.symtable(text.replace(MARK, "marked_"), "definition", "exec")
    names: set[str] = set()
    tables = [top]
    for table in tables:
        tables += table.get_children()
        names |= {
            symbol.get_name()
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is top or symbol.is_global())
        }
    return {MARK + n.removeprefix("marked_") if n.startswith("marked_") else n for n in names}


def _in_order(definitions: list[Definition]) -> list[Definition]:
    """Sorts definitions so that bases, defaults and constants precede their uses."""
    by_name: dict[str, list[Definition]] = {}
    for one in definitions:
        for name in _binds(one.node):
            by_name.setdefault(name, []).append(one)
    done: list[Definition] = []

    def add(one: Definition, above: tuple[int, ...]) -> None:
        if one in done or id(one) in above:
            return
        for name in sorted(_needed_at_definition(one)):
            for other in by_name.get(name, []):
                if other is not one:
                    add(other, (*above, id(one)))
        done.append(one)

    for one in definitions:
        add(one, ())
    return done


def _needed_at_definition(definition: Definition) -> set[str]:
    """Returns the names that a definition uses at the time it is executed."""
    if not definition.text:
        return set()
    names: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            args = node.args
            every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
            outer: list[Any] = [*args.defaults, *args.kw_defaults, *(a.annotation for a in every)]
            outer += [*getattr(node, "decorator_list", []), getattr(node, "returns", None)]
            for one in outer:
                if one is not None:
                    walk(one)
            return
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            names.add(node.id)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(definition.text.replace(MARK, "")))
    return names


def _spaced(parts: list[tuple[Definition | None, str]]) -> str:
    """Joins parts with two blank lines around classes and functions, and none otherwise."""
    text = ""
    last_large = False
    for definition, part in parts:
        node = definition.node if definition is not None else None
        large = isinstance(node, ast.FunctionDef | ast.ClassDef)
        gap = "\n\n\n" if large or last_large else "\n"
        text += (gap if text else "") + part
        last_large = large
    return text


def _sorted_imports(lines: set[str]) -> str:
    """Sorts imports into the standard library and others, with one line for each module."""
    froms: dict[str, set[str]] = {}
    plain: list[str] = []
    for line in lines:
        if line.startswith("from "):
            module, _, name = line.removeprefix("from ").partition(" import ")
            if " as " in name:
                plain.append(line)
                continue
            froms.setdefault(module, set()).add(name)
        else:
            plain.append(line)
    for module, names in froms.items():
        plain.append(f"from {module} import {', '.join(sorted(names, key=_isort_key))}")
    groups: list[list[str]] = [[], []]
    for line in plain:
        root = line.split()[1].partition(".")[0]
        groups[0 if root in sys.stdlib_module_names else 1].append(line)
    ordered = [sorted(g, key=lambda x: (x.startswith("from"), x.split()[1], x)) for g in groups]
    return "\n\n".join("\n".join(group) for group in ordered if group)


def _isort_key(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


def formatted(text: str) -> str:
    """Formats source code with ruff if it is installed."""
    ruff = shutil.which("ruff") or shutil.which("ruff", path=str(_beside_python()))
    if ruff is None:
        return text
    command = [ruff, "format", "--no-cache", "--isolated", "--line-length", "100", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else text


def _beside_python() -> str:
    from pathlib import Path

    return str(Path(sys.executable).parent)

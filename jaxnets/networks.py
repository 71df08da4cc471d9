"""Loads custom networks from a user's Python file or an installed module."""

import ast
import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flax import nnx

from jaxnets.arrays import InputError, check_path, printable, shown
from jaxnets.optional import require

if TYPE_CHECKING:
    import torch

#: The form of a target, for error messages and help texts.
TARGET = "FILE.py:Class or module.name:Class, which may also be a function that makes a network"
_LONGEST = 200  # characters of a class name, which becomes part of a file name
#: Modules that are never loaded from the network's folder, even if it has a file of that name.
_INSTALLED = frozenset(
    (*sys.stdlib_module_names, "torch", "numpy", "jax", "jaxlib", "flax", "optax", "jaxnets")
)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnNetwork:
    """A custom network in Flax NNX or PyTorch, with the source text of its file.

    The file is imported, and its code executed, on the first access of ``make``.

    Attributes:
        target: the name of the network in messages, such as ``"nets.py:Net"``.
        name: the name of the class or function that makes the network.
        place: the path of the source file, or the dotted name of an installed module.
        arguments: the arguments of the class, as text: ``"depth=20"``.
        files: the source text of the file, and of the files in the same folder that it imports,
            by their paths relative to that folder; empty for an installed module.
        argument: the name of the user's argument, for error messages.
    """

    target: str
    name: str
    place: Path | str
    arguments: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    argument: str = "model"

    @staticmethod
    def at(target: str, arguments: str = "", argument: str = "model") -> "OwnNetwork":
        """Returns the network that a target names. Its file is read but not imported.

        Args:
            target: ``"nets.py:Net"`` or ``"package.module:function"``.
            arguments: see ``OwnNetwork``.
            argument: see ``OwnNetwork``.

        Raises:
            InputError: if the target has no class name, or its file does not exist.
        """
        place, _, name = target.rpartition(":")
        is_file = Path(place).suffix == ".py"
        dotted = all(part.isidentifier() for part in place.split("."))
        if not name.isidentifier() or len(name) > _LONGEST or not (dotted or is_file):
            raise InputError(argument, TARGET, target)
        if is_file and not check_path(argument, place).is_file():
            raise InputError(argument, "a file that exists", place)
        return OwnNetwork(
            target=target,
            name=name,
            place=Path(place) if is_file else place,
            arguments=arguments,
            files=_texts(argument, Path(place)) if is_file else {},
            argument=argument,
        )

    @staticmethod
    def recorded(record: Mapping[str, Any], folder: Path) -> "OwnNetwork":
        """Returns the network that ``record`` and ``write`` stored. Nothing is imported.

        Args:
            record: the dictionary that ``OwnNetwork.record`` returned.
            folder: the folder that ``OwnNetwork.write`` wrote to.

        Raises:
            InputError: if the digest of a file differs from the record.
        """
        name, files = record["class"], {}
        for path, digest in record["files"].items():
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise InputError("files", "paths within the folder", path)
            files[path] = (folder / path).read_text(encoding="utf-8")
            if _digest(files[path]) != digest:
                raise InputError("model", "the file that the run saved", f"a modified {path}")
        place = folder / next(iter(files)) if files else record["module"]
        target = f"{place}:{name}"
        arguments_of(record["arguments"])
        return OwnNetwork(
            target=target, name=name, place=place, arguments=record["arguments"], files=files
        )

    def record(self) -> dict[str, Any]:
        """Returns the network's JSON record: names, arguments, and the SHA-256 of each file."""
        names = {"class": self.name, "arguments": self.arguments}
        names |= {} if self.files else {"module": str(self.place)}
        return {**names, "files": {path: _digest(text) for path, text in self.files.items()}}

    def write(self, folder: Path) -> None:
        """Writes the network's source files into a folder."""
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")

    @functools.cached_property
    def make(self) -> Any:
        """The class or function that makes the network. The first access imports its file.

        Raises:
            InputError: if the file cannot be imported, or does not define the class.
        """
        module = self._imported()
        if not callable(getattr(module, self.name, None)):
            known = ", ".join(_classes(module)[:8])
            such_as = f"such as {known}" if known else "which defines none"
            raise InputError(self.argument, f"a class in {self.place}, {such_as}", self.name)
        return getattr(module, self.name)

    @functools.cached_property
    def is_torch(self) -> bool:
        """Whether the network is a PyTorch module.

        A function without a parameter ``rngs`` is called to check the type of its result.
        """
        make, torch = self.make, sys.modules.get("torch")
        if torch is None:  # a file with a PyTorch module would have imported it
            return False
        if isinstance(make, type):
            return issubclass(make, torch.nn.Module)
        return not _takes_rngs(make) and isinstance(self._made(), torch.nn.Module)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """Builds the network in Flax NNX.

        Args:
            rngs: the random streams for the weights, passed if the class or function has a
                parameter ``rngs``.

        Raises:
            InputError: if the class does not accept its arguments, or the result is not an
                ``nnx.Module``.
        """
        made = self._made(**({"rngs": rngs} if _takes_rngs(self.make) else {}))
        if not isinstance(made, nnx.Module):
            raise InputError(self.argument, "a class or function of an nnx.Module", _kind(made))
        return made

    def build_torch(self) -> "torch.nn.Module":
        """Builds the network in PyTorch.

        Raises:
            InputError: if the class does not accept its arguments, or the result is not a
                ``torch.nn.Module``.
            ImportError: if torch is not installed.
        """
        torch = require("torch", extra="torch", feature="the port of a network")
        made = self._made()
        if not isinstance(made, torch.nn.Module):
            expected = "a class or function of a torch.nn.Module"
            raise InputError(self.argument, expected, _kind(made))
        return made

    def _made(self, **given: Any) -> Any:
        args, named = arguments_of(self.arguments)
        try:
            return self.make(*args, **named, **given)
        except Exception as error:  # the user's code can raise anything
            expected = f"arguments of {self.target}{_signature(self.make)}"
            raise InputError("args", expected, why(error)) from error

    def _imported(self) -> ModuleType:
        """Imports the module."""
        module = f"an importable module, as {TARGET}"
        expected = f"{self.place} to be importable" if self.files else module
        try:
            if not self.files:
                return importlib.import_module(str(self.place))
            return _imported(Path(self.place).resolve(), self.files)
        except Exception as error:  # the user's code can raise anything
            raise InputError(self.argument, expected, why(error)) from error


def arguments_of(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Parses the arguments of a call, such as ``depth=20, widths=(8, 16), kind=lstm``.

    Args:
        text: Python literals, separated by commas; a bare word is a string.

    Returns:
        The positional arguments and the keyword arguments.

    Raises:
        InputError: if the text has anything but literals and words.
    """
    try:
        call = ast.parse(f"f({text})", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError
        named = {word.arg: _value(word.value) for word in call.keywords if word.arg}
        if len(named) < len(call.keywords):
            raise ValueError
        return tuple(map(_value, call.args)), named
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        expected = "arguments such as depth=20, widths=(8, 16)"
        raise InputError("args", expected, str(text)) from error


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)


def why(error: Exception) -> str:
    """Returns the type and message of an error as one line."""
    return printable(f"{type(error).__name__}: {error}".strip().partition("\n")[0])


def _imported(path: Path, files: Mapping[str, str]) -> ModuleType:
    """Executes the source text of a file as a module, and returns the module.

    The text in ``files`` is used instead of the file, so that exactly the recorded code runs. The
    folder of the file is on ``sys.path`` meanwhile, so that the module can import its neighbours.
    """
    name = f"{path.stem}_" if path.stem in _INSTALLED else path.stem
    module = ModuleType(name)
    module.__file__ = str(path)
    beside = {Path(file).parts[0].removesuffix(".py") for file in files}
    _unload(beside - _INSTALLED - {name}, path.parent)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickles look there
    sys.path.insert(0, str(path.parent))
    try:
        code = compile(next(iter(files.values())), str(path), "exec", dont_inherit=True)
        exec(code, vars(module))
    except Exception:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


def _unload(names: Collection[str], folder: Path) -> None:
    """Removes modules of these names from ``sys.modules`` if they are from another folder.

    Otherwise an import would return a module of the same name from a network loaded before.
    """
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in names:
            place = Path(getattr(module, "__file__", None) or "/").resolve()
            if not place.is_relative_to(folder):
                del sys.modules[name]


def _texts(argument: str, path: Path) -> dict[str, str]:
    """Reads a file and the files in its folder that it imports, by their relative paths."""
    texts: dict[str, str] = {}
    waiting = [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(path.parent).as_posix()
        if name in texts:
            continue
        try:
            texts[name] = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(argument, "a readable Python file", str(file)) from error
        waiting += _imported_files(path.parent, texts[name])
    return texts


def _imported_files(folder: Path, text: str) -> Iterator[Path]:
    """Yields the files in a folder that a source text imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the import reports the error later
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for first in {name.partition(".")[0] for name in names} - _INSTALLED:
            if (folder / f"{first}.py").is_file():
                yield folder / f"{first}.py"
            if (folder / first).is_dir():
                yield from sorted((folder / first).rglob("*.py"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _classes(module: ModuleType) -> list[str]:
    """Returns the names of the classes that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


def _takes_rngs(make: Any) -> bool:
    """Whether a class or function has a parameter ``rngs``."""
    try:  # the signature of an NNX class itself is that of its metaclass
        signature = inspect.signature(make.__init__ if inspect.isclass(make) else make)
    except (TypeError, ValueError):
        return False
    return "rngs" in signature.parameters


def _signature(make: Any) -> str:
    try:
        return str(inspect.signature(make))
    except (TypeError, ValueError):
        return "(…)"


def _kind(made: Any) -> str:
    return f"a {type(made).__name__}" if not isinstance(made, type) else shown(made)

"""A network of the user's own: its file, which is imported, and its class."""

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

#: How a user names a network.
TARGET = "FILE.py:Class or module.name:Class, which may also be a function that makes a network"
_LONGEST = 200  # characters of a name, of which a file's is made
#: Modules that are never the user's own, even if a file of this name is beside the network's.
_INSTALLED = frozenset(
    (*sys.stdlib_module_names, "torch", "numpy", "jax", "jaxlib", "flax", "optax", "jaxnets")
)


@dataclass(frozen=True, eq=False, kw_only=True)
class OwnNetwork:
    """A network of the user's own, in Flax NNX or in PyTorch, and the text of its file.

    The file is imported, so that its code runs, when ``make`` is first asked for.

    Attributes:
        target: what it is called in messages, such as ``"nets.py:Net"``.
        name: the class, or the function, that makes it.
        place: the path of its file, or the dotted name of an installed module.
        arguments: what the class is called with, as text: ``"depth=20"``.
        files: the text of its file, and of the files in the same folder that it imports, by their
            paths within that folder; empty for an installed module.
        argument: the user's argument that names it, for messages.
    """

    target: str
    name: str
    place: Path | str
    arguments: str = ""
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    argument: str = "model"

    @staticmethod
    def at(target: str, arguments: str = "", argument: str = "model") -> "OwnNetwork":
        """The network that a target names, whose file is read but not yet imported.

        Args:
            target: ``"nets.py:Net"`` or ``"package.module:function"``.
            arguments: see ``OwnNetwork``.
            argument: see ``OwnNetwork``.

        Raises:
            InputError: if the target has no name, or its file does not exist.
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
        """The network that ``record`` and ``write`` stored; nothing is imported yet.

        Raises:
            InputError: if a file has another text than the record says.
        """
        name, files = record["class"], {}
        for path, digest in record["files"].items():
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise InputError("files", "paths within the folder", path)
            files[path] = (folder / path).read_text(encoding="utf-8")
            if _digest(files[path]) != digest:
                raise InputError("model", "the file that the run has saved", f"another {path}")
        place = folder / next(iter(files)) if files else record["module"]
        target = f"{place}:{name}"
        arguments_of(record["arguments"])
        return OwnNetwork(
            target=target, name=name, place=place, arguments=record["arguments"], files=files
        )

    def record(self) -> dict[str, Any]:
        """The network's record in a run: names, arguments, and the SHA-256 of each file."""
        said = {"class": self.name, "arguments": self.arguments}
        said |= {} if self.files else {"module": str(self.place)}
        return {**said, "files": {path: _digest(text) for path, text in self.files.items()}}

    def write(self, folder: Path) -> None:
        """Writes the text of its files into a folder."""
        for path, text in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")

    @functools.cached_property
    def make(self) -> Any:
        """The class or function; its file is imported.

        Raises:
            InputError: if the file cannot be imported, or has no such name.
        """
        module = self._imported()
        if not callable(getattr(module, self.name, None)):
            known = ", ".join(_classes(module)[:8]) or "none, as it defines no class"
            raise InputError(self.argument, f"a class in {self.place}, such as {known}", self.name)
        return getattr(module, self.name)

    @functools.cached_property
    def is_torch(self) -> bool:
        """Whether it is PyTorch's; a function that takes no ``rngs`` is called to find out."""
        make, torch = self.make, sys.modules.get("torch")
        if torch is None:  # which nobody has imported
            return False
        if isinstance(make, type):
            return issubclass(make, torch.nn.Module)
        return not _takes_rngs(make) and isinstance(self._made(), torch.nn.Module)

    def build(self, rngs: nnx.Rngs) -> nnx.Module:
        """The network in Flax NNX.

        Args:
            rngs: draws its weights, if what makes it takes ``rngs``.

        Raises:
            InputError: if the class does not take its arguments, or makes no ``nnx.Module``.
        """
        made = self._made(**({"rngs": rngs} if _takes_rngs(self.make) else {}))
        if not isinstance(made, nnx.Module):
            raise InputError(self.argument, "an nnx.Module, or what makes one", _kind(made))
        return made

    def build_torch(self) -> "torch.nn.Module":
        """The network in PyTorch.

        Raises:
            InputError: if the class does not take its arguments, or makes no ``torch.nn.Module``.
            ImportError: if torch is not installed.
        """
        torch = require("torch", extra="torch", feature="the port of a network")
        made = self._made()
        if not isinstance(made, torch.nn.Module):
            raise InputError(self.argument, "a torch.nn.Module, or what makes one", _kind(made))
        return made

    def _made(self, **given: Any) -> Any:
        args, named = arguments_of(self.arguments)
        try:
            return self.make(*args, **named, **given)
        except Exception as error:  # whatever the user's code raises
            expected = f"what {self.target}{_signature(self.make)} takes"
            raise InputError("args", expected, why(error)) from error

    def _imported(self) -> ModuleType:
        """The module, under the name of its file."""
        expected = f"{self.place} to import" if self.files else f"a module that imports, {TARGET}"
        try:
            if not self.files:
                return importlib.import_module(str(self.place))
            return _imported(Path(self.place).resolve(), self.files)
        except Exception as error:  # whatever the user's code raises
            raise InputError(self.argument, expected, why(error)) from error


def arguments_of(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call by place and by name: ``depth=20, widths=(8, 16), kind=lstm``.

    Args:
        text: literals; a word is a string.

    Raises:
        InputError: if it has anything else.
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
    """What an error says, in one line."""
    return printable(f"{type(error).__name__}: {error}".strip().partition("\n")[0])


def _imported(path: Path, files: Mapping[str, str]) -> ModuleType:
    """The module of a file whose text has been read; files beside it are found by their names."""
    name = f"{path.stem}_" if path.stem in _INSTALLED else path.stem
    module = ModuleType(name)
    module.__file__ = str(path)
    beside = {Path(file).parts[0].removesuffix(".py") for file in files}
    _forget(beside - _INSTALLED - {name}, path.parent)
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


def _forget(names: Collection[str], folder: Path) -> None:
    """Forgets modules of these names that are those of another folder."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in names:
            place = Path(getattr(module, "__file__", None) or "/").resolve()
            if not place.is_relative_to(folder):
                del sys.modules[name]


def _texts(argument: str, path: Path) -> dict[str, str]:
    """The text of a file, and of those in its folder that it imports, by their paths from there."""
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
            raise InputError(argument, "a file of Python that can be read", str(file)) from error
        waiting += _beside(path.parent, texts[name])
    return texts


def _beside(folder: Path, text: str) -> Iterator[Path]:
    """The files of a folder that a text imports."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # the import says what is wrong
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
    """The names of the classes that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    ]


def _takes_rngs(make: Any) -> bool:
    """Whether a class or a function takes ``rngs``."""
    try:  # of a module class itself, signature sees Flax's metaclass
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

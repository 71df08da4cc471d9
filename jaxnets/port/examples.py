"""The network that a command names, and the inputs to run it on."""

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxnets.arrays import InputError, check_path, printable, shown
from jaxnets.optional import require

if TYPE_CHECKING:
    import torch

_TARGET = "FILE.py:Class or module.name:Class, which may also be a function that makes a network"
_LONGEST = 200  # characters of a name, of which a file's is made
_INPUT = "sizes such as 2x3x32x32, with a dtype as in 2x7:int64, or a Python value such as [5, 3]"


def name_in(target: str) -> str:
    """The name of the class or function in a target.

    Raises:
        InputError: if the target has no name, or its file does not exist.
    """
    place, _, name = target.rpartition(":")
    is_file = Path(place).suffix == ".py"
    dotted = all(part.isidentifier() for part in place.split("."))
    if not name.isidentifier() or len(name) > _LONGEST or not (dotted or is_file):
        raise InputError("target", _TARGET, target)
    if is_file and not check_path("target", place).is_file():
        raise InputError("target", "a file that exists", place)
    return name


def made_by(target: str) -> Any:
    """The class or function that a target names, whose file is imported.

    Args:
        target: ``"nets.py:ResNet"`` or ``"package.module:function"``.

    Raises:
        InputError: if there is no such code.
        ImportError: if torch is not installed.
    """
    require("torch", extra="torch", feature="the port of a network")
    place, name = target.rpartition(":")[0], name_in(target)
    module = _imported(place)
    if not hasattr(module, name):
        raise InputError("target", f"a class in {place}, such as {_classes(module)}", name)
    return getattr(module, name)


def made(
    target: str, make: Any, args: Sequence[Any], named: Mapping[str, Any]
) -> "torch.nn.Module":
    """The network that a class or a function makes.

    Args:
        target: what to call it in a message.
        make: the class or function.
        args: its arguments by place.
        named: those by name.

    Raises:
        InputError: if it does not take them, or makes no ``torch.nn.Module``.
    """
    torch = require("torch", extra="torch", feature="the port of a network")
    try:
        module = make(*args, **named)
    except Exception as error:  # whatever the user's code raises
        raise InputError("args", f"what {target}{_signature(make)} takes", why(error)) from error
    if not isinstance(module, torch.nn.Module):
        raise InputError("target", "a torch.nn.Module, or what makes one", shown(module))
    return module


def _imported(place: str) -> ModuleType:
    """The module of a file, under the file's name, or of a dotted name."""
    path = Path(place)
    if path.suffix != ".py":
        try:
            return importlib.import_module(place)
        except Exception as error:
            raise InputError("target", f"a module that imports, {_TARGET}", why(error)) from error
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickles look there
    sys.path.insert(0, str(path.resolve().parent))  # for its siblings
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise InputError("target", f"{place} to import", why(error)) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def why(error: Exception) -> str:
    """What an error says, in one line."""
    return printable(f"{type(error).__name__}: {error}".strip().partition("\n")[0])


def _classes(module: ModuleType) -> str:
    torch = require("torch", extra="torch", feature="the port of a network")
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, torch.nn.Module)
        and value.__module__ == module.__name__
    ]
    return ", ".join(names[:8]) or "none, as it has no torch.nn.Module"


def _signature(make: Any) -> str:
    try:
        return str(inspect.signature(make))
    except (TypeError, ValueError):
        return "(…)"


def inputs_of(texts: Sequence[str], module: "torch.nn.Module", *, seed: int = 0) -> tuple[Any, ...]:
    """Example inputs, drawn at random.

    Args:
        texts: for each input its sizes, ``"2x3x32x32"``, perhaps with a dtype, ``"2x7:int64"``,
            and a bound, ``"2x7:int64:1000"``; or a Python value, ``"[5, 3, 1]"``. Without a bound
            whole numbers are below the number of rows of the smallest embedding.
        module: the network that takes them.
        seed: of what is drawn.

    Returns:
        A tensor or a Python value for each; lists of numbers become tensors.

    Raises:
        InputError: if a text is neither.

    Examples:
        >>> import torch
        >>> [x.shape for x in inputs_of(["2x3x8x8", "2:int64"], torch.nn.Linear(2, 2))]
        [torch.Size([2, 3, 8, 8]), torch.Size([2])]
    """
    torch = require("torch", extra="torch", feature="the port of a network")
    tables = (m.num_embeddings for m in module.modules() if isinstance(m, torch.nn.Embedding))
    rows = min(tables, default=2)
    generator = torch.Generator().manual_seed(seed)
    try:
        return tuple(_input(torch, text, rows, generator) for text in texts)
    except InputError:
        raise
    except Exception as error:  # of PyTorch: no memory, no such numbers of the dtype
        raise InputError("input", _INPUT, f"{' '.join(texts)} ({why(error)})") from error


def _input(torch: Any, text: str, rows: int, generator: Any) -> Any:
    match = re.fullmatch(r"(\d+(?:x\d+)*)(?::(\w+))?(?::(\d+))?", text.strip())
    if match is None:
        return _literal(torch, text)
    sizes = [int(size) for size in match[1].split("x")]
    dtype = getattr(torch, match[2] or "float32", None)
    if not isinstance(dtype, torch.dtype):
        raise InputError("input", f"a dtype of torch in {text!r}, such as int64", match[2])
    if dtype is torch.bool:
        return torch.randint(2, sizes, generator=generator).bool()
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator, dtype=dtype)
    if dtype.is_complex:
        raise InputError("input", _INPUT, text)
    return torch.randint(int(match[3] or rows), sizes, generator=generator, dtype=dtype)


def _literal(torch: Any, text: str) -> Any:
    try:
        value = ast.literal_eval(text.strip())
        return torch.tensor(value) if isinstance(value, list) else value
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError("input", _INPUT, text) from error

"""Every public name is documented and listed in the reference."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import runpy
from pathlib import Path

import pytest

import jaxnets
import jaxnets.scores

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "public_names.py"))
TEXT = "\n".join(SCRIPT["expanded"](page.read_text()) for page in PAGES)
PATHS = re.findall(r"^::: (\S+)$", TEXT, re.M)


def public_modules():
    """Yields the package, its subpackages with ``__all__``, and further public modules."""
    yield jaxnets
    for found in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
        if found.ispkg and hasattr(module := importlib.import_module(found.name), "__all__"):
            yield module
    yield jaxnets.metrics
    yield jaxnets.scores
    yield jaxnets.initializers


def names(module):
    """The public names of a module: ``__all__``, or the functions that it defines."""
    if hasattr(module, "__all__"):
        return module.__all__
    functions = inspect.getmembers(module, inspect.isfunction)
    return [name for name, f in functions if f.__module__ == module.__name__ and name[0] != "_"]


PUBLIC = [f"{module.__name__}.{name}" for module in public_modules() for name in names(module)]


def meant(path):
    """The object at a path, even if a function has the same name as the object's module."""
    owner, _, name = path.rpartition(".")
    return getattr(importlib.import_module(owner), name)


LISTED = [(path.rpartition(".")[2], meant(path)) for path in PATHS]


def trees():
    """Yields the syntax trees of the package's files; all at once would need 100 MB."""
    return (ast.parse(path.read_text()) for path in sorted(ROOT.glob("jaxnets/**/*.py")))


@functools.cache
def constants():
    """Each name that is assigned at a module's top level, with the docstring after it."""
    found = {}
    for tree in trees():
        for node, after in zip(tree.body, tree.body[1:], strict=False):
            documented = isinstance(getattr(after, "value", None), ast.Constant)
            if documented and isinstance(node, ast.Assign | ast.AnnAssign):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                found[ast.unparse(target)] = after.value.value
    return found


def stands_in_the_reference(path):
    name, value = path.rpartition(".")[2], meant(path)
    if inspect.ismodule(value) and any(other.startswith(f"{path}.") for other in PATHS):
        return True
    return any(name == other and value is same for other, same in LISTED)


def test_the_reference_has_every_public_name():
    missing = [f"::: {path}" for path in PUBLIC if not stands_in_the_reference(path)]
    assert missing == [], "lines that a page of docs/api lacks"


def test_the_reference_has_nothing_twice():
    once = {id(value) for _, value in LISTED if callable(value)}
    assert len(once) == sum(callable(value) for _, value in LISTED)


def parameters(value):
    """The names of the parameters of a function or constructor."""
    maker = vars(value).get("__init__") if inspect.isclass(value) else value
    taken = inspect.signature(maker).parameters if inspect.isfunction(maker) else {}
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return {name for name, taking in taken.items() if taking.kind not in several} - {"self"}


def described(value):
    """The names that the docstrings of an object and its base classes describe."""
    documents = [base.__doc__ or "" for base in getattr(value, "__mro__", [value])]
    return set(re.findall(r"^ +(\w+): ", "\n".join(documents), re.M))


def lacking(path):
    """The missing parts of the documentation of a public name."""
    name, value = path.rpartition(".")[2], meant(path)
    if not inspect.isroutine(value) and not inspect.isclass(value):
        known = value.__doc__ if inspect.ismodule(value) else constants().get(name)
        return [] if known else ["docstring"]
    document = inspect.getdoc(value) or ""
    if re.search(r"arguments?\b.* ``\w+``", document):  # refers to another name's
        return []
    missing = {name for name in parameters(value) - described(value) if name[0] != "_"}
    return sorted(missing) if document else ["docstring"]


def test_every_public_name_says_what_it_is_and_what_it_takes():
    assert {path: faults for path in PUBLIC if (faults := lacking(path))} == {}


@pytest.mark.slow
def test_examples_stand_under_the_heading_that_sets_them_apart():
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = (node for tree in trees() for node in ast.walk(tree) if isinstance(node, kinds))
    examples = [doc for node in nodes if ">>> " in (doc := ast.get_docstring(node) or "")]
    assert len(examples) > 40
    assert [doc for doc in examples if "\nExamples:\n" not in doc[: doc.index(">>> ")]] == []

"""Which modules may import which."""

import ast
import importlib
import inspect
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import jaxnets

ROOT = Path(jaxnets.__file__).parent
RANKS = [
    {"arrays", "compilation", "optional", "json_files"},
    {"disk", "initializers", "kernels", "pages", "tensors"},
    {
        *("layers", "losses", "metrics", "scores", "detection", "unsupervised", "optimizers"),
        *("data", "figures"),
    },
    {"functional"},
    {"models"},
    {"interop", "networks", "torch_models", "training"},
    {"control", "port"},
    {
        "export",
        "sampling",
        "quantization",
        "pruning",
        "averaging",
        "ensembles",
        "transfer",
        "explain",
    },
    {"changes", "recipes"},
    {"runs"},
    {"compare", "reports", "search", "serve"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
RANK = {module: rank for rank, modules in enumerate(RANKS) for module in modules}
OPTIONAL = {
    "gymnasium",
    "keras",
    "matplotlib",
    "onnx",
    "optuna",
    "orbax",
    "PIL",
    "safetensors",
    "sqlalchemy",
    "starlette",
    "sklearn",
    "tensorboardX",
    "tensorflow_datasets",
    "torch",
    "uvicorn",
}
FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.parts != ())

#: The networks in PyTorch, which are imported where they are needed.
TORCH_MODELS = [
    path
    for path in FILES
    if path.parts[0] == "torch_models"
    and (ROOT / "models" / path.name).exists()
    and path.name != "__init__.py"
]


def top_module(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def imports(path: Path, *, top_level_only: bool = False):
    """The full names that a file imports."""
    tree = ast.parse((ROOT / path).read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_come_from_lower_modules():
    for path in (p for p in FILES if p.name != "__init__.py" or len(p.parts) > 1):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "jaxnets":
                continue
            assert parts[1] in RANK, f"{path} imports {name} from the package root"
            lower = RANK[parts[1]] < RANK[top_module(path)]
            assert lower or parts[1] == top_module(path), f"{path} may not import {name}"


def test_training_knows_no_models():
    for path in (p for p in FILES if top_module(p) == "training"):
        assert not [name for name in imports(path) if name.startswith("jaxnets.models")], path


def test_heavy_packages_are_imported_where_they_are_needed():
    for path in FILES:
        heavy = {name.split(".")[0] for name in imports(path, top_level_only=True)} & OPTIONAL
        assert heavy <= ({"torch"} if path in TORCH_MODELS else set()), path


def test_networks_in_pytorch_need_torch_alone():
    for path in TORCH_MODELS:
        assert {name.split(".")[0] for name in imports(path)} <= {"torch", "itertools"}, path


def test_every_module_has_a_rank():
    assert {top_module(path) for path in FILES} - {"__init__"} <= set(RANK)


def test_the_page_and_its_figure_have_the_modules():
    script = runpy.run_path(str(ROOT.parent / "scripts" / "draw_architecture.py"))
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    assert [set(modules) for modules in script["ranks"](page)] == RANKS[:-1]  # except for __main__
    drawn = script["FIGURE"].read_text() == script["drawn"](page)
    assert drawn, "outdated: run python scripts/draw_architecture.py"


def test_file_names_are_plain():
    taken = set(sys.stdlib_module_names) | {"jax", "flax", "optax", "orbax", "numpy", "click"}
    for path in FILES:
        name = path.stem
        assert name not in taken, path
        assert name not in {"utils", "helpers", "misc", "common"}, path


def test_every_module_imports():
    for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
        if module.name != "jaxnets.__main__":
            importlib.import_module(module.name)


def test_importing_everything_brings_no_heavy_package_and_changes_no_setting():
    code = """
import pkgutil, importlib, sys, os, warnings, logging
import jax, flax.nnx, optax, rich.progress
import numpy, random
settings, environment = dict(jax.config.values), dict(os.environ)
filters, errors = list(warnings.filters), numpy.geterr()
handlers, state = list(logging.getLogger().handlers), random.getstate()
path = list(sys.path)
import jaxnets
models = {f"jaxnets.torch_models.{m.name}" for m in pkgutil.iter_modules(jaxnets.models.__path__)}
for module in pkgutil.walk_packages(jaxnets.__path__, "jaxnets."):
    if module.name != "jaxnets.__main__" and module.name not in models:
        importlib.import_module(module.name)
heavy = {name.split(".")[0] for name in sys.modules} & set(sys.argv[1:])
assert not heavy, heavy
assert dict(jax.config.values) == settings
assert dict(os.environ) == environment
assert list(warnings.filters) == filters and numpy.geterr() == errors
assert list(logging.getLogger().handlers) == handlers and random.getstate() == state
assert sys.path == path
"""
    heavy = [*OPTIONAL, "tensorflow"]
    subprocess.run([sys.executable, "-c", code, *heavy], check=True)


def test_public_names_exist_and_are_documented():
    for module in (jaxnets, *(m for m in vars(jaxnets).values() if hasattr(m, "__all__"))):
        assert sorted(set(module.__all__)) == sorted(module.__all__)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                assert value.__doc__, f"{module.__name__}.{name}"

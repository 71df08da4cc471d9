"""Lists the public names of a file of a package in the API reference.

In docs/api, ``::: jaxnets.layers.pooling.*`` is a ``:::`` for each name that ``jaxnets.layers``
imports from its file ``pooling.py``.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_ALL_OF = re.compile(r"^::: (\S+)\.\*$", re.MULTILINE)


def expanded(markdown: str) -> str:
    """The page with a line for each name."""
    return _ALL_OF.sub(lambda line: "\n\n".join(_lines(line[1])), markdown)


def _lines(module: str) -> list[str]:
    package = module.rpartition(".")[0]
    folder = ROOT.joinpath(*package.split("."))
    tree = ast.parse((folder / "__init__.py").read_text("utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    names = [alias.name for node in found if node.module == module for alias in node.names]
    # A function may have its file's name, which then leads to the file.
    owner = {name: module if (folder / f"{name}.py").exists() else package for name in names}
    return [f"::: {owner[name]}.{name}" for name in names]

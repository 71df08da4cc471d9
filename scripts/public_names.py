"""Lists public names of a package in the API reference.

In docs/api, ``::: jaxnets.layers.pooling.*`` stands for a ``:::`` line for each name that
``jaxnets.layers`` imports from its file ``pooling.py``, and ``::: jaxnets.models.MODELS.*`` for a
line for each value of the table ``MODELS`` in ``jaxnets.models``.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
_ALL_OF = re.compile(r"^::: (\S+)\.\*$", re.MULTILINE)


def expanded(markdown: str) -> str:
    """Returns the page with one line for each name."""
    return _ALL_OF.sub(lambda line: "\n\n".join(_lines(line[1])), markdown)


def _lines(path: str) -> list[str]:
    package, _, last = path.rpartition(".")
    folder = ROOT.joinpath(*package.split("."))
    body = ast.parse((folder / "__init__.py").read_text("utf-8")).body
    if last.isupper():
        return [f"::: {package}.{name}" for name in _values(body, last)]
    found = (node for node in body if isinstance(node, ast.ImportFrom))
    names = [alias.name for node in found if node.module == path for alias in node.names]
    # A function may have the name of its file. The longer path then leads to the function.
    owner = {name: path if (folder / f"{name}.py").exists() else package for name in names}
    return [f"::: {owner[name]}.{name}" for name in names]


def _values(body: list[ast.stmt], table: str) -> list[str]:
    """The names of a table's values, each once, in order."""
    for node in body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == table:
            assert isinstance(node.value, ast.Dict), table
            return list(dict.fromkeys(ast.unparse(value) for value in node.value.values))
    raise LookupError(table)

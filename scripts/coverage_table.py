"""Writes docs/coverage.md, the names of PyTorch in jaxnets: python scripts/coverage_table.py."""

import inspect
from pathlib import Path
from types import ModuleType

import torch

from jaxnets.interop.table import PENDING, REASONS, TABLES, Counterpart, Layer

PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"
VERSION = torch.__version__.partition("+")[0]
HEAD = f"""\
# Coverage of PyTorch's names

This page lists the names of PyTorch {VERSION} with their counterparts in jaxnets, or the reason why
there is none. `python scripts/coverage_table.py` writes this page from `jaxnets/interop/table.py`.
The tests compare each counterpart with PyTorch ([equality](equality.md)).

- In jaxnets images are [N, H, W, C], volumes [N, D, H, W, C], signals [N, L, C]
  ([axes](coming-from-pytorch.md#axes)).
- A loss is a function: `nn.MSELoss(reduction="sum")(outputs, labels)` is
  `losses.mse_loss(outputs, labels, reduction="sum")`.
- `from jaxnets import functional as F` has the functions under PyTorch's names.
- An initializer is a function that returns one: `initializers.normal()(key, shape, dtype)`.
- A schedule is a function of the number of steps. Pass it to an optimizer as its learning rate.
"""
#: Names in ``torch.nn.functional`` that are not part of its interface.
INTERNAL = {
    "assert_int_or_pair",
    "boolean_dispatch",
    "handle_torch_function",
    "has_torch_function",
    "has_torch_function_unary",
    "has_torch_function_variadic",
}


def public_names() -> dict[str, list[str]]:
    """Returns the public names of each module of PyTorch in the tables."""
    return {
        "nn": _classes(torch.nn, torch.nn.Module),
        "nn.functional": _functions(torch.nn.functional),
        "nn.init": _functions(torch.nn.init),
        "nn.utils.parametrizations": _functions(torch.nn.utils.parametrizations),
        "optim": _classes(torch.optim, torch.optim.Optimizer),
        "optim.lr_scheduler": _classes(
            torch.optim.lr_scheduler, torch.optim.lr_scheduler.LRScheduler
        ),
    }


def _classes(module: ModuleType, kind: type) -> list[str]:
    found = inspect.getmembers(module, inspect.isclass)
    return [name for name, value in found if name[0] != "_" and issubclass(value, kind)]


def _functions(module: ModuleType) -> list[str]:
    found = inspect.getmembers(module, inspect.isroutine)
    return [name for name, _ in found if name[0] != "_" and name not in INTERNAL]


def counterpart(module: str, name: str) -> Layer | Counterpart | None:
    """Returns the row of a name of PyTorch; None if it has none."""
    return next((table[name] for table in TABLES[module] if name in table), None)


def missing() -> list[str]:
    """Returns the names that have neither a row nor a reason, and are not pending."""
    return [
        path
        for module, names in public_names().items()
        for name in names
        if counterpart(module, name) is None
        and (path := f"{module}.{name}") not in REASONS.keys() | PENDING
    ]


def page() -> str:
    """Returns the page as Markdown."""
    rows, parts = [], []
    for module, names in public_names().items():
        found = [name for name in names if counterpart(module, name) is not None]
        rows.append(f"| [`torch.{module}`](#{_anchor(module)}) | {len(names)} | {len(found)} |")
        parts.append("\n".join([f"## torch.{module}\n", *_table(module, names)]))
    counts = ["| module | names | with a counterpart |", "|---|---:|---:|", *rows]
    return "\n\n".join([HEAD.rstrip(), "\n".join(counts), *parts]) + "\n"


def _anchor(module: str) -> str:
    return f"torch.{module}".replace(".", "").lower()


def _table(module: str, names: list[str]) -> list[str]:
    lines = ["| PyTorch | jaxnets | differences |", "|---|---|---|"]
    for name in names:
        if (row := counterpart(module, name)) is not None:
            lines.append(f"| `{name}` | `{row.name.replace('flax.nnx', 'nnx')}` | {row.note} |")
        else:
            reason = REASONS.get(f"{module}.{name}", "not yet")
            lines.append(f"| `{name}` | none | {reason} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

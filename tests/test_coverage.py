"""The table of PyTorch's names is complete, correct, and in the documentation."""

import inspect
import runpy
from pathlib import Path

from flax import nnx

import jaxnets
from jaxnets import functional, layers
from jaxnets.interop.table import (
    CONTAINERS,
    FUNCTIONS,
    LAYERS,
    PARAMETRIZATIONS,
    PENDING,
    REASONS,
    TABLES,
)

from .test_api_reference import meant

SCRIPT = runpy.run_path(str(Path(jaxnets.__file__).parent.parent / "scripts" / "coverage_table.py"))
ROWS = {
    f"{module}.{name}": row
    for module, tables in TABLES.items()
    for table in tables
    for name, row in table.items()
}


def test_every_name_of_pytorch_has_a_row_or_a_reason():
    assert SCRIPT["missing"]() == [], "rows or reasons that jaxnets/interop/table.py lacks"


def test_the_table_has_no_other_names():
    theirs = {
        f"{module}.{name}" for module, names in SCRIPT["public_names"]().items() for name in names
    }
    assert ROWS.keys() | REASONS.keys() | PENDING <= theirs
    assert not ROWS.keys() & (REASONS.keys() | PENDING)
    assert not REASONS.keys() & PENDING


def test_every_counterpart_exists():
    for row in ROWS.values():
        assert callable(meant(row.name)), row.name


def test_every_layer_has_a_row_of_its_name():
    exported = {name: getattr(layers, name) for name in layers.__all__}
    around = {meant(row.name) for row in [*PARAMETRIZATIONS.values(), *CONTAINERS.values()]}
    classes = {name: one for name, one in exported.items() if inspect.isclass(one)}
    theirs = SCRIPT["public_names"]()["nn"]
    classes = {name: one for name, one in classes.items() if one not in around and name in theirs}
    assert {name: row.ours for name, row in LAYERS.items()} == {
        name: one for name, one in classes.items() if issubclass(one, nnx.Module)
    }


def test_the_functions_have_the_names_of_pytorch():
    ours = {name: getattr(functional, name) for name in functional.__all__}
    assert ours == {name: meant(row.name) for name, row in FUNCTIONS.items()}


def test_the_page_is_up_to_date():
    written = SCRIPT["PAGE"].read_text("utf-8") == SCRIPT["page"]()
    assert written, "outdated: run python scripts/coverage_table.py"

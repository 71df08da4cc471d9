"""Settings of the parity tests, which may use float64 and state the dtype of every array."""

import json
from pathlib import Path

import jax
import pytest
import torch

from tests.parity import oracle

# Tests run in one process per core.
torch.set_num_threads(1)


#: Modules whose float32 tests use XLA's optimizations, as users do: whole runs, optimizers, and
#: layers that are more than products and element-wise operations.
OPTIMIZED = ("convolution", "optimizers", "pooling", "recurrent", "runs")


@pytest.fixture(autouse=True, scope="module")
def x64():
    with jax.enable_x64(True):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Enables XLA's optimizations for the float32 tests of some modules.

    Users train in float32, while float64 checks the formulas. Optimizing takes half of the time of
    these tests.
    """
    module = item.module.__name__.rpartition("test_")[2]
    optimized = module in OPTIMIZED and "float64" not in item.name
    jax.config.update("jax_disable_most_optimizations", not optimized)
    try:
        return (yield)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def pytest_sessionfinish(session):
    """Writes the measured differences into the folder of ``--measured``, one file per worker."""
    folder = session.config.getoption("--measured")
    if folder is not None and oracle.MEASURED:
        worker = getattr(session.config, "workerinput", {}).get("workerid", "main")
        rows = [[*key, *value] for key, value in oracle.MEASURED.items()]
        Path(folder, f"{worker}.json").write_text(json.dumps(rows))

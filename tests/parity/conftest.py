"""Parity tests may use float64; every array in them states its dtype."""

import json
from pathlib import Path

import jax
import pytest
import torch

from tests.parity import oracle

# The tests run in as many processes as there are cores.
torch.set_num_threads(1)


#: What is compared with torch as XLA optimises it for users: whole runs, optimizers, and the layers
#: that are more than products and element-wise operations.
OPTIMIZED = ("convolution", "optimizers", "pooling", "recurrent", "runs")


@pytest.fixture(autouse=True, scope="module")
def x64():
    with jax.enable_x64(True):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Optimises what users run, which is float32; float64 shows that the formulas are the same.

    Optimising takes half of the time of these tests.
    """
    module = item.module.__name__.rpartition("test_")[2]
    optimized = module in OPTIMIZED and "float64" not in item.name
    jax.config.update("jax_disable_most_optimizations", not optimized)
    try:
        return (yield)
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def pytest_sessionfinish(session):
    """Writes what was measured, one file a worker, where --measured names a folder."""
    folder = session.config.getoption("--measured")
    if folder is not None and oracle.MEASURED:
        worker = getattr(session.config, "workerinput", {}).get("workerid", "main")
        rows = [[*key, *value] for key, value in oracle.MEASURED.items()]
        Path(folder, f"{worker}.json").write_text(json.dumps(rows))

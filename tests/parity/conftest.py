"""Parity tests may use float64; every array in them states its dtype."""

import json
from pathlib import Path

import jax
import pytest
import torch

from tests.parity import oracle

# The tests run in as many processes as there are cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def x64(optimized):
    with jax.enable_x64(True):
        yield


def pytest_sessionfinish(session):
    """Writes what was measured, one file a worker, where --measured names a folder."""
    folder = session.config.getoption("--measured")
    if folder is not None and oracle.MEASURED:
        worker = getattr(session.config, "workerinput", {}).get("workerid", "main")
        rows = [[*key, *value] for key, value in oracle.MEASURED.items()]
        Path(folder, f"{worker}.json").write_text(json.dumps(rows))

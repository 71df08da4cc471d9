"""Parity tests may use float64; every array in them states its dtype."""

import jax
import pytest
import torch

# The tests run in as many processes as there are cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="module")
def x64():
    with jax.enable_x64(True):
        yield

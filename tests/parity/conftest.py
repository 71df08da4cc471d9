"""Parity tests may use float64; every array in them states its dtype."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def x64():
    with jax.enable_x64(True):
        yield

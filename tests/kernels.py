"""Helpers for tests of native kernels."""

import jax
import numpy as np
import pytest

from tests import tier

#: Compiles kernels that are called only a few times. Compilers use the last optimization level on
#: the command line, so -O0 must follow the level that the package passes.
QUICK_COMPILER = """sh -c 'exec c++ "$@" -O0' c++"""


def calls(function, *arguments):
    """The number of kernel calls in a computation."""
    return str(jax.make_jaxpr(lambda *given: function(*given))(*arguments)).count("ffi_call[")


def assert_close(ours, theirs, tolerance):
    def check(a, b):
        finite = np.abs(np.asarray(b)[np.isfinite(b)])
        scale = max(1, finite.max(initial=0))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    jax.tree.map(check, ours, theirs)


def precisions(single, double):
    """Parametrizes a dtype and its tolerance; float64 runs with ``-m slow``."""
    cases = [(np.float32, single), tier.slow(np.float64, double)]
    return pytest.mark.parametrize(("dtype", "tolerance"), cases)

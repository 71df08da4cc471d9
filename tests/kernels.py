"""What tests of native kernels ask."""

import jax
import numpy as np
import pytest

#: Compiles kernels for a few calls. The last of several levels of optimisation is taken, so it has
#: to come after the package's.
QUICK_COMPILER = """sh -c 'exec c++ "$@" -O0' c++"""


def calls(function, *arguments):
    """How often a computation calls a kernel."""
    return str(jax.make_jaxpr(lambda *given: function(*given))(*arguments)).count("ffi_call[")


def assert_close(ours, theirs, tolerance):
    def check(a, b):
        finite = np.abs(np.asarray(b)[np.isfinite(b)])
        scale = max(1, finite.max(initial=0))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)

    jax.tree.map(check, ours, theirs)


def precisions(single, double):
    """Parametrizes a dtype and its tolerance; float64, as in the parity tests, with ``-m slow``."""
    cases = [(np.float32, single), pytest.param(np.float64, double, marks=pytest.mark.slow)]
    return pytest.mark.parametrize(("dtype", "tolerance"), cases)

"""What tests of native kernels ask."""

import jax
import numpy as np


def calls(function, *arguments):
    """How often a computation calls a kernel."""
    return str(jax.make_jaxpr(lambda *given: function(*given))(*arguments)).count("ffi_call[")


def assert_close(ours, theirs, tolerance):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))

    jax.tree.map(check, ours, theirs)

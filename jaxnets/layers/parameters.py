"""What every layer with parameters or random draws checks first."""

from typing import Any

from flax import nnx

from jaxnets.arrays import InputError, check_float_dtype


def check_rngs(rngs: Any) -> None:
    """Checks that initial values or random draws can be had.

    Raises:
        InputError: if these are no random streams of Flax.
    """
    if not isinstance(rngs, nnx.Rngs):
        raise InputError("rngs", "random streams, such as nnx.Rngs(0)", rngs)


def check_parameters(rngs: Any, param_dtype: Any, *, constant: bool = False) -> None:
    """Checks where initial values come from, and their dtype.

    Args:
        rngs: where they are drawn from.
        param_dtype: the dtype of the parameters.
        constant: whether nothing is drawn, so that ``rngs`` may be None.

    Raises:
        InputError: if there are no random streams, or the dtype is not a floating-point one.
    """
    if not (constant and rngs is None):
        check_rngs(rngs)
    check_float_dtype("param_dtype", param_dtype)

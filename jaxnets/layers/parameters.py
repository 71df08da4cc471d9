"""Checks of arguments that many layers share: random streams, dtypes, unsupported arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_float_dtype
from jaxnets.initializers import Initializer

#: Arguments of PyTorch's layers that have no effect here, with the accepted values and the error
#: text for others. An empty tuple accepts any value.
_OTHERS: dict[str, tuple[tuple[Any, ...], str]] = {
    "device": ((None,), "None; use jax.device_put to move a model's arrays"),
    "dtype": ((None,), "None; use param_dtype=jnp.float32 to set the dtype of parameters"),
    "batch_first": (
        (True,),
        "True; use jnp.swapaxes(x, 0, 1) to convert x to [batch, time, …]",
    ),
    "add_bias_kv": ((False,), "False, the only supported value"),
    "add_zero_attn": ((False,), "False, the only supported value"),
    "max_norm": ((None,), "None, the only supported value"),
    "norm_type": ((), ""),
    "scale_grad_by_freq": ((False,), "False, the only supported value"),
    "sparse": ((False,), "False, the only supported value, as gradients are dense"),
    "padding_mode": (("zeros",), "'zeros', the only mode of a transposed convolution"),
    "enable_nested_tensor": ((), ""),
    "mask_check": ((), ""),
}


def check_others(layer: nnx.Module, given: dict[str, Any], *names: str) -> None:
    """Checks keyword arguments that PyTorch's layer has and the layer here does not have.

    Args:
        layer: the layer.
        given: the unknown keyword arguments that the layer received.
        names: the accepted arguments of PyTorch, in addition to ``device`` and ``dtype``.

    Raises:
        InputError: if an argument has an unsupported value; the message gives the alternative.
        TypeError: if PyTorch's layer does not have the argument either.
    """
    for name, value in given.items():
        if name not in ("device", "dtype", *names):
            kind = type(layer).__name__
            raise TypeError(f"{kind}.__init__() got an unexpected keyword argument {name!r}")
        check_harmless(name, value)


def check_harmless(name: str, value: Any) -> None:
    """Checks that an argument of PyTorch that is not supported has a value without effect.

    Raises:
        InputError: if it has another value; the message gives the alternative.
    """
    harmless, expected = _OTHERS[name]
    plain = bool(value) if isinstance(value, np.bool_) else value
    if harmless and not any(type(plain) is type(one) and plain == one for one in harmless):
        raise InputError(name, expected, value)


def check_rngs(rngs: Any) -> nnx.Rngs:
    """Checks that ``rngs`` are random streams of Flax, and returns them.

    Raises:
        InputError: if they are not.
    """
    if not isinstance(rngs, nnx.Rngs):
        raise InputError("rngs", "random streams, such as rngs=nnx.Rngs(0)", rngs)
    return rngs


#: The source of random numbers of a function: a key, a random stream or ``nnx.Rngs``.
Draws = jax.Array | nnx.RngStream | nnx.Rngs | None


def check_draws(rngs: Any) -> None:
    """Checks that ``rngs`` is a random key, a random stream or ``nnx.Rngs``.

    Raises:
        InputError: if it is neither.
    """
    array = isinstance(rngs, jax.Array) and jnp.issubdtype(rngs.dtype, jax.dtypes.prng_key)
    if not (array or isinstance(rngs, nnx.Rngs | nnx.RngStream)):
        raise InputError("rngs", "a random key, such as jax.random.key(0), or streams", rngs)


def drawn_key(rngs: Any) -> jax.Array:
    """Returns the given random key, or the next key of a stream or of ``nnx.Rngs``.

    Raises:
        InputError: see ``check_draws``.
    """
    check_draws(rngs)
    if isinstance(rngs, nnx.Rngs):
        return rngs.dropout()
    return rngs() if isinstance(rngs, nnx.RngStream) else rngs


def check_parameters(rngs: Any, param_dtype: Any, *, constant: bool = False) -> nnx.Rngs:
    """Checks the random streams for initial values, and the dtype of parameters.

    Args:
        rngs: the random streams.
        param_dtype: the dtype of the parameters.
        constant: whether all initial values are constants, so that ``rngs`` may be None.

    Returns:
        The random streams.

    Raises:
        InputError: if ``rngs`` are not random streams, or the dtype is not floating-point.
    """
    if not (constant and rngs is None):
        check_rngs(rngs)
    check_float_dtype("param_dtype", param_dtype)
    return rngs


def draw_kernels(
    module: nnx.Module,
    kinds: tuple[type[nnx.Module], ...],
    draw: Initializer,
    rngs: nnx.Rngs | None,
) -> None:
    """Replaces the kernels of a module's layers by new random values.

    Args:
        module: the module, changed in place.
        kinds: the classes of the layers.
        draw: the initializer.
        rngs: the random streams.
    """
    keys = check_rngs(rngs)
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, kinds):
            kernel: nnx.Param = layer.kernel
            kernel.set_value(draw(keys.params(), kernel.shape, kernel.dtype))

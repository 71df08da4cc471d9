"""What every layer with parameters or random draws checks first, and PyTorch's other arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import InputError, check_float_dtype
from jaxnets.initializers import Initializer

#: Arguments of PyTorch's layers that ours have no need of: the values that ask for what is done
#: here anyway, and what to do instead of giving another. No value at all: any is as good.
_OTHERS: dict[str, tuple[tuple[Any, ...], str]] = {
    "device": ((None,), "None; jax.device_put moves a model's arrays"),
    "dtype": ((None,), "None; param_dtype=jnp.float32 says the dtype of parameters"),
    "batch_first": (
        (True,),
        "True: jnp.swapaxes(x, 0, 1) makes [batch, time, …] of x",
    ),
    "add_bias_kv": ((False,), "False, as keys and values get no learned position"),
    "add_zero_attn": ((False,), "False, as keys and values get no zero position"),
    "max_norm": ((None,), "None, as no row is scaled down in a call"),
    "norm_type": ((), ""),
    "scale_grad_by_freq": ((False,), "False, as gradients are not divided by counts"),
    "sparse": ((False,), "False, as gradients are dense"),
    "padding_mode": (("zeros",), "'zeros', the only mode of a transposed convolution"),
    "enable_nested_tensor": ((), ""),
    "mask_check": ((), ""),
}


def check_others(layer: nnx.Module, given: dict[str, Any], *names: str) -> None:
    """Takes what PyTorch's layer takes and ours does not, where it changes nothing.

    Args:
        layer: ours.
        given: arguments by name that it has no parameter for.
        names: which of PyTorch's there are beside ``device`` and ``dtype``.

    Raises:
        InputError: if one would change what the layer does; the message says what to do instead.
        TypeError: if one is not one of PyTorch's either, as of any function.
    """
    for name, value in given.items():
        if name not in ("device", "dtype", *names):
            kind = type(layer).__name__
            raise TypeError(f"{kind}.__init__() got an unexpected keyword argument {name!r}")
        check_harmless(name, value)


def check_harmless(name: str, value: Any) -> None:
    """Checks that one of PyTorch's arguments which ours have no need of changes nothing.

    Raises:
        InputError: if it would; the message says what to do instead.
    """
    harmless, expected = _OTHERS[name]
    plain = bool(value) if isinstance(value, np.bool_) else value
    if harmless and not any(type(plain) is type(one) and plain == one for one in harmless):
        raise InputError(name, expected, value)


def check_rngs(rngs: Any) -> nnx.Rngs:
    """The streams from which initial values or random draws are had.

    Raises:
        InputError: if these are no random streams of Flax.
    """
    if not isinstance(rngs, nnx.Rngs):
        raise InputError("rngs", "random streams, such as rngs=nnx.Rngs(0)", rngs)
    return rngs


#: What a function draws random numbers from: a key, a stream or streams.
Draws = jax.Array | nnx.RngStream | nnx.Rngs | None


def check_draws(rngs: Any) -> None:
    """Checks what a function draws from: a random key, or streams of them.

    Raises:
        InputError: if it is neither.
    """
    array = isinstance(rngs, jax.Array) and jnp.issubdtype(rngs.dtype, jax.dtypes.prng_key)
    if not (array or isinstance(rngs, nnx.Rngs | nnx.RngStream)):
        raise InputError("rngs", "a random key, such as jax.random.key(0), or streams", rngs)


def drawn_key(rngs: Any) -> jax.Array:
    """The random key that is given, or the next one of streams.

    Raises:
        InputError: as of ``check_draws``.
    """
    check_draws(rngs)
    if isinstance(rngs, nnx.Rngs):
        return rngs.dropout()
    return rngs() if isinstance(rngs, nnx.RngStream) else rngs


def check_parameters(rngs: Any, param_dtype: Any, *, constant: bool = False) -> nnx.Rngs:
    """Checks where initial values come from, and their dtype.

    Args:
        rngs: where they are drawn from.
        param_dtype: the dtype of the parameters.
        constant: whether nothing is drawn, so that ``rngs`` may be None.

    Returns:
        The streams.

    Raises:
        InputError: if there are no random streams, or the dtype is not a floating-point one.
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
    """Draws the kernels of a module's layers anew.

    Args:
        module: the module.
        kinds: the classes of the layers.
        draw: the initializer.
        rngs: source of the values.
    """
    keys = check_rngs(rngs)
    for _, layer in nnx.iter_modules(module):
        if isinstance(layer, kinds):
            kernel: nnx.Param = layer.kernel
            kernel.set_value(draw(keys.params(), kernel.shape, kernel.dtype))

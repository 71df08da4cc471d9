"""PyTorch's dtypes as JAX's."""

from typing import Any

from jaxnets.port.rules import Given
from jaxnets.port.values import Context, Plain, Refused

#: JAX's dtype for each of PyTorch's. Integers of 64 bits are JAX's of 32, its default.
_NAMES = {
    "float32": "jnp.float32",
    "float64": "jnp.float64",
    "float16": "jnp.float16",
    "bfloat16": "jnp.bfloat16",
    "int64": "jnp.int32",
    "int32": "jnp.int32",
    "int16": "jnp.int16",
    "int8": "jnp.int8",
    "uint8": "jnp.uint8",
    "bool": "bool",
    "complex64": "jnp.complex64",
    "complex128": "jnp.complex128",
}


def name_of(dtype: Any) -> str:
    """PyTorch's name of a dtype, without ``torch.``."""
    return str(dtype).removeprefix("torch.")


def jax_dtype(context: Context, dtype: Any) -> str:
    """The text of JAX's dtype for one of PyTorch's."""
    name = name_of(dtype)
    if name not in _NAMES:
        raise Refused(f"the dtype {name}", "Use a floating-point, integer or boolean one.")
    if _NAMES[name].startswith("jnp"):
        context.use("jnp")
    return _NAMES[name]


def dtype_text(context: Context, dtype: Given, default: str = "") -> str | None:
    """The text of a dtype argument; None where it is left out or JAX's default anyway."""
    if dtype is None or (isinstance(dtype, Plain) and dtype.value is None):
        return None
    assert isinstance(dtype, Plain)
    if name_of(dtype.value) == default:
        return None
    if dtype.text.endswith(".dtype"):
        return dtype.text
    return jax_dtype(context, dtype.value)

"""Converts PyTorch's dtypes to source code for JAX's dtypes."""

from typing import Any

from jaxnets.port.rules import Given
from jaxnets.port.values import Context, Plain, Refused

#: JAX's dtype for each of PyTorch's. int64 becomes int32, which is JAX's default.
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
    """Returns PyTorch's name of a dtype, without ``torch.``."""
    return str(dtype).removeprefix("torch.")


def jax_dtype(context: Context, dtype: Any) -> str:
    """Returns the source text of the JAX dtype for a PyTorch dtype."""
    name = name_of(dtype)
    if name not in _NAMES:
        raise Refused(f"the dtype {name}", "Use a floating-point, integer or boolean one.")
    if _NAMES[name].startswith("jnp"):
        context.use("jnp")
    return _NAMES[name]


def dtype_text(context: Context, dtype: Given, default: str = "") -> str | None:
    """Returns the source text of a dtype argument, or None if it is omitted or the default."""
    if dtype is None or (isinstance(dtype, Plain) and dtype.value is None):
        return None
    assert isinstance(dtype, Plain)
    if name_of(dtype.value) == default:
        return None
    if dtype.text.endswith(".dtype"):
        return dtype.text
    return jax_dtype(context, dtype.value)

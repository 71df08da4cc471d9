"""Rules for sizes, dtypes, devices, copies and conversions to Python."""

from typing import Any

from jaxnets.port.dtypes import jax_dtype
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import Given, call, known, method, refuse, rule, tensor, written
from jaxnets.port.values import ATOM, Context, Items, Plain, Tensor, Value, bound


def _size(x: Tensor, dim: int) -> Plain:
    return Plain(f"{bound(x, ATOM)}.shape[{x.axis(dim)}]", x.shape[dim])


@rule("shape")
def shape(context: Context, input: Value) -> Value:
    """Ports ``x.shape``."""
    if not isinstance(input, Tensor):
        return Plain(f"{bound(input, ATOM)}.shape", context.result)
    x = input
    text = f"{bound(x, ATOM)}.shape" if x.natural else None
    return Items(tuple(_size(x, dim) for dim in range(x.ndim)), text)


@rule("size")
def size(context: Context, input: Value, dim: Given = None) -> Value:
    """Ports ``x.size()`` and ``x.size(dim)``."""
    if dim is None:
        return shape(context, input)
    x = tensor(input)
    return _size(x, known(dim) % x.ndim)


@rule("dim", "ndim", "ndimension")
def dim(context: Context, input: Value) -> Value:
    """Ports the number of axes."""
    x = tensor(input)
    return Plain(f"{bound(x, ATOM)}.ndim", x.ndim)


@rule("numel", "nelement")
def numel(context: Context, input: Value) -> Value:
    """Ports the number of elements."""
    return Plain(f"{bound(input, ATOM)}.size", context.result)


@rule("len")
def len_(context: Context, input: Value) -> Value:
    """Ports ``len(x)``, the size of PyTorch's first axis."""
    if isinstance(input, Tensor) and input.axis(0) != 0:
        return _size(input, 0)
    return Plain(f"len({written(input)})", context.result)


@rule("dtype")
def dtype(context: Context, input: Value) -> Value:
    """Ports ``x.dtype``."""
    x = tensor(input)
    return Plain(f"{bound(x, ATOM)}.dtype", x.dtype)


@rule("device", "grad_fn", "layout")
def nothing(context: Context, input: Value) -> Value:
    """Ports attributes that JAX's arrays lack, as None."""
    return Plain("None", context.result)


@rule("is_cuda", "is_sparse", "is_mps", "is_quantized", "is_meta")
def never(context: Context, input: Value) -> Value:
    """Ports attributes that are always False in JAX."""
    return Plain("False", False, constant=True)


@rule("requires_grad", "is_contiguous", "is_leaf")
def always(context: Context, input: Value) -> Value:
    """Ports attributes as the constant that PyTorch returned on the example inputs."""
    return Plain(str(context.result), context.result, constant=True)


@rule("is_floating_point")
def is_floating_point(context: Context, input: Value) -> Value:
    """Ports the test for a floating-point dtype."""
    kind = "jnp.floating"
    return _subdtype(context, input, kind)


@rule("is_complex")
def is_complex(context: Context, input: Value) -> Value:
    """Ports the test for a complex dtype."""
    return _subdtype(context, input, "jnp.complexfloating")


def _subdtype(context: Context, input: Value, kind: str) -> Plain:
    text = call(context, "jnp.issubdtype", f"{bound(input, ATOM)}.dtype", kind)
    return Plain(text, context.result)


@rule("torch.is_tensor")
def is_tensor(context: Context, obj: Value) -> Value:
    """Ports the test for a tensor."""
    return Plain(f"isinstance({written(obj)}, {context.use('jax')}.Array)", context.result)


# ---- Copies and conversions ----


@rule(
    "clone",
    "contiguous",
    "cpu",
    "cuda",
    "requires_grad_",
    "retain_grad",
    "alias",
    "pin_memory",
    "share_memory_",
    "resolve_conj",
    "resolve_neg",
    "as_subclass",
    "to_dense",
)
def same(context: Context, input: Value, *args: Value, **kwargs: Value) -> Value:
    """Ports copies and similar calls as the array itself, as JAX's arrays are immutable."""
    return input


@rule("detach", "data", "Variable")
def detach(context: Context, input: Value) -> Value:
    """Ports ``detach`` by stopping the gradient; the older ``Variable`` stops it too."""
    x = tensor(input)
    return elementwise(context, call(context, "lax.stop_gradient", x), x)


def _cast(context: Context, x: Tensor, dtype: Any, text: str | None = None) -> Tensor:
    if dtype == x.dtype and not dtype.is_floating_point:
        return x  # not for floats, as the user's inputs may have another dtype than the example
    text = text or jax_dtype(context, dtype)
    return elementwise(context, f"{bound(x, ATOM)}.astype({text})", x)


@rule("to", "type", "type_as")
def to(
    context: Context,
    input: Value,
    first: Given = None,
    *rest: Value,
    dtype: Given = None,
    other: Given = None,
    copy: Given = None,
) -> Value:
    """Ports conversions to another dtype or device; devices are dropped."""
    x = tensor(input)
    for value in (first, *rest, dtype, other):
        if isinstance(value, Tensor):
            return _cast(context, x, value.dtype, f"{bound(value, ATOM)}.dtype")
        if isinstance(value, Plain) and type(value.value).__name__ == "dtype":
            text = value.text if value.text.endswith(".dtype") else None
            return _cast(context, x, value.value, text)
        if isinstance(value, Plain) and "Tensor" in str(value.value):
            return _cast(context, x, context.result.dtype)
    if first is None and dtype is None and other is None and isinstance(context.result, str):
        return Plain(repr(context.result), context.result)
    return x


def _caster(*names: str) -> None:
    @rule(*names)
    def apply(context: Context, input: Value) -> Value:
        return _cast(context, tensor(input), context.result.dtype)


_caster("float", "double", "half", "bfloat16", "long", "short", "bool", "byte", "char", "int")


def _note_that_values_are_read(context: Context) -> None:
    if not context.constructing:
        context.note("item() and tolist() read values, so they do not work under jax.jit")


@rule("item")
def item(context: Context, input: Value) -> Value:
    """Ports ``item``, the number of a tensor with one element."""
    _note_that_values_are_read(context)
    return Plain(method(context, tensor(input), "item"), context.result)


@rule("tolist")
def tolist(context: Context, input: Value) -> Value:
    """Ports ``tolist``, nested lists in PyTorch's order of axes."""
    _note_that_values_are_read(context)
    x = context.natural(tensor(input))
    return Plain(f"{bound(x, ATOM)}.tolist()", context.result)


@rule("numpy")
def numpy(context: Context, input: Value) -> Value:
    """Ports the conversion to a NumPy array in PyTorch's order of axes."""
    x = context.natural(tensor(input))
    return Plain(call(context, "np.asarray", x), context.result)


def _python(name: str, *names: str) -> None:
    @rule(*names)
    def apply(context: Context, input: Value) -> Value:
        return Plain(f"{name}({written(input)})", context.result)


_python("float", "Tensor.__float__")
_python("int", "Tensor.__int__")
_python("bool", "Tensor.__bool__", "is_nonzero")
_python("int", "Tensor.__index__")

refuse(
    "gradients taken within a network",
    "Take them outside of it, with jax.grad.",
    "backward",
    "grad",
    "register_hook",
    "torch.autograd.grad",
)

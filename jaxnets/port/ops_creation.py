"""Rules for creating tensors: constants, ranges and random numbers."""

import re
from collections.abc import Sequence
from typing import Any

from jaxnets.port.dtypes import dtype_text, jax_dtype, name_of
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import (
    Given,
    call,
    known,
    refuse,
    result,
    rule,
    tensor,
    written,
)
from jaxnets.port.values import ATOM, Context, Items, Plain, Refused, Tensor, Value, bound


def created(context: Context, text: str) -> Value:
    """Returns a new tensor, or a plain text if it was not created on the example inputs."""
    return Plain(text, None, known=False) if context.result is None else result(context, text)


def _shape(sizes: Sequence[Value]) -> str:
    """Returns the source text of a shape."""
    if len(sizes) == 1 and isinstance(sizes[0], Items):
        return written(sizes[0])
    if len(sizes) == 1 and isinstance(sizes[0], Plain) and isinstance(sizes[0].value, tuple):
        return written(sizes[0])
    texts = [written(size) for size in sizes]
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _result_dtype(context: Context, dtype: Given) -> str | None:
    """Returns the text of the dtype of a result, or None for JAX's default, float32."""
    if context.result is not None and name_of(context.result.dtype) == "float32":
        return None
    return dtype_text(context, dtype)


def _constant(function: str, *names: str) -> None:
    @rule(*names)
    def apply(
        context: Context, *size: Value, dtype: Given = None, names: Given = None, **more: Value
    ) -> Value:
        sizes = size or (more["size"],)
        text = call(context, function, _shape(sizes), dtype=_result_dtype(context, dtype))
        return created(context, text)


_constant("jnp.zeros", "zeros")
_constant("jnp.zeros", "empty")
_constant("jnp.ones", "ones")


@rule("full")
def full(context: Context, size: Value, fill_value: Value, *, dtype: Given = None) -> Value:
    """Ports a tensor filled with a number."""
    dtype_ = dtype_text(context, dtype)
    return created(context, call(context, "jnp.full", _shape([size]), fill_value, dtype=dtype_))


def _new(function: str, name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, *size: Value, dtype: Given = None) -> Value:
        x = tensor(input)
        given = dtype or Plain(f"{bound(x, ATOM)}.dtype", x.dtype)
        return created(
            context, call(context, function, _shape(size), dtype=_result_dtype(context, given))
        )


_new("jnp.zeros", "Tensor.new")
_new("jnp.zeros", "new_zeros")
_new("jnp.zeros", "new_empty")
_new("jnp.ones", "new_ones")


@rule("new_full")
def new_full(
    context: Context, input: Value, size: Value, fill_value: Value, *, dtype: Given = None
) -> Value:
    """Ports a tensor filled with a number, with the dtype of another tensor."""
    x = tensor(input)
    given = _result_dtype(context, dtype or Plain(f"{bound(x, ATOM)}.dtype", x.dtype))
    text = call(context, "jnp.full", _shape([size]), fill_value, dtype=given)
    return created(context, text)


def _alike(function: str, name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, *fill: Value, dtype: Given = None) -> Value:
        x = tensor(input)
        text = call(context, function, x, *fill, dtype=dtype_text(context, dtype))
        return elementwise(context, text, x)


_alike("jnp.zeros_like", "zeros_like")
_alike("jnp.zeros_like", "empty_like")
_alike("jnp.ones_like", "ones_like")


@rule("full_like")
def full_like(context: Context, input: Value, fill_value: Value, *, dtype: Given = None) -> Value:
    """Ports a tensor filled with a number, with the shape of another tensor."""
    x = tensor(input)
    text = call(context, "jnp.full_like", x, fill_value, dtype=dtype_text(context, dtype))
    return elementwise(context, text, x)


@rule("eye")
def eye(context: Context, n: Value, m: Given = None, *, dtype: Given = None) -> Value:
    """Ports the identity matrix."""
    return created(context, call(context, "jnp.eye", n, m, dtype=_result_dtype(context, dtype)))


@rule("arange", "range")
def arange(context: Context, *bounds: Value, dtype: Given = None, **named: Value) -> Value:
    """Ports evenly spaced numbers without the end."""
    given = list(bounds)
    for name in ("start", "end", "step"):
        if name in named:
            given.append(named[name])
    numbers = all(isinstance(v, Plain) and isinstance(v.value, int) for v in given)
    text = dtype_text(context, dtype, default="int64" if numbers else "")
    return created(context, call(context, "jnp.arange", *given, dtype=text))


@rule("linspace")
def linspace(
    context: Context, start: Value, end: Value, steps: Value, *, dtype: Given = None
) -> Value:
    """Ports a given number of evenly spaced numbers, including the end."""
    dtype_ = dtype_text(context, dtype)
    return created(context, call(context, "jnp.linspace", start, end, steps, dtype=dtype_))


@rule("logspace")
def logspace(
    context: Context,
    start: Value,
    end: Value,
    steps: Value,
    base: Given = None,
    *,
    dtype: Given = None,
) -> Value:
    """Ports powers with evenly spaced exponents."""
    dtype_ = dtype_text(context, dtype)
    text = call(context, "jnp.logspace", start, end, steps, base=base, dtype=dtype_)
    return created(context, text)


@rule("tensor", "as_tensor", "asarray", "from_numpy", "scalar_tensor")
def new_tensor(context: Context, data: Value, dtype: Given = None) -> Value:
    """Ports a tensor of Python numbers; a tensor is returned unchanged."""
    if isinstance(data, Tensor):
        return data
    text = dtype_text(context, dtype, default=_inferred(known(data)))
    return created(context, call(context, "jnp.array", data, dtype=text))


def _typed(name: str) -> None:
    @rule(f"torch.{name}")
    def apply(context: Context, *data: Value) -> Value:
        made = context.result
        if made is None:
            raise Refused("it does not run on the example inputs", "Use inputs that run it.")
        given = data[0] if len(data) == 1 else None
        dtype = jax_dtype(context, made.dtype)
        if isinstance(given, Tensor):
            return result(context, f"{bound(given, ATOM)}.astype({dtype})", given.order)
        if isinstance(given, Items) and made.ndim == _depth(given):
            return created(context, call(context, "jnp.array", given, dtype=dtype))
        shape = _shape(data) if data else "(0,)"  # zeros for PyTorch's uninitialized memory
        short = None if name_of(made.dtype) == "float32" else dtype
        return created(context, call(context, "jnp.zeros", shape, dtype=short))


def _depth(value: Value) -> int:
    """Returns the nesting depth of lists."""
    return 1 + _depth(value.items[0]) if isinstance(value, Items) and value.items else 0


for _name in ("", "Float", "Double", "Half", "Long", "Int", "Short", "Byte", "Bool"):
    _typed(f"{_name}Tensor")


@rule("new_tensor")
def new_tensor_of(context: Context, input: Value, data: Value, dtype: Given = None) -> Value:
    """Ports a tensor of Python numbers with the dtype of another tensor."""
    x = tensor(input)
    given = dtype or Plain(f"{bound(x, ATOM)}.dtype", x.dtype)
    return new_tensor(context, data, given)


def _inferred(data: Any) -> str:
    """Returns PyTorch's dtype of nested booleans or integers, or an empty string for floats."""
    while isinstance(data, tuple | list) and data:
        data = next((item for item in data if isinstance(item, float)), data[0])
    kinds = {bool: "bool", int: "int64"}
    return kinds.get(type(data), "")


def _indices(name: str) -> None:
    @rule(name)
    def apply(context: Context, row: Value, col: Value, offset: Given = None) -> Value:
        text = call(context, f"jnp.{name}", row, offset or "0", col)
        if known(row) == known(col):
            text = call(context, f"jnp.{name}", row, offset)
        return created(context, call(context, "jnp.stack", text))


_indices("tril_indices")
_indices("triu_indices")


# ---- Random numbers ----


def _key(context: Context) -> str:
    return f"{context.rngs()}()"


def _random(function: str, name: str, *sizes: str) -> None:
    @rule(name)
    def apply(context: Context, *size: Value, dtype: Given = None, **more: Value) -> Value:
        shape = _shape(size or (more["size"],))
        dtype_ = _result_dtype(context, dtype)
        return created(context, call(context, function, _key(context), shape, dtype=dtype_))

    @rule(f"{name}_like")
    def apply_like(context: Context, input: Value, *, dtype: Given = None) -> Value:
        x = tensor(input)
        given = _result_dtype(context, dtype or Plain(f"{bound(x, ATOM)}.dtype", x.dtype))
        shape = _shape_of(x)
        return elementwise(context, call(context, function, _key(context), shape, dtype=given), x)


_random("jax.random.uniform", "rand")
_random("jax.random.normal", "randn")


@rule("randint")
def randint(context: Context, *bounds: Value, dtype: Given = None, **named: Value) -> Value:
    """Ports random integers."""
    given = list(bounds) + [named[name] for name in ("low", "high", "size") if name in named]
    low, high, size = ([Plain("0", 0)] if len(given) == 2 else []) + given
    text = call(context, "jax.random.randint", _key(context), _shape([size]), low, high)
    return created(context, text)


@rule("randperm")
def randperm(context: Context, n: Value, *, dtype: Given = None) -> Value:
    """Ports a random permutation."""
    return created(context, call(context, "jax.random.permutation", _key(context), n))


def _shape_of(x: Tensor) -> str:
    """Returns the text of the shape of an array; for a new tensor, the shape it is created with."""
    new = re.fullmatch(r"jnp\.(?:zeros|ones)\((\w+|\([^()]*\))(?:, dtype=[\w.]+)?\)", x.text)
    return new[1] if new else f"{bound(x, ATOM)}.shape"


def _drawn(context: Context, x: Tensor, p: Value | str, *shape: str) -> Tensor:
    """Returns random zeros and ones in the dtype and order of x."""
    drawn = call(context, "jax.random.bernoulli", _key(context), p, *shape)
    usual = name_of(x.dtype) == "float32"
    dtype = "float" if usual else jax_dtype(context, x.dtype)
    return elementwise(context, f"{drawn}.astype({dtype})", x)


@rule("torch.bernoulli", "Tensor.bernoulli")
def bernoulli(context: Context, input: Value) -> Value:
    """Ports random zeros and ones, with probabilities given by a tensor."""
    x = tensor(input)
    return _drawn(context, x, x)


@rule("Tensor.bernoulli_")
def bernoulli_(context: Context, input: Value, p: Given = None) -> Value:
    """Ports filling a tensor with random zeros and ones."""
    x = tensor(input)
    return _drawn(context, x, "0.5" if p is None else p, _shape_of(x))


@rule("normal_")
def normal_(context: Context, input: Value, mean: Given = None, std: Given = None) -> Value:
    """Ports filling a tensor with normally distributed numbers."""
    x = tensor(input)
    shape = _shape_of(x)
    text = call(context, "jax.random.normal", _key(context), shape)
    if std is not None and known(std) != 1:
        text = f"{written(std)} * {text}"
    if mean is not None and known(mean) != 0:
        text = f"{written(mean)} + {text}"
    return elementwise(context, f"({text})", x)


@rule("uniform_")
def uniform_(context: Context, input: Value, *limits: Value, **named: Value) -> Value:
    """Ports filling a tensor with uniformly distributed numbers."""
    x = tensor(input)
    shape = _shape_of(x)
    low, high = (list(limits) + [named[n] for n in ("from", "to") if n in named] + [None] * 2)[:2]
    options = {"minval": low, "maxval": high}
    return elementwise(
        context, call(context, "jax.random.uniform", _key(context), shape, **options), x
    )


@rule("torch.normal")
def normal(context: Context, mean: Value, std: Value, size: Given = None) -> Value:
    """Ports normally distributed numbers with a mean and a standard deviation."""
    like = next((v for v in (mean, std) if isinstance(v, Tensor)), None)
    if like is None:
        assert size is not None
        text = call(context, "jax.random.normal", _key(context), _shape([size]))
        return created(context, f"({written(mean)} + {written(std)} * {text})")
    shape = f"{bound(like, ATOM)}.shape"
    text = call(context, "jax.random.normal", _key(context), shape)
    text = f"({written(mean)} + {written(std)} * {text})"
    return elementwise(context, text, like)


@rule("multinomial")
def multinomial(
    context: Context, input: Value, num_samples: Value, replacement: Given = None
) -> Value:
    """Ports random indices with probabilities proportional to weights."""
    x = context.natural(tensor(input))
    logits = call(context, "jnp.log", x)
    shape = (
        f"({bound(x, ATOM)}.shape[0], {written(num_samples)})"
        if x.ndim == 2
        else f"({written(num_samples)},)"
    )
    if x.ndim == 2:
        logits = f"{logits}[:, None]"
    options = {"shape": shape, "replace": None if known(replacement, False) else "False"}
    text = call(context, "jax.random.categorical", _key(context), logits, **options)
    return created(context, text)


refuse(
    "a random seed within a network",
    "Seed outside of it, with nnx.Rngs.",
    "torch.manual_seed",
    "torch.seed",
)

"""Rules for arithmetic, comparisons and other elementwise operations."""

from jaxnets.port import layouts
from jaxnets.port.rules import Given, call, known, present, refuse, result, rule, tensor
from jaxnets.port.values import (
    Binding,
    Context,
    Items,
    Plain,
    Refused,
    Tensor,
    Value,
    bound,
)


def elementwise(context: Context, text: str, leader: Tensor, binding: int = Binding.ATOM) -> Tensor:
    """Returns the result of an elementwise operation on operands aligned by ``layouts.align``."""
    if context.result is None:
        return leader.with_text(text, binding)
    symbols = leader.symbols if leader.shape == tuple(context.result.shape) else ()
    return result(context, text, leader.order, binding, symbols=symbols, origin=leader.origin)


def _infix(context: Context, operator: str, binding: Binding, a: Value, b: Value) -> Value:
    """Returns ``a operator b`` of tensors or numbers."""
    if isinstance(a, Items) or isinstance(b, Items):
        raise Refused("an operation on a list or tuple", "Make it a tensor, or write a loop.")
    power = operator == "**"
    comparison = binding == Binding.COMPARISON
    if not (isinstance(a, Tensor) or isinstance(b, Tensor)):
        left = bound(a, binding + (power or comparison))
        right = bound(b, Binding.UNARY if power else binding + 1)
        return Plain(f"{left} {operator} {right}", context.result, binding)
    (a, b), leader = layouts.align(context, a, b)
    left = bound(a, binding + (power or comparison))
    right = bound(b, Binding.UNARY if power else binding + 1)
    return elementwise(context, f"{left} {operator} {right}", leader, binding)


def _register_infix(operator: str, binding: Binding, *names: str) -> None:
    @rule(*names)
    def apply(context: Context, input: Value, other: Value) -> Value:
        return _infix(context, operator, binding, input, other)


for _operator, _binding, *_names in (
    ("*", Binding.PRODUCT, "mul", "multiply"),
    ("==", Binding.COMPARISON, "eq"),
    ("!=", Binding.COMPARISON, "ne", "not_equal"),
    ("<", Binding.COMPARISON, "lt", "less"),
    ("<=", Binding.COMPARISON, "le", "less_equal"),
    (">", Binding.COMPARISON, "gt", "greater"),
    (">=", Binding.COMPARISON, "ge", "greater_equal"),
    ("&", Binding.BIT_AND, "and", "bitwise_and"),
    ("|", Binding.BIT_OR, "or", "bitwise_or"),
    ("^", Binding.BIT_XOR, "xor", "bitwise_xor"),
    ("<<", Binding.SHIFT, "lshift", "bitwise_left_shift"),
    (">>", Binding.SHIFT, "rshift", "bitwise_right_shift"),
    ("//", Binding.PRODUCT, "floordiv", "floor_divide"),
    ("%", Binding.PRODUCT, "mod", "remainder"),
):
    _register_infix(_operator, _binding, *_names)


@rule("pow")
def pow(context: Context, input: Value, exponent: Value) -> Value:
    """Ports powers; whole exponents become integers, as JAX's gradient of x ** 0.0 at 0 is NaN."""
    if isinstance(exponent, Plain) and exponent.constant and isinstance(exponent.value, float):
        whole = exponent.value.is_integer() and abs(exponent.value) < 100
        floating = isinstance(input, Tensor) and input.dtype.is_floating_point
        if whole and floating:
            exponent = Plain(str(int(exponent.value)), int(exponent.value), constant=True)
    both = isinstance(input, Tensor) and isinstance(exponent, Tensor)
    if both and context.result.dtype.is_floating_point:
        (a, b), leader = layouts.align(context, input, exponent)
        return elementwise(context, call(context, "tensors.pow", a, b), leader)
    return _infix(context, "**", Binding.POWER, input, exponent)


@rule("add")
def add(context: Context, input: Value, other: Value, *, alpha: Given = None) -> Value:
    """Ports input + alpha · other, and the concatenation of lists and tuples."""
    if isinstance(input, Items) and isinstance(other, Items):
        return Items(input.items + other.items, None, input.kind)
    return _infix(context, "+", Binding.SUM, input, _scaled(other, alpha))


@rule("sub", "subtract")
def sub(context: Context, input: Value, other: Value, *, alpha: Given = None) -> Value:
    """Ports input - alpha · other."""
    return _infix(context, "-", Binding.SUM, input, _scaled(other, alpha))


@rule("rsub")
def rsub(context: Context, input: Value, other: Value, *, alpha: Given = None) -> Value:
    """Ports other - alpha · input."""
    return _infix(context, "-", Binding.SUM, other, _scaled(input, alpha))


def _scaled(x: Value, alpha: Given) -> Value:
    if alpha is None or known(alpha) == 1:
        return x
    text = f"{bound(alpha, Binding.PRODUCT)} * {bound(x, Binding.PRODUCT + 1)}"
    if isinstance(x, Tensor):
        return x.with_text(text, Binding.PRODUCT)
    return Plain(text, known(alpha) * known(x), Binding.PRODUCT)


@rule("div", "divide", "true_divide", "truediv")
def div(context: Context, input: Value, other: Value, *, rounding_mode: Given = None) -> Value:
    """Ports quotients, optionally rounded down or towards zero."""
    mode = known(rounding_mode)
    if mode == "trunc":
        (a, b), leader = layouts.align(context, input, other)
        integers = not context.result.dtype.is_floating_point
        if integers:
            return elementwise(context, call(context, "lax.div", a, b), leader)
        quotient = f"{bound(a, Binding.PRODUCT)} / {bound(b, Binding.PRODUCT + 1)}"
        return elementwise(context, call(context, "jnp.trunc", quotient), leader)
    operator = {None: "/", "floor": "//"}[mode]
    return _infix(context, operator, Binding.PRODUCT, input, other)


@rule("neg", "negative")
def neg(context: Context, input: Value) -> Value:
    """Ports negation."""
    return _prefix(context, "-", input)


@rule("bitwise_not", "invert")
def invert(context: Context, input: Value) -> Value:
    """Ports the complement of integers or booleans."""
    return _prefix(context, "~", input)


@rule("pos", "positive")
def pos(context: Context, input: Value) -> Value:
    """Ports unary plus as its operand."""
    return input


def _prefix(context: Context, sign: str, x: Value) -> Value:
    text = f"{sign}{bound(x, Binding.UNARY)}"
    if isinstance(x, Tensor):
        return elementwise(context, text, x, Binding.UNARY)
    return Plain(text, context.result, Binding.UNARY)


def _unary(function: str, *names: str) -> None:
    @rule(*names)
    def apply(context: Context, input: Value) -> Value:
        x = tensor(input)
        return elementwise(context, call(context, function, x), x)


for _function, *_names in (
    ("tensors.abs", "abs", "absolute"),
    ("jnp.exp", "exp"),
    ("jnp.exp2", "exp2"),
    ("jnp.expm1", "expm1"),
    ("jnp.log", "log"),
    ("jnp.log2", "log2"),
    ("jnp.log10", "log10"),
    ("jnp.log1p", "log1p"),
    ("jnp.sqrt", "sqrt"),
    ("lax.rsqrt", "rsqrt"),
    ("jnp.square", "square"),
    ("jnp.sin", "sin"),
    ("jnp.cos", "cos"),
    ("jnp.tan", "tan"),
    ("jnp.arcsin", "asin", "arcsin"),
    ("jnp.arccos", "acos", "arccos"),
    ("jnp.arctan", "atan", "arctan"),
    ("jnp.sinh", "sinh"),
    ("jnp.cosh", "cosh"),
    ("jnp.tanh", "tanh"),
    ("jnp.arcsinh", "asinh", "arcsinh"),
    ("jnp.arccosh", "acosh", "arccosh"),
    ("jnp.arctanh", "atanh", "arctanh"),
    ("jnp.sinc", "sinc"),
    ("jax.scipy.special.erf", "erf"),
    ("jax.scipy.special.erfc", "erfc"),
    ("jax.scipy.special.erfinv", "erfinv"),
    ("jax.scipy.special.gammaln", "lgamma", "gammaln"),
    ("jax.scipy.special.digamma", "digamma"),
    ("jax.scipy.special.i0", "i0"),
    ("jnp.floor", "floor"),
    ("jnp.ceil", "ceil"),
    ("jnp.trunc", "trunc", "fix"),
    ("jnp.sign", "sign", "sgn"),
    ("jnp.isnan", "isnan"),
    ("jnp.isinf", "isinf"),
    ("jnp.isfinite", "isfinite"),
    ("jnp.logical_not", "logical_not"),
    ("jnp.reciprocal", "reciprocal"),
    ("jnp.deg2rad", "deg2rad"),
    ("jnp.rad2deg", "rad2deg"),
    ("jnp.conj", "conj"),
    ("jnp.angle", "angle"),
    ("jnp.real", "real"),
    ("jnp.imag", "imag"),
):
    _unary(_function, *_names)


@rule("round")
def round(context: Context, input: Value, *, decimals: Given = None) -> Value:
    """Ports rounding, with halves to even."""
    x = tensor(input)
    return elementwise(context, call(context, "jnp.round", x, decimals), x)


@rule("logit")
def logit(context: Context, input: Value, eps: Given = None) -> Value:
    """Ports log(x / (1 - x)), with x clamped to [eps, 1 - eps] if eps is given."""
    x = tensor(input)
    eps = present(eps)
    if eps is not None:
        text = call(context, "tensors.clamp", x, eps, f"1 - {bound(eps, Binding.SUM + 1)}")
        return elementwise(context, call(context, "jax.scipy.special.logit", text), x)
    return elementwise(context, call(context, "jax.scipy.special.logit", x), x)


@rule("nan_to_num")
def nan_to_num(
    context: Context,
    input: Value,
    nan: Given = None,
    posinf: Given = None,
    neginf: Given = None,
) -> Value:
    """Ports the replacement of NaN and infinities by numbers."""
    x = tensor(input)
    values = {"nan": nan, "posinf": posinf, "neginf": neginf}
    given = {name: present(value) for name, value in values.items()}
    return elementwise(context, call(context, "jnp.nan_to_num", x, **given), x)


def _binary(function: str, *names: str) -> None:
    @rule(*names)
    def apply(context: Context, input: Value, other: Value) -> Value:
        (a, b), leader = layouts.align(context, input, other)
        return elementwise(context, call(context, function, a, b), leader)


for _function, *_names in (
    ("jnp.maximum", "maximum"),
    ("jnp.minimum", "minimum"),
    ("jnp.arctan2", "atan2", "arctan2"),
    ("jnp.fmod", "fmod"),
    ("jnp.logaddexp", "logaddexp"),
    ("jnp.logaddexp2", "logaddexp2"),
    ("jnp.logical_and", "logical_and"),
    ("jnp.logical_or", "logical_or"),
    ("jnp.logical_xor", "logical_xor"),
    ("jnp.heaviside", "heaviside"),
    ("jnp.copysign", "copysign"),
    ("jax.scipy.special.xlogy", "xlogy"),
    ("jnp.hypot", "hypot"),
):
    _binary(_function, *_names)


@rule("isclose")
def isclose(
    context: Context,
    input: Value,
    other: Value,
    rtol: Given = None,
    atol: Given = None,
    equal_nan: Given = None,
) -> Value:
    """Ports the elementwise test for close values."""
    (a, b), leader = layouts.align(context, input, other)
    options = {"rtol": rtol, "atol": atol, "equal_nan": equal_nan}
    return elementwise(context, call(context, "jnp.isclose", a, b, **options), leader)


@rule("allclose", "equal")
def allclose(
    context: Context, input: Value, other: Value, rtol: Given = None, atol: Given = None
) -> Value:
    """Ports the test whether all elements are close or equal."""
    (a, b), _ = layouts.align(context, input, other)
    text = call(context, "jnp.allclose", a, b, rtol=rtol, atol=atol)
    return Plain(text, context.result)


@rule("torch.where")
def where(context: Context, condition: Value, input: Given = None, other: Given = None) -> Value:
    """Ports the elementwise choice between two tensors."""
    if input is None or other is None:
        raise Refused(
            "the shape of the result of torch.where(condition) depends on the data",
            "Choose with torch.where(condition, a, b).",
        )
    (mask, a, b), leader = layouts.align(context, condition, input, other)
    return elementwise(context, call(context, "jnp.where", mask, a, b), leader)


@rule("Tensor.where")
def tensor_where(context: Context, input: Value, condition: Value, other: Value) -> Value:
    """Ports ``x.where(condition, other)``."""
    return where(context, condition, input, other)


@rule("masked_fill")
def masked_fill(context: Context, input: Value, mask: Value, value: Value) -> Value:
    """Ports the replacement of masked elements by a value."""
    return where(context, mask, value, input)


@rule("clamp", "clip")
def clamp(context: Context, input: Value, min: Given = None, max: Given = None) -> Value:
    """Ports clamping, whose gradient at the limits is 1, unlike that of ``jnp.clip``."""
    x = tensor(input)
    limits = [present(limit) for limit in (min, max)]
    if all(limit is None for limit in limits):
        return x
    given = [limit for limit in limits if limit is not None]
    (x_, *rest), leader = layouts.align(context, x, *given)
    low, high = (rest.pop(0) if limit is not None else None for limit in limits)
    if low is None:
        return elementwise(context, call(context, "tensors.clamp", x_, max=high), leader)
    return elementwise(context, call(context, "tensors.clamp", x_, low, high), leader)


@rule("clamp_min")
def clamp_min(context: Context, input: Value, min: Value) -> Value:
    """Ports clamping from below."""
    return clamp(context, input, min)


@rule("clamp_max")
def clamp_max(context: Context, input: Value, max: Value) -> Value:
    """Ports clamping from above."""
    return clamp(context, input, None, max)


@rule("lerp")
def lerp(context: Context, input: Value, end: Value, weight: Value) -> Value:
    """Ports start + weight · (end - start)."""
    (a, b, w), leader = layouts.align(context, input, end, weight)
    return elementwise(context, call(context, "tensors.lerp", a, b, w), leader)


@rule("addcmul")
def addcmul(
    context: Context, input: Value, tensor1: Value, tensor2: Value, *, value: Given = None
) -> Value:
    """Ports input + value · tensor1 · tensor2."""
    return _with_product(context, "*", input, tensor1, tensor2, value)


@rule("addcdiv")
def addcdiv(
    context: Context, input: Value, tensor1: Value, tensor2: Value, *, value: Given = None
) -> Value:
    """Ports input + value · tensor1 / tensor2."""
    return _with_product(context, "/", input, tensor1, tensor2, value)


def _with_product(
    context: Context, operator: str, x: Value, first: Value, second: Value, value: Given
) -> Value:
    (x, first, second), leader = layouts.align(context, x, first, second)
    parts = [bound(first, Binding.PRODUCT), operator, bound(second, Binding.PRODUCT + 1)]
    if value is not None and known(value) != 1:
        parts = [bound(value, Binding.PRODUCT), "*", *parts]
    text = f"{bound(x, Binding.SUM)} + {' '.join(parts)}"
    return elementwise(context, text, leader, Binding.SUM)


@rule("fill_", "Tensor.fill")
def fill(context: Context, input: Value, value: Value) -> Value:
    """Ports filling a tensor with a number."""
    x = tensor(input)
    return elementwise(context, call(context, "jnp.full_like", x, value), x)


@rule("zero_")
def zero(context: Context, input: Value) -> Value:
    """Ports filling a tensor with zeros."""
    x = tensor(input)
    return elementwise(context, call(context, "jnp.zeros_like", x), x)


@rule("copy_")
def copy(context: Context, input: Value, src: Value) -> Value:
    """Ports copying another tensor into a tensor of the same dtype."""
    x, source = tensor(input), tensor(src)
    if x.shape != source.shape:
        (_, source_), leader = layouts.align(context, x, source)
        shape = call(context, "jnp.shape", x)
        return elementwise(context, call(context, "jnp.broadcast_to", source_, shape), leader)
    if x.dtype != source.dtype:
        raise Refused("copy_ between two dtypes", "Convert the source with .to(dtype) first.")
    return source


refuse(
    "the number of elements that a mask selects depends on the data",
    "Choose with torch.where, or multiply by the mask.",
    "nonzero",
    "argwhere",
    "unique",
    "unique_consecutive",
    "bincount",
)

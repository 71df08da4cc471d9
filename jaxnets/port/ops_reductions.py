"""Rules for sums, means, extremes, sorting and other operations along axes."""

from collections.abc import Sequence

from jaxnets.port import layouts
from jaxnets.port.dtypes import dtype_text
from jaxnets.port.ops_elementwise import elementwise
from jaxnets.port.rules import (
    Given,
    call,
    known,
    method,
    pair,
    result,
    rule,
    tensor,
    word,
)
from jaxnets.port.values import Context, Items, Plain, Refused, Tensor, Value


def _order(x: Tensor, dims: Sequence[int], keepdim: bool) -> tuple[int, ...]:
    return x.order if keepdim else layouts.without(x, dims)


def _axes(x: Tensor, dim: Given) -> str | None:
    """Returns the text of the port's axes, or None for all axes."""
    if dim is None or known(dim) is None or known(dim) in ((), []):
        return None
    return layouts.axes(x, dim)


def _keep(keepdim: Given) -> str | None:
    return "True" if known(keepdim, False) else None


def _reduced(
    context: Context, x: Tensor, text: str, dim: Given, keepdim: Given, **options: object
) -> Tensor:
    order = _order(x, layouts.dims_of(x, dim), known(keepdim, False))
    return result(context, text, order)


def _register(name: str, *names: str) -> None:
    @rule(*names)
    def apply(
        context: Context,
        input: Value,
        dim: Given = None,
        keepdim: Given = None,
        *,
        dtype: Given = None,
    ) -> Value:
        x = tensor(input)
        options = {"dtype": dtype_text(context, dtype), "keepdims": _keep(keepdim)}
        text = method(context, x, name, _axes(x, dim), **options)
        return _reduced(context, x, text, dim, keepdim)


for _name, *_names in (
    ("sum", "sum"),
    ("mean", "mean"),
    ("prod", "prod"),
    ("all", "all"),
    ("any", "any"),
):
    _register(_name, *_names)


def _shared_extreme(name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, dim: Given = None, keepdim: Given = None) -> Value:
        x = tensor(input)
        text = call(context, f"tensors.{name}", x, _axes(x, dim), keepdim=_keep(keepdim))
        return _reduced(context, x, text, dim, keepdim)


_shared_extreme("amax")
_shared_extreme("amin")


@rule("nansum")
def nansum(context: Context, input: Value, dim: Given = None, keepdim: Given = None) -> Value:
    """Ports the sum without NaN."""
    x = tensor(input)
    text = call(context, "jnp.nansum", x, _axes(x, dim), keepdims=_keep(keepdim))
    return _reduced(context, x, text, dim, keepdim)


@rule("nanmean")
def nanmean(context: Context, input: Value, dim: Given = None, keepdim: Given = None) -> Value:
    """Ports the mean without NaN."""
    x = tensor(input)
    text = call(context, "jnp.nanmean", x, _axes(x, dim), keepdims=_keep(keepdim))
    return _reduced(context, x, text, dim, keepdim)


@rule("count_nonzero")
def count_nonzero(context: Context, input: Value, dim: Given = None) -> Value:
    """Ports the number of nonzero elements."""
    x = tensor(input)
    return _reduced(context, x, call(context, "jnp.count_nonzero", x, _axes(x, dim)), dim, None)


def _correction(dim: Given, unbiased: Given, correction: Given) -> tuple[Given, int]:
    """Returns the axes and the correction of ``x.var(dim, unbiased)`` or ``x.var(unbiased)``."""
    if isinstance(dim, Plain) and isinstance(dim.value, bool):
        dim, unbiased = None, dim
    if correction is not None:
        return dim, 0 if known(correction) is None else known(correction)
    return dim, int(known(unbiased, True))


@rule("var")
def var(
    context: Context,
    input: Value,
    dim: Given = None,
    unbiased: Given = None,
    keepdim: Given = None,
    *,
    correction: Given = None,
) -> Value:
    """Ports the variance, unbiased by default."""
    x = tensor(input)
    dim, ddof = _correction(dim, unbiased, correction)
    options = {"ddof": ddof or None, "keepdims": _keep(keepdim)}
    text = method(context, x, "var", _axes(x, dim), **options)
    return _reduced(context, x, text, dim, keepdim)


@rule("std")
def std(
    context: Context,
    input: Value,
    dim: Given = None,
    unbiased: Given = None,
    keepdim: Given = None,
    *,
    correction: Given = None,
) -> Value:
    """Ports the standard deviation, whose gradient is 0 at 0."""
    x = tensor(input)
    dim, ddof = _correction(dim, unbiased, correction)
    options = {"correction": None if ddof == 1 else ddof, "keepdim": _keep(keepdim)}
    text = call(context, "tensors.std", x, _axes(x, dim), **options)
    return _reduced(context, x, text, dim, keepdim)


def _two(name: str, spread: str) -> None:
    @rule(name)
    def apply(
        context: Context,
        input: Value,
        dim: Given = None,
        unbiased: Given = None,
        keepdim: Given = None,
        *,
        correction: Given = None,
    ) -> Value:
        options = {"dim": dim, "unbiased": unbiased, "keepdim": keepdim, "correction": correction}
        first, second = context.result
        function = var if spread == "var" else std
        context.result = first
        one = function(context, input, **options)
        context.result = second
        dim, _ = _correction(dim, unbiased, correction)
        x = tensor(input)
        text = method(context, x, "mean", _axes(x, dim), keepdims=_keep(keepdim))
        other = _reduced(context, x, text, dim, keepdim)
        context.result = (first, second)
        return Items((one, other))


_two("var_mean", "var")
_two("std_mean", "std")


def _extreme(name: str) -> None:
    @rule(name)
    def apply(
        context: Context, input: Value, dim: Given = None, keepdim: Given = None, **others: Value
    ) -> Value:
        """Ports the extreme of all elements, of two tensors, or along an axis with indices."""
        x = tensor(input)
        dim = others.pop("other", dim)
        if others:
            raise Refused(f"torch.{name} with {', '.join(others)}", "Omit these arguments.")
        if dim is None:
            return _reduced(context, x, call(context, f"tensors.a{name}", x), None, None)
        if isinstance(dim, Tensor):
            (a, b), leader = layouts.align(context, x, dim)
            return elementwise(context, call(context, f"jnp.{name}imum", a, b), leader)
        return _chosen(context, x, f"tensors.{name}", f"arg{name}", dim, keepdim)


def _chosen(
    context: Context, x: Tensor, function: str, index: str | None, dim: Value, keepdim: Given
) -> Items:
    """Returns values and indices along an axis."""
    text = call(context, function, x, layouts.axis(x, dim), keepdim=_keep(keepdim))
    both = pair(context, text, _order(x, layouts.dims_of(x, dim), known(keepdim, False)))
    if index is None:
        return both
    values, indices = both.items
    assert isinstance(indices, Tensor)
    text = method(context, x, index, layouts.axis(x, dim), keepdims=_keep(keepdim))
    return Items((values, indices.with_text(text)), both.text)


_extreme("max")
_extreme("min")


def _place(name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, dim: Given = None, keepdim: Given = None) -> Value:
        """Ports the index of the first extreme; without an axis in PyTorch's flat order."""
        x = tensor(input)
        if dim is None or known(dim) is None:
            x = context.natural(x)
            return _reduced(context, x, method(context, x, name), None, keepdim)
        text = method(context, x, name, layouts.axis(x, dim), keepdims=_keep(keepdim))
        return _reduced(context, x, text, dim, keepdim)


_place("argmax")
_place("argmin")


@rule("median")
def median(context: Context, input: Value, dim: Given = None, keepdim: Given = None) -> Value:
    """Ports the median, which is the lower one of two."""
    x = tensor(input)
    if dim is None:
        return _reduced(context, x, call(context, "tensors.median", x), None, None)
    return _chosen(context, x, "tensors.median", None, dim, keepdim)


@rule("kthvalue")
def kthvalue(
    context: Context, input: Value, k: Value, dim: Given = None, keepdim: Given = None
) -> Value:
    """Ports the k-th smallest element along an axis."""
    x = tensor(input)
    dims = (known(dim, -1),)
    axis = layouts.axis(x, dim if dim is not None else -1)
    text = call(context, "tensors.kthvalue", x, k, axis, keepdim=_keep(keepdim))
    return pair(context, text, _order(x, dims, known(keepdim, False)))


@rule("logsumexp")
def logsumexp(context: Context, input: Value, dim: Value, keepdim: Given = None) -> Value:
    """Ports the logarithm of a sum of exponentials."""
    x = tensor(input)
    text = call(context, "jax.nn.logsumexp", x, _axes(x, dim), keepdims=_keep(keepdim))
    return _reduced(context, x, text, dim, keepdim)


def _norm_text(context: Context, x: Tensor, p: Given, dim: Given, keepdim: Given) -> Tensor:
    axes = _axes(x, dim)
    order = None if p is None or known(p) in (2, "fro", None) else p
    options = {"p": order, "dim": axes, "keepdim": _keep(keepdim)}
    return _reduced(context, x, call(context, "tensors.norm", x, **options), dim, keepdim)


@rule("norm")
def norm(
    context: Context,
    input: Value,
    p: Given = None,
    dim: Given = None,
    keepdim: Given = None,
    dtype: Given = None,
) -> Value:
    """Ports the norm of vectors, whose gradient is 0 at 0."""
    if known(p) == "nuc":
        raise Refused("the nuclear norm", "Compute it from torch.linalg.svdvals.")
    return _norm_text(context, tensor(input), p, dim, keepdim)


@rule("linalg.vector_norm", "linalg.norm")
def vector_norm(
    context: Context,
    input: Value,
    ord: Given = None,
    dim: Given = None,
    keepdim: Given = None,
    *,
    dtype: Given = None,
) -> Value:
    """Ports the norm of vectors, and the Frobenius norm of matrices."""
    x = tensor(input)
    matrices = len(layouts.dims_of(x, dim)) == 2
    if matrices and known(ord) not in (None, "fro") and (dim is not None or x.ndim == 2):
        raise Refused("a norm of matrices", "Compute it from torch.linalg.svdvals.")
    return _norm_text(context, x, ord, dim, keepdim)


@rule("dist")
def dist(context: Context, input: Value, other: Value, p: Given = None) -> Value:
    """Ports the norm of a difference."""
    (a, b), _ = layouts.align(context, input, other)
    order = None if known(p, 2) == 2 else p
    return result(context, call(context, "tensors.norm", f"{a.text} - {b.text}", p=order))


def _cumulative(function: str, name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, dim: Value, *, dtype: Given = None) -> Value:
        x = tensor(input)
        text = method(context, x, function, layouts.axis(x, dim))
        return elementwise(context, text, x)


_cumulative("cumsum", "cumsum")
_cumulative("cumprod", "cumprod")


@rule("logcumsumexp")
def logcumsumexp(context: Context, input: Value, dim: Value) -> Value:
    """Ports the logarithm of the cumulative sum of exponentials."""
    x = tensor(input)
    text = call(context, "lax.cumlogsumexp", x, layouts.axis(x, known(dim) % x.ndim))
    return elementwise(context, text, x)


def _cumulative_extreme(name: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value, dim: Value) -> Value:
        x = tensor(input)
        return pair(context, call(context, f"tensors.{name}", x, layouts.axis(x, dim)), x.order)


_cumulative_extreme("cummax")
_cumulative_extreme("cummin")


@rule("diff")
def diff(context: Context, input: Value, n: Given = None, dim: Given = None) -> Value:
    """Ports the differences of neighbouring elements."""
    x = tensor(input)
    axis = layouts.axis(x, known(dim, -1) % x.ndim)
    return result(context, call(context, "jnp.diff", x, n, axis=axis), x.order)


@rule("sort")
def sort(
    context: Context,
    input: Value,
    dim: Given = None,
    descending: Given = None,
    *,
    stable: Given = None,
) -> Value:
    """Ports sorted values and their indices."""
    x = tensor(input)
    axis = _axis_or_last(x, dim)
    down = "True" if known(descending, False) else None
    both = pair(context, call(context, "tensors.sort", x, axis, descending=down), x.order)
    values, indices = both.items
    assert isinstance(values, Tensor)
    assert isinstance(indices, Tensor)
    if down is None:
        values = values.with_text(call(context, "jnp.sort", x, axis))
    indices = indices.with_text(call(context, "jnp.argsort", x, axis, descending=down))
    return Items((values, indices), both.text)


@rule("argsort")
def argsort(
    context: Context,
    input: Value,
    dim: Given = None,
    descending: Given = None,
    *,
    stable: Given = None,
) -> Value:
    """Ports the indices of sorted values."""
    x = tensor(input)
    down = "True" if known(descending, False) else None
    text = call(context, "jnp.argsort", x, _axis_or_last(x, dim), descending=down)
    return elementwise(context, text, x)


def _axis_or_last(x: Tensor, dim: Given) -> str | None:
    """Returns the text of the port's axis, or None if it is the last axis, the default."""
    number = x.axis(-1 if dim is None else known(dim)) if x.ndim else 0
    return None if number == max(x.ndim, 1) - 1 else layouts.axis(x, known(dim, -1))


@rule("topk")
def topk(
    context: Context,
    input: Value,
    k: Value,
    dim: Given = None,
    largest: Given = None,
    sorted: Given = None,
) -> Value:
    """Ports the largest values along an axis and their indices."""
    x = tensor(input)
    axis = _axis_or_last(x, dim)
    if axis is None and known(largest, True):
        return pair(context, call(context, "lax.top_k", x, k), x.order)
    least = None if known(largest, True) else "False"
    return pair(context, call(context, "tensors.topk", x, k, axis, largest=least), x.order)


@rule("quantile")
def quantile(
    context: Context,
    input: Value,
    q: Value,
    dim: Given = None,
    keepdim: Given = None,
    *,
    interpolation: Given = None,
) -> Value:
    """Ports quantiles along an axis or of all elements."""
    x = tensor(input)
    if isinstance(q, Tensor) and q.ndim:
        raise Refused("several quantiles at once", "Compute them one by one.")
    how = known(interpolation, "linear")
    options = {"method": None if how == "linear" else word(how), "keepdims": _keep(keepdim)}
    text = call(context, "jnp.quantile", x, q, _axes(x, dim), **options)
    return _reduced(context, x, text, dim, keepdim)


@rule("trace")
def trace(context: Context, input: Value) -> Value:
    """Ports the sum of the diagonal of a matrix."""
    return result(context, call(context, "jnp.trace", tensor(input)))

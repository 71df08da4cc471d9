"""Rules for products of matrices and vectors, and einsum."""

from jaxnets.port import layouts
from jaxnets.port.rules import Given, call, known, method, present, result, rule, tensor
from jaxnets.port.values import (
    Binding,
    Context,
    Items,
    Tensor,
    Value,
    bound,
    natural,
)


@rule("matmul", "mm", "bmm", "mv", "dot", "inner", "vdot", "spmm", "torch._C._sparse._sparse_mm")
def matmul(context: Context, input: Value, other: Value) -> Tensor:
    """Ports matrix products, in the current orders of the operands where possible."""
    a, b = tensor(input), tensor(other)
    if _stacked(a) and _stacked(b):
        if a.ndim == b.ndim > 1 and _turned(a) and _turned(b):
            text = f"{bound(b, Binding.PRODUCT)} @ {bound(a, Binding.PRODUCT + 1)}"
            return result(context, text, a.order, Binding.PRODUCT)
        return result(context, _product(a, b), None, Binding.PRODUCT)
    if min(a.ndim, b.ndim) >= 2 and a.shape[:-2] == b.shape[:-2]:
        return _einsum(context, a, b)
    a, b = context.natural(a), context.natural(b)
    return result(context, _product(a, b), None, Binding.PRODUCT)


def _product(a: Tensor, b: Tensor) -> str:
    left, right = bound(a, Binding.PRODUCT), bound(b, Binding.PRODUCT + 1)
    if b.ndim > 1 and _turned(b):
        right = f"{bound(b, Binding.ATOM)}.mT"
    if a.ndim > 1 and _turned(a):
        left = f"{bound(a, Binding.ATOM)}.mT"
    return f"{left} @ {right}"


def _turned(x: Tensor) -> bool:
    """Whether the last two axes are PyTorch's last two axes, swapped."""
    return x.order[-2:] == (x.ndim - 1, x.ndim - 2)


def _stacked(x: Tensor) -> bool:
    """Whether all but the last two axes are in PyTorch's order, so that ``@`` is applicable."""
    return x.order[:-2] == natural(x.ndim)[:-2]


def _einsum(context: Context, a: Tensor, b: Tensor) -> Tensor:
    """Returns a matrix product by einsum.

    The result has the order of the operand that is not in PyTorch's order.
    """
    batch = "bhxyz"[: a.ndim - 2] if a.ndim <= 4 else "bxyzuvw"[: a.ndim - 2]
    rows, middle, columns = "qdk" if _turned(b) or b.natural is False else "qkd"
    left, right, out = batch + rows + middle, batch + middle + columns, batch + rows + columns
    order = natural(a.ndim)
    if a.natural or b.natural:
        order = b.order if a.natural else a.order
    subscripts = f"{_letters(left, a.order)},{_letters(right, b.order)}->{_letters(out, order)}"
    return result(context, call(context, "jnp.einsum", f'"{subscripts}"', a, b), order)


def _letters(names: str, order: tuple[int, ...]) -> str:
    return "".join(names[dim] for dim in order)


@rule("einsum")
def einsum(context: Context, equation: Value, *operands: Value) -> Tensor:
    """Ports einsum, with subscripts in the current orders of the operands."""
    given = list(operands[0].items) if isinstance(operands[0], Items) else list(operands)
    tensors = [tensor(x) for x in given]
    text = known(equation).replace(" ", "")
    if all(x.natural for x in tensors):
        return result(context, call(context, "jnp.einsum", f'"{known(equation)}"', *tensors))
    if "." in text:
        tensors = [context.natural(x) for x in tensors]
        return result(context, call(context, "jnp.einsum", f'"{text}"', *tensors))
    inputs, arrow, out = text.partition("->")
    if not arrow:
        letters = sorted(set(inputs) - {","})
        out = "".join(letter for letter in letters if inputs.count(letter) == 1)
    terms = zip(inputs.split(","), tensors, strict=True)
    text = ",".join(_letters(term, x.order) for term, x in terms) + "->" + out
    return result(context, call(context, "jnp.einsum", f'"{text}"', *tensors))


def _plus(context: Context, x: Value, product: Tensor, beta: Given, alpha: Given) -> Tensor:
    """Returns beta · x + alpha · product."""
    scale = "" if alpha is None or known(alpha) == 1 else f"{bound(alpha, Binding.PRODUCT)} * "
    text = f"{scale}({product.text})" if scale else product.text
    if beta is not None and known(beta) == 0:
        return product.with_text(text, Binding.PRODUCT)
    term = layouts.place(context, tensor(x), product.order)
    first = bound(term, Binding.SUM)
    if beta is not None and known(beta) != 1:
        first = f"{bound(beta, Binding.PRODUCT)} * {bound(term, Binding.PRODUCT + 1)}"
    return product.with_text(f"{first} + {text}", Binding.SUM)


def _added(name: str, first: str, second: str) -> None:
    @rule(name)
    def apply(
        context: Context,
        input: Value,
        *args: Value,
        beta: Given = None,
        alpha: Given = None,
        **named: Value,
    ) -> Value:
        factors = [*args, *(named[key] for key in (first, second) if key in named)]
        return _plus(context, input, matmul(context, *factors), beta, alpha)


_added("addmm", "mat1", "mat2")
_added("addmv", "mat", "vec")
_added("baddbmm", "batch1", "batch2")


@rule("F.linear")
def linear(context: Context, input: Value, weight: Value, bias: Given = None) -> Tensor:
    """Ports x Wᵀ + b over the last axis."""
    x, w = layouts.last(context, tensor(input)), context.natural(tensor(weight))
    text = f"{bound(x, Binding.PRODUCT)} @ {bound(w, Binding.ATOM)}.T"
    bias = present(bias)
    if bias is None:
        return result(context, text, x.order, Binding.PRODUCT)
    return result(context, f"{text} + {bound(bias, Binding.SUM + 1)}", x.order, Binding.SUM)


@rule("F.bilinear")
def bilinear(
    context: Context, input1: Value, input2: Value, weight: Value, bias: Given = None
) -> Tensor:
    """Ports x₁ W x₂ + b."""
    a, b = context.natural(tensor(input1)), context.natural(tensor(input2))
    text = call(context, "jnp.einsum", '"...i,oij,...j->...o"', a, weight, b)
    bias = present(bias)
    if bias is None:
        return result(context, text)
    return result(context, f"{text} + {bound(bias, Binding.SUM + 1)}", None, Binding.SUM)


@rule("outer", "ger")
def outer(context: Context, input: Value, vec2: Value) -> Tensor:
    """Ports the outer product."""
    return result(context, call(context, "jnp.outer", tensor(input), tensor(vec2)))


@rule("kron")
def kron(context: Context, input: Value, other: Value) -> Tensor:
    """Ports the Kronecker product."""
    a, b = context.natural(tensor(input)), context.natural(tensor(other))
    return result(context, call(context, "jnp.kron", a, b))


@rule("tensordot")
def tensordot(context: Context, a: Value, b: Value, dims: Given = None) -> Tensor:
    """Ports the product over several axes."""
    left, right = context.natural(tensor(a)), context.natural(tensor(b))
    return result(context, call(context, "jnp.tensordot", left, right, dims))


@rule("cross", "linalg.cross")
def cross(context: Context, input: Value, other: Value, dim: Given = None) -> Tensor:
    """Ports the cross product."""
    (a, b), leader = layouts.align(context, input, other)
    text = call(context, "jnp.cross", a, b, axis=layouts.axis(leader, known(dim, -1)))
    return result(context, text, leader.order)


@rule("cdist")
def cdist(context: Context, x1: Value, x2: Value, p: Given = None, **others: Value) -> Tensor:
    """Ports the distances between all pairs of rows."""
    a, b = context.natural(tensor(x1)), context.natural(tensor(x2))
    left, right = f"{bound(a, Binding.ATOM)}[..., :, None, :]", f"{bound(b, Binding.ATOM)}"
    order = None if known(p, 2) == 2 else p
    difference = f"{left} - {right}[..., None, :, :]"
    return result(context, call(context, "tensors.norm", difference, p=order, dim=-1))


def _matrices(name: str, function: str) -> None:
    @rule(name)
    def apply(context: Context, input: Value) -> Value:
        x = context.natural(tensor(input))
        return result(context, call(context, function, x))


_matrices("linalg.inv", "jnp.linalg.inv")
_matrices("inverse", "jnp.linalg.inv")
_matrices("linalg.det", "jnp.linalg.det")
_matrices("det", "jnp.linalg.det")
_matrices("linalg.cholesky", "jnp.linalg.cholesky")


@rule("linalg.solve")
def solve(context: Context, A: Value, B: Value) -> Tensor:
    """Ports the solution of a linear system."""
    a, b = context.natural(tensor(A)), context.natural(tensor(B))
    return result(context, call(context, "jnp.linalg.solve", a, b))


@rule("diag")
def diag(context: Context, input: Value, diagonal: Given = None) -> Tensor:
    """Ports the diagonal of a matrix, or the diagonal matrix of a vector."""
    return result(context, call(context, "jnp.diag", context.natural(tensor(input)), diagonal))


@rule("diagonal")
def diagonal(
    context: Context,
    input: Value,
    offset: Given = None,
    dim1: Given = None,
    dim2: Given = None,
) -> Tensor:
    """Ports the diagonals of two axes as a new last axis."""
    x = tensor(input)
    pair = known(dim1, 0) % x.ndim, known(dim2, 1) % x.ndim
    options = {"axis1": str(x.axis(pair[0])), "axis2": str(x.axis(pair[1]))}
    text = method(context, x, "diagonal", offset, **options)
    return result(context, text, (*layouts.without(x, pair), x.ndim - 2))


@rule("diag_embed")
def diag_embed(context: Context, input: Value) -> Tensor:
    """Ports diagonal matrices from the last axis."""
    x = layouts.last(context, tensor(input))
    size = x.shape[-1]
    text = f"{bound(x, Binding.ATOM)}[..., None] * {call(context, 'jnp.eye', size)}"
    return result(context, text, (*x.order, x.ndim), Binding.PRODUCT)

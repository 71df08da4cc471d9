"""Each rule of the port writes an expression with the values and gradients of PyTorch."""

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jaxnets.port import ops
from jaxnets.port.values import Binding, Context, Items, Plain, Refused, Tensor, natural
from tests import tier

from .port_expressions import compare, last_channels

IMAGE = (2, 3, 4, 5)
MASK = torch.tensor([[True, False, True], [False, False, True]])


@pytest.fixture(autouse=True, scope="module")
def doubles():
    promotion = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with jax.enable_x64(True), promotion[0], promotion[1]:
        yield


def halves(*shape):
    """Multiples of 0.5, including zeros and equal values."""
    numbers = np.random.default_rng(3).integers(-4, 5, shape)
    return torch.from_numpy(numbers / 2)


def positive(*shape):
    return torch.from_numpy(np.random.default_rng(2).uniform(0.2, 0.9, shape))


def whole(*shape, below=3):
    return torch.from_numpy(np.random.default_rng(1).integers(0, below, shape))


def normal(shape, seed):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


ELEMENTWISE = {
    "add": (lambda x, y: x + y, (2, 3), (2, 3)),
    "add alpha": (lambda x, y: x.add(y, alpha=2), (2, 3), (3,)),
    "sub": (lambda x, y: torch.sub(x, y) - 1, (2, 3), (2, 1)),
    "rsub": (lambda x: 2 - x, (2, 3)),
    "div": (lambda x, y: x / y / 2, positive(2, 3), positive(2, 3)),
    "parentheses": (lambda x, y: x - (y - x) * (x + y) / -(x * y), positive(2), positive(2)),
    "reciprocal": (lambda x: 1 / x, positive(2, 3)),
    "floor": (
        lambda x: x.detach() // 0.5 + x.div(0.3, rounding_mode="floor"),
        normal((5,), 1),
    ),
    "trunc": (lambda x: torch.div(x, 0.3, rounding_mode="trunc"), (5,)),
    "whole trunc": (lambda x: torch.div(x - 3, 2, rounding_mode="trunc"), whole(9, below=7)),
    "whole floor": (lambda x: (x - 3) // 2 + (x - 3) % 2, whole(9, below=7)),
    "whole true": (lambda x: x / 4, whole(9, below=7)),
    "whole times": (lambda x: x * 0.5, whole(9, below=7)),
    "remainder": (lambda x, y: x % y, (5,), positive(5)),
    "fmod": (lambda x: torch.fmod(x, 0.7), (5,)),
    "power": (lambda x: x**2 + x**3 - 2**x, (2, 3)),
    "power of 0": (lambda x: x**2.0 + x**0.0, halves(9)),
    "power by tensors": (lambda x, y: x**y, halves(9).abs(), positive(9) * (whole(9) > 0)),
    "negative": (lambda x: -x * -2, (2, 3)),
    "abs": (lambda x: x.abs() + torch.abs(x), halves(9)),
    "exponentials": (lambda x: x.exp() + x.log() + x.sqrt() + x.rsqrt(), positive(4)),
    "logarithms": (lambda x: x.log2() * x.log10() + x.log1p() + x.expm1(), positive(4)),
    "trigonometry": (lambda x: x.sin() + x.cos() * x.tan() + x.asin() + x.atan(), positive(4)),
    "hyperbolic": (lambda x: x.sinh() + x.cosh() * x.tanh(), (4,)),
    "erf": (lambda x: torch.erf(x) + x.erfc() + torch.special.expit(x), (4,)),
    "rounding": (lambda x: x.round() + x.floor() + x.ceil() + x.trunc() + x.sign(), halves(9)),
    "comparisons": (lambda x, y: (x < y) & (x >= 0) | ~(x != y) ^ (y <= x), halves(9), (9,)),
    "logical": (lambda x: torch.logical_and(x > 0, x < 1).logical_not(), halves(9)),
    "maximum": (lambda x, y: torch.maximum(x, y) + torch.min(x, y), halves(9), halves(9).flip(0)),
    "where": (lambda x, y: torch.where(x > 0, x, y), halves(2, 3), (3,)),
    "where number": (lambda x: torch.where(x > 0, x, 0.0), halves(9)),
    "masked_fill": (lambda x: x.masked_fill(MASK, -1e9), (2, 3), MASK),
    "clamp": (lambda x: x.clamp(-0.5, 1), halves(19)),
    "clamp max": (lambda x: torch.clamp(x, max=0.5) + x.clamp_min(0), halves(19)),
    "clamp tensors": (lambda x, y: x.clamp(min=y), halves(9), halves(9).flip(0)),
    "lerp": (lambda x, y: torch.lerp(x, y, 0.3), (3,), (3,)),
    "addcmul": (lambda x, y: torch.addcmul(x, x, y, value=0.5), (3,), (3,)),
    "atan2": (lambda x, y: torch.atan2(x, y), (3,), (3,)),
    "in place": (lambda x: x.clone().mul_(2).add_(1), (3,)),
    "bias of channels": (lambda x, b: x + b, IMAGE, (3, 1, 1)),
    "scale of channels": (lambda x, s: x * s, IMAGE, (1, 3, 1, 1)),
    "mask of pixels": (lambda x, m: x * m, IMAGE, (2, 1, 4, 5)),
    "row": (lambda x, m: x + m, IMAGE, (5,)),
    "columns": (lambda x, m: m - x, IMAGE, (4, 1)),
    "scalar": (lambda x, m: x * m, IMAGE, ()),
    "one by one": (lambda x, m: x * m, IMAGE, (1, 1)),
    "vector of a batch": (lambda x, y: x + y[:, :, None, None], IMAGE, (2, 3)),
    "squeeze and excite": (lambda x, y: x * y.view(2, 3, 1, 1).expand_as(x), IMAGE, (2, 3)),
}
REDUCTIONS = {
    "sum": (lambda x: x.sum() + x.mean(), IMAGE),
    "sum of pixels": (lambda x: x.sum((2, 3)), IMAGE),
    "mean of pixels": (lambda x: x.mean(dim=[2, 3], keepdim=True), IMAGE),
    "mean of channels": (lambda x: x.mean(1, keepdim=True), IMAGE),
    "mean of an axis": (lambda x: x.mean(-1), (2, 3, 4)),
    "mean of mean": (lambda x: x.mean(3).mean(2), IMAGE),
    "sum of whole": (lambda x: (x > 1).sum(0), whole(4, 3)),
    "var": (lambda x: x.var((2, 3)) + x.var((2, 3), unbiased=False), IMAGE),
    "var correction": (lambda x: torch.var(x, 1, correction=0, keepdim=True), (2, 3)),
    "var all": (lambda x: x.var() + x.std(), (2, 3)),
    "std": (lambda x: x.std(1, keepdim=True), torch.tensor([[1.0, 1, 1], [1, 2, 3]]).double()),
    "std unbiased": (lambda x: x.std(dim=1, unbiased=False), (2, 3)),
    "var_mean": (lambda x: torch.var_mean(x, dim=1, keepdim=True), IMAGE),
    "prod": (lambda x: x.prod(1), halves(3, 4)),
    "max": (lambda x: x.max(1), halves(3, 9)),
    "max of channels": (lambda x: torch.max(x, dim=1, keepdim=True)[0], halves(*IMAGE)),
    "max of all": (lambda x: x.max() - x.min(), halves(3, 9)),
    "max by name": (lambda x: x.min(dim=-1).values, halves(3, 9)),
    "max of two": (lambda x, y: torch.max(x, y), halves(9), halves(9).flip(0)),
    "amax": (lambda x: x.amax((2, 3)) + x.amin(dim=(-1, -2)), halves(*IMAGE)),
    "argmax": (lambda x: x.argmax(1), halves(*IMAGE)),
    "argmax of all": (lambda x: torch.argmax(x), halves(*IMAGE)),
    "argmin": (lambda x: x.argmin(-1, keepdim=True), halves(3, 9)),
    "median": (lambda x: x.median(1)[0], (3, 4)),
    "median of all": (lambda x: x.median(), halves(3, 4)),
    "kthvalue": (lambda x: x.kthvalue(2, dim=1)[0], (3, 4)),
    "logsumexp": (lambda x: torch.logsumexp(x, dim=1), (3, 4)),
    "norm": (lambda x: x.norm() + torch.linalg.norm(x), (3, 4)),
    "norm of rows": (lambda x: x.norm(dim=-1, keepdim=True), halves(3, 2).mul(MASK[:1, :2])),
    "norm p": (lambda x: x.norm(1, dim=1) + torch.norm(x, p=3, dim=1), halves(3, 4)),
    "norm inf": (lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1), halves(3, 4)),
    "cumsum": (lambda x: x.cumsum(1) + torch.cumprod(x, dim=-1), (2, 3)),
    "cumsum of channels": (lambda x: x.cumsum(1), IMAGE),
    "cummax": (lambda x: x.cummax(1)[0] + torch.cummin(x, dim=1)[0], halves(2, 9)),
    "any": (lambda x: (x > 1).any(1) | (x > 1).all(), halves(2, 3)),
    "sort": (lambda x: x.sort(), halves(2, 9)),
    "sort down": (lambda x: torch.sort(x, dim=0, descending=True), halves(9, 2)),
    "argsort": (lambda x: x.argsort(dim=1), (2, 5, 2)),
    "topk": (lambda x: x.topk(2), (2, 5)),
    "topk of channels": (lambda x: x.topk(2, dim=1, largest=False), IMAGE),
    "diff": (lambda x: torch.diff(x, dim=1), IMAGE),
    "quantile": (lambda x: x.quantile(0.3, dim=1), (2, 5)),
    "sum of list": (lambda x, y: torch.stack([x, y]).sum(0), IMAGE, IMAGE),
}
PRODUCTS = {
    "matmul": (lambda x, y: x @ y, (2, 3), (3, 4)),
    "matmul transposed": (lambda x, y: x @ y.t(), (2, 3), (4, 3)),
    "matmul transposed first": (lambda x, y: x.T @ y, (3, 2), (3, 4)),
    "vectors": (lambda x, y: x @ y + x.dot(y), (3,), (3,)),
    "matrix and vector": (lambda x, y: torch.mv(x, y) + x @ y, (2, 3), (3,)),
    "bmm": (lambda x, y: torch.bmm(x, y), (2, 3, 4), (2, 4, 5)),
    "broadcast": (lambda x, y: torch.matmul(x, y), (2, 1, 3, 4), (5, 4, 3)),
    "attention": (
        lambda q, k, v: (
            (((q @ k.transpose(-2, -1)) * 0.5).softmax(dim=-1) @ v).transpose(1, 2).reshape(2, 3, 8)
        ),
        *[(2, 2, 3, 4)] * 3,
    ),
    "heads": (
        lambda x: _attention(x.reshape(2, 3, 3, 2, 4).permute(2, 0, 3, 1, 4)),
        (2, 3, 24),
    ),
    "heads one by one": (lambda q, k, v: _heads(q, k, v), *[(2, 3, 8)] * 3),
    "non-local": (
        lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(-1),
        IMAGE,
    ),
    "gram": (lambda x: torch.bmm(x.view(2, 3, 20), x.view(2, 3, 20).transpose(1, 2)), IMAGE),
    "einsum": (lambda x, y: torch.einsum("bchw,cd->bdhw", x, y), IMAGE, (3, 2)),
    "einsum ellipsis": (lambda x, y: torch.einsum("...h,hk->...k", x, y), IMAGE, (5, 2)),
    "einsum implicit": (lambda x, y: torch.einsum("bij,bjk", x, y), (2, 3, 4), (2, 4, 5)),
    "addmm": (lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2), (4,), (2, 3), (3, 4)),
    "baddbmm": (lambda b, x, y: torch.baddbmm(b, x, y), (2, 3, 5), (2, 3, 4), (2, 4, 5)),
    "linear": (lambda x, w, b: F.linear(x, w, b), (2, 5, 3), (4, 3), (4,)),
    "linear without bias": (lambda x, w: F.linear(x, w) * 2, IMAGE, (4, 5)),
    "outer": (lambda x, y: torch.outer(x, y), (3,), (4,)),
    "cdist": (lambda x, y: torch.cdist(x, y), (2, 3, 4), (2, 5, 4)),
    "diagonal": (lambda x: x.diagonal(dim1=-2, dim2=-1), IMAGE),
    "diag": (lambda x: torch.diag(x) + torch.trace(x), (3, 3)),
    "tril": (lambda x: x.tril() + torch.triu(x, diagonal=1), IMAGE),
    "inverse": (lambda x: torch.linalg.inv(x + 3 * torch.eye(3, dtype=x.dtype)), (3, 3)),
}


def _attention(qkv):
    q, k, v = qkv[0], qkv[1], qkv[2]
    attention = (q * 2 @ k.transpose(-2, -1)).softmax(dim=-1)
    return (attention @ v).transpose(1, 2).reshape(2, 3, 8)


def _heads(q, k, v):
    q, k, v = (x.view(2, 3, 2, 4).transpose(1, 2) for x in (q, k, v))
    weights = F.softmax(torch.matmul(q, k.transpose(2, 3)) / 2, dim=-1)
    return torch.matmul(weights, v).transpose(1, 2).contiguous().view(2, 3, 8)


def _shuffled(x):
    x = x.view(2, 2, 3, 4, 5).transpose(1, 2).contiguous()
    return x.view(2, 6, 4, 5)


def _windows(x):
    x = x.view(2, 2, 2, 2, 3, 5).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 2, 3, 5)
    return x.view(-1, 6, 5)


def _windows_reversed(x):
    x = x.view(2, 2, 2, 2, 3, 5).permute(0, 1, 3, 2, 4, 5).contiguous()
    return x.view(2, 4, 6, 5)


def _patches(x):
    x = x.reshape(2, 3, 2, 2, 5, 1)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(2, 10, 6)


def _space_to_depth(x):
    return torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2]], 1)


SHAPES = {
    "flatten": (lambda x: torch.flatten(x, 1), IMAGE),
    "flatten view": (lambda x: x.view(x.size(0), -1), IMAGE),
    "flatten all": (lambda x: x.flatten() + x.view(-1), IMAGE),
    "flatten pixels": (lambda x: x.flatten(2), IMAGE),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), IMAGE),
    "tokens back": (lambda x: x.transpose(1, 2).reshape(2, 5, 2, 2), (2, 4, 5)),
    "flatten of one pixel": (lambda x: x.mean((2, 3), keepdim=True).flatten(1), IMAGE),
    "flatten first": (lambda x: x.flatten(0, 1), IMAGE),
    "view of channels": (lambda x: x.view(2, 3, -1), IMAGE),
    "groups": (lambda x: x.view(2, 2, 3, 4, 5), (2, 6, 4, 5)),
    "channel shuffle": (_shuffled, (2, 6, 4, 5)),
    "windows": (_windows, (2, 4, 6, 5)),
    "windows reversed": (_windows_reversed, (8, 2, 3, 5)),
    "patches": (_patches, IMAGE),
    "mixed": (lambda x: x.reshape(6, 20).reshape(3, 40), IMAGE),
    "frames": (lambda x: x.view(2, 3, 4, 5, 6).flatten(0, 1), (6, 4, 5, 6)),
    "unflatten": (lambda x: x.unflatten(1, (2, 3)), (2, 6, 4, 5)),
    "view_as": (lambda x, y: x.view_as(y) * y, (2, 60), IMAGE),
    "squeeze": (lambda x: x.squeeze(), (2, 1, 3, 1)),
    "squeeze pixels": (lambda x: x.squeeze(-1).squeeze(-1), (2, 3, 1, 1)),
    "squeeze nothing": (lambda x: x.squeeze(1), IMAGE),
    "unsqueeze": (lambda x: x.unsqueeze(1) + x.unsqueeze(-1).mean(), (2, 3)),
    "unsqueeze image": (lambda x: x.unsqueeze(2), IMAGE),
    "unsqueeze to image": (lambda x: x.unsqueeze(-1).unsqueeze(-1), (2, 3)),
    "permute": (lambda x: x.permute(0, 2, 3, 1), IMAGE),
    "permute and mix": (lambda x: x.permute(3, 1, 0, 2).reshape(5, 24), IMAGE),
    "transpose": (lambda x: x.transpose(1, 3).mT, IMAGE),
    "movedim": (lambda x: torch.movedim(x, 1, -1) * 2, IMAGE),
    "movedim several": (lambda x: torch.movedim(x, (0, 1), (2, 0)).reshape(3, 40), IMAGE),
    "T": (lambda x: x.T + x.t(), (2, 3)),
    "expand": (lambda x: x.expand(2, 3, 4), (3, 1)),
    "expand batch": (lambda x: x.expand(4, -1, -1), (1, 3, 2)),
    "expand pixels": (lambda x: x.expand(-1, -1, 4, 5), (2, 3, 1, 1)),
    "repeat": (lambda x: x.repeat(2, 1, 3), (2, 3)),
    "repeat image": (lambda x: x.repeat(1, 2, 1, 1), IMAGE),
    "tile": (lambda x: torch.tile(x, (2,)), (2, 3)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, dim=1), IMAGE),
    "cat": (lambda x, y: torch.cat([x, y], dim=1), IMAGE, (2, 2, 4, 5)),
    "cat default": (lambda x, y: torch.cat((x, y)), (2, 3), (1, 3)),
    "cat last": (lambda x, y: torch.cat((x, y), -1), (2, 3), (2, 1)),
    "cat orders": (lambda x, y: torch.cat([x.flatten(2), y], 2), IMAGE, (2, 3, 4)),
    "stack": (lambda x, y: torch.stack([x, y], dim=1), (2, 3), (2, 3)),
    "stack images": (lambda x, y: torch.stack((x, y), 2), IMAGE, IMAGE),
    "stack last": (lambda x, y: torch.stack((x, y), -1), IMAGE, IMAGE),
    "chunk": (lambda x: x.chunk(2, dim=1), (2, 6, 4, 5)),
    "chunk uneven": (lambda x: torch.chunk(x, 3, 1), (2, 5)),
    "split": (lambda x: x.split(2, dim=1), (2, 6, 4, 5)),
    "split sections": (lambda x: torch.split(x, [1, 2, 3], dim=1), (2, 6, 4, 5)),
    "unbind": (lambda x: x.unbind(1), IMAGE),
    "roll": (lambda x: torch.roll(x, shifts=(1, -1), dims=(2, 3)), IMAGE),
    "flip": (lambda x: x.flip(2, 3) + torch.flip(x, [1]), IMAGE),
    "axes by keyword": (lambda x: torch.permute(x, dims=(2, 0, 1)).flip(dims=(0,)), (2, 3, 4)),
    "sizes by keyword": (
        lambda x: torch.reshape(input=x, shape=(4, 6)).repeat(repeats=(1, 2)),
        (2, 3, 4),
    ),
    "rot90": (lambda x: torch.rot90(x, 1, (2, 3)), (2, 3, 4, 4)),
    "meshgrid": (lambda x, y: torch.meshgrid(x, y, indexing="ij"), (2,), (3,)),
    "unfold": (lambda x: x.unfold(1, 2, 2), (3, 6)),
    "unfold overlapping": (lambda x: x.unfold(1, 3, 2), (3, 7)),
    "unfold image": (lambda x: x.unfold(2, 2, 2).unfold(3, 3, 3), (2, 3, 4, 6)),
    "space to depth": (_space_to_depth, (2, 3, 4, 6)),
}


def _assigned(x, value):
    x = x.clone()
    x[:, 1] = value
    return x


def _assigned_image(x, y):
    x = x.clone()
    x[:, 1:, :, 0] = y
    return x


def _assigned_by_rows(x):
    x = x.clone()
    x[INDEX[:2].clamp(max=1), 1] = 7
    return x


def _assigned_by_two(x, y):
    x = x.clone()
    x[INDEX.clamp(max=1), INDEX, 2] = 7
    x[0, INDEX, :, 1] = 0
    x = x.reshape(2, 4, 3, 5)
    x[:, INDEX[:2].clamp(max=1), 0] = y
    return x


def _assigned_mask(x):
    x = x.clone()
    x[MASK] = 0.5
    return x


INDEX = torch.tensor([2, 0, 1, 0])
INDEXING = {
    "number": (lambda x: x[0] + x[:, 1].mean(0), (3, 4)),
    "channel": (lambda x: x[:, 0], IMAGE),
    "channel kept": (lambda x: x[:, 0:1] * x[:, [1]], IMAGE),
    "slices": (lambda x: x[:, :2, 1:, ::2], IMAGE),
    "ellipsis": (lambda x: x[..., -1] + x[..., 0], IMAGE),
    "ellipsis between": (lambda x: x[0, ..., 1:], IMAGE),
    "new axes": (lambda x: x[None, :, None], (2, 3)),
    "new axes of image": (lambda x: x[:, None] + x[:, :, None].mean(), IMAGE),
    "class token": (lambda x: x[:, 0] + x[:, 1:].mean(1), (2, 3, 4)),
    "tensor": (lambda x: x[:, INDEX], IMAGE, INDEX),
    "tensor of rank 2": (lambda x: x[INDEX.view(2, 2)], (3, 4), INDEX),
    "two tensors": (lambda x: x[INDEX[1:2], INDEX[2:]], IMAGE, INDEX),
    "number and tensor": (lambda x: x[0, :, INDEX], IMAGE, INDEX),
    "list": (lambda x: x[:, [2, 0]], IMAGE),
    "narrow": (lambda x: x.narrow(1, 1, 2) * x.select(1, 0).mean(), IMAGE),
    "index_select": (lambda x: torch.index_select(x, 1, INDEX), IMAGE, INDEX),
    "gather": (lambda x: x.gather(1, INDEX.view(2, 2)), (2, 3), INDEX),
    "gather smaller": (lambda x: torch.gather(x, 1, INDEX[:2, None]), (4, 3), INDEX),
    "gather image": (lambda x: x.gather(1, INDEX.view(2, 2, 1, 1)), IMAGE, INDEX),
    "scatter": (lambda x: x.scatter(1, INDEX[:2, None], 7.0), (2, 3), INDEX),
    "scatter_add": (lambda x, y: x.scatter_add(1, INDEX.view(2, 2), y), (2, 3), (2, 2), INDEX),
    "index_add": (lambda x, y: x.index_add(0, INDEX, y), (3, 2), (4, 2), INDEX),
    "set": (lambda x, y: _assigned(x, y), (3, 4), (3,)),
    "set number": (lambda x: _assigned(x, 0), IMAGE),
    "set image": (_assigned_image, IMAGE, (2, 2, 4)),
    "set by rows": (_assigned_by_rows, (2, 3, 4), INDEX),
    "set by two": (_assigned_by_two, IMAGE, (2, 2, 5), INDEX),
    "set mask": (_assigned_mask, (2, 3), MASK),
    "set mask of rows": (_assigned_mask, (2, 3, 4), MASK),
    "one_hot": (lambda: F.one_hot(INDEX, 4) * 2, INDEX),
    "embedding": (lambda w: F.embedding(INDEX.view(2, 2), w), (3, 4), INDEX),
}
ACTIVATIONS = {
    "relu": (lambda x: F.relu(x) + x.relu() + torch.relu(x), halves(9)),
    "relu6": (lambda x: F.relu6(x * 3), halves(19)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.1), halves(9)),
    "hardtanh": (lambda x: F.hardtanh(x), halves(9)),
    "hard": (lambda x: F.hardswish(x * 2), halves(19)),
    "elu": (lambda x: F.elu(x) + F.selu(x) + F.celu(x, 2.0), halves(9)),
    "gelu": (lambda x: F.gelu(x) + F.gelu(x, approximate="tanh"), (9,)),
    "silu": (lambda x: F.silu(x) + F.mish(x) + x.sigmoid() + torch.tanh(x), (9,)),
    "softplus": (lambda x: F.softplus(x) + F.logsigmoid(x) + F.softsign(x), (9,)),
    "glu": (lambda x: F.glu(x, dim=1), (2, 4, 3, 2)),
    "softmax": (lambda x: F.softmax(x, dim=1), IMAGE),
    "log_softmax": (lambda x: x.log_softmax(-1) + F.log_softmax(x, 2), IMAGE),
    "softmin": (lambda x: F.softmin(x, 1), IMAGE),
    "dropout off": (lambda x: F.dropout(x, 0.5, False) + F.dropout(x, 0.0), (3,)),
    "prelu": (lambda x, w: F.prelu(x, w), halves(2, 3, 4, 5), (3,)),
}
CREATION = {
    "constants": (lambda x: x + torch.zeros(2, 3) + torch.ones((2, 3)), (2, 3)),
    "full": (lambda x: x + torch.full((2, 3), 0.5) + torch.full_like(x, 2), (2, 3)),
    "like": (lambda x: torch.zeros_like(x) + torch.ones_like(x) + x, IMAGE),
    "new": (lambda x: x + x.new_zeros(2, 3) + x.new_ones((2, 3)), (2, 3)),
    "eye": (lambda x: x @ torch.eye(3, dtype=torch.float64), (2, 3)),
    "arange": (lambda x: x * torch.arange(3) + torch.arange(0, 6, 2), (2, 3)),
    "linspace": (lambda x: x * torch.linspace(0, 1, 3, dtype=torch.float64), (2, 3)),
    "tensor": (lambda x: x * torch.tensor([1.0, 2.0, 4.0]), (2, 3)),
    "positions": (
        lambda x: x[:, torch.arange(2)] + torch.triu(torch.ones(2, 2), diagonal=1)[0],
        (2, 3),
    ),
    "conversions": (lambda x: (x > 0).float() + x.long() + x.to(torch.float64), (2, 3)),
    "type_as": (lambda x: (x > 0).type_as(x) * x.detach() * x.clone(), (2, 3)),
}
IMAGES = {
    "pad": (lambda x: F.pad(x, (1, 2, 0, 1)), IMAGE),
    "pad value": (lambda x: F.pad(x, (1, 0), value=2.0), IMAGE),
    "pad channels": (lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), IMAGE),
    "pad reflect": (lambda x: F.pad(x, (1, 2, 1, 1), mode="reflect"), IMAGE),
    "pad replicate": (lambda x: F.pad(x, (1, 2, 1, 1), mode="replicate"), IMAGE),
    "pad circular": (lambda x: F.pad(x, (1, 2, 1, 1), mode="circular"), IMAGE),
    "crop": (lambda x: F.pad(x, (-1, 1, -1, -1)), IMAGE),
    "global mean": (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), IMAGE),
    "global mean of sequences": (lambda x: F.adaptive_avg_pool1d(x, 1), (2, 3, 4)),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b, padding=1), IMAGE, (2, 3, 3, 3), (2,)),
    "convolution of sequences": (lambda x, w: F.conv1d(x, w, stride=2), (2, 3, 6), (4, 3, 2)),
    "transposed": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1),
        IMAGE,
        (3, 2, 3, 3),
    ),
    "max_pool": (lambda x: F.max_pool2d(x, 2), halves(*IMAGE)),
    "avg_pool": (lambda x: F.avg_pool1d(x, 2), (2, 3, 4)),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, (2, 3)), IMAGE),
    "nearest": (lambda x: F.interpolate(x, scale_factor=2), IMAGE),
    "bilinear": (
        lambda x: F.interpolate(x, size=(6, 7), mode="bilinear", align_corners=False),
        IMAGE,
    ),
    "pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), (2, 8, 2, 3)),
    "grid_sample": (
        lambda x, g: F.grid_sample(x, g.tanh(), align_corners=True),
        IMAGE,
        (2, 3, 3, 2),
    ),
    "unfold": (lambda x: F.unfold(x, 2), IMAGE),
}
NETWORKS = {
    "layer_norm": (lambda x, w, b: F.layer_norm(x, (4,), w, b), (2, 3, 4), (4,), (4,)),
    "group_norm": (lambda x: F.group_norm(x, 2), (2, 4, 3, 3)),
    "normalize": (lambda x: F.normalize(x, dim=1) + F.normalize(x, p=2, dim=-1), IMAGE),
    "cosine": (lambda x, y: F.cosine_similarity(x, y, dim=1), IMAGE, IMAGE),
    "cosine last": (lambda x, y: F.cosine_similarity(x, y, dim=-1), (2, 5, 4), (2, 5, 4)),
    "mse": (lambda x, y: F.mse_loss(x, y), (2, 3), (2, 3)),
    "cross entropy": (lambda x: F.cross_entropy(x, INDEX), (4, 3), INDEX),
    "cross entropy of pixels": (
        lambda x: F.cross_entropy(x, INDEX.view(1, 2, 2), reduction="none"),
        (1, 3, 2, 2),
        INDEX,
    ),
    "attention": (lambda q: F.scaled_dot_product_attention(q, q, q), (2, 2, 3, 4)),
    "attention of heads": (
        lambda q: F.scaled_dot_product_attention(
            *[q.view(2, 3, 2, 4).transpose(1, 2)] * 3, is_causal=True
        ).transpose(1, 2),
        (2, 3, 8),
    ),
    "fft": (lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * 2, s=(4, 5)), IMAGE),
    "fft of an axis": (lambda x: torch.fft.fft(x, dim=1).abs(), IMAGE),
    "complex": (lambda x, y: torch.view_as_real(torch.polar(x, y)), positive(3), (3,)),
    "complex parts": (lambda x: torch.view_as_complex(x).real, (3, 2)),
}

CASES = [
    pytest.param(case, id=f"{family}: {name}")
    for family, cases in (
        ("elements", ELEMENTWISE),
        ("reductions", REDUCTIONS),
        ("products", PRODUCTS),
        ("shapes", SHAPES),
        ("indexing", INDEXING),
        ("activations", ACTIVATIONS),
        ("creation", CREATION),
        ("images", IMAGES),
        ("networks", NETWORKS),
    )
    for name, case in cases.items()
]


@pytest.mark.parametrize("case", tier.one_in(4, CASES))
def test_the_expression_computes_what_pytorch_does(case):
    function, *given = case
    constants = [x for x in given if x is INDEX or x is MASK]
    given = [x for x in given if not (x is INDEX or x is MASK)]
    inputs = [normal(x, n) if isinstance(x, tuple) else x for n, x in enumerate(given)]
    tried = set()
    for order_of in (natural, last_channels):
        orders = tuple(order_of(x.ndim) for x in inputs)
        if orders not in tried:
            tried.add(orders)
            compare(function, inputs, orders, constants)


def written(name, *args, result, **kwargs):
    """The expression that a rule writes, and its order of axes."""
    value = ops.find(name)(list(args), kwargs, Context(result=result))
    return value if isinstance(value, Items | Plain) else (value.text, value.order)


NHWC = Tensor("x", IMAGE, last_channels(4), torch.float32)
BATCH = Plain("x.shape[0]", 2)


def test_sizes_stay_as_they_are_written():
    channels, half = Plain("self.channels", 3), Plain("h // 2", 2, Binding.PRODUCT)
    whole = Plain("-1", -1, Binding.UNARY)
    text, order = written("Tensor.view", NHWC, BATCH, channels, whole, result=torch.zeros(2, 3, 20))
    assert (text, order) == ("x.reshape(x.shape[0], -1, self.channels)", (0, 2, 1))
    shape = Items((BATCH, channels, half, Plain("2", 2), Plain("w", 5)))
    text, _ = written("Tensor.reshape", NHWC, shape, result=torch.zeros(2, 3, 2, 2, 5))
    assert text == "x.reshape(x.shape[0], h // 2, 2, w, self.channels)"
    text, _ = written("Tensor.expand", NHWC, *[whole] * 4, result=torch.zeros(*IMAGE))
    assert text == "x"


def test_a_variable_that_holds_a_shape_is_taken_apart():
    shape = Plain("shape", (2, 3, 20))
    text, _ = written("Tensor.view", NHWC, shape, result=torch.zeros(2, 3, 20))
    assert text == "x.reshape(shape[0], shape[2], shape[1])"


def test_the_sizes_of_an_image():
    sizes = written("Tensor.size", NHWC, result=torch.Size(IMAGE))
    assert [size.text for size in sizes.items] == [f"x.shape[{n}]" for n in (0, 3, 1, 2)]
    spatial = written("operator.getitem", sizes, Plain("2:", slice(2, None)), result=(4, 5))
    assert spatial.text == "x.shape[1:3]"
    assert written("Tensor.size", NHWC, Plain("1", 1), result=3).text == "x.shape[3]"


def test_lists_with_a_name_keep_it():
    parts = Items((NHWC, NHWC), "features", list)
    text, _ = written("torch.cat", parts, Plain("1", 1), result=torch.zeros(2, 6, 4, 5))
    assert text == "jnp.concatenate(features, axis=-1)"


def test_drawn_numbers_come_from_the_modules_streams():
    text, _ = written("torch.randn_like", NHWC, result=torch.zeros(IMAGE))
    assert text == "jax.random.normal(self.rngs(), x.shape)"
    zeros = Tensor("jnp.zeros((n, 1))", (2, 1), (0, 1), torch.float32)
    text, _ = written("Tensor.bernoulli_", zeros, Plain("keep", 0.9), result=torch.zeros(2, 1))
    assert text == "jax.random.bernoulli(self.rngs(), keep, (n, 1)).astype(float)"


def test_dropout_becomes_a_layer():
    context = Context(result=torch.zeros(IMAGE))
    training = Plain("self.training", True)
    value = ops.find("F.dropout")([NHWC, Plain("0.3", 0.3), training], {}, context)
    assert value.text == "self.dropout(x)"
    assert context.layers["dropout"] == "layers.Dropout(0.3, rngs=rngs)"


def test_names_of_operations():
    assert ops.find("operator.iadd") is ops.find("torch.add") is ops.find("Tensor.add_")
    assert ops.find("torch.fft.fft") is not None
    assert ops.find("F.unfold") is not ops.find("Tensor.unfold")
    assert ops.find("torch.no_such_thing") is None
    text, _ = written("Tensor.__rsub__", NHWC, Plain("1", 1), result=torch.zeros(IMAGE))
    assert text == "1 - x"


@pytest.mark.parametrize(
    ("name", "args", "why"),
    [
        ("torch.nonzero", [NHWC], "depends on the data"),
        ("torch.where", [NHWC], "depends on the data"),
        ("Tensor.as_strided", [NHWC], "strides"),
        ("torch.sum", [NHWC, NHWC], "values of a tensor"),
        ("torch.sum", [Plain("3", 3)], "is not a tensor"),
        ("torch.exp", [NHWC, NHWC], "too many positional arguments"),
        ("F.one_hot", [NHWC], "number of classes"),
        ("Tensor.register_hook", [NHWC], "gradients"),
    ],
)
def test_what_is_refused(name, args, why):
    with pytest.raises(Refused, match=why):
        written(name, *args, result=torch.zeros(IMAGE))

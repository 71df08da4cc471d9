"""Runs PyTorch's operations, and the JAX expressions that the rules of the port write for them."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax
from torch.overrides import TorchFunctionMode

import jaxnets
from jaxnets import layers, tensors
from jaxnets.port import ops
from jaxnets.port.values import (
    Context,
    Items,
    Plain,
    Tensor,
    channels_last,
    natural,
    text_of,
)

F = getattr(jaxnets, "functional", None)
NAMES = {"jax": jax, "jnp": jnp, "lax": lax, "layers": layers, "tensors": tensors, "F": F}


PLACES = {
    "F": torch.nn.functional,
    "torch": torch,
    "torch.fft": torch.fft,
    "torch.linalg": torch.linalg,
    "torch.special": torch.special,
}
KNOWN = {id(getattr(p, name)): f"{at}.{name}" for at, p in PLACES.items() for name in dir(p)}


def canonical(function):
    if function.__name__ == "__get__":
        return f"Tensor.{function.__self__.__name__}"
    return KNOWN.get(id(function), f"Tensor.{function.__name__}")


class Written(TorchFunctionMode):
    """A mode in which every operation on tensors is also written as an expression."""

    def __init__(self, inputs):
        super().__init__()
        self.values = {id(tensor): value for tensor, value in inputs}
        self.kept = [tensor for tensor, _ in inputs]

    def value(self, one):
        if isinstance(one, torch.Tensor):
            return self.values[id(one)]
        if isinstance(one, tuple | list):
            return Items(tuple(map(self.value, one)), None, list if type(one) is list else tuple)
        text = repr(one)
        if isinstance(one, float) and not np.isfinite(one):
            text = f'float("{one}")'
        if isinstance(one, slice):
            parts = ["" if n is None else str(n) for n in (one.start, one.stop, one.step)]
            text = ":".join(parts).removesuffix(":")
            text = text if ":" in text else f"{text}:"
        return Plain(text, one, constant=isinstance(one, int | float | str | bool))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = canonical(function)
        rule = ops.find(name)
        if rule is None:
            raise AssertionError(f"{name} has no rule")
        given = [self.value(arg) for arg in args]
        named = {key: self.value(arg) for key, arg in kwargs.items()}
        before = [arg for arg in args if isinstance(arg, torch.Tensor)]
        result = function(*args, **kwargs)
        if any(result is one for one in before):
            result = result.view_as(result)
        value = rule(given, named, Context(result=result))
        if function is torch.Tensor.__setitem__:
            self.values[id(args[0])] = value
            return result
        self.keep(result, value)
        return result

    def keep(self, result, value):
        self.kept.append(result)
        if isinstance(result, torch.Tensor):
            assert isinstance(value, Tensor), value
            assert value.shape == tuple(result.shape), value
            assert value.dtype == result.dtype, value
            self.values[id(result)] = value
        elif isinstance(result, tuple | list):
            for one, own in zip(result, value.items, strict=True):
                if isinstance(one, torch.Tensor):
                    self.keep(one, own)


def in_order(array, order):
    return np.transpose(np.asarray(array), order)


def last_channels(ndim):
    return channels_last(ndim) if ndim >= 3 else natural(ndim)


def expression(function, inputs, orders, constants):
    """The expression for a function, and PyTorch's result."""
    known = [
        (x, Tensor(f"x{number}", tuple(x.shape), order, x.dtype))
        for number, (x, order) in enumerate(zip(inputs, orders, strict=True))
    ]
    known += [
        (x, Tensor(f"c{number}", tuple(x.shape), natural(x.ndim), x.dtype))
        for number, x in enumerate(constants)
    ]
    with Written(known) as written:
        result = function(*inputs)
    value = written.value(result)
    return value, result


def evaluated(text, arrays, constants):
    named = {f"x{number}": array for number, array in enumerate(arrays)}
    named |= {f"c{number}": jnp.asarray(x.numpy()) for number, x in enumerate(constants)}
    return eval(text, NAMES | named)


def missing(text):
    """The names of ``jaxnets.functional`` in an expression that do not exist yet."""
    found = re.findall(r"\bF\.(\w+)", text)
    return [name for name in found if not hasattr(F, name)]


def flat(value):
    if isinstance(value, Items):
        return [one for item in value.items for one in flat(item)]
    return [value] if isinstance(value, Tensor) else []


def flat_results(result):
    if isinstance(result, tuple | list):
        return [one for item in result for one in flat_results(item)]
    return [result] if isinstance(result, torch.Tensor) else []


def _like(output, cotangent):
    """The cotangent of an output; zeros where PyTorch has none."""
    if not jnp.issubdtype(output.dtype, jnp.inexact):
        return np.zeros(output.shape, jax.dtypes.float0)
    return jnp.zeros_like(output) if cotangent is None else cotangent.astype(output.dtype)


def compare(function, inputs, orders, constants=(), *, gradients=1e-10, values=1e-12):
    """Runs a function of PyTorch's and its expression, and compares results and gradients."""
    inputs = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    value, result = expression(function, inputs, orders, constants)
    if missing(text_of(value)):
        return None
    outputs = list(zip(flat(value), flat_results(result), strict=True))
    assert outputs
    arrays = [jnp.asarray(in_order(x.detach(), o)) for x, o in zip(inputs, orders, strict=True)]
    floating = [n for n, x in enumerate(inputs) if x.requires_grad]
    rng = np.random.default_rng(0)
    weights = [torch.from_numpy(np.asarray(rng.normal(size=tuple(r.shape)))) for _, r in outputs]

    def run(*given):
        every = list(arrays)
        for place, array in zip(floating, given, strict=True):
            every[place] = array
        return [evaluated(own.text, every, constants) for own, _ in outputs]

    @jax.jit
    def forwards_and_backwards(given, cotangents):
        ours, pull = jax.vjp(run, *given)
        return ours, pull([_like(y, c) for y, c in zip(ours, cotangents, strict=True)])

    cotangents, loss = [], 0
    for (own, theirs), w in zip(outputs, weights, strict=True):
        if theirs.requires_grad and theirs.is_floating_point():
            loss = loss + (theirs * w.to(theirs.dtype)).sum()
            cotangents.append(in_order(w, own.order))
        else:
            cotangents.append(None)
    ours, pulled = forwards_and_backwards([arrays[n] for n in floating], cotangents)
    for (own, theirs), y in zip(outputs, ours, strict=True):
        expected = in_order(theirs.detach(), own.order)
        np.testing.assert_allclose(
            np.asarray(y), expected, rtol=values, atol=values, err_msg=text_of(value)
        )
    if not floating or not isinstance(loss, torch.Tensor):
        return text_of(value)
    expected = torch.autograd.grad(loss, [inputs[n] for n in floating], allow_unused=True)
    for place, own, theirs in zip(floating, pulled, expected, strict=True):
        theirs = torch.zeros_like(inputs[place]) if theirs is None else theirs
        np.testing.assert_allclose(
            np.asarray(own),
            in_order(theirs, orders[place]),
            rtol=gradients,
            atol=gradients,
            err_msg=f"gradient of {text_of(value)}",
        )
    return text_of(value)

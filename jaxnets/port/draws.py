"""Replaces the random numbers of PyTorch and JAX by equal numbers while both are compared.

The numbers depend only on the shape. With three or more axes they vary only along the first axis,
as the order of the other axes may differ between the frameworks.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets import layers
from jaxnets.interop.dropout import DROPOUT_FUNCTIONS, kept, without_dropout_functions
from jaxnets.layers import dropout

_PERIOD = 97  # period of the numbers


def _uniform(shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers in (0, 1)."""
    if len(shape) >= 3:
        first = np.arange(shape[0]).reshape(-1, *[1] * (len(shape) - 1))
        index = np.broadcast_to(first, shape)
    else:
        index = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    # 37 and the period are coprime, so the numbers of one period are all different.
    return ((index * 37 + 11) % _PERIOD + 0.5) / _PERIOD


def _normal(shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers with a mean near 0 and a variance near 1."""
    return (_uniform(shape) - 0.5) * np.sqrt(12)


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    """Within the context, both frameworks draw the same numbers and dropout is disabled."""
    replaced = {
        "normal": _our_normal,
        "uniform": _our_uniform,
        "bernoulli": _our_bernoulli,
        "gumbel": _our_gumbel,
    }
    with contextlib.ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(jax.random, name, function))
        stack.enter_context(without_dropout_functions())
        for module in _droppers():
            stack.enter_context(mock.patch.object(module, "drop", _our_kept))
        stack.enter_context(_drawing())
        yield


def _droppers() -> list[Any]:
    """Returns the modules of jaxnets whose layers use dropout."""
    return [
        dropout,
        *(m for m in vars(layers).values() if getattr(m, "drop", None) is dropout.drop),
    ]


def _our_kept(x: jax.Array, key: Any, **_: Any) -> jax.Array:
    return x


def _dtype(dtype: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(float if dtype is None else dtype)


def _our_normal(key: Any, shape: Any = (), dtype: Any = None, **_: Any) -> jax.Array:
    return jnp.asarray(_normal(tuple(shape)), _dtype(dtype))


def _our_uniform(
    key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0, **_: Any
) -> jax.Array:
    return jnp.asarray(_uniform(tuple(shape)), _dtype(dtype)) * (maxval - minval) + minval


def _our_gumbel(key: Any, shape: Any = (), dtype: Any = None, **_: Any) -> jax.Array:
    return jnp.asarray(-np.log(-np.log(_uniform(tuple(shape)))), _dtype(dtype))


def _our_bernoulli(key: Any, p: Any = 0.5, shape: Any = None, **_: Any) -> jax.Array:
    return jnp.asarray(_uniform(tuple(jnp.shape(p) if shape is None else shape))) < p


def _drawing() -> Any:
    """Returns a context in which PyTorch's random functions return the same numbers as JAX's."""
    import torch
    from torch.overrides import TorchFunctionMode

    def filled(like: Any, numbers: Callable[[tuple[int, ...]], np.ndarray]) -> Any:
        return torch.as_tensor(numbers(tuple(like.shape))).to(like)

    def uniform_(x: Any, low: float = 0.0, high: float = 1.0, **_: Any) -> Any:
        return x.copy_(filled(x, _uniform) * (high - low) + low)

    def normal_(x: Any, mean: float = 0.0, std: float = 1.0, **_: Any) -> Any:
        return x.copy_(filled(x, _normal) * std + mean)

    def bernoulli_(x: Any, p: Any = 0.5, **_: Any) -> Any:
        chosen = torch.as_tensor(_uniform(tuple(x.shape))) < torch.as_tensor(p).detach()
        return x.copy_(chosen.to(x.dtype))

    def bernoulli(x: Any, p: Any = None, **_: Any) -> Any:
        return bernoulli_(torch.empty_like(x), x if p is None else p)

    def new(make: Callable[..., Any], fill: Callable[..., Any]) -> Callable[..., Any]:
        def draw(*args: Any, **kwargs: Any) -> Any:
            return fill(make(*args, **kwargs).detach()).requires_grad_(
                bool(kwargs.get("requires_grad", False))
            )

        return draw

    def gumbel_softmax(
        logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
    ) -> Any:
        noise = -torch.log(-torch.log(filled(logits, _uniform)))
        soft = ((logits + noise) / tau).softmax(dim)
        if not hard:
            return soft
        chosen = torch.zeros_like(soft).scatter(dim, soft.argmax(dim, keepdim=True), 1.0)
        return chosen - soft.detach() + soft

    def attention(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        if len(given) > 4:
            given[4] = 0.0
        return torch.nn.functional.scaled_dot_product_attention(
            *given, **{**kwargs, **({"dropout_p": 0.0} if "dropout_p" in kwargs else {})}
        )

    answers: dict[Any, Callable[..., Any]] = {
        torch.Tensor.uniform_: uniform_,
        torch.Tensor.normal_: normal_,
        torch.Tensor.bernoulli_: bernoulli_,
        torch.Tensor.bernoulli: bernoulli,
        torch.bernoulli: bernoulli,
        torch.rand: new(torch.zeros, uniform_),
        torch.randn: new(torch.zeros, normal_),
        torch.rand_like: new(torch.zeros_like, uniform_),
        torch.randn_like: new(torch.zeros_like, normal_),
        torch.nn.functional.gumbel_softmax: gumbel_softmax,
        torch.nn.functional.scaled_dot_product_attention: attention,
        torch.dropout: kept,
        **{getattr(torch.nn.functional, name): kept for name in DROPOUT_FUNCTIONS},
    }

    class Drawing(TorchFunctionMode):
        """See ``_drawing``."""

        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            """Calls the replacement of a random function, or else the function."""
            return answers.get(function, function)(*args, **(kwargs or {}))

    return Drawing()

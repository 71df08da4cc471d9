"""Samples text from a language model."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_number,
    check_positive,
    check_seed,
    check_usable,
    describe,
)
from jaxnets.models import LanguageModel


def sample(
    model: LanguageModel,
    prompt: ArrayLike,
    length: int,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Samples tokens that continue a prompt, each from softmax(logits / temperature).

    The loop is one compiled scan that carries the recurrent state, so each token is processed once.
    The padding token 0 and the unknown token 1 are never drawn.

    Args:
        model: the language model, used in evaluation mode; it is not changed.
        prompt: the first tokens, integers [n] with n of at least 1.
        length: the number of tokens to draw.
        temperature: a number >= 0. Values below 1 favour likely tokens, values above 1 flatten the
            distribution, and 0 always takes the likeliest token.
        seed: the random seed.

    Returns:
        The drawn tokens, int32 [length].

    Raises:
        InputError: if the prompt is empty or not a vector of tokens, or an argument is out of
            range.
    """
    if not isinstance(model, LanguageModel):
        raise InputError("model", "a LanguageModel", type(model).__name__)
    check_usable("prompt", "integers [n], at least one", prompt)
    prompt = np.asarray(prompt)
    if prompt.ndim != 1 or prompt.size == 0 or prompt.dtype.kind not in "ui":
        raise InputError("prompt", "integers [n], at least one", describe(prompt))
    tokens = model.encoder.num_embeddings
    if prompt.min() < 0 or prompt.max() >= tokens:
        raise InputError("prompt", f"tokens from 0 to {tokens - 1}", prompt.tolist())
    check_positive("length", length)
    check_seed("seed", seed)
    temperature = check_number("temperature", temperature, least=0)
    graphdef, state = nnx.split(model)
    drawn = _draw(graphdef, state, prompt[None, :], temperature, jax.random.key(seed), length)
    return np.asarray(drawn)


@functools.partial(jax.jit, static_argnames=("graphdef", "length"))
def _draw(
    graphdef: Any, state: Any, prompt: jax.Array, temperature: float, key: jax.Array, length: int
) -> jax.Array:
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    logits, carried = model.advance(prompt, None)
    special = jnp.arange(logits.shape[-1]) < 2  # padding and the unknown token

    def step(before: tuple[jax.Array, Any], key: jax.Array) -> tuple[Any, jax.Array]:
        logits, carried = before  # [V]
        # The Gumbel-max trick: argmax(logits + T · noise) is a draw from softmax(logits / T), and
        # T = 0 needs no special case.
        noise = jax.random.gumbel(key, logits.shape, logits.dtype)
        scores = logits + jnp.asarray(temperature, logits.dtype) * noise
        token = jnp.argmax(jnp.where(special, -jnp.inf, scores)).astype(jnp.int32)
        logits, carried = model.advance(token[None, None], carried)
        return (logits[0, -1], carried), token

    keys = jax.random.split(key, length)
    return jax.lax.scan(step, (logits[0, -1], carried), keys)[1]

"""Text written by a language model."""

import functools
from collections.abc import Sequence
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
from jaxnets.data.text import PAD, UNKNOWN
from jaxnets.models import GPT, LANGUAGE_MODELS, LanguageModel


def sample(
    model: LanguageModel | GPT,
    prompt: ArrayLike,
    length: int,
    *,
    temperature: float = 1.0,
    suppress_tokens: Sequence[int] = (PAD, UNKNOWN),
    seed: int = 0,
) -> np.ndarray:
    """Draws tokens after a prompt, each from softmax(logits / temperature).

    The whole loop is one compiled scan that carries the recurrent state of a ``LanguageModel``, or
    the keys and values of a ``GPT``: no token is read twice. Once a GPT has read ``block_size``
    tokens, each new token is drawn from the last ``block_size`` ones, which are all read again, as
    in nanoGPT.

    Args:
        model: it is left as it is, and read in evaluation mode.
        prompt: what comes first, integers [n] with n of at least 1; a GPT reads the last
            ``block_size`` of them.
        length: how many tokens to draw.
        temperature: below 1 likely tokens become likelier, above 1 less so; 0 takes the likeliest.
        suppress_tokens: tokens that are never drawn, by default padding and the unknown token of
            jaxnets' vocabularies; () for a network with another vocabulary.
        seed: draws them.

    Returns:
        The drawn tokens, int32 [length].

    Raises:
        InputError: if the prompt is empty or no row of tokens, or an argument is out of range.
    """
    if not isinstance(model, LANGUAGE_MODELS):
        raise InputError("model", "a LanguageModel or a GPT", type(model).__name__)
    check_usable("prompt", "integers [n], at least one", prompt)
    prompt = np.asarray(prompt)
    if prompt.ndim != 1 or prompt.size == 0 or prompt.dtype.kind not in "ui":
        raise InputError("prompt", "integers [n], at least one", describe(prompt))
    tokens = model.options["vocab_size"]
    if prompt.min() < 0 or prompt.max() >= tokens:
        raise InputError("prompt", f"tokens from 0 to {tokens - 1}", prompt.tolist())
    check_positive("length", length)
    suppressed = _suppressed(suppress_tokens, tokens)
    check_seed("seed", seed)
    temperature = check_number("temperature", temperature, least=0)
    if isinstance(model, GPT):
        prompt = prompt[-model.block_size :]
    graphdef, state = nnx.split(model)
    drawn = _draw(
        graphdef, state, prompt[None, :], temperature, jax.random.key(seed), suppressed, length
    )
    return np.asarray(drawn)


def _suppressed(given: Any, tokens: int) -> np.ndarray:
    """Whether each token is never drawn, bool [tokens].

    Raises:
        InputError: if one is not a token, or none would be left.
    """
    numbers = list(given) if isinstance(given, tuple | list | range) else [None]
    if not all(type(number) is int and 0 <= number < tokens for number in numbers):
        raise InputError("suppress_tokens", f"tokens from 0 to {tokens - 1}", given)
    suppressed = np.zeros(tokens, bool)
    suppressed[numbers] = True
    if suppressed.all():
        raise InputError("suppress_tokens", "at least one token that can be drawn", given)
    return suppressed


@functools.partial(jax.jit, static_argnames=("graphdef", "length"))
def _draw(
    graphdef: Any,
    state: Any,
    prompt: jax.Array,
    temperature: float,
    key: jax.Array,
    suppressed: jax.Array,
    length: int,
) -> jax.Array:
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    logits, carried = model.advance(prompt, None)

    def step(before: tuple[jax.Array, Any], key: jax.Array) -> tuple[Any, jax.Array]:
        logits, carried = before  # [V]
        noise = jax.random.gumbel(key, logits.shape, logits.dtype)
        scores = logits + jnp.asarray(temperature, logits.dtype) * noise
        token = jnp.argmax(jnp.where(suppressed, -jnp.inf, scores)).astype(jnp.int32)
        logits, carried = model.advance(token[None, None], carried)
        return (logits[0, -1], carried), token

    keys = jax.random.split(key, length)
    return jax.lax.scan(step, (logits[0, -1], carried), keys)[1]

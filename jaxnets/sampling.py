"""Sequences from a network's outputs: samples of a language model, decoded CTC outputs."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_integer,
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


def ctc_greedy(
    logits: ArrayLike, lengths: ArrayLike | None = None, *, blank: int | None = None
) -> list[np.ndarray]:
    """Decodes CTC outputs: the likeliest class at each time, repeats merged and blanks dropped.

    Args:
        logits: of classes, or their log-probabilities, [batch, time, classes].
        lengths: time steps of each example, integers [batch]; None for all.
        blank: the class of the blank; by default the last one.

    Returns:
        For each example its sequence of classes, int32 [n].

    Raises:
        InputError: for wrong shapes, or lengths beyond the time steps.

    Examples:
        >>> ctc_greedy(np.eye(3)[None, [0, 0, 2, 0, 1]])  # 0 0 blank 0 1
        [array([0, 0, 1], dtype=int32)]
    """
    rows, blank = _ctc_rows(logits, lengths, blank)
    decoded = []
    for row in rows:
        path = row.argmax(1)
        kept = (path != blank) & (path != np.append(blank, path[:-1]))
        decoded.append(path[kept].astype(np.int32))
    return decoded


def ctc_beam_search(
    logits: ArrayLike,
    lengths: ArrayLike | None = None,
    *,
    beam_width: int = 10,
    blank: int | None = None,
) -> list[np.ndarray]:
    """Decodes CTC outputs to the likeliest sequences by a search over prefixes.

    The probability of a sequence is the sum over all paths that it is decoded from, of which
    ``ctc_greedy`` finds the likeliest path alone. At each time the ``beam_width`` likeliest
    prefixes are kept. With enough of them the result is exact.

    Args:
        logits: see ``ctc_greedy``.
        lengths: see ``ctc_greedy``.
        beam_width: number of prefixes that are kept.
        blank: see ``ctc_greedy``.

    Returns:
        For each example its likeliest sequence of classes, int32 [n].

    Raises:
        InputError: as ``ctc_greedy``, and if the width is not a positive integer.

    Examples:
        >>> logits = np.log([[[0.4, 0.6], [0.4, 0.6]]])  # 0 at either time or both: 0.64
        >>> ctc_greedy(logits), ctc_beam_search(logits)
        ([array([], dtype=int32)], [array([0], dtype=int32)])
    """
    check_positive("beam_width", beam_width)
    rows, blank = _ctc_rows(logits, lengths, blank)
    return [np.array(_likeliest(row, beam_width, blank), np.int32) for row in rows]


def _ctc_rows(
    logits: ArrayLike, lengths: ArrayLike | None, blank: int | None
) -> tuple[list[np.ndarray], int]:
    """The log-probabilities [time, classes] of each example, and the class of the blank."""
    array = np.asarray(as_array("logits", logits))
    if array.ndim != 3 or array.shape[2] < 1 or array.dtype.kind != "f":
        raise InputError("logits", "floats [batch, time, classes]", describe(array))
    count, times, classes = array.shape
    ends = np.full(count, times) if lengths is None else np.asarray(as_array("lengths", lengths))
    whole = ends.shape == (count,) and ends.dtype.kind in "iu"
    if not whole or not np.all((ends >= 0) & (ends <= times)):
        raise InputError("lengths", f"{count} integers from 0 to {times}", describe(ends))
    last = classes - 1
    blank = last if blank is None else check_integer("blank", blank, least=0, most=last)
    wide = array.astype(np.float64)
    log_probs = wide - np.logaddexp.reduce(wide, axis=2, keepdims=True)
    return [row[:end] for row, end in zip(log_probs, ends, strict=True)], blank


_Prefix = tuple[int, ...]


def _likeliest(log_probs: np.ndarray, width: int, blank: int) -> _Prefix:
    """The likeliest sequence of an example [time, classes]."""
    never = -np.inf
    # For each prefix the log-probabilities of its paths that end with a blank, and without one.
    beams: dict[_Prefix, tuple[float, float]] = {(): (0.0, never)}
    for frame in log_probs:
        grown: dict[_Prefix, tuple[float, float]] = {}

        def add(prefix: _Prefix, with_blank: float, without: float, into: Any = grown) -> None:
            before = into.get(prefix, (never, never))
            both = (np.logaddexp(before[0], with_blank), np.logaddexp(before[1], without))
            into[prefix] = both

        for prefix, (with_blank, without) in beams.items():
            either = np.logaddexp(with_blank, without)
            last = prefix[-1] if prefix else None
            repeated = never if last is None else without + frame[last]
            add(prefix, either + frame[blank], repeated)
            for label, score in enumerate(frame):
                if label != blank:  # a label after itself is a new one behind a blank alone
                    add((*prefix, label), never, score + (with_blank if label == last else either))
        ranked = sorted(grown.items(), key=lambda item: -np.logaddexp(*item[1]))
        beams = dict(ranked[:width])
    return max(beams, key=lambda prefix: np.logaddexp(*beams[prefix]))

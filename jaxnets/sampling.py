"""Generates texts and images with trained networks, and decodes CTC outputs."""

import functools
import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

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
from jaxnets.data.text import END, PAD, UNKNOWN
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.models import (
    DCGAN,
    GPT,
    IMAGE_MODELS,
    LANGUAGE_MODELS,
    TRANSLATORS,
    VAE,
    Diffusion,
    LanguageModel,
    Seq2Seq,
    TransformerSeq2Seq,
)


def sample(
    model: LanguageModel | GPT,
    prompt: ArrayLike,
    length: int,
    *,
    temperature: float = 1.0,
    suppress_tokens: Sequence[int] = (PAD, UNKNOWN),
    seed: int = 0,
) -> np.ndarray:
    """Samples tokens that continue a prompt, each from softmax(logits / temperature).

    The loop is one compiled scan that carries the recurrent state of a ``LanguageModel``, or the
    keys and values of a ``GPT``, so each token is processed once. Once a GPT has read
    ``block_size`` tokens, each new token depends on the last ``block_size`` tokens, which are all
    processed again, as in nanoGPT.

    Args:
        model: the language model, used in evaluation mode; it is not changed.
        prompt: the first tokens, integers [n] with n of at least 1; a GPT reads the last
            ``block_size`` of them.
        length: the number of tokens to draw.
        temperature: a number >= 0. Values below 1 favour likely tokens, values above 1 flatten the
            distribution, and 0 always takes the most likely token.
        suppress_tokens: tokens that are never drawn, by default the padding and the unknown token
            of jaxnets' vocabularies; () for a network with another vocabulary.
        seed: the random seed.

    Returns:
        The drawn tokens, int32 [length].

    Raises:
        InputError: if the prompt is empty or not a vector of tokens, or an argument is out of
            range.
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
    suppressed[np.array(numbers, int)] = True
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
        # The Gumbel-max trick: argmax(logits + T · noise) is a draw from softmax(logits / T), and
        # T = 0 needs no special case.
        noise = jax.random.gumbel(key, logits.shape, logits.dtype)
        scores = logits + jnp.asarray(temperature, logits.dtype) * noise
        token = jnp.argmax(jnp.where(suppressed, -jnp.inf, scores)).astype(jnp.int32)
        logits, carried = model.advance(token[None, None], carried)
        return (logits[0, -1], carried), token

    keys = jax.random.split(key, length)
    return jax.lax.scan(step, (logits[0, -1], carried), keys)[1]


class Translations(NamedTuple):
    """The result of ``translate``.

    Attributes:
        tokens: the tokens written for each source, int32 [batch, length]; 0 after the end.
        scores: the score of each, float32 [batch]; see ``translate``.
    """

    tokens: np.ndarray
    scores: np.ndarray


def translate(
    model: Seq2Seq | TransformerSeq2Seq,
    source: ArrayLike,
    length: int,
    *,
    beam_size: int = 1,
    length_penalty: float = 1.0,
) -> Translations:
    """Writes a target text for each source by beam search; a beam of one is greedy decoding.

    At each step the ``beam_size`` most likely prefixes are kept. A text that ends is complete if it
    is among the ``beam_size`` most likely ones of its step. The search for a source ends when
    ``beam_size`` texts are complete, and the one with the highest score is returned. The score is
    the sum of the log probabilities of the tokens, including the end token, divided by their number
    to the power of ``length_penalty``. The whole search is one compiled loop.

    Args:
        model: the model, used in evaluation mode; it is not changed.
        source: integers [batch, steps], with 0 after the end of each row.
        length: the largest number of tokens to write, including the end token.
        beam_size: number of prefixes that are kept.
        length_penalty: above 0 favours long texts, below 0 short ones; with 0 the score is the log
            probability of the text.

    Returns:
        The tokens of the best text for each source, and its score. If fewer than ``beam_size``
        texts are complete, those that are cut off at ``length`` are considered too.

    Raises:
        InputError: if the sources are not rows of tokens, or an argument is out of range.
    """
    if not isinstance(model, TRANSLATORS):
        raise InputError("model", "a Seq2Seq or a TransformerSeq2Seq", type(model).__name__)
    check_usable("source", "integers [batch, steps]", source)
    source = np.asarray(source)
    if source.ndim != 2 or source.size == 0 or source.dtype.kind not in "ui":
        raise InputError("source", "integers [batch, steps]", describe(source))
    tokens = model.options["vocab_size"]
    if source.min() < 0 or source.max() >= tokens:
        got = f"{source.min()} to {source.max()}"
        raise InputError("source", f"tokens from 0 to {tokens - 1}", got)
    check_positive("length", length)
    check_positive("beam_size", beam_size)
    penalty = check_number("length_penalty", length_penalty)
    graphdef, state = nnx.split(model)
    found = _search(graphdef, state, source, penalty, length, beam_size)
    return Translations(*map(np.asarray, found))


class _Beams(NamedTuple):
    """The prefixes that are kept for each source, and the best complete text."""

    tokens: jax.Array  # [batch, beams, length]
    total: jax.Array  # sums of log probabilities [batch, beams]
    best: jax.Array  # tokens of the best text [batch, length]
    score: jax.Array  # its score [batch]
    ended: jax.Array  # number of complete texts [batch]


@functools.partial(jax.jit, static_argnames=("graphdef", "length", "beams"))
def _search(
    graphdef: Any, state: Any, source: jax.Array, penalty: jax.Array, length: int, beams: int
) -> tuple[jax.Array, jax.Array]:
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    batch = len(source)

    def step(carried: tuple[_Beams, Any], place: jax.Array) -> tuple[tuple[_Beams, Any], None]:
        kept, read = carried
        last = jnp.where(place == 0, PAD, kept.tokens[:, :, place - 1])
        logits, read = model.step(last.reshape(-1), read)
        token = jnp.arange(logits.shape[-1], dtype=jnp.int32)
        added = jax.nn.log_softmax(jnp.where(token == PAD, -jnp.inf, logits))
        totals = kept.total[..., None] + added.reshape(batch, beams, len(token))
        ended = kept.tokens.at[:, :, place].set(END)
        least, _ = jax.lax.top_k(totals.reshape(batch, -1), beams)
        counts = jnp.isfinite(totals[..., END]) & (totals[..., END] >= least[:, -1:])
        scores = totals[..., END] / (place + 1).astype(jnp.float32) ** penalty
        kept = _with_best(kept, ended, jnp.where(counts, scores, -jnp.inf))
        kept = kept._replace(ended=kept.ended + counts.sum(1, dtype=jnp.int32))
        going = jnp.where(token == END, -jnp.inf, totals).reshape(batch, beams * len(token))
        total, chosen = jax.lax.top_k(going, beams)
        beam = chosen // len(token)
        written = _rows(kept.tokens, beam).at[:, :, place].set(chosen % len(token))
        read = jax.tree.map(
            lambda x: _rows(x.reshape(batch, beams, *x.shape[1:]), beam).reshape(x.shape), read
        )
        return (kept._replace(tokens=written, total=total), read), None

    # all beams are equal at first, so only one of them counts
    alike = jnp.where(jnp.arange(beams) > 0, -jnp.inf, 0.0)
    kept = _Beams(
        jnp.full((batch, beams, length), PAD, jnp.int32),
        jnp.broadcast_to(alike.astype(jnp.float32), (batch, beams)),
        jnp.full((batch, length), PAD, jnp.int32),
        jnp.full(batch, -jnp.inf, jnp.float32),
        jnp.zeros(batch, jnp.int32),
    )
    read = model.start(jnp.repeat(source, beams, axis=0), length)
    places = jnp.arange(length, dtype=jnp.int32)
    (kept, _), _ = jax.lax.scan(step, (kept, read), places)
    kept = _with_best(kept, kept.tokens, kept.total / float(length) ** penalty)
    return kept.best, kept.score


def _with_best(kept: _Beams, tokens: jax.Array, scores: jax.Array) -> _Beams:
    """Updates the best complete text with those in [batch, beams, length]."""
    first = jnp.argmax(scores, axis=1, keepdims=True).astype(jnp.int32)
    score = jnp.take_along_axis(scores, first, axis=1)[:, 0]
    better = (score > kept.score) & (kept.ended < tokens.shape[1])
    best = jnp.where(better[:, None], _rows(tokens, first)[:, 0], kept.best)
    return kept._replace(best=best, score=jnp.where(better, score, kept.score))


def _rows(x: jax.Array, chosen: jax.Array) -> jax.Array:
    """Selects rows [batch, beams, …] of each example's rows [batch, rows, …]."""
    return jnp.take_along_axis(x, chosen.reshape(chosen.shape + (1,) * (x.ndim - 2)), axis=1)


def ctc_greedy(
    logits: ArrayLike, lengths: ArrayLike | None = None, *, blank: int | None = None
) -> list[np.ndarray]:
    """Decodes CTC outputs greedily.

    Takes the most likely class at each time step, merges repeated classes and removes blanks.

    Args:
        logits: logits or log-probabilities of the classes, [batch, time, classes].
        lengths: number of time steps of each example, integers [batch]; None for all.
        blank: the class of the blank; by default the last one.

    Returns:
        For each example its sequence of classes, int32 [n].

    Raises:
        InputError: if a shape is wrong, or a length is larger than the number of time steps.

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
    """Decodes CTC outputs by prefix beam search.

    The probability of a sequence is the sum over all paths that are decoded to it; ``ctc_greedy``
    only finds the most likely path. At each time step the ``beam_width`` most likely prefixes are
    kept. The result is exact if all prefixes are kept.

    Args:
        logits: see ``ctc_greedy``.
        lengths: see ``ctc_greedy``.
        beam_width: number of prefixes that are kept.
        blank: see ``ctc_greedy``.

    Returns:
        For each example its most likely sequence of classes, int32 [n].

    Raises:
        InputError: see ``ctc_greedy``; or if the width is not a positive integer.

    Examples:
        >>> logits = np.log([[[0.4, 0.6], [0.4, 0.6]]])  # 0 at either time or both: 0.64
        >>> ctc_greedy(logits), ctc_beam_search(logits)
        ([array([], dtype=int32)], [array([0], dtype=int32)])
    """
    check_positive("beam_width", beam_width)
    rows, blank = _ctc_rows(logits, lengths, blank)
    return [np.array(_most_likely(row, beam_width, blank), np.int32) for row in rows]


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


def _most_likely(log_probs: np.ndarray, width: int, blank: int) -> _Prefix:
    """Returns the most likely sequence of an example [time, classes]."""
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
                if label != blank:  # a repeated label is new only after a blank
                    add((*prefix, label), never, score + (with_blank if label == last else either))
        ranked = sorted(grown.items(), key=lambda item: -np.logaddexp(*item[1]))
        beams = dict(ranked[:width])
    return max(beams, key=lambda prefix: np.logaddexp(*beams[prefix]))


_BATCH = 250  # images that are generated by one call of a program


def sample_images(
    model: VAE | DCGAN | Diffusion,
    count: int,
    labels: ArrayLike | None = None,
    *,
    seed: int = 0,
    **options: Any,
) -> np.ndarray:
    """Generates images with a generative model, in evaluation mode.

    Args:
        model: the trained model; it is not changed.
        count: number of images.
        labels: the class of each image, integers [count], or one class for all. Only for a model
            with classes; a ``DCGAN`` with classes requires them.
        seed: the random seed.
        **options: further arguments of the model's ``sample``: ``steps``, ``eta`` and ``guidance``
            of a ``Diffusion``.

    Returns:
        Values from 0 to 1, float32 [count, height, width, channels].

    Raises:
        InputError: if the model does not generate images, or an argument is out of range.
    """
    if not isinstance(model, IMAGE_MODELS):
        expected = "a VAE, a DCGAN or a Diffusion"
        raise InputError("model", expected, type(model).__name__)
    check_positive("count", count)
    check_seed("seed", seed)
    classes = _labels_of(model, count, labels)
    known = [*inspect.signature(type(model).sample).parameters][4:]
    for name in options:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise InputError("options", f"{expected}, for {type(model).__name__}", name)
    graphdef, state = nnx.split(model)
    parts = []
    for start in range(0, count, _BATCH):
        size = min(_BATCH, count - start)
        key = jax.random.fold_in(jax.random.key(seed), start)
        given = None if classes is None else classes[start : start + size]
        settings = tuple(sorted(options.items()))
        parts.append(np.asarray(_draw_images(graphdef, state, key, given, size, settings)))
    return np.concatenate(parts)


def _labels_of(model: Any, count: int, labels: ArrayLike | None) -> np.ndarray | None:
    """Returns the class of each image, or None for a model without classes."""
    number = getattr(model, "num_classes", None)
    if labels is None:
        if number is not None and isinstance(model, DCGAN):
            raise InputError("labels", f"classes from 0 to {number - 1}", "none")
        return None
    if number is None:
        raise InputError("labels", "None, as the model has no classes", labels)
    array = np.asarray(as_array("labels", labels))
    if array.dtype.kind not in "ui" or array.shape not in ((), (count,)):
        raise InputError("labels", f"integers [{count}], or one integer", describe(array))
    if array.size and not 0 <= array.min() <= array.max() < number:
        raise InputError("labels", f"classes from 0 to {number - 1}", labels)
    return np.broadcast_to(array, count).astype(np.int32)


@functools.partial(jax.jit, static_argnames=("graphdef", "count", "settings"))
def _draw_images(
    graphdef: Any,
    state: Any,
    key: jax.Array,
    labels: jax.Array | None,
    count: int,
    settings: tuple[tuple[str, Any], ...],
) -> jax.Array:
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()

    def draw(key: jax.Array) -> jax.Array:
        given = () if labels is None else (labels,)
        drawn: jax.Array = model.sample(key, count, *given, **dict(settings))
        return drawn

    return with_kernels(draw)(key)

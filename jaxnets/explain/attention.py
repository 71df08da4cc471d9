"""The attention weights of sequence-to-sequence networks."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, check_floats, check_usable, describe
from jaxnets.figures import new_figure
from jaxnets.models import TRANSLATORS, Seq2Seq, TransformerSeq2Seq
from jaxnets.models.seq2seq import shifted


def attention(
    model: Seq2Seq | TransformerSeq2Seq, source: ArrayLike, target: ArrayLike
) -> np.ndarray:
    """Returns the attention weights of a sequence-to-sequence network.

    Args:
        model: the network, used in evaluation mode; it is not changed. The weights of a
            ``TransformerSeq2Seq`` are those of the last decoder layer, averaged over the heads.
        source: integers [batch, steps], with 0 after the end of each row.
        target: the target texts, integers [batch, time], such as the tokens of ``translate``.

    Returns:
        float32 [batch, time, steps]: the weight of each source token for each target token. Each
        row adds up to 1.

    Raises:
        InputError: if the arrays are not tokens, or the numbers of sources and targets differ.
    """
    if not isinstance(model, TRANSLATORS):
        raise InputError("model", "a Seq2Seq or a TransformerSeq2Seq", type(model).__name__)
    for name, tokens in (("source", source), ("target", target)):
        check_usable(name, "integers [batch, time]", tokens)
        if tokens.ndim != 2 or tokens.dtype.kind not in "ui":
            raise InputError(name, "integers [batch, time]", describe(tokens))
    graphdef, state = nnx.split(model)
    return np.asarray(_weights(graphdef, state, source, target))


@functools.partial(jax.jit, static_argnames="graphdef")
def _weights(graphdef: Any, state: Any, source: jax.Array, target: jax.Array) -> jax.Array:
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    weights: jax.Array = model.attention(source, shifted(target))
    return weights


def draw_attention(
    weights: ArrayLike, source: Sequence[str], target: Sequence[str], *, title: str = ""
) -> Any:
    """Draws attention weights as a picture: a row for each token written, dark for a large weight.

    Args:
        weights: of one pair, [time, steps]; rows and columns after the tokens are left out.
        source: the tokens that were read, from left to right.
        target: the tokens that were written, from top to bottom.
        title: text above the picture.

    Returns:
        Matplotlib's figure, which a notebook shows.

    Raises:
        InputError: if there are fewer weights than tokens, or no token.
    """
    check_floats("weights", weights, ("time", "steps"))
    for name, tokens, size in zip(
        ("source", "target"), (source, target), weights.shape[::-1], strict=True
    ):
        several = isinstance(tokens, list | tuple) and all(isinstance(t, str) for t in tokens)
        if not several or not 0 < len(tokens) <= size:
            raise InputError(name, f"at least one token, and at most {size}", tokens)
    if not isinstance(title, str):
        raise InputError("title", "a string", title)
    shown = np.asarray(weights, np.float32)[: len(target), : len(source)]
    figure = new_figure(max(3, 0.22 * len(source) + 1), max(1.8, 0.22 * len(target) + 1))
    axes = figure.add_subplot()
    axes.imshow(shown, cmap="Blues", vmin=0, aspect="auto")
    names = [[token if token.strip() else "␣" for token in tokens] for tokens in (source, target)]
    axes.set_xticks(range(len(source)), names[0], rotation=0 if max(map(len, source)) < 3 else 90)
    axes.set_yticks(range(len(target)), names[1])
    axes.tick_params(length=0)
    axes.set_xlabel("read")
    axes.set_ylabel("written")
    axes.set_title(title)
    return figure

"""Sequence to sequence: pairs of texts, decoding, and what the commands do with both."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.data.text.pairs import END
from jaxnets.models import Seq2Seq, TransformerSeq2Seq
from jaxnets.models.seq2seq import shifted

TOKENS, LENGTH = 6, 3
SOURCE = np.array([[3, 4, 5, 0], [5, 5, 3, 3]], np.int32)
MODELS = {
    "gru": lambda: Seq2Seq(TOKENS, 4, 5, dropout=0.5, rngs=nnx.Rngs(1)),
    "transformer": lambda: TransformerSeq2Seq(TOKENS, 8, 2, 1, 16, 0.5, rngs=nnx.Rngs(3)),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    made = MODELS[request.param]()
    for head in (getattr(made, "generator", None), getattr(made, "decoder", None)):
        layer = getattr(head, "out", head)
        if layer is not None:
            layer.kernel[...] *= 4  # so that the probabilities differ
    made.eval()
    return made


def every_text():
    """All that can be written: int32 [texts, LENGTH], with 0 after the end."""
    others = [token for token in range(1, TOKENS) if token != END]
    found = []
    for count in range(LENGTH + 1):
        for start in itertools.product(others, repeat=count):
            ended = count < LENGTH
            found.append([*start, *([END] if ended else []), *[0] * (LENGTH - count - ended)])
    return np.array(found, np.int32)


@jax.jit
def _log_probabilities(state, graphdef, source, target):
    logits = nnx.merge(graphdef, state)(source, shifted(target))
    return jax.nn.log_softmax(logits.at[..., 0].set(-jnp.inf))

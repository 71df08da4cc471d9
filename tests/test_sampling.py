import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.models import GPT, LanguageModel
from jaxnets.sampling import sample
from tests import tier

PROMPT = np.array([3, 7, 2], np.int32)


@pytest.fixture(scope="module", params=["lstm", tier.slow("gru"), "gpt"])
def model(request):
    if request.param == "gpt":
        return GPT(9, 8, 2, 2, 8, dropout=0.5, rngs=nnx.Rngs(0))
    return LanguageModel(9, 5, 8, 2, dropout=0.5, cell=request.param, rngs=nnx.Rngs(0))


def test_at_temperature_0_each_token_is_the_likeliest_after_all_before_it(model):
    tokens = PROMPT
    drawn = sample(model, PROMPT, 9, temperature=0.0)
    window = getattr(model, "block_size", 100)  # a GPT reads only the last tokens
    assert drawn.dtype == np.int32
    reading = nnx.clone(model)
    reading.eval()
    read = jax.jit(lambda tokens: reading(tokens))
    for token in drawn:  # reads the whole text again for every token
        last = tokens[-window:]
        padded = np.pad(last, (0, min(window, 12) - len(last)))  # of one shape; it is causal
        logits = np.array(read(padded[None]))[0, len(last) - 1]
        logits[:2] = -np.inf
        assert token == logits.argmax()
        tokens = np.append(tokens, token)


@pytest.mark.slow
def test_draws_follow_the_softmax(model):
    reading = nnx.clone(model)
    reading.eval()
    logits = reading(jnp.asarray(PROMPT[None]))[0, -1, 2:]
    expected = np.asarray(jax.nn.softmax(logits / 0.5))
    firsts = [sample(model, PROMPT, 1, temperature=0.5, seed=seed)[0] for seed in range(400)]
    shares = np.bincount(firsts, minlength=9)[2:] / 400
    assert np.abs(shares - expected).max() < 4 * np.sqrt(0.25 / 400)


@pytest.mark.slow
def test_the_seed_decides(model):
    first, again, other = (sample(model, PROMPT, 40, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.min() >= 2  # neither padding nor the unknown token
    assert first.max() < 9


@pytest.mark.slow
def test_tokens_that_are_suppressed_are_never_drawn(model):
    drawn = sample(model, PROMPT, 60, temperature=50.0, suppress_tokens=(4, 5))
    assert set(drawn.tolist()) == {0, 1, 2, 3, 6, 7, 8}


@pytest.mark.slow
def test_a_longer_draw_begins_like_a_shorter_one_read_greedily(model):
    short, long = (sample(model, PROMPT, length, temperature=0.0) for length in (3, 9))
    np.testing.assert_array_equal(short, long[:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": np.array([], np.int32)}, r"prompt: expected integers \[n\], at least one, got"),
        ({"prompt": np.ones((1, 2), np.int32)}, r"prompt: expected integers .*got int32\[1, 2\]"),
        ({"length": 0}, "length: expected a positive integer, got 0"),
        ({"prompt": np.array([9], np.int32)}, r"prompt: expected tokens from 0 to 8, got \[9\]"),
        ({"prompt": np.array([2, -1])}, r"prompt: expected tokens from 0 to 8, got \[2, -1\]"),
        ({"temperature": -1.0}, "temperature: expected a finite number >= 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature: expected a finite number >= 0, got nan"),
        ({"temperature": "hot"}, "temperature: expected a finite number >= 0, got '?hot"),
        ({"seed": -1}, "seed: expected an integer from 0"),
        ({"suppress_tokens": (9,)}, "suppress_tokens: expected tokens from 0 to 8, got"),
        ({"suppress_tokens": 1}, "suppress_tokens: expected tokens from 0 to 8, got 1"),
        ({"suppress_tokens": range(9)}, "suppress_tokens: expected at least one token that can"),
    ],
)
def test_bad_arguments_are_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        sample(model, **({"prompt": PROMPT, "length": 3} | options))


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="model: expected a LanguageModel or a GPT, got Linear"):
        sample(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), PROMPT, 3)

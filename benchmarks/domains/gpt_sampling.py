"""Measures the tokens per second of a GPT, with and without its cache.

python benchmarks/domains/gpt_sampling.py
"""

import functools
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxnets import GPT
from jaxnets.sampling import sample

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
BLOCKS, ROUNDS = (64, 256), 5


@functools.partial(jax.jit, static_argnames=("graphdef", "length"))
def written(graphdef, state, prompt, length):
    """The most likely tokens after the prompt; each requires the whole block as input."""
    model = nnx.merge(graphdef, state)
    tokens = jnp.zeros((1, model.block_size), jnp.int32).at[0, : len(prompt)].set(prompt)

    def step(tokens, place):
        logits = model(tokens)[0, place - 1]
        token = jnp.argmax(logits.at[:2].set(-jnp.inf)).astype(jnp.int32)
        return tokens.at[0, place].set(token), token

    return jax.lax.scan(step, tokens, len(prompt) + jnp.arange(length))[1]


def timed(block: int) -> list:
    """The rates for one size of block, measured alternately."""
    model = GPT(67, block, rngs=nnx.Rngs(0))
    model.eval()
    graphdef, state = nnx.split(model)
    prompt, length = np.array([5], np.int32), block - 1
    calls = {
        "cached": lambda: sample(model, prompt, length, temperature=0.0),
        "uncached": lambda: np.asarray(written(graphdef, state, prompt, length)),
    }
    np.testing.assert_array_equal(*(call() for call in calls.values()))
    seconds = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    rates = [length / statistics.median(seconds[name]) for name in calls]
    return [block, *(round(rate) for rate in rates), round(rates[0] / rates[1], 1)]


def main() -> None:
    """Times all sizes, and writes the record."""
    from machine import PACKAGES, described

    rows = [timed(block) for block in BLOCKS]
    about = {
        "title": "Sampling from a GPT with and without a cache",
        "method": (
            "char-gpt's network (4 layers, 4 heads, 128 values a token) with blocks of several "
            "sizes writes a whole block, greedily, from one token; the tokens are the same. "
            f"Median of {ROUNDS} alternating runs, tokens a second."
        ),
        "columns": ["block size", "cached", "uncached", "speed-up"],
        "rows": rows,
        "command": "python benchmarks/domains/gpt_sampling.py",
    }
    path = ROOT / "benchmarks" / "results" / "domains" / "gpt_sampling.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {**described(PACKAGES), **about}
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

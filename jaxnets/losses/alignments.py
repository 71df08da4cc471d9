"""The total probability of all alignments of a target, and its gradient, for the CTC loss.

An alignment is a path through 2S + 1 states: the labels, with a blank before, between and after
them. At each time step a path stays in its state, moves to the next state, or skips a blank between
two different labels. The probabilities are summed by the forward-backward algorithm.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import logsumexp


class _States(NamedTuple):
    classes: jax.Array  # [N, L], the class that each of the L = 2S + 1 states emits
    skips: jax.Array  # [N, L], whether a path may come from two states before
    final: jax.Array  # [N, L], 0 where a path may end and -inf elsewhere


def _states(labels: jax.Array, target_lengths: jax.Array, blank: int, scores: jax.Array) -> _States:
    batch, length = labels.shape
    # Labels after the end of a target are padding of any value. Clipping makes them valid classes;
    # no path that ends in a final state visits them.
    labels = jnp.clip(labels, 0, scores.shape[-1] - 1)
    classes = jnp.full((batch, 2 * length + 1), blank, labels.dtype).at[:, 1::2].set(labels)
    skips = (classes != blank) & (classes != _shifted(classes, 2, blank))
    state, end = jnp.arange(2 * length + 1)[None, :], 2 * target_lengths[:, None]
    final = jnp.where((state == end) | (state == end - 1), 0, -jnp.inf).astype(scores.dtype)
    return _States(classes, skips, final)


def _shifted(values: jax.Array, states: int, fill: float) -> jax.Array:
    """Shifts values [N, L] forward by a number of states, or backward if it is negative."""
    on, back = max(states, 0), max(-states, 0)
    moved = jnp.pad(values, ((0, 0), (on, back)), constant_values=fill)
    return moved[:, back : back + values.shape[1]]


def _emissions(log_probs: jax.Array, states: _States) -> jax.Array:
    return jnp.take_along_axis(log_probs, states.classes[None], axis=2)  # [T, N, L]


def _within_input(log_probs: jax.Array, input_lengths: jax.Array) -> jax.Array:
    return jnp.arange(log_probs.shape[0])[:, None, None] < input_lengths[None, :, None]  # [T, N, 1]


def _forward(
    log_probs: jax.Array, input_lengths: jax.Array, states: _States
) -> tuple[jax.Array, jax.Array]:
    """Computes the log-likelihoods [N] and the forward variables [T, N, L].

    The forward variable of state s at time t is log p(state s at time t, outputs up to t).
    """

    def step(alpha: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        emission, within = inputs
        skipped = jnp.where(states.skips, _shifted(alpha, 2, -jnp.inf), -jnp.inf)
        reached = logsumexp(jnp.stack([alpha, _shifted(alpha, 1, -jnp.inf), skipped]), axis=0)
        alpha = jnp.where(within, reached + emission, alpha)
        return alpha, alpha

    # Before the first step all paths are at the first blank, from which the first step can stay or
    # move to the first label.
    start = jnp.full_like(states.final, -jnp.inf).at[:, 0].set(0)
    inputs = _emissions(log_probs, states), _within_input(log_probs, input_lengths)
    alpha, alphas = jax.lax.scan(step, start, inputs)
    return logsumexp(alpha + states.final, axis=-1), alphas


def _backward(log_probs: jax.Array, input_lengths: jax.Array, states: _States) -> jax.Array:
    """Computes the backward variables [T, N, L]: log p(outputs after t | state s at time t)."""

    def step(beta: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        emission, within = inputs
        onward = beta + emission
        skipped = _shifted(jnp.where(states.skips, onward, -jnp.inf), -2, -jnp.inf)
        left = logsumexp(jnp.stack([onward, _shifted(onward, -1, -jnp.inf), skipped]), axis=0)
        return jnp.where(within, left, beta), beta

    inputs = _emissions(log_probs, states), _within_input(log_probs, input_lengths)
    return jax.lax.scan(step, states.final, inputs, reverse=True)[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def negative_log_likelihood(
    blank: int,
    log_probs: jax.Array,
    labels: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
) -> jax.Array:
    """Computes the negative log of the total probability of all alignments, [N].

    The derivative is custom because the automatic one is NaN where a state cannot be reached, and
    stores far more of the forward pass.

    Args:
        blank: the class of the blank.
        log_probs: [T, N, C].
        labels: [N, S].
        input_lengths: [N].
        target_lengths: [N].
    """
    states = _states(labels, target_lengths, blank, log_probs)
    return -_forward(log_probs, input_lengths, states)[0]


_Residuals = tuple[jax.Array, jax.Array, _States, jax.Array, jax.Array]


def _negative_log_likelihood_forward(
    blank: int,
    log_probs: jax.Array,
    labels: jax.Array,
    input_lengths: jax.Array,
    target_lengths: jax.Array,
) -> tuple[jax.Array, _Residuals]:
    states = _states(labels, target_lengths, blank, log_probs)
    likelihoods, alphas = _forward(log_probs, input_lengths, states)
    return -likelihoods, (log_probs, input_lengths, states, likelihoods, alphas)


def _negative_log_likelihood_backward(
    blank: int, residuals: _Residuals, cotangent: jax.Array
) -> tuple[jax.Array, None, None, None]:
    log_probs, input_lengths, states, likelihoods, alphas = residuals
    betas = _backward(log_probs, input_lengths, states)
    # The probability of each state at each time, given the target. As in PyTorch it is NaN if the
    # target is impossible.
    visits = jnp.exp(alphas + betas - likelihoods[None, :, None])
    # Examples with cotangent 0 (zero_infinity, masked examples) have gradient 0, not 0 · NaN.
    counted = _within_input(log_probs, input_lengths) & (cotangent != 0)[None, :, None]
    visits = jnp.where(counted, -cotangent[None, :, None] * visits, 0)
    one_hot = jax.nn.one_hot(states.classes, log_probs.shape[-1], dtype=log_probs.dtype)
    gradient = jnp.einsum("tnl,nlc->tnc", visits, one_hot, precision=jax.lax.Precision.HIGHEST)
    return gradient, None, None, None


negative_log_likelihood.defvjp(_negative_log_likelihood_forward, _negative_log_likelihood_backward)

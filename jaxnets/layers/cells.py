"""The element-wise part of one time step of each recurrent cell, and its derivative."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: One array [B, H] for each of the G gates.
Pieces = Sequence[jax.Array]
#: The state that is passed from step to step, arrays [B, H]: (h,), or (h, c) for an LSTM.
State = tuple[jax.Array, ...]


class Gates(NamedTuple):
    """The element-wise part of one time step, and its derivative.

    Attributes:
        forward: (z, u, state) -> (new state, saved). z is the linear function of the input and u
            that of the hidden state, G arrays [B, H] each; ``saved`` is for ``backward``.
        backward: (gradient of the new state, saved, state, new state) -> (gradient of z [B, G·H],
            gradient of the state without the part that flows through u). None for the automatic
            derivative.
        recurrent: (gradient of z, saved) -> gradient of u, with any leading axes. None if
            ``forward`` depends only on z + u, so that both gradients are equal.
    """

    forward: Callable[[Pieces, Pieces, State], tuple[State, Any]]
    backward: Callable[[State, Any, State, State], tuple[jax.Array, State]] | None = None
    recurrent: Callable[[jax.Array, Any], jax.Array] | None = None


def _lstm(z: Pieces, u: Pieces, state: State) -> tuple[State, tuple[jax.Array, ...]]:
    i, f, g, o = map(jnp.add, z, u)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state[1] + i * g
    squashed = jnp.tanh(c)
    return (o * squashed, c), (i, f, g, o, squashed)


def _lstm_backward(
    d_state: State, saved: tuple[jax.Array, ...], state: State, new: State
) -> tuple[jax.Array, State]:
    (i, f, g, o, squashed), (dh, dc) = saved, d_state
    dc = dc + dh * o * (1 - squashed * squashed)
    di = dc * g * (1 - i) * i
    df = dc * state[1] * (1 - f) * f
    dg = dc * i * (1 - g * g)
    do = dh * squashed * (1 - o) * o
    return jnp.concatenate([di, df, dg, do], axis=-1), (jnp.zeros_like(dh), dc * f)


def projected(kernel: jax.Array) -> Gates:
    """Returns the gates of an LSTM with a projected hidden state, with automatic derivative."""

    def forward(z: Pieces, u: Pieces, state: State) -> tuple[State, None]:
        (h, c), _ = _lstm(z, u, state)
        return (h @ kernel, c), None

    return Gates(forward)


def _gru(z: Pieces, u: Pieces, state: State) -> tuple[State, tuple[jax.Array, ...]]:
    (zr, zk, zn), (ur, uk, un) = z, u
    r, k = jax.nn.sigmoid(zr + ur), jax.nn.sigmoid(zk + uk)
    n = jnp.tanh(zn + r * un)  # the reset gate multiplies h W + b, not h
    return (n + k * (state[0] - n),), (r, k, n, un)


def _gru_backward(
    d_state: State, saved: tuple[jax.Array, ...], state: State, new: State
) -> tuple[jax.Array, State]:
    (r, k, n, un), (dh,), (h,) = saved, d_state, state
    dn = (dh - dh * k) * (1 - n * n)  # in PyTorch's order, so that an infinite dh makes equal NaN
    dk = dh * (h - n) * (1 - k) * k
    dr = dn * un * (1 - r) * r
    return jnp.concatenate([dr, dk, dn], axis=-1), (dh * k,)


def _gru_recurrent(dz: jax.Array, saved: tuple[jax.Array, ...]) -> jax.Array:
    dr, dk, dn = jnp.split(dz, 3, axis=-1)
    return jnp.concatenate([dr, dk, dn * saved[0]], axis=-1)


def _tanh_backward(d_state: State, saved: None, state: State, new: State) -> tuple:
    (dh,), (h,) = d_state, new
    return dh * (1 - h * h), (jnp.zeros_like(dh),)


def _relu_backward(d_state: State, saved: None, state: State, new: State) -> tuple:
    (dh,), (h,) = d_state, new
    return jnp.where(h > 0, dh, 0), (jnp.zeros_like(dh),)


#: The gates by the name of the cell. Plain networks save nothing, because the derivatives of tanh
#: and ReLU follow from the new state.
CELLS = {
    "lstm": Gates(_lstm, _lstm_backward),
    "gru": Gates(_gru, _gru_backward, _gru_recurrent),
    "tanh": Gates(lambda z, u, state: ((jnp.tanh(z[0] + u[0]),), None), _tanh_backward),
    "relu": Gates(lambda z, u, state: ((jax.nn.relu(z[0] + u[0]),), None), _relu_backward),
}

"""A recurrent layer over all time steps as one call of a native kernel, forward and backward."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.shard import vary_like

# With fewer time steps of all examples it does not pay to pack the kernels. Of so few examples they
# are not packed.
_LEAST_STEPS, _FEW, _LEAST_STEPS_OF_FEW = 64, 2, 8
# With more inputs and hidden units together the packed kernels fill no cache.
_MOST_FEATURES = 1024

#: The final state of each direction: (h,), or (h, c) of an LSTM.
Finals = tuple[tuple[jax.Array, ...], ...]


def serves(cell: str, reverse: tuple[bool, ...], x: Shaped, directions: Sequence[Any]) -> bool:
    """Whether the kernels of ``recurrence`` can run this, and are faster than XLA's loop."""
    if any(one.projection is not None for one in directions):
        return False
    if reverse not in ((False,), (True,), (False, True)):
        return False
    batch, time, inputs = x.shape
    hidden = len(directions[0].kernels[1])
    pays = batch * time >= (_LEAST_STEPS if batch > _FEW else _LEAST_STEPS_OF_FEW)
    arrays = jax.tree.leaves(directions)
    return pays and inputs + hidden <= _MOST_FEATURES and native.ready("recurrence", x, *arrays)


def recurrence(
    cell: str, reverse: tuple[bool, ...], plain: Callable[..., tuple[jax.Array, Finals]]
) -> Callable[..., tuple[jax.Array, Finals]]:
    """A recurrent layer, in one direction or in both, computed by kernels.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"tanh"`` or ``"relu"``.
        reverse: of each direction, whether time runs from the last step to the first.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [B, T, I]; of each direction a named tuple of the kernels, [I, G·H] and
        [H, G·H], the biases, [G·H] each or None, and the initial state, [B, H] each; and of the
        examples' lengths, int [B], or None. It gives the hidden states by time step,
        [B, T, directions · H], and of each direction the state after the last step.
    """
    lstm, keeps = cell == "lstm", {"lstm": 5, "gru": 4}.get(cell)

    def call(
        way: str, shapes: list[tuple[int, ...]], x: jax.Array, lengths: Any, *arrays: Any
    ) -> list[jax.Array]:
        results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
        known = [] if lengths is None else [lengths.astype(jnp.int32)]
        settings = {"directions": len(reverse), "lengths": len(known), "reverse": reverse[-1]}
        options = {name: np.int32(value) for name, value in settings.items()}
        arguments = x, *known, *arrays
        return native.call("recurrence", f"{cell}_{way}", results, *arguments, **options)

    def forward(inputs: tuple, *, keep: bool) -> tuple[jax.Array, Finals, list[jax.Array]]:
        x, directions, lengths = inputs
        batch, time, _ = x.shape
        hidden = len(directions[0].kernels[1])
        shapes: list[tuple[int, ...]] = [(batch, time, hidden * len(directions))]
        shapes += [(batch, hidden)] * (len(directions) * lstm)
        if keep and keeps:
            shapes += [(time, batch, keeps * hidden)] * len(directions)
        given = [array for one in directions for array in _arrays(one)]
        outputs, *others = call("forward", shapes, x, lengths, *given)
        cells, saved = others[: len(directions) * lstm], others[len(directions) * lstm :]
        finals = []
        for number, backwards in enumerate(reverse):
            of_step = outputs[:, 0 if backwards else -1]
            h = of_step[:, number * hidden : (number + 1) * hidden]
            finals.append((h, cells[number]) if lstm else (h,))
        return outputs, tuple(finals), saved

    def run(*inputs: Any) -> tuple[jax.Array, Finals]:
        return forward(inputs, keep=False)[:2]

    def keep(*inputs: Any) -> tuple[tuple[jax.Array, Finals], tuple[jax.Array, list[jax.Array]]]:
        outputs, finals, saved = forward(inputs, keep=True)
        return (outputs, finals), (outputs, saved)

    def pull_back(inputs: tuple, kept: tuple, cotangents: Any, wanted: tuple[bool, ...]) -> tuple:
        (x, directions, lengths), (outputs, saved) = inputs, kept
        d_outputs, d_finals = cotangents
        shapes, given = [], []
        for number, one in enumerate(directions):
            width = one.kernels[1].shape[1:]
            states = [state.shape for state in one.initial]
            shapes += [*(kernel.shape for kernel in one.kernels), width, width, *states]
            given += [*one.kernels, *one.initial, *saved[number : number + 1], *d_finals[number]]
        shapes += [x.shape] * wanted[0]
        found = call("backward", shapes, x, lengths, outputs, d_outputs, *given)
        dx = found.pop() if wanted[0] else None
        each = len(found) // len(directions)
        d_directions = tuple(
            _gradient(one, found[number * each : (number + 1) * each])
            for number, one in enumerate(directions)
        )
        return dx, d_directions, None

    made = with_gradient(run, keep, pull_back, plain, told=True)

    def run_varied(x: jax.Array, directions: Any, lengths: Any) -> tuple[jax.Array, Finals]:
        return made(x, vary_like(x, directions), lengths)

    return run_varied


def _arrays(direction: Any) -> list[jax.Array]:
    kernels, biases, initial, _ = direction
    nothing = jnp.zeros(kernels[1].shape[1:], kernels[1].dtype)
    return [*kernels, *(nothing if bias is None else bias for bias in biases), *initial]


def _gradient(direction: Any, found: list[jax.Array]) -> Any:
    """What the kernel gives for a direction, as the direction's arrays are."""
    biases = zip(direction.biases, found[2:4], strict=True)
    d_biases = tuple(None if bias is None else d for bias, d in biases)
    return type(direction)(tuple(found[:2]), d_biases, tuple(found[4:]))

"""Recurrent layers over all time steps by native kernels, forward and backward."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.kernels import native
from jaxnets.kernels.geometry import Shaped
from jaxnets.kernels.gradients import with_gradient
from jaxnets.kernels.shard import vary_like

# Thresholds of batch size times time steps. Below the first, packing the kernels costs more than it
# saves. For a batch of at most ``_FEW`` examples they are not packed, and the second applies.
_LEAST_STEPS, _FEW, _LEAST_STEPS_OF_FEW = 64, 2, 8
# With more inputs and hidden units in total, the packed kernels do not fit into the cache.
_MOST_FEATURES = 1024

# Number of values per unit and time step that the backward pass needs in addition to the outputs.
_SAVED_GATES = {"lstm": 5, "gru": 4}

#: The final state of each direction: (h,), or (h, c) of an LSTM.
Finals = tuple[tuple[jax.Array, ...], ...]


def supports(cell: str, reverse: tuple[bool, ...], x: Shaped, directions: Sequence[Any]) -> bool:
    """Whether the kernels of ``recurrence`` can run this, and are faster than XLA's loop."""
    if any(one.projection is not None for one in directions):  # an LSTM with ``proj_size``
        return False
    if reverse not in ((False,), (True,), (False, True)):
        return False
    batch, time, inputs = x.shape
    hidden = len(directions[0].kernels[1])
    pays_off = batch * time >= (_LEAST_STEPS if batch > _FEW else _LEAST_STEPS_OF_FEW)
    arrays = jax.tree.leaves(directions)
    return pays_off and inputs + hidden <= _MOST_FEATURES and native.ready("recurrence", x, *arrays)


def recurrence(
    cell: str, reverse: tuple[bool, ...], plain: Callable[..., tuple[jax.Array, Finals]]
) -> Callable[..., tuple[jax.Array, Finals]]:
    """Makes a recurrent layer of one or two directions that kernels compute.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"tanh"`` or ``"relu"``.
        reverse: for each direction, whether time runs from the last step to the first.
        plain: the same function in XLA's operations.

    Returns:
        A function of x [B, T, I]; for each direction a named tuple of the kernels, [I, G·H] and
        [H, G·H], the biases, [G·H] each or None, and the initial state, [B, H] each; and of the
        examples' lengths, int [B], or None. It returns the hidden states by time step,
        [B, T, directions · H], and for each direction the state after the last step.
    """
    kernel = _Kernel(cell, reverse)

    def run(*inputs: Any) -> tuple[jax.Array, Finals]:
        return kernel.forward(*inputs, keep=False)[:2]

    def keep(*inputs: Any) -> tuple[tuple[jax.Array, Finals], tuple[jax.Array, list[jax.Array]]]:
        outputs, finals, saved = kernel.forward(*inputs, keep=True)
        return (outputs, finals), (outputs, saved)

    made = with_gradient(run, keep, kernel.backward, plain, selective=True)

    def run_varied(x: jax.Array, directions: Any, lengths: Any) -> tuple[jax.Array, Finals]:
        return made(x, vary_like(x, directions), lengths)

    return run_varied


class _Kernel(NamedTuple):
    """The calls of a cell's kernel, forward and backward."""

    cell: str
    reverse: tuple[bool, ...]

    def forward(
        self, x: jax.Array, directions: Any, lengths: Any, *, keep: bool
    ) -> tuple[jax.Array, Finals, list[jax.Array]]:
        """Computes the outputs, the final states, and with ``keep`` the gates by time step."""
        batch, time, _ = x.shape
        hidden, count = len(directions[0].kernels[1]), len(directions)
        cells = count if self.cell == "lstm" else 0
        gates = _SAVED_GATES.get(self.cell, 0) if keep else 0
        shapes = [
            (batch, time, hidden * count),
            *[(batch, hidden)] * cells,
            *[(time, batch, gates * hidden)] * (count if gates else 0),
        ]
        given = [array for one in directions for array in _arrays(one)]
        outputs, *others = self._call("forward", shapes, x, lengths, *given)
        # The final hidden state is the output of the last step in the direction of time. An LSTM
        # also returns its cell state.
        ends = (outputs[:, 0 if backwards else -1] for backwards in self.reverse)
        finals = [
            (end[:, at * hidden : (at + 1) * hidden], *others[:cells][at : at + 1])
            for at, end in enumerate(ends)
        ]
        return outputs, tuple(finals), others[cells:]

    def backward(
        self, inputs: tuple, kept: tuple, cotangents: Any, wanted: tuple[bool, ...]
    ) -> tuple:
        """Computes the gradients of each direction's arrays, and of x if it is needed.

        This is back-propagation through time: the kernel goes through the steps in reverse order
        with the gates that ``forward`` kept, so that it need not compute them again.
        """
        (x, directions, lengths), (outputs, saved) = inputs, kept
        d_outputs, d_finals = cotangents
        shapes, given = [], []
        for at, one in enumerate(directions):
            bias = one.kernels[1].shape[1:]
            shapes += [array.shape for array in one.kernels]
            shapes += [bias, bias, *(array.shape for array in one.initial)]
            given += [*one.kernels, *one.initial, *saved[at : at + 1], *d_finals[at]]
        shapes += [x.shape] * wanted[0]
        found = self._call("backward", shapes, x, lengths, outputs, d_outputs, *given)
        dx = found.pop() if wanted[0] else None
        each = len(found) // len(directions)
        parts = (found[at * each : (at + 1) * each] for at in range(len(directions)))
        return dx, tuple(map(_gradient, directions, parts)), None

    def _call(
        self, way: str, shapes: list[tuple[int, ...]], x: jax.Array, lengths: Any, *arrays: Any
    ) -> list[jax.Array]:
        results = [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes]
        known = [] if lengths is None else [lengths.astype(jnp.int32)]
        settings = {
            "directions": len(self.reverse),
            "lengths": len(known),
            "reverse": self.reverse[-1],
        }
        options = {name: np.int32(value) for name, value in settings.items()}
        name = f"{self.cell}_{way}"
        return native.call("recurrence", name, results, x, *known, *arrays, **options)


def _arrays(direction: Any) -> list[jax.Array]:
    kernels, biases, initial, _ = direction
    nothing = jnp.zeros(kernels[1].shape[1:], kernels[1].dtype)  # kernels always take two biases
    return [*kernels, *(nothing if bias is None else bias for bias in biases), *initial]


def _gradient(direction: Any, found: list[jax.Array]) -> Any:
    """Arranges a direction's gradients from the kernel in the structure of the direction."""
    biases = zip(direction.biases, found[2:4], strict=True)
    d_biases = tuple(None if bias is None else d for bias, d in biases)
    return type(direction)(tuple(found[:2]), d_biases, tuple(found[4:]))

"""The base classes of LSTM, GRU and RNN: parameters, checks, and runs of stacked layers."""

import math
from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets import initializers
from jaxnets.arrays import (
    ArrayLike,
    InputError,
    check_bool,
    check_floats,
    check_integer,
    check_number,
    check_positive,
    describe,
)
from jaxnets.layers.bptt import Direction, by_gate, recur, valid_steps
from jaxnets.layers.cells import CELLS, State
from jaxnets.layers.dropout import Dropout
from jaxnets.layers.parameters import check_parameters


class Weights(NamedTuple):
    """The parameters of one direction of one layer, or of a cell.

    Both biases are kept, although LSTM and RNN only need their sum. In PyTorch each is a separate
    parameter, and with a single bias training would give other results than in PyTorch.
    """

    kernel_ih: Any  # [I, G·H]
    kernel_hh: Any  # [H, G·H], or [P, G·H] with a projection
    bias_ih: Any = None  # [G·H]
    bias_hh: Any = None  # [G·H]
    kernel_hr: Any = None  # [H, P]


class Recurrent(nnx.Module):
    """A stack of recurrent layers: the abstract base of ``LSTM``, ``GRU`` and ``RNN``."""

    gate_count: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int = 0,
        *,
        remat: int | None = None,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        check_positive("input_size", input_size)
        check_positive("hidden_size", hidden_size)
        check_positive("num_layers", num_layers)
        # Positional arguments of PyTorch can put its batch_first here; check_number rejects bools.
        self.dropout = check_number("dropout", dropout, least=0, most=1)
        self.proj_size = check_integer("proj_size", proj_size, least=0, most=hidden_size - 1)
        self.bias = check_bool("bias", bias)
        self.bidirectional = check_bool("bidirectional", bidirectional)
        if remat is not None:
            check_positive("remat", remat)
        self.remat = remat
        rngs = check_parameters(rngs, param_dtype)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        for layer in range(num_layers):
            features = self._state_size * len(self._suffixes) if layer else input_size
            shapes = _shapes(self.gate_count, features, hidden_size, bias, proj_size)
            for suffix in self._suffixes:
                _add_parameters(self, f"_l{layer}{suffix}", shapes, rngs, param_dtype)
        gaps = num_layers - 1 if self.dropout > 0 else 0
        self.dropouts = nnx.List(Dropout(dropout, rngs=rngs) for _ in range(gaps))

    @property
    def _state_size(self) -> int:
        """The size of the hidden state, which is that of the outputs of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    @property
    @abstractmethod
    def _cell(self) -> str:
        """The key in ``cells.CELLS`` of the element-wise part of a time step."""

    def _run(
        self, x: ArrayLike, initial_state: Any, state_sizes: tuple[int, ...], lengths: Any
    ) -> tuple[jax.Array, State]:
        """Computes the outputs [B, T, D·H] and the final states, [layers·D, B, H] each."""
        check_floats("x", x, ("B", "T", self.input_size))
        batch, time, _ = x.shape
        if time == 0:
            raise InputError("x", "at least one time step", describe(x))
        kernel = self.kernel_ih_l0  # None if the weight is parametrized
        dtype = x.dtype if kernel is None else jnp.result_type(x, kernel[...])
        leading = self.num_layers * len(self._suffixes), batch
        initial = _states(initial_state, [(*leading, size) for size in state_sizes], dtype)
        x, valid = jnp.asarray(x, dtype), None
        if lengths is not None:
            lengths = _checked_lengths(lengths, batch, time)
            valid = jnp.swapaxes(valid_steps(lengths, time), 0, 1)
            x = jnp.where(valid, x, 0)  # the padding may contain NaN
        outputs, finals = self._layers(x, initial, lengths)
        if valid is not None:
            outputs = jnp.where(valid, outputs, 0)
        return outputs, tuple(map(jnp.stack, zip(*finals, strict=True)))

    def _layers(
        self, x: jax.Array, initial: State, lengths: jax.Array | None
    ) -> tuple[jax.Array, list[State]]:
        """Returns the outputs [B, T, D·H] of the last layer, and all final states."""
        finals: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropouts:
                x = self.dropouts[layer - 1](x)
            first = len(finals)
            states = [
                tuple(array[first + number] for array in initial)
                for number in range(len(self._suffixes))
            ]
            x, ends = self._layer(layer, x, states, lengths)
            finals += ends
        return x, finals

    def _layer(
        self, layer: int, x: jax.Array, states: list[State], lengths: jax.Array | None
    ) -> tuple[jax.Array, list[State]]:
        """Returns the outputs [B, T, D·H] of one layer, and the final state of each direction."""
        directions = [
            self._direction(f"_l{layer}{suffix}", x.dtype, state)
            for suffix, state in zip(self._suffixes, states, strict=True)
        ]
        if self.remat is not None:
            return self._in_segments(x, directions, lengths)
        reverse = (False, True)[: len(directions)]
        x, ends = recur(x, tuple(directions), lengths, cell=self._cell, reverse=reverse)
        return x, list(ends)

    def _direction(self, suffix: str, dtype: DTypeLike, initial: State) -> Direction:
        weights = _weights(self, suffix, dtype)
        bias_ih, bias_hh = weights.bias_ih, weights.bias_hh
        if bias_ih is not None and CELLS[self._cell].recurrent is None:  # only the sum matters
            bias_ih, bias_hh = bias_ih + bias_hh, None
        kernels = weights.kernel_ih, weights.kernel_hh
        return Direction(kernels, (bias_ih, bias_hh), initial, weights.kernel_hr)

    def _in_segments(
        self, x: jax.Array, directions: list[Direction], lengths: jax.Array | None
    ) -> tuple[jax.Array, list[State]]:
        """Runs a layer, storing only the states between segments for the backward pass."""
        outputs, finals = [], []
        for number, direction in enumerate(directions):
            output, final = self._segments(x, direction, lengths, bool(number))
            outputs.append(output)
            finals.append(final)
        return jnp.concatenate(outputs, axis=-1), finals

    def _segments(
        self, x: jax.Array, direction: Direction, lengths: jax.Array | None, reverse: bool
    ) -> tuple[jax.Array, State]:
        """Runs one direction of a layer: a scan over segments, and a rest of fewer steps."""
        time = x.shape[1]
        length = min(self.remat or time, time)
        cut = time // length * length

        def segment(state: State, part: tuple[jax.Array, Any]) -> tuple[State, jax.Array]:
            x, first = part
            left = None if lengths is None else lengths - first
            given = (direction._replace(initial=state),)
            outputs, (final,) = recur(x, given, left, cell=self._cell, reverse=(reverse,))
            return final, outputs

        def segments(state: State) -> tuple[State, jax.Array]:
            parts = jnp.swapaxes(x[:, :cut].reshape(x.shape[0], -1, length, x.shape[2]), 0, 1)
            firsts = length * jnp.arange(cut // length, dtype=jnp.int32)
            run = jax.checkpoint(segment)  # the backward pass recomputes the steps of a segment
            final, outputs = lax.scan(run, state, (parts, firsts), reverse=reverse)
            outputs = jnp.swapaxes(outputs, 0, 1)
            return final, outputs.reshape(x.shape[0], cut, outputs.shape[-1])

        def rest(state: State) -> tuple[State, jax.Array]:
            return segment(state, (x[:, cut:], cut))

        runs = [segments] if cut == time else [segments, rest]
        state, outputs = direction.initial, []
        for run in reversed(runs) if reverse else runs:
            state, some = run(state)
            outputs.append(some)
        return jnp.concatenate(outputs[::-1] if reverse else outputs, axis=1), state


class RecurrentCell(nnx.Module):
    """One step of a recurrent layer: the abstract base of the cells."""

    gate_count: ClassVar[int]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        *,
        rngs: nnx.Rngs | None,
        param_dtype: DTypeLike,
    ) -> None:
        check_positive("input_size", input_size)
        check_positive("hidden_size", hidden_size)
        self.bias = check_bool("bias", bias)
        rngs = check_parameters(rngs, param_dtype)
        self.input_size, self.hidden_size = input_size, hidden_size
        shapes = _shapes(self.gate_count, input_size, hidden_size, bias)
        _add_parameters(self, "", shapes, rngs, param_dtype)

    def _step(self, cell: str, x: ArrayLike, state: Any, count: int) -> State:
        """Returns the state after one step, ``count`` arrays [B, H]."""
        check_floats("x", x, ("B", self.input_size))
        dtype = jnp.result_type(x, self.kernel_ih[...])
        states = _states(state, [(x.shape[0], self.hidden_size)] * count, dtype, "state")
        weights = _weights(self, "", dtype)
        z, u = jnp.asarray(x, dtype) @ weights.kernel_ih, states[0] @ weights.kernel_hh
        if self.bias:
            z, u = z + weights.bias_ih[None], u + weights.bias_hh[None]
        z, u = by_gate(z, self.hidden_size), by_gate(u, self.hidden_size)
        return CELLS[cell].forward(z, u, states)[0]


def _shapes(
    gate_count: int, input_size: int, hidden_size: int, bias: bool, proj_size: int = 0
) -> dict[str, tuple[int, ...]]:
    width = gate_count * hidden_size
    shapes: dict[str, tuple[int, ...]] = {
        "kernel_ih": (input_size, width),
        "kernel_hh": (proj_size or hidden_size, width),
    }
    if bias:
        shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
    if proj_size:
        shapes["kernel_hr"] = (hidden_size, proj_size)
    return shapes


def _add_parameters(
    module: nnx.Module,
    suffix: str,
    shapes: dict[str, tuple[int, ...]],
    rngs: nnx.Rngs,
    dtype: DTypeLike,
) -> None:
    # PyTorch draws all parameters, also the input kernel and projection, from U(±1/√hidden_size).
    bound = 1.0 / math.sqrt(module.hidden_size)
    draw = initializers.uniform(-bound, bound)
    for name, shape in shapes.items():
        setattr(module, name + suffix, nnx.Param(draw(rngs.params(), shape, dtype)))


def _weights(module: nnx.Module, suffix: str, dtype: DTypeLike) -> Weights:
    found = (getattr(module, name + suffix, None) for name in Weights._fields)
    return Weights(*(None if weight is None else weight[...].astype(dtype) for weight in found))


def _states(
    given: Any, shapes: list[tuple[int, ...]], dtype: DTypeLike, argument: str = "initial_state"
) -> State:
    """Checks the given states and converts them to arrays; zeros for None."""
    if given is None:
        return tuple(jnp.zeros(shape, dtype) for shape in shapes)
    if len(shapes) == 1:
        check_floats(argument, given, shapes[0])
        return (jnp.asarray(given, dtype),)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(argument, "a pair (h, c)", type(given).__name__)
    for index, (array, shape) in enumerate(zip(given, shapes, strict=True)):
        check_floats(f"{argument}[{index}]", array, shape)
    return tuple(jnp.asarray(array, dtype) for array in given)


def _checked_lengths(lengths: ArrayLike, batch: int, time: int) -> jax.Array:
    known = not isinstance(lengths, jax.core.Tracer)  # under jit the values are unknown
    lengths = np.asarray(lengths) if known else lengths
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise InputError("lengths", f"{batch} integers, one per sequence", describe(lengths))
    if known and ((lengths < 1) | (lengths > time)).any():
        raise InputError("lengths", f"integers from 1 to {time}", str(lengths.tolist()))
    return jnp.asarray(lengths, jnp.int32)

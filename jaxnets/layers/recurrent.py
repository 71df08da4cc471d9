"""What the LSTM, the GRU and the plain recurrent network share: parameters, checks and layers."""

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
from jaxnets.layers import bptt
from jaxnets.layers.dropout import Dropout
from jaxnets.layers.parameters import check_parameters


class Weights(NamedTuple):
    """The parameters of one direction of one layer, or of a cell.

    Both biases are kept, though LSTM and RNN only need their sum: in PyTorch each is a parameter
    of its own, and a model that trained one alone would leave PyTorch's trajectory.
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
        # A bool here is most often PyTorch's batch_first, which these layers do not take.
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
        """Size of the hidden state, and so of the outputs of one direction."""
        return self.proj_size or self.hidden_size

    @property
    def _suffixes(self) -> tuple[str, ...]:
        return ("", "_reverse") if self.bidirectional else ("",)

    @abstractmethod
    def _gates(self, weights: Weights) -> bptt.Gates:
        """The element-wise part of a time step."""

    def _run(
        self, x: ArrayLike, initial_state: Any, state_sizes: tuple[int, ...], lengths: Any
    ) -> tuple[jax.Array, bptt.State]:
        """Outputs [B, T, D·H] and final states, each [layers·D, B, H]."""
        check_floats("x", x, ("B", "T", self.input_size))
        batch, time, _ = x.shape
        if time == 0:
            raise InputError("x", "at least one time step", describe(x))
        dtype = jnp.result_type(x, self.kernel_ih_l0[...])
        leading = self.num_layers * len(self._suffixes), batch
        initial = _states(initial_state, [(*leading, size) for size in state_sizes], dtype)
        valid = None if lengths is None else _valid_steps(lengths, batch, time)

        steps = jnp.swapaxes(jnp.asarray(x, dtype), 0, 1)  # [T, B, I], time first throughout
        steps = _zero_padding(steps, valid)  # the padding may hold anything, NaN included
        weights = [
            [_weights(self, f"_l{layer}{suffix}", dtype) for suffix in self._suffixes]
            for layer in range(self.num_layers)
        ]
        if self._plain:
            gates = self._gates(weights[0][0])
            layers = [
                _layer(gates, one, tuple(state[number] for state in initial))
                for number, [one] in enumerate(weights)
            ]
            steps, finals = bptt.stacked(gates, steps, layers, valid)
        else:
            steps, finals = self._one_by_one(steps, weights, initial, valid)
        steps = _zero_padding(steps, valid)
        return jnp.swapaxes(steps, 0, 1), tuple(map(jnp.stack, zip(*finals, strict=True)))

    @property
    def _plain(self) -> bool:
        """Whether a layer's outputs, as they are, are the next one's inputs, step by step."""
        other = self.bidirectional or self.proj_size or self.remat is not None
        return not other and all(dropout.deterministic for dropout in self.dropouts)

    def _one_by_one(
        self,
        steps: jax.Array,
        weights: list[list[Weights]],
        initial: bptt.State,
        valid: jax.Array | None,
    ) -> tuple[jax.Array, list[bptt.State]]:
        """Outputs [T, B, D·H] of the last layer, and the final states of all directions."""
        finals: list[bptt.State] = []
        for layer, directions in enumerate(weights):
            if layer and self.dropouts:
                steps = self.dropouts[layer - 1](steps)
            outputs = []
            for one, suffix in zip(directions, self._suffixes, strict=True):
                first = tuple(state[len(finals)] for state in initial)
                run = self._direction if self.remat is None else self._in_segments
                output, final = run(steps, one, first, valid, bool(suffix))
                outputs.append(output)
                finals.append(final)
            steps = jnp.concatenate(outputs, axis=-1)  # [T, B, D·H]
        return steps, finals

    def _in_segments(
        self,
        x: jax.Array,
        weights: Weights,
        initial: bptt.State,
        valid: jax.Array | None,
        reverse: bool,
    ) -> tuple[jax.Array, bptt.State]:
        """``_direction``, of which only the states between segments are kept for the way back."""
        length = min(self.remat or len(x), len(x))
        cut = len(x) // length * length

        def segment(state: bptt.State, part: Any) -> tuple[bptt.State, jax.Array]:
            x, valid = part
            outputs, final = self._direction(x, weights, state, valid, reverse)
            return final, outputs

        def segments(state: bptt.State) -> tuple[bptt.State, jax.Array]:
            shape = cut // length, length
            parts = jax.tree.map(lambda a: a[:cut].reshape(*shape, *a.shape[1:]), (x, valid))
            final, outputs = lax.scan(jax.checkpoint(segment), state, parts, reverse=reverse)
            return final, outputs.reshape(cut, *outputs.shape[2:])

        def rest(state: bptt.State) -> tuple[bptt.State, jax.Array]:
            return segment(state, jax.tree.map(lambda a: a[cut:], (x, valid)))

        runs = [segments] if cut == len(x) else [segments, rest]
        state, outputs = initial, []
        for run in reversed(runs) if reverse else runs:
            state, some = run(state)
            outputs.append(some)
        return jnp.concatenate(outputs[::-1] if reverse else outputs), state

    def _direction(
        self,
        x: jax.Array,
        weights: Weights,
        initial: bptt.State,
        valid: jax.Array | None,
        reverse: bool,
    ) -> tuple[jax.Array, bptt.State]:
        """One direction of one layer."""
        gates = self._gates(weights)
        return bptt.scan(gates, reverse, x, *_layer(gates, weights, initial), valid)


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

    def _step(self, gates: bptt.Gates, x: ArrayLike, state: Any, count: int) -> bptt.State:
        """The ``count`` arrays [B, H] of the state after the step."""
        check_floats("x", x, ("B", self.input_size))
        dtype = jnp.result_type(x, self.kernel_ih[...])
        states = _states(state, [(x.shape[0], self.hidden_size)] * count, dtype, "state")
        weights = _weights(self, "", dtype)
        z, u = jnp.asarray(x, dtype) @ weights.kernel_ih, states[0] @ weights.kernel_hh
        if self.bias:
            z, u = z + weights.bias_ih[None], u + weights.bias_hh[None]
        z, u = bptt.by_gate(z, self.hidden_size), bptt.by_gate(u, self.hidden_size)
        return gates.forward(z, u, states)[0]


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
    # PyTorch draws all of them, the input's kernel and the projection too, from U(±1/√hidden_size).
    draw = initializers.uniform(1.0 / math.sqrt(module.hidden_size))
    for name, shape in shapes.items():
        setattr(module, name + suffix, nnx.Param(draw(rngs.params(), shape, dtype)))


def _weights(module: nnx.Module, suffix: str, dtype: DTypeLike) -> Weights:
    found = (getattr(module, name + suffix, None) for name in Weights._fields)
    return Weights(*(None if weight is None else weight[...].astype(dtype) for weight in found))


def _layer(gates: bptt.Gates, weights: Weights, initial: bptt.State) -> bptt.Layer:
    outside, inside = weights.bias_ih, weights.bias_hh
    if outside is not None and gates.recurrent is None:  # the gates see the sum alone
        outside, inside = outside + inside, None
    kernels = weights.kernel_ih, weights.kernel_hh
    return bptt.Layer(kernels, (outside, inside), initial)


def _states(
    given: Any, shapes: list[tuple[int, ...]], dtype: DTypeLike, argument: str = "initial_state"
) -> bptt.State:
    """The given states, checked; zeros where None is given."""
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


def _valid_steps(lengths: ArrayLike, batch: int, time: int) -> jax.Array:
    """Bool [T, B, 1]: which steps lie within each sequence."""
    known = not isinstance(lengths, jax.core.Tracer)  # under jit the values are not
    lengths = np.asarray(lengths) if known else lengths
    if lengths.shape != (batch,) or not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise InputError("lengths", f"{batch} integers, one a sequence", describe(lengths))
    if known and ((lengths < 1) | (lengths > time)).any():
        raise InputError("lengths", f"integers from 1 to {time}", str(lengths.tolist()))
    steps = jnp.arange(time, dtype=jnp.int32)[:, None, None]
    return steps < jnp.asarray(lengths, jnp.int32)[None, :, None]


def _zero_padding(x: jax.Array, valid: jax.Array | None) -> jax.Array:
    return x if valid is None else jnp.where(valid, x, 0)

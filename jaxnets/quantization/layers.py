"""Layers with integer weights."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets.arrays import ArrayLike, check_floats
from jaxnets.layers.bptt import by_gate, valid_steps
from jaxnets.layers.cells import CELLS, State
from jaxnets.layers.embedding import check_indices
from jaxnets.quantization.parts import Dynamic, Fixed, Scheme, Weight, numbers_of
from jaxnets.quantization.products import int8_linear


class Prepared(nnx.Module):
    """A layer for quantization-aware training, which rounds its weights and inputs.

    Args:
        layer: the layer.
        fakes: the fake quantization of each weight, by name.
        inputs: the fake quantization of the inputs.
        scheme: the quantization scheme of the layer.
    """

    def __init__(
        self, layer: nnx.Module, fakes: nnx.Dict, inputs: nnx.Module, scheme: Scheme
    ) -> None:
        self.layer, self.fakes, self.inputs, self.scheme = layer, fakes, inputs, scheme

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "layer":
            raise AttributeError(name)
        return getattr(self.layer, name)

    def __call__(self, x: Any) -> Any:
        """Calls the layer with rounded weights and rounded inputs."""
        layer: Any = nnx.view(self.layer)
        for name, fake in self.fakes.items():
            setattr(layer, name, nnx.data(nnx.Param(fake(getattr(self.layer, name)[...]))))
        rounded: Any = self.inputs
        return layer(rounded(jnp.asarray(x)))


class QuantizedLayer(nnx.Module):
    """A layer with integer weights, which are converted to floating point in each call.

    Biases and settings remain in ``layer``, and can be read as attributes of this layer.

    Args:
        path: the path of the layer in the network, for messages.
        layer: the original layer, whose weights are removed.
        axes: the channel axis of each weight, by name.
        scheme: the quantization scheme.
        inputs: the quantization of inputs; None for floating-point inputs.
        scales: the scales of weights, by name; None to compute them.
    """

    def __init__(
        self,
        path: str,
        layer: nnx.Module,
        axes: dict[str, int],
        scheme: Scheme,
        inputs: Dynamic | Fixed | None = None,
        scales: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        given = scales or {}
        made = {}
        for name, axis in axes.items():
            numbers = numbers_of(f"{path}.{name}".lstrip("."), getattr(layer, name))
            made[name] = Weight(numbers, axis, scheme, given.get(name))
        self.weights = nnx.Dict(made)
        self.scheme, self.inputs = scheme, nnx.data(inputs) if isinstance(inputs, Fixed) else inputs
        for name in axes:
            setattr(layer, name, None)
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "layer":
            raise AttributeError(name)
        return getattr(self.layer, name)

    def _filled(self, weights: dict[str, jax.Array]) -> Any:
        """Returns a view of the layer that has the given weights and shares other variables."""
        layer = nnx.view(self.layer)
        for name, weight in weights.items():
            setattr(layer, name, nnx.data(nnx.Param(weight)))
        return layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer with its weights converted to floating point."""
        dtype = _dtype(args)
        weights = {name: weight.floats(dtype) for name, weight in self.weights.items()}
        return self._filled(weights)(*args, **kwargs)


def _dtype(args: tuple[Any, ...]) -> DTypeLike:
    dtype = getattr(args[0], "dtype", None) if args else None
    return dtype if dtype is not None and jnp.issubdtype(dtype, jnp.floating) else jnp.float32


class QuantizedEmbedding(QuantizedLayer):
    """``Embedding`` with a table of integers; only rows that are read are converted."""

    def __call__(self, indices: jax.Array) -> jax.Array:
        """Looks up one row per index; NaN for indices out of range under ``jax.jit``."""
        (table,) = self.weights.values()
        check_indices("indices", indices, table.shape[0])
        indices = jnp.asarray(indices)
        known = (indices >= 0) & (indices < table.shape[0])
        rows = table.values.at[indices].get(mode="clip").astype(jnp.float32)
        scale = table.channel_scale.at[indices].get(mode="clip")
        return rows * jnp.where(known, scale, jnp.nan)[..., None]

    def attend(self, query: jax.Array) -> jax.Array:
        """Multiplies queries [..., features] with all rows; returns [..., rows]."""
        (table,) = self.weights.values()
        return query @ table.floats(query.dtype).T


class QuantizedLinear(QuantizedLayer):
    """``Linear`` with integer weights and, unless the mode is "weights", quantized inputs.

    y = scale · weight_scale · (q - zero_point) Wᵀ + b, where the sums of integers are int32.
    """

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Computes [..., out_features] from [..., in_features]."""
        if self.inputs is None:
            made: jax.Array = super().__call__(x)
            return made
        check_floats("x", x, ("...", self.layer.in_features))
        bias = None if self.layer.bias is None else self.layer.bias[...]
        y = product(self.inputs, self.weights["kernel"], jnp.asarray(x), bias)
        return y.astype(x.dtype)


def product(
    inputs: Dynamic | Fixed, weight: Weight, x: jax.Array, bias: jax.Array | None
) -> jax.Array:
    """Quantizes inputs [..., inputs], and multiplies them with an integer weight.

    Args:
        inputs: the quantization of inputs.
        weight: the weight.
        x: the inputs, floating point.
        bias: the bias; None for no bias.

    Returns:
        The outputs, float32 [..., outputs].
    """
    values, scale, zero = inputs(x.astype(jnp.float32))
    outputs, size = weight.values.shape
    if bias is None:
        bias = jnp.zeros(outputs, jnp.float32)
    y = int8_linear(
        scale.reshape(-1),
        weight.channel_scale,
        bias.astype(jnp.float32),
        values.reshape(math.prod(values.shape[:-1]), size),
        zero.reshape(-1),
        weight.values,
    )
    return y.reshape(*x.shape[:-1], outputs)


class QuantizedConvolution(QuantizedLayer):
    """A convolution with an integer kernel and, unless the mode is "weights", quantized inputs.

    Both are converted back to float32 and convolved, as the float32 kernels are fast and also
    compute the bias, ReLU and pooling that follow.
    """

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Convolves x, [N, ..., in_channels], to [N, ..., out_channels]."""
        if self.inputs is not None:
            values, scale, zero = self.inputs(jnp.asarray(x, jnp.float32))
            x = ((values.astype(jnp.int32) - zero).astype(jnp.float32) * scale).astype(x.dtype)
        made: jax.Array = super().__call__(x)
        return made


class QuantizedRecurrent(QuantizedLayer):
    """A recurrent layer with integer weights.

    In the mode "dynamic", the inputs of all steps are quantized at once, and the hidden state in
    each step, as in PyTorch.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the layer with its integer weights."""
        if self.inputs is None:
            return super().__call__(*args, **kwargs)
        layer = self._filled({})
        layer._layer = self._quantized
        return layer(*args, **kwargs)

    def _quantized(
        self, number: int, x: jax.Array, states: list[State], lengths: jax.Array | None
    ) -> tuple[jax.Array, list[State]]:
        """Computes the outputs [B, T, D·H] of a layer, and the final state of each direction.

        It replaces the method ``_layer`` of the recurrent layer.
        """
        valid = None if lengths is None else valid_steps(lengths, x.shape[1])
        outputs, finals = [], []
        for suffix, state in zip(self.layer._suffixes, states, strict=True):
            made, final = self._direction(f"_l{number}{suffix}", x, state, valid)
            outputs.append(jnp.swapaxes(made, 0, 1))
            finals.append(final)
        return jnp.concatenate(outputs, axis=-1), finals

    def _direction(
        self, suffix: str, x: jax.Array, initial: State, valid: jax.Array | None
    ) -> tuple[jax.Array, State]:
        """Computes the hidden states [T, B, H] of one direction, and its final state."""
        assert self.inputs is not None
        inputs, hidden = self.inputs, self.layer.hidden_size
        forward = CELLS[self.layer._cell].forward
        outside, inside = (self.weights[f"kernel_{part}{suffix}"] for part in ("ih", "hh"))
        biases = [self._bias(f"bias_{part}{suffix}") for part in ("ih", "hh")]
        z = product(inputs, outside, jnp.swapaxes(x, 0, 1), biases[0]).astype(x.dtype)

        def step(state: State, given: tuple[Any, Any]) -> tuple[State, jax.Array]:
            z, valid = given
            u = product(inputs, inside, state[0], biases[1]).astype(x.dtype)
            new = forward(z, by_gate(u, hidden), state)[0]
            if valid is not None:
                new = tuple(jnp.where(valid, *pair) for pair in zip(new, state, strict=True))
            return new, new[0]

        final, outputs = lax.scan(
            step, initial, (by_gate(z, hidden), valid), reverse=suffix.endswith("_reverse")
        )
        return outputs, final

    def _bias(self, name: str) -> jax.Array | None:
        bias = getattr(self.layer, name, None)
        return None if bias is None else bias[...]

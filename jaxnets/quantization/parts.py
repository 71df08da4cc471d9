"""The parts of quantized layers: integer weights, and the quantization of inputs."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_bool, check_choice, check_integer, check_positive
from jaxnets.quantization.rounding import (
    ENDS,
    largest,
    packed,
    quantized,
    range_scale,
    rounded,
    symmetric_scale,
    unpacked,
)


class Quantized(nnx.Variable):
    """A variable for integers, scales and zero points, which optimizers do not change."""


#: The modes of quantization.
MODES = "dynamic", "static", "weights"


@dataclass(frozen=True)
class Scheme:
    """The quantization scheme of a layer. Weights are symmetric, with zero point 0.

    Attributes:
        mode: the quantization of inputs: by their range in each call ("dynamic"), by a calibrated
            scale ("static"), or none ("weights").
        bits: the bits of each weight, 8 or 4.
        per_channel: whether each output has a separate scale; otherwise a weight has one scale.
        group_size: the number of inputs of an output that share a scale; None for all inputs.
        reduce_range: whether inputs are quantized to integers from 0 to 127 rather than 0 to 255.
        per_row: in the mode "dynamic", whether each row of inputs has a separate range; otherwise
            all rows share one, as in PyTorch.
    """

    mode: str
    bits: int = 8
    per_channel: bool = True
    group_size: int | None = None
    reduce_range: bool = True
    per_row: bool = False

    def __post_init__(self) -> None:
        """Checks the values, which may come from a user or a file."""
        check_choice("mode", self.mode, MODES)
        if check_integer("bits", self.bits) not in ENDS:
            raise InputError("bits", "8 or 4", self.bits)
        for name in ("per_channel", "reduce_range", "per_row"):
            check_bool(name, getattr(self, name))
        if self.group_size is not None:
            check_positive("group_size", self.group_size)


class Weight(nnx.Module):
    """A weight as integers [channels, inputs], with scales.

    Buffers: ``integers``, int8, or uint8 with two integers of 4 bits in a byte; ``scale``, float32
    [1], [channels] or [channels, groups].

    Args:
        weight: the weight in floating point.
        axis: the axis of the channels.
        scheme: the quantization scheme.
        scale: the scales; None to compute them from the largest magnitudes.
    """

    def __init__(
        self, weight: np.ndarray, axis: int, scheme: Scheme, scale: np.ndarray | None = None
    ) -> None:
        self.shape, self.axis, self.bits = tuple(weight.shape), axis, scheme.bits
        rows = np.moveaxis(np.asarray(weight, np.float32), axis, 0)
        rows = rows.reshape(len(rows), -1)
        self.group = min(scheme.group_size or rows.shape[1], rows.shape[1])
        scale = _scale(rows, scheme, self.group) if scale is None else scale
        integers = rounded(rows, _spread(scale, rows.shape[1], self.group), scheme.bits)
        made = packed(integers) if scheme.bits == 4 else integers
        self.integers, self.scale = Quantized(jnp.asarray(made)), Quantized(jnp.asarray(scale))

    @property
    def values(self) -> jax.Array:
        """The integers, int8 [channels, inputs]."""
        integers = self.integers[...]
        if self.bits == 8:
            return integers
        return unpacked(integers, int(np.prod(self.shape)) // self.shape[self.axis])

    @property
    def channel_scale(self) -> jax.Array:
        """The scale of each channel, float32 [channels]; only without groups."""
        return jnp.broadcast_to(self.scale[...], (self.shape[self.axis],))

    def floats(self, dtype: DTypeLike) -> jax.Array:
        """Returns the weight in floating point, in the layer's layout."""
        values = self.values.astype(jnp.float32)
        channels, inputs = values.shape
        # multiplied by groups, as repeating the scales would be a gather, which XLA does not fuse
        scale = self.scale[...].reshape(-1, *self.scale.shape[1:] or (1,), 1)
        groups = jnp.pad(values, ((0, 0), (0, -inputs % self.group)))
        groups = groups.reshape(channels, -1, self.group)
        rows = (groups * scale).reshape(channels, -1)[:, :inputs]
        return self.laid_out(rows).astype(dtype)

    def laid_out(self, rows: jax.Array) -> jax.Array:
        """Converts rows [channels, inputs] to the layer's layout."""
        rest = [size for axis, size in enumerate(self.shape) if axis != self.axis % len(self.shape)]
        array = rows.reshape(self.shape[self.axis], *rest)
        return jnp.moveaxis(array, 0, self.axis)


def _scale(rows: np.ndarray, scheme: Scheme, group: int) -> np.ndarray:
    magnitudes = np.abs(rows)
    if not scheme.per_channel:
        return symmetric_scale(magnitudes.max(initial=0), scheme.bits).reshape(1)
    if group == rows.shape[1]:
        return symmetric_scale(magnitudes.max(axis=1, initial=0), scheme.bits)
    padded = np.pad(magnitudes, ((0, 0), (0, -rows.shape[1] % group)))
    return symmetric_scale(padded.reshape(len(rows), -1, group).max(axis=2), scheme.bits)


def _spread(scale: np.ndarray, inputs: int, group: int) -> np.ndarray:
    """Repeats scales to broadcast with rows [channels, inputs]."""
    return np.repeat(scale, group, axis=1)[:, :inputs] if scale.ndim == 2 else scale[:, None]


class Integers(NamedTuple):
    """An activation as integers: x = scale · (values - zero).

    Attributes:
        values: the integers, uint8.
        scale: the scale, float32: a scalar, or one for each row, with a last axis of size 1.
        zero: the zero point, int32, of the shape of ``scale``.
    """

    values: jax.Array
    scale: jax.Array
    zero: jax.Array


@dataclass(frozen=True)
class Dynamic:
    """Quantization of inputs by their range in each call.

    Attributes:
        reduce_range: whether the integers are 0 to 127 rather than 0 to 255.
        per_row: whether each row, along the last axis, has a separate range; otherwise all rows
            share one, as in PyTorch.
    """

    reduce_range: bool = True
    per_row: bool = False

    def __call__(self, x: jax.Array) -> Integers:
        """Quantizes float32 values to integers."""
        axes = -1 if self.per_row else None
        most = largest(self.reduce_range)
        scale, zero = range_scale(
            x.min(axes, keepdims=self.per_row), x.max(axes, keepdims=self.per_row), most
        )
        return Integers(quantized(x, scale, zero, most), scale, zero)


class Fixed(nnx.Module):
    """Quantization of inputs by a fixed scale and zero point, from calibration or training.

    Args:
        scale: the scale, a float32 scalar.
        zero: the zero point, an int32 scalar.
        reduce_range: whether the integers are 0 to 127 rather than 0 to 255.
    """

    def __init__(self, scale: Any, zero: Any, reduce_range: bool) -> None:
        self.scale = Quantized(jnp.asarray(scale, jnp.float32))
        self.zero_point = Quantized(jnp.asarray(zero, jnp.int32))
        self.reduce_range = reduce_range

    def __call__(self, x: jax.Array) -> Integers:
        """Quantizes float32 values to integers."""
        scale, zero = self.scale[...], self.zero_point[...]
        return Integers(quantized(x, scale, zero, largest(self.reduce_range)), scale, zero)


def numbers_of(name: str, weight: nnx.Variable) -> np.ndarray:
    """Returns the values of a weight, float32.

    Args:
        name: the path of the weight, for the message.
        weight: the variable.

    Raises:
        InputError: if a value is not finite.
    """
    numbers = np.asarray(weight[...], np.float32)
    if not np.isfinite(numbers).all():
        raise InputError("model", "finite weights", f"NaN or infinities in {name}")
    return numbers

"""Convolutions of volumes, by convolutions of images that native kernels compute.

A volume is a batch of images, one for each position in depth. The taps of the kernel's depth become
terms of a sum, or they are joined with its channels.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import jax
import jax.numpy as jnp
from jax import lax

from jaxnets.kernels import convolution, depthwise
from jaxnets.kernels.geometry import Geometry, Shaped
from jaxnets.kernels.gradients import with_gradient

# With fewer input channels of a group, joined channels are faster than a sum over taps.
_FEW = 4

#: A function of x, the kernel, the bias or None, the geometry and whether ReLU follows.
Convolve = Callable[[jax.Array, jax.Array, jax.Array | None, Geometry, bool], jax.Array]


def supports(x: Shaped, kernel: Shaped, geometry: Geometry) -> bool:
    """Whether native kernels can run this, and are faster than XLA's operations.

    Args:
        x: [N, D, H, W, C].
        kernel: [depth, height, width, C / groups, O].
        geometry: the geometry of the convolution.
    """
    if x.ndim != 5 or min(*x.shape, *kernel.shape, *geometry.output_sizes(x, kernel)) < 1:
        return False
    image = jax.ShapeDtypeStruct((len(x), *x.shape[2:]), x.dtype)
    flat = jax.ShapeDtypeStruct(kernel.shape[1:], kernel.dtype)
    where = _flat(geometry)
    return any(kind.supports(image, flat, where) for kind in (depthwise, convolution))


def volume_convolution(
    geometry: Geometry,
    plain: Callable[..., jax.Array],
    convolve: Convolve,
    *,
    relu: bool = False,
) -> Callable[..., jax.Array]:
    """Makes a convolution of volumes, as PyTorch defines it.

    Args:
        geometry: stride, padding and the like, of three axes.
        plain: the same function in XLA's operations, with ReLU if ``relu`` is set.
        convolve: computes a convolution of images.
        relu: whether ReLU follows. Its gradient at 0 is 0.

    Returns:
        A function of x [N, D, H, W, C], the kernel [depth, height, width, C / groups, O] and the
        bias, [O] or None. It returns the outputs, [N, D', H', W', O].
    """
    volume = _Volume(geometry, convolve, relu)
    linear = replace(volume, relu=False)

    def keep(x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> tuple:
        y = volume(x, kernel, bias)
        return y, y if relu else None

    def pull_back(inputs: tuple, y: jax.Array | None, g: jax.Array) -> tuple:
        g = g if y is None else jnp.where(y > 0, g, 0)
        return jax.vjp(linear, *inputs)[1](g)

    return with_gradient(volume, keep, pull_back, plain)


@dataclass(frozen=True)
class _Volume:
    """A convolution of volumes; see ``volume_convolution``."""

    geometry: Geometry
    convolve: Convolve
    relu: bool

    def __call__(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        if x.dtype == jnp.bfloat16:  # terms are added in float32, as the kernels for images do
            x, kernel, bias = jax.tree.map(lambda a: a.astype(jnp.float32), (x, kernel, bias))
            return self(x, kernel, bias).astype(jnp.bfloat16)
        depth, *_, inputs, outputs = kernel.shape
        (stride, *_), (spread, *_) = self.geometry.stride, self.geometry.input_dilation
        if self._is_along_depth(kernel):
            return self._along_depth(x, kernel, bias)
        # A depthwise convolution of images must stay one, so its channels are not joined.
        if inputs == 1 < self.geometry.groups:
            return self._by_terms(x, kernel, bias)
        if spread > 1 or (stride == 1 and depth * outputs <= x.shape[-1]):
            return self._by_outputs(x, kernel, bias)
        return (self._by_inputs if inputs < _FEW else self._by_terms)(x, kernel, bias)

    def _is_along_depth(self, kernel: jax.Array) -> bool:
        """Whether each output depends on a single position of height and width, its own."""
        flat = _flat(self.geometry)
        alone = kernel.shape[1:3] == flat.stride == flat.input_dilation == (1, 1)
        return alone and flat.padding == ((0, 0), (0, 0))

    def _along_depth(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Computes it as images whose rows are the positions in depth."""
        geometry = _of_axes(self.geometry, 0, 2)
        images = x.reshape(*x.shape[:2], -1, x.shape[-1])
        y = self.convolve(images, kernel[:, 0], bias, geometry, self.relu)
        return y.reshape(*y.shape[:2], *x.shape[2:4], -1)

    def _by_inputs(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Joins the inputs that the taps read as channels of one convolution."""
        depth, height, width, inputs, outputs = kernel.shape
        parts = [part.reshape(*part.shape[:-1], -1, 1, inputs) for part in self._read(x, kernel)]
        joined = jnp.concatenate(parts, -2)  # [N, D', H, W, groups, taps, C / groups]
        images = joined.reshape(-1, *x.shape[2:4], x.shape[-1] * depth)
        flat = jnp.moveaxis(kernel, 0, 2).reshape(height, width, depth * inputs, outputs)
        y = self.convolve(images, flat, bias, _flat(self.geometry), self.relu)
        return y.reshape(len(x), -1, *y.shape[1:])

    def _by_terms(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Adds a convolution for each tap."""
        terms = [
            self.convolve(_images(part), tap, None if number else bias, _flat(self.geometry), False)
            for number, (part, tap) in enumerate(zip(self._read(x, kernel), kernel, strict=True))
        ]
        return self._sum(terms).reshape(len(x), -1, *terms[0].shape[1:])

    def _by_outputs(self, x: jax.Array, kernel: jax.Array, bias: jax.Array | None) -> jax.Array:
        """Computes the terms of all taps as channels of one convolution, and adds them.

        No tap reads the zeros between dilated inputs.
        """
        depth, height, width, inputs, outputs = kernel.shape
        groups = self.geometry.groups
        flat = kernel.reshape(depth, height, width, inputs, groups, -1)
        flat = jnp.moveaxis(flat, 0, -2).reshape(height, width, inputs, depth * outputs)
        y = self.convolve(_images(x), flat, None, _flat(self.geometry), False)
        y = y.reshape(*x.shape[:2], *y.shape[1:3], groups, depth, -1)
        terms = self._written([y[..., tap, :] for tap in range(depth)], x, kernel)
        terms = [term.reshape(*term.shape[:4], outputs) for term in terms]
        return self._sum(terms if bias is None else [*terms, bias[None, None, None, None]])

    def _sum(self, terms: list[jax.Array]) -> jax.Array:
        y = reduce(jnp.add, terms)
        return jax.nn.relu(y) if self.relu else y

    def _read(self, x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        """Returns the inputs that each tap reads for all outputs, [N, D', H, W, C]."""
        geometry = self.geometry
        (stride, *_), (dilation, *_) = geometry.stride, geometry.dilation
        (low, high), *_ = geometry.padding
        padded = _padded(x, low, high, geometry.input_dilation[0])
        reach = (geometry.output_sizes(x, kernel)[0] - 1) * stride + 1
        starts = range(0, len(kernel) * dilation, dilation)
        return [lax.slice_in_dim(padded, at, at + reach, stride, axis=1) for at in starts]

    def _written(self, parts: list[jax.Array], x: jax.Array, kernel: jax.Array) -> list[jax.Array]:
        """Moves what each tap computes from an input, [N, D, …], to its outputs, [N, D', …]."""
        geometry = self.geometry
        (stride, *_), (spread, *_) = geometry.stride, geometry.input_dilation
        reach = (geometry.output_sizes(x, kernel)[0] - 1) * stride + 1
        (low, _), *_ = geometry.padding
        lows = [low - tap * geometry.dilation[0] for tap in range(len(kernel))]
        length = (x.shape[1] - 1) * spread + 1
        moved = [
            _padded(part, low, reach - length - low, spread)
            for part, low in zip(parts, lows, strict=True)
        ]
        return [lax.slice_in_dim(part, 0, None, stride, axis=1) for part in moved]


def _padded(x: jax.Array, low: int, high: int, spread: int) -> jax.Array:
    """Pads the depth of x before and after, and between its dilated positions."""
    pads = [(0, 0, 0)] * x.ndim
    pads[1] = low, high, spread - 1
    return lax.pad(x, jnp.zeros((), x.dtype), pads)


def _images(x: jax.Array) -> jax.Array:
    """Reshapes volumes to a batch of images."""
    return x.reshape(-1, *x.shape[2:])


def _flat(geometry: Geometry) -> Geometry:
    """Returns the geometry of height and width."""
    return _of_axes(geometry, 1, 2)


def _of_axes(geometry: Geometry, first: int, second: int) -> Geometry:
    return Geometry(
        (geometry.stride[first], geometry.stride[second]),
        (geometry.padding[first], geometry.padding[second]),
        (geometry.dilation[first], geometry.dilation[second]),
        (geometry.input_dilation[first], geometry.input_dilation[second]),
        geometry.groups,
    )

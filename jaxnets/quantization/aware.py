"""Quantization-aware training, with weights and inputs rounded as in the quantized network."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    check_positive,
)
from jaxnets.data.transforms import Transform
from jaxnets.quantization.calibration import batches, with_norms_folded
from jaxnets.quantization.layers import Prepared
from jaxnets.quantization.parts import Fixed, Quantized, Scheme
from jaxnets.quantization.rounding import ENDS, largest
from jaxnets.quantization.structure import (
    Place,
    places,
    quantizable,
    quantized,
    replaced,
    weights_in,
)

_SCHEMES = "per_tensor_affine", "per_tensor_symmetric", "per_channel_symmetric"
_EPS = np.finfo(np.float32).eps


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def fake_quantize(
    x: jax.Array, scale: jax.Array, zero_point: jax.Array, quant_min: int, quant_max: int
) -> jax.Array:
    """Quantizes x and converts it back; the gradient is 1 within the range and 0 outside.

    y = (clip(round(x / scale) + zero_point, quant_min, quant_max) - zero_point) · scale

    Args:
        x: floating-point numbers.
        scale: a number, or an array that broadcasts to the shape of x; it has no gradient.
        zero_point: int32 of the shape of ``scale``.
        quant_min: the smallest integer.
        quant_max: the largest integer.

    Returns:
        An array of the shape and dtype of x.

    PyTorch: ``torch.fake_quantize_per_tensor_affine`` and ``fake_quantize_per_channel_affine``.

    Examples:
        >>> x = jnp.array([-3.0, 0.24, 0.26, 9.0])
        >>> print(fake_quantize(x, jnp.float32(0.5), jnp.int32(0), -4, 3))
        [-2.   0.   0.5  1.5]
    """
    return _rounded(x, scale, zero_point, quant_min, quant_max)[0]


def _rounded(
    x: jax.Array, scale: jax.Array, zero_point: jax.Array, quant_min: int, quant_max: int
) -> tuple[jax.Array, jax.Array]:
    scale, zero = scale.astype(x.dtype), zero_point.astype(x.dtype)
    steps = lax.round(x * (1 / scale), lax.RoundingMethod.TO_NEAREST_EVEN) + zero
    within = (steps >= quant_min) & (steps <= quant_max)
    return (jnp.clip(steps, quant_min, quant_max) - zero) * scale, within


def _forward(*given: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
    y, within = _rounded(*given)
    return y, (within, given[1])


def _backward(quant_min: int, quant_max: int, kept: Any, d: jax.Array) -> tuple:
    within, scale = kept
    return jnp.where(within, d, 0), jnp.zeros_like(scale), None


fake_quantize.defvjp(_forward, _backward)


class FakeQuantize(nnx.Module):
    """Fake quantization with a moving average of the range.

    Like ``torch.ao.quantization.FakeQuantize`` with ``MovingAverageMinMaxObserver``. In training
    mode, which ``model.train()`` sets, each call updates the range. In both modes, numbers are
    rounded by ``fake_quantize``.

    Buffers, updated in place: ``min_val`` and ``max_val``, infinite before the first call.

    Args:
        qscheme: for activations "per_tensor_affine", with integers from 0 to 127 or 255; for
            weights "per_tensor_symmetric" or "per_channel_symmetric", with integers from -128 to
            127.
        reduce_range: for activations, whether the largest integer is 127 rather than 255.
        averaging_constant: the weight of the newest range.
        channels: the number of channels; required with "per_channel_symmetric".
        ch_axis: the axis of the channels.

    Raises:
        InputError: if an argument is invalid, or ``channels`` is missing.

    Examples:
        >>> fake = FakeQuantize(reduce_range=False)
        >>> print(fake(jnp.array([0.0, 0.3, 1.27, 255.0])))  # a scale of 1
        [  0.   0.   1. 255.]
    """

    def __init__(
        self,
        qscheme: str = "per_tensor_affine",
        *,
        reduce_range: bool = True,
        averaging_constant: float = 0.01,
        channels: int | None = None,
        ch_axis: int = -1,
    ) -> None:
        self.qscheme = check_choice("qscheme", qscheme, _SCHEMES)
        self.reduce_range = check_bool("reduce_range", reduce_range)
        self.averaging_constant = check_number(
            "averaging_constant", averaging_constant, least=0, most=1
        )
        self.ch_axis = check_integer("ch_axis", ch_axis)
        self.use_running_average = False
        shape = (check_positive("channels", channels),) if "channel" in qscheme else ()
        self.min_val = Quantized(jnp.full(shape, jnp.inf, jnp.float32))
        self.max_val = Quantized(jnp.full(shape, -jnp.inf, jnp.float32))

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest integer."""
        if self.qscheme == "per_tensor_affine":
            return 0, largest(self.reduce_range)
        return ENDS[8]

    def calculate_qparams(self) -> tuple[jax.Array, jax.Array]:
        """Returns the scale, float32, and the zero point, int32; 1 and 0 before the first call."""
        low, high = self.min_val[...], self.max_val[...]
        below, above = jnp.minimum(low, 0), jnp.maximum(high, 0)
        least, most = self.ends
        if least == 0:
            scale = jnp.maximum(_divided(above - below, most), _EPS)
            zero = jnp.clip(-jnp.round(below / scale), 0, most)
        else:
            scale = jnp.maximum(_divided(jnp.maximum(-below, above), (most - least) / 2), _EPS)
            zero = jnp.zeros_like(scale)
        seen = low <= high
        return jnp.where(seen, scale, 1), jnp.where(seen, zero, 0).astype(jnp.int32)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Rounds x; in training mode, also updates the range."""
        if not self.use_running_average:
            self._move(lax.stop_gradient(x).astype(jnp.float32))
        scale, zero = self.calculate_qparams()
        if scale.ndim:
            shape = [1] * x.ndim
            shape[self.ch_axis] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        return fake_quantize(x, scale, zero, *self.ends)

    def _move(self, x: jax.Array) -> None:
        axes = None
        if self.min_val.ndim:
            axes = tuple(axis for axis in range(x.ndim) if axis != self.ch_axis % x.ndim)
        for value, end in ((self.min_val, x.min(axes)), (self.max_val, x.max(axes))):
            old = value[...]
            moved = old + self.averaging_constant * (end - old)
            value[...] = jnp.where(jnp.isfinite(old), moved, end)


def _divided(x: jax.Array, number: float) -> jax.Array:
    """Divides x by a number exactly.

    XLA would replace the division by a constant with a product with its rounded inverse; the
    barrier hides the constant.
    """
    return x / lax.optimization_barrier(jnp.full_like(x, number))


def prepare_qat(
    model: nnx.Module,
    inputs: Any = None,
    *,
    per_channel: bool = True,
    reduce_range: bool = True,
    averaging_constant: float = 0.01,
    transform: Transform | None = None,
    skip: Sequence[str] = (),
) -> nnx.Module:
    """Prepares a network for quantization-aware training.

    Weights and inputs of the layers that ``quantize_static`` quantizes are rounded by
    ``FakeQuantize`` in every call; gradients pass through the rounding within the range. Train the
    network with ``fit`` or any other training step, and quantize it with ``convert``. A network
    that is already trained needs an epoch or two with a small learning rate.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: some examples, to fold batch normalizations into the layers before them; None does
            not fold them, and they remain in floating point.
        per_channel: see ``quantize_static``.
        reduce_range: see ``quantize_dynamic``.
        averaging_constant: the weight of the newest range; see ``FakeQuantize``.
        transform: the preprocessing of ``inputs``; None for no preprocessing.
        skip: paths of layers, or of modules that contain layers, not to quantize.

    Returns:
        The network to train, in training mode.

    Raises:
        InputError: if there is nothing to quantize, or an argument is invalid.

    PyTorch: ``torch.ao.quantization.prepare_qat``.

    Examples:
        >>> from jaxnets import MLP
        >>> prepared = prepare_qat(MLP((784, 128, 10), rngs=nnx.Rngs(0)))
        >>> _ = prepared(jnp.ones((2, 784)))  # in practice an epoch of ``fit``
        >>> convert(prepared).fc1.weights["kernel"].values.dtype
        dtype('int8')
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    scheme = Scheme("static", per_channel=per_channel, reduce_range=reduce_range)
    check_number("averaging_constant", averaging_constant, least=0, most=1)
    model = nnx.clone(model)
    chosen = [place.path for place in quantizable(model, "static", skip)]
    if inputs is not None:
        found = quantizable(model, "static", skip)
        model = with_norms_folded(model, found, next(batches(inputs, transform)))
    for path in chosen:
        place = places(model)[path]
        model = replaced(model, place, _prepared(place, scheme, averaging_constant))
    model.train()
    return model


def _prepared(place: Place, scheme: Scheme, averaging_constant: float) -> Prepared:
    layer: Any = place.module
    fakes = {}
    for name, axis in weights_in(layer).items():
        qscheme = "per_channel_symmetric" if scheme.per_channel else "per_tensor_symmetric"
        channels = getattr(layer, name).shape[axis] if scheme.per_channel else None
        options: dict[str, Any] = {"channels": channels, "ch_axis": axis}
        fakes[name] = FakeQuantize(qscheme, averaging_constant=averaging_constant, **options)
    inputs = FakeQuantize(reduce_range=scheme.reduce_range, averaging_constant=averaging_constant)
    return Prepared(layer, nnx.Dict(fakes), inputs, scheme)


def convert(model: nnx.Module) -> nnx.Module:
    """Quantizes a network that was trained after ``prepare_qat``.

    Args:
        model: the trained network; it is not changed.

    Returns:
        A network with int8 weights and inputs, in evaluation mode. Its outputs equal those of the
        trained network in evaluation mode, up to floating-point rounding.

    Raises:
        InputError: if ``model`` has no prepared layer, or a prepared layer was never called.

    PyTorch: ``torch.ao.quantization.convert``.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    model = nnx.clone(model)
    prepared = [path for path, place in places(model).items() if _is_prepared(place)]
    if not prepared:
        raise InputError("model", "a network from prepare_qat", type(model).__name__)
    for path in prepared:
        layer: Any = places(model)[path].module
        if not bool(layer.inputs.min_val[...] <= layer.inputs.max_val[...]):
            raise InputError("model", "a trained network", f"one without inputs in {path}")
        scales = {}
        for name, fake in layer.fakes.items():
            scale = np.asarray(fake.calculate_qparams()[0])
            scales[name] = scale.reshape(-1)
        scale, zero = layer.inputs.calculate_qparams()
        fixed = Fixed(scale, zero, layer.scheme.reduce_range)
        model = replaced(model, places(model)[path], layer.layer)
        model = quantized(model, places(model)[path], layer.scheme, fixed, scales)
    model.eval()
    return model


def _is_prepared(place: Place) -> bool:
    return isinstance(place.module, Prepared)

"""Training that knows of quantization: numbers are rounded as integers will be."""

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
    """Rounds x to the numbers that integers mean; its gradient is 1 within their range, 0 beyond.

    y = (clip(round(x / scale) + zero_point, quant_min, quant_max) - zero_point) · scale

    Args:
        x: floating-point numbers.
        scale: a number, or an array that x's shape repeats; it has no gradient.
        zero_point: int32 of the shape of ``scale``.
        quant_min: the smallest integer.
        quant_max: the largest.

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
    """``torch.ao.quantization.FakeQuantize`` with a moving average of the ends of its range.

    In training mode, which ``model.train()`` sets, each call moves the range; in both modes
    numbers are rounded to what integers of this range mean, by ``fake_quantize``.

    Arrays, updated in place: ``min_val`` and ``max_val``, infinite before the first call.

    Args:
        qscheme: "per_tensor_affine" of activations, whose integers are 0 to 127 or 255, or, of
            weights, "per_tensor_symmetric" or "per_channel_symmetric", from -128 to 127.
        reduce_range: of activations, whether the largest integer is 127.
        averaging_constant: the weight of the newest range.
        channels: with "per_channel_symmetric", how many there are.
        ch_axis: their axis.

    Raises:
        InputError: if an argument is of another kind, or ``channels`` are not given where they are
            needed.

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
        """The scale, float32, and the zero point, int32; 1 and 0 where nothing was seen."""
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
        """Rounds x; in training mode, also moves the range."""
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
    """X / number. XLA would multiply with the inverse of a number that it knows, which rounds."""
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
    """A network that is trained as if its weights and inputs were integers already.

    It takes the layers that ``quantize_static`` takes. Weights and inputs of each are rounded by
    ``FakeQuantize`` in every call, and gradients pass as if they were not, within the range.
    Train it as any network, with ``fit`` or with a step of your own; ``convert`` then makes the
    integers. A trained network needs an epoch or two at a small learning rate.

    Args:
        model: any ``nnx.Module``; it is left as it is.
        inputs: some examples; with them, batch normalizations become part of the layers that they
            follow directly before the training. None leaves them as they are, in floating point.
        per_channel: see ``quantize_static``.
        reduce_range: see ``quantize_dynamic``.
        averaging_constant: the weight of the newest range; see ``FakeQuantize``.
        transform: what ``inputs`` go through before the model.
        skip: paths of layers, or of modules that have them, that stay as they are.

    Returns:
        The network to train, in training mode.

    Raises:
        InputError: if there is nothing to quantize, or an argument is of another kind.

    PyTorch: ``torch.ao.quantization.prepare_qat``.

    Examples:
        >>> from jaxnets import MLP
        >>> prepared = prepare_qat(MLP((784, 128, 10), rngs=nnx.Rngs(0)))
        >>> _ = prepared(jnp.ones((2, 784)))  # an epoch of ``fit`` in earnest
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
    """The quantized network of one that was trained after ``prepare_qat``.

    Args:
        model: the trained network; it is left as it is.

    Returns:
        A network of int8 weights and inputs, in evaluation mode: what it computes is what the
        trained one computes in evaluation mode, up to rounding in floating point.

    Raises:
        InputError: if ``model`` has no prepared layer, or one has not seen any input.

    PyTorch: ``torch.ao.quantization.convert``.
    """
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    model = nnx.clone(model)
    prepared = [path for path, place in places(model).items() if _is_prepared(place)]
    if not prepared:
        raise InputError("model", "a network that prepare_qat has made", type(model).__name__)
    for path in prepared:
        layer: Any = places(model)[path].module
        if not bool(layer.inputs.min_val[...] <= layer.inputs.max_val[...]):
            raise InputError("model", "a network that was trained", f"no input in {path}")
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

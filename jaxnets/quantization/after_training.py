"""Quantizes a trained network, without further training."""

from collections.abc import Sequence
from typing import Any

from flax import nnx

from jaxnets.arrays import InputError, check_choice
from jaxnets.data.transforms import Transform
from jaxnets.quantization.calibration import batches, observe, with_norms_folded
from jaxnets.quantization.observers import OBSERVERS, MinMaxObserver
from jaxnets.quantization.parts import Fixed, Scheme
from jaxnets.quantization.structure import places, quantizable, quantized


def quantize_dynamic(
    model: nnx.Module,
    *,
    per_channel: bool = False,
    reduce_range: bool = True,
    per_row: bool = False,
    skip: Sequence[str] = (),
) -> nnx.Module:
    """Quantizes weights to int8, and inputs by their range in each call, without calibration.

    Linear and recurrent layers are quantized, and the tables of embeddings, with a scale for each
    row. Scales, zero points and integers equal PyTorch's: for weights ``qint8`` with the scheme
    ``per_tensor_symmetric``, for inputs ``quint8`` with ``per_tensor_affine``.

    Args:
        model: any ``nnx.Module``; it is not changed.
        per_channel: whether each output of a weight has a separate scale
            (``per_channel_symmetric``).
        reduce_range: whether inputs are quantized to integers from 0 to 127, as in PyTorch on x86,
            rather than 0 to 255.
        per_row: whether each row of inputs has a separate range, so that an example's outputs do
            not depend on the rest of the batch. In PyTorch all rows share one range.
        skip: paths of layers, or of modules that contain layers, not to quantize.

    Returns:
        The quantized network, in evaluation mode. ``report`` lists layers that are not quantized.

    Raises:
        InputError: if there is nothing to quantize, a weight is not finite, or an argument is
            invalid.

    PyTorch: ``torch.ao.quantization.quantize_dynamic``.

    Examples:
        >>> from jaxnets import MLP
        >>> small = quantize_dynamic(MLP((784, 128, 10), rngs=nnx.Rngs(0)))
        >>> small.fc1.weights["kernel"].values.dtype
        dtype('int8')
    """
    scheme = Scheme("dynamic", per_channel=per_channel, reduce_range=reduce_range, per_row=per_row)
    return _each(_copy(model), scheme, skip)


def quantize_weights(
    model: nnx.Module,
    bits: int = 8,
    group_size: int | None = None,
    *,
    per_channel: bool = True,
    skip: Sequence[str] = (),
) -> nnx.Module:
    """Quantizes weights to 8 or 4 bits; computation remains in floating point.

    Linear, convolutional, recurrent and embedding layers are quantized. Two integers of 4 bits
    share a byte. Weights are converted to floating point when they are used.

    Args:
        model: any ``nnx.Module``; it is not changed.
        bits: 8 for integers from -128 to 127, or 4 for integers from -8 to 7.
        group_size: the number of inputs of an output that share a scale; None for all inputs.
        per_channel: whether each output has a separate scale; otherwise a weight has one scale.
        skip: paths of layers, or of modules that contain layers, not to quantize.

    Returns:
        The quantized network, in evaluation mode.

    Raises:
        InputError: if there is nothing to quantize, a weight is not finite, or an argument is
            invalid.

    PyTorch: ``torch.ao.quantization`` with a ``weight_only`` configuration.

    Examples:
        >>> from jaxnets import MLP
        >>> small = quantize_weights(MLP((784, 128, 10), rngs=nnx.Rngs(0)), bits=4, group_size=32)
        >>> small.fc1.weights["kernel"].integers.shape
        (128, 392)
    """
    scheme = Scheme("weights", bits, per_channel=per_channel, group_size=group_size)
    if group_size is not None and not per_channel:
        raise InputError("per_channel", "True with a group_size", per_channel)
    return _each(_copy(model), scheme, skip)


def quantize_static(
    model: nnx.Module,
    inputs: Any,
    *,
    observer: str = "minmax",
    per_channel: bool = True,
    reduce_range: bool = True,
    transform: Transform | None = None,
    skip: Sequence[str] = (),
) -> nnx.Module:
    """Quantizes weights to int8, and inputs with scales that are calibrated on examples.

    Convolutions and linear layers are quantized. A batch normalization that directly follows one of
    them is folded into it, with its running statistics.

    Args:
        model: any ``nnx.Module``; it is not changed.
        inputs: a few hundred examples before the transform: an array [examples, …], or a tuple or
            dictionary of arrays, which are the arguments of the model's call.
        observer: the estimator of the range of a layer's inputs: "minmax" over all examples, or
            "moving-average" over batches of 100.
        per_channel: whether each output of a weight has a separate scale
            (``per_channel_symmetric``), as in PyTorch on x86; otherwise a weight has one scale.
        reduce_range: see ``quantize_dynamic``.
        transform: the preprocessing of the inputs; None for no preprocessing.
        skip: paths of layers, or of modules that contain layers, not to quantize.

    Returns:
        The quantized network, in evaluation mode.

    Raises:
        InputError: if there is nothing to quantize, a number is not finite, the model does not
            accept the inputs or does not call a layer, or an argument is invalid.

    PyTorch: ``torch.ao.quantization.prepare``, a run over the examples, and ``convert``.

    Examples:
        >>> import numpy as np
        >>> from jaxnets import LeNet
        >>> images = np.random.default_rng(0).uniform(size=(8, 28, 28, 1)).astype(np.float32)
        >>> small = quantize_static(LeNet(rngs=nnx.Rngs(0)), images)
        >>> small.conv1.inputs.zero_point[...].dtype
        dtype('int32')
    """
    check_choice("observer", observer, tuple(OBSERVERS))
    scheme = Scheme("static", per_channel=per_channel, reduce_range=reduce_range)
    model = _copy(model)
    chosen = quantizable(model, "static", skip)
    model = with_norms_folded(model, chosen, next(batches(inputs, transform)))
    observers: dict[str, MinMaxObserver] = {
        place.path: OBSERVERS[observer](reduce_range=reduce_range) for place in chosen
    }
    observe(model, list(observers), inputs, transform, lambda path, x: observers[path](x))
    for path, seen in observers.items():
        fixed = Fixed(*seen.calculate_qparams(), reduce_range)
        model = quantized(model, places(model)[path], scheme, fixed)
    model.eval()
    return model


def _copy(model: nnx.Module) -> nnx.Module:
    if not isinstance(model, nnx.Module):
        raise InputError("model", "an nnx.Module", model)
    return nnx.clone(model)


def _each(model: nnx.Module, scheme: Scheme, skip: Sequence[str]) -> nnx.Module:
    for place in quantizable(model, scheme.mode, skip):
        # places are looked up again, as replacing a layer can change those of others
        model = quantized(model, places(model)[place.path], scheme)
    model.eval()
    return model

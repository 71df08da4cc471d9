"""Grad-CAM: the regions of an image in which a convolution's outputs increase a class's output."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets.arrays import ArrayLike, InputError, check_bool, check_choice
from jaxnets.data.transforms import Transform
from jaxnets.data.transforms.compose import applied
from jaxnets.explain.layers import layer_of, outputs_and_layer
from jaxnets.explain.targets import Request, Target, checked_request, selected
from jaxnets.kernels.rewrite import with_kernels
from jaxnets.layers.convolution import Conv1d, Conv2d, Conv3d
from jaxnets.layers.interpolation import interpolate
from jaxnets.training.state import TrainState

_CONVOLUTIONS = nnx.Conv, Conv1d, Conv2d, Conv3d
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def grad_cam(
    model: nnx.Module,
    inputs: ArrayLike,
    target: Target = None,
    *,
    layer: str | None = None,
    relu_attributions: bool = True,
    interpolate_mode: Literal["bilinear", "nearest"] | None = "bilinear",
    transform: Transform | None = None,
) -> jax.Array:
    """Computes Grad-CAM, a map of the regions that increase the explained output.

    max(0, Σₖ wₖ Aₖ) at each position, where Aₖ is channel k of the layer's output and wₖ the mean
    of ∂f(x) / ∂Aₖ over all positions. Like Captum's ``LayerGradCam``; the map is upsampled as by
    ``LayerAttribution.interpolate``.

    Args:
        model: see ``saliency``.
        inputs: see ``saliency``.
        target: see ``saliency``.
        layer: the name of the layer, such as "conv2" or "features.0", in PyTorch or of the
            attribute; None for the last convolution that is called. The layer must be called
            exactly once, outside of a scan, with an output [batch, height, width, channels].
        relu_attributions: whether to replace negative attributions by 0.
        interpolate_mode: how to resize the map to the size of the inputs, "bilinear" or "nearest";
            None does not resize it.
        transform: see ``saliency``.

    Returns:
        Attributions with a single channel, [batch, height, width, 1]; for sequences
        [batch, time, 1], for volumes [batch, depth, height, width, 1].

    Raises:
        InputError: see ``saliency``; or if the model does not call such a layer.
    """
    check_bool("relu_attributions", relu_attributions)
    if interpolate_mode is not None:
        check_choice("interpolate_mode", interpolate_mode, ("bilinear", "nearest"))
    request = checked_request(model, inputs, target, transform)
    call = layer_of(
        model,
        request.state,
        request.inputs,
        layer,
        _CONVOLUTIONS,
        "convolution",
        last=True,
        transform=transform,
    )
    shapes = [array.shape for array in call.outputs]
    if len(shapes) != 1 or not 3 <= len(shapes[0]) <= 5 or shapes[0][0] != len(request.inputs):
        got = f"{call.name} with {list(map(list, shapes))}"
        raise InputError("layer", "a layer with outputs [batch, height, width, channels]", got)
    try:
        return _grad_cam(
            request, call.name, call.outputs[0], relu_attributions, interpolate_mode, transform
        )
    except jax.errors.UnexpectedTracerError as error:
        raise InputError("layer", "a layer that is called outside of a scan", call.name) from error


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _grad_cam(
    request: Request,
    name: str,
    output: Any,
    relu: bool,
    mode: str | None,
    transform: Transform | None,
) -> jax.Array:
    state, inputs, target = request
    x = applied(transform, inputs)

    def total(added: jax.Array, state: TrainState, x: jax.Array, target: Any) -> Any:
        outputs, seen = outputs_and_layer(state, x, name, added)
        return selected(outputs, target).sum(), seen

    # the gradient by zeros that are added to the layer's output is that by the output
    nothing = jnp.zeros(output.shape, output.dtype)
    slopes, seen = jax.grad(with_kernels(total), has_aux=True)(nothing, state, x, target)
    places = tuple(range(1, seen.ndim - 1))
    found = (slopes.mean(axis=places, keepdims=True) * seen).sum(axis=-1, keepdims=True)
    if relu:
        found = jax.nn.relu(found)
    if mode is None:
        return found
    size = x.shape[1 : seen.ndim - 1]
    return interpolate(found, size, mode=_LINEAR[len(places)] if mode == "bilinear" else mode)

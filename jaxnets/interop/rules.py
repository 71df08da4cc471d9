"""How each layer's parameters are called and laid out in PyTorch: one rule per kind of layer."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jaxnets import layers
from jaxnets.interop.links import Leaf
from jaxnets.layers.layouts import first_axis_last, last_axis_first
from jaxnets.layers.normalization import Tracking
from jaxnets.layers.recurrent import Recurrent, RecurrentCell


def _transposed(name: str) -> Leaf:
    return Leaf(name, np.transpose, np.transpose)


def _linear(layer: nnx.Module) -> dict[str, Leaf]:
    return {"kernel": _transposed("weight"), "bias": Leaf("bias")}


def _channels_last(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (0, 1), (-1, -2))  # [O, I, ...] to [..., I, O]


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _bilinear(layer: nnx.Module) -> dict[str, Leaf]:
    return {"kernel": Leaf("weight", first_axis_last, last_axis_first), "bias": Leaf("bias")}


def _convolution(layer: nnx.Module) -> dict[str, Leaf]:
    return {"kernel": Leaf("weight", _channels_last, _channels_first), "bias": Leaf("bias")}


def _transposed_convolution(layer: nnx.Module) -> dict[str, Leaf]:
    # PyTorch's weight is that of the convolution transposed, [I, O / groups, ...] with I in
    # groups; ours, [..., I / groups, O], is that of the convolution run instead, hence flipped.
    groups = getattr(layer, "groups", 1)

    def to_jax(weight: np.ndarray) -> np.ndarray:
        inputs, outputs, *space = weight.shape
        blocks = weight.reshape(groups, inputs // groups, outputs, *space)
        kernel = np.moveaxis(blocks, (1, 0, 2), (-3, -2, -1)).reshape(
            *space, inputs // groups, groups * outputs
        )
        return np.flip(kernel, tuple(range(len(space))))

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        *space, inputs, outputs = kernel.shape
        # Copied, since torch takes no array with negative strides.
        flipped = np.flip(kernel, tuple(range(len(space)))).copy()
        blocks = flipped.reshape(*space, inputs, groups, outputs // groups)
        return np.moveaxis(blocks, (-3, -2, -1), (1, 0, 2)).reshape(
            groups * inputs, outputs // groups, *space
        )

    if getattr(layer, "transpose_kernel", False):  # Flax then holds PyTorch's weight unflipped
        return _convolution(layer)
    return {"kernel": Leaf("weight", to_jax, to_torch), "bias": Leaf("bias")}


def _recurrent(layer: nnx.Module) -> dict[str, Leaf]:
    # kernel_ih_l0_reverse is weight_ih_l0_reverse transposed; biases bear PyTorch's names.
    found = {}
    for name in vars(layer):
        if name.startswith("kernel_"):
            found[name] = _transposed(name.replace("kernel", "weight"))
        elif name.startswith("bias_"):
            found[name] = Leaf(name)
    return found


def _normalization(layer: nnx.Module) -> dict[str, Leaf]:
    return {"scale": Leaf("weight"), "bias": Leaf("bias")}


def _layer_norm(layer: layers.LayerNorm | layers.RMSNorm) -> dict[str, Leaf]:
    if not layer.channels_last:
        return _normalization(layer)
    # [C, H, W] to [H, W, C], or [C, L] to [L, C]
    image = partial(np.moveaxis, source=0, destination=-1)
    back = partial(np.moveaxis, source=-1, destination=0)
    return {"scale": Leaf("weight", image, back), "bias": Leaf("bias", image, back)}


def _flax_batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    statistics = {"mean": Leaf("running_mean"), "var": Leaf("running_var")}
    return _normalization(layer) | statistics


def _batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    def to_int64(count: np.ndarray) -> np.ndarray:
        return np.asarray(count, np.int64)

    # Files older than PyTorch 0.4.1 lack it.
    count = Leaf("num_batches_tracked", to_torch=to_int64, optional=True)
    return _flax_batch_norm(layer) | {"num_batches_tracked": count}


def _embedding(layer: nnx.Module) -> dict[str, Leaf]:
    return {"embedding": Leaf("weight")}


def _prelu(layer: nnx.Module) -> dict[str, Leaf]:
    return {"negative_slope": Leaf("weight")}


def _flax_prelu(layer: nnx.Module) -> dict[str, Leaf]:
    def to_scalar(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(())

    def to_vector(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(1)

    return {"negative_slope": Leaf("weight", to_scalar, to_vector)}


def _attention(layer: nnx.Module) -> dict[str, Leaf]:
    kernels = {
        f"{name}_proj_kernel": _transposed(f"{name}_proj_weight") for name in ("in", "q", "k", "v")
    }
    return kernels | {"in_proj_bias": Leaf("in_proj_bias")}


#: From a kind of layer to the leaves of one such layer, by our attribute's name. A leaf whose
#: attribute is None on this layer (no bias, say) does not count. The most derived class wins.
RULES: dict[type[nnx.Module], Callable[[Any], dict[str, Leaf]]] = {
    nnx.Linear: _linear,
    layers.Bilinear: _bilinear,
    layers.Conv1d: _convolution,
    layers.Conv2d: _convolution,
    layers.ConvTranspose2d: _transposed_convolution,
    nnx.Conv: _convolution,
    nnx.ConvTranspose: _transposed_convolution,
    Tracking: _batch_norm,
    layers.LayerNorm: _layer_norm,
    layers.RMSNorm: _layer_norm,
    layers.GroupNorm: _normalization,
    nnx.BatchNorm: _flax_batch_norm,
    nnx.LayerNorm: _normalization,
    nnx.GroupNorm: _normalization,
    nnx.RMSNorm: _normalization,
    nnx.InstanceNorm: _normalization,
    nnx.Embed: _embedding,
    layers.PReLU: _prelu,
    nnx.PReLU: _flax_prelu,
    layers.MultiheadAttention: _attention,
    Recurrent: _recurrent,
    RecurrentCell: _recurrent,
}


def leaves(layer: nnx.Module) -> dict[str, Leaf]:
    """The leaves of one layer by attribute name; empty for a module that holds none of its own."""
    for kind in type(layer).__mro__:
        if kind in RULES:
            found = RULES[kind](layer)
            return {k: leaf for k, leaf in found.items() if getattr(layer, k, None) is not None}
    return {}

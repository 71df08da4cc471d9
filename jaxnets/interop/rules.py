"""How each kind of layer's arrays are called and laid out in PyTorch; ``table.py`` says whose."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jaxnets import layers
from jaxnets.interop.links import Leaf
from jaxnets.layers import layouts

#: The leaves of one layer by our attribute's name.
Rule = Callable[[Any], dict[str, Leaf]]


def _transposed(name: str) -> Leaf:
    return Leaf(name, layouts.transposed, layouts.transposed)


def linear(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel [I, O] is the weight [O, I] transposed."""
    return {"kernel": _transposed("weight"), "bias": Leaf("bias")}


def bilinear(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel [I, J, O] is the weight [O, I, J] with the outputs last."""
    kernel = Leaf("weight", layouts.first_axis_last, layouts.last_axis_first)
    return {"kernel": kernel, "bias": Leaf("bias")}


def convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel [..., I, O] is the weight [O, I, ...] with the channels last."""
    kernel = Leaf("weight", layouts.convolution_kernel, layouts.convolution_weight)
    return {"kernel": kernel, "bias": Leaf("bias")}


def transposed_convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel is the weight [I, O, ...] flipped in space, with the channels last."""
    if getattr(layer, "transpose_kernel", False):  # Flax then holds PyTorch's weight unflipped
        return convolution(layer)
    groups = getattr(layer, "groups", 1)

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        # Copied, since torch takes no array with negative strides.
        return layouts.transposed_convolution_weight(kernel, groups).copy()

    to_jax = partial(layouts.transposed_convolution_kernel, groups=groups)
    return {"kernel": Leaf("weight", to_jax, to_torch), "bias": Leaf("bias")}


def random_samples(layer: nnx.Module) -> dict[str, Leaf]:
    """The numbers that place a pool's windows; a layer may have none."""
    return {"_random_samples": Leaf("_random_samples")}


def recurrent(layer: nnx.Module) -> dict[str, Leaf]:
    """Each kernel is the weight of the same name transposed; the biases have PyTorch's names."""
    # kernel_ih_l0_reverse is weight_ih_l0_reverse transposed; biases have PyTorch's names.
    found = {}
    for name in vars(layer):
        if name.startswith("kernel_"):
            found[name] = _transposed(name.replace("kernel", "weight"))
        elif name.startswith("bias_"):
            found[name] = Leaf(name)
    return found


def normalization(layer: nnx.Module) -> dict[str, Leaf]:
    """Scale and bias have the shapes of PyTorch's weight and bias."""
    return {"scale": Leaf("weight"), "bias": Leaf("bias")}


def layer_norm(layer: layers.LayerNorm | layers.RMSNorm) -> dict[str, Leaf]:
    """Scale and bias, with the channels last where the layer says so."""
    if not layer.channels_last:
        return normalization(layer)
    # [C, H, W] to [H, W, C], or [C, L] to [L, C]
    moves = layouts.first_axis_last, layouts.last_axis_first
    return {"scale": Leaf("weight", *moves), "bias": Leaf("bias", *moves)}


def flax_batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    """Scale, bias and the running statistics, without a count of batches."""
    statistics = {"mean": Leaf("running_mean"), "var": Leaf("running_var")}
    return normalization(layer) | statistics


def batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    """Scale, bias, the running statistics and the count of batches."""

    def to_int64(count: np.ndarray) -> np.ndarray:
        return np.asarray(count, np.int64)

    # Files older than PyTorch 0.4.1 lack it.
    count = Leaf("num_batches_tracked", to_torch=to_int64, optional=True)
    return flax_batch_norm(layer) | {"num_batches_tracked": count}


def embedding(layer: nnx.Module) -> dict[str, Leaf]:
    """The table of rows is PyTorch's weight."""
    return {"embedding": Leaf("weight")}


def prelu(layer: nnx.Module) -> dict[str, Leaf]:
    """The slopes are PyTorch's weight."""
    return {"negative_slope": Leaf("weight")}


def flax_prelu(layer: nnx.Module) -> dict[str, Leaf]:
    """The one slope, a scalar here, is PyTorch's weight [1]."""

    def to_scalar(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(())

    def to_vector(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(1)

    return {"negative_slope": Leaf("weight", to_scalar, to_vector)}


def attention(layer: nnx.Module) -> dict[str, Leaf]:
    """The projections of query, key and value, together or one by one, transposed."""
    kernels = {
        f"{name}_proj_kernel": _transposed(f"{name}_proj_weight") for name in ("in", "q", "k", "v")
    }
    return kernels | {"in_proj_bias": Leaf("in_proj_bias")}

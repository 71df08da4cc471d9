"""Rules for the PyTorch names and layouts of a layer's arrays; ``table.py`` assigns the rules."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jaxnets import layers
from jaxnets.interop.links import Leaf
from jaxnets.layers import layouts

#: Returns the leaves of a layer by attribute name.
Rule = Callable[[Any], dict[str, Leaf]]


def _transposed(name: str) -> Leaf:
    return Leaf(name, layouts.transposed, layouts.transposed)


def linear(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for linear layers: the kernel [I, O] is the transposed weight [O, I]."""
    return {"kernel": _transposed("weight"), "bias": Leaf("bias")}


def bilinear(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for bilinear layers: the kernel [I, J, O] is the weight [O, I, J] with outputs last."""
    kernel = Leaf("weight", layouts.first_axis_last, layouts.last_axis_first)
    return {"kernel": kernel, "bias": Leaf("bias")}


def convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for convolutions: the kernel [..., I, O] is the weight [O, I, ...] channels last."""
    kernel = Leaf("weight", layouts.convolution_kernel, layouts.convolution_weight)
    return {"kernel": kernel, "bias": Leaf("bias")}


def transposed_convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for transposed convolutions: the weight [I, O, ...] is spatially flipped, channels last.

    With groups, the weight [I, O / groups, ...] becomes a kernel [..., I / groups, O].
    """
    if getattr(layer, "transpose_kernel", False):  # Flax then stores the kernel unflipped
        return convolution(layer)
    groups = getattr(layer, "groups", 1)

    def to_torch(kernel: np.ndarray) -> np.ndarray:
        # Copied, since torch does not accept arrays with negative strides.
        return layouts.transposed_convolution_weight(kernel, groups).copy()

    to_jax = partial(layouts.transposed_convolution_kernel, groups=groups)
    return {"kernel": Leaf("weight", to_jax, to_torch), "bias": Leaf("bias")}


def random_samples(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for fractional pooling: the optional random samples that place the windows."""
    return {"_random_samples": Leaf("_random_samples")}


def recurrent(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for recurrent layers: ``kernel_X`` is the transposed ``weight_X``; biases are equal."""
    found = {}
    for name in vars(layer):
        if name.startswith("kernel_"):
            found[name] = _transposed(name.replace("kernel", "weight"))
        elif name.startswith("bias_"):
            found[name] = Leaf(name)
    return found


def normalization(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for normalization layers: scale and bias have the shapes of PyTorch's arrays."""
    return {"scale": Leaf("weight"), "bias": Leaf("bias")}


def layer_norm(layer: layers.LayerNorm | layers.RMSNorm) -> dict[str, Leaf]:
    """Rule for LayerNorm and RMSNorm: scale and bias, moved if the layer is channels last."""
    if not layer.channels_last:
        return normalization(layer)
    # [C, H, W] to [H, W, C], or [C, L] to [L, C]
    moves = layouts.first_axis_last, layouts.last_axis_first
    return {"scale": Leaf("weight", *moves), "bias": Leaf("bias", *moves)}


def flax_batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for Flax's batch norm: scale, bias and running statistics, without a batch count."""
    statistics = {"mean": Leaf("running_mean"), "var": Leaf("running_var")}
    return normalization(layer) | statistics


def batch_norm(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for batch norm: scale, bias, running statistics and the number of batches."""

    def to_int64(count: np.ndarray) -> np.ndarray:
        return np.asarray(count, np.int64)

    # Files of PyTorch before 0.4.1 lack the count.
    count = Leaf("num_batches_tracked", to_torch=to_int64, optional=True)
    return flax_batch_norm(layer) | {"num_batches_tracked": count}


def embedding(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for embeddings: the table of rows is PyTorch's weight."""
    return {"embedding": Leaf("weight")}


def prelu(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for PReLU: the slopes are PyTorch's weight."""
    return {"negative_slope": Leaf("weight")}


def flax_prelu(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for Flax's PReLU: the scalar slope is PyTorch's weight [1]."""

    def to_scalar(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(())

    def to_vector(slope: np.ndarray) -> np.ndarray:
        return slope.reshape(1)

    return {"negative_slope": Leaf("weight", to_scalar, to_vector)}


def attention(layer: nnx.Module) -> dict[str, Leaf]:
    """Rule for attention: the projections of query, key and value are transposed.

    A layer has either one joint projection or three separate projections.
    """
    kernels = {
        f"{name}_proj_kernel": _transposed(f"{name}_proj_weight") for name in ("in", "q", "k", "v")
    }
    return kernels | {"in_proj_bias": Leaf("in_proj_bias")}

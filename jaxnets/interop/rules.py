"""How each kind of layer's arrays are called and laid out in PyTorch; ``table.py`` says whose."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from flax import nnx

from jaxnets import layers
from jaxnets.interop.links import Leaf

#: The leaves of one layer by our attribute's name.
Rule = Callable[[Any], dict[str, Leaf]]


def _transposed(name: str) -> Leaf:
    return Leaf(name, np.transpose, np.transpose)


def linear(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel [I, O] is the weight [O, I] transposed."""
    return {"kernel": _transposed("weight"), "bias": Leaf("bias")}


def _channels_last(weight: np.ndarray) -> np.ndarray:
    return np.moveaxis(weight, (0, 1), (-1, -2))  # [O, I, ...] to [..., I, O]


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel [..., I, O] is the weight [O, I, ...] with the channels last."""
    return {"kernel": Leaf("weight", _channels_last, _channels_first), "bias": Leaf("bias")}


def transposed_convolution(layer: nnx.Module) -> dict[str, Leaf]:
    """The kernel is the weight [I, O, ...] flipped in space, with the channels last."""
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
        return convolution(layer)
    return {"kernel": Leaf("weight", to_jax, to_torch), "bias": Leaf("bias")}


def random_samples(layer: nnx.Module) -> dict[str, Leaf]:
    """The numbers that place a pool's windows; a layer may have none."""
    return {"_random_samples": Leaf("_random_samples")}


def recurrent(layer: nnx.Module) -> dict[str, Leaf]:
    """Each kernel is the weight of the same name transposed; the biases have PyTorch's names."""
    # kernel_ih_l0_reverse is weight_ih_l0_reverse transposed; biases bear PyTorch's names.
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


def layer_norm(layer: layers.LayerNorm) -> dict[str, Leaf]:
    """Scale and bias, with the channels last where the layer says so."""
    if not layer.channels_last:
        return normalization(layer)
    # [C, H, W] to [H, W, C], or [C, L] to [L, C]
    image = partial(np.moveaxis, source=0, destination=-1)
    back = partial(np.moveaxis, source=-1, destination=0)
    return {"scale": Leaf("weight", image, back), "bias": Leaf("bias", image, back)}


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

"""PyTorch's functions by name: ``from jaxnets import functional as F``.

Each is defined elsewhere, with its documentation: in ``jaxnets.layers``, ``jaxnets.losses`` or
``jax.nn``. Images are channels last, and classes are the last axis.
"""

from jax.nn import celu, elu, mish, relu, selu, sigmoid, silu
from jax.nn import log_sigmoid as logsigmoid
from jax.nn import soft_sign as softsign
from jax.numpy import tanh

from jaxnets.layers.categories import gumbel_softmax, one_hot
from jaxnets.layers.distance import cosine_similarity, normalize, pairwise_distance, pdist
from jaxnets.layers.fold import fold, unfold
from jaxnets.layers.grid import affine_grid, grid_sample
from jaxnets.layers.interpolation import interpolate
from jaxnets.layers.padding import pad
from jaxnets.layers.scaled_dot_product import scaled_dot_product_attention
from jaxnets.layers.shuffle import channel_shuffle, pixel_shuffle, pixel_unshuffle
from jaxnets.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    ctc_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)

__all__ = [
    "affine_grid",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "channel_shuffle",
    "cosine_similarity",
    "cross_entropy",
    "ctc_loss",
    "elu",
    "fold",
    "grid_sample",
    "gumbel_softmax",
    "huber_loss",
    "interpolate",
    "kl_div",
    "l1_loss",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "normalize",
    "one_hot",
    "pad",
    "pairwise_distance",
    "pdist",
    "pixel_shuffle",
    "pixel_unshuffle",
    "relu",
    "scaled_dot_product_attention",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softsign",
    "tanh",
    "unfold",
]

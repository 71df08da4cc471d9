"""PyTorch's functions by name: ``from jaxnets import functional as F``.

Each is defined elsewhere, with its documentation: in ``jaxnets.layers``, ``jaxnets.losses`` or
``jax.nn``. Images are channels last, and classes are the last axis.
"""

from jax.nn import celu, elu, mish, relu, selu, sigmoid, silu
from jax.nn import log_sigmoid as logsigmoid
from jax.nn import soft_sign as softsign
from jax.numpy import tanh

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
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "cross_entropy",
    "ctc_loss",
    "elu",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softsign",
    "tanh",
]

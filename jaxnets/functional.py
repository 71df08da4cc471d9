"""PyTorch's functions by name: ``from jaxnets import functional as F``.

Each is defined elsewhere, with its documentation: in ``jaxnets.layers``, ``jaxnets.losses`` or
``jax.nn``. Images are channels last, and classes are the last axis.
"""

from jax.nn import celu, elu, mish, relu, selu, sigmoid, silu
from jax.nn import log_sigmoid as logsigmoid
from jax.nn import soft_sign as softsign
from jax.numpy import tanh

from jaxnets.layers.activation_functions import (
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    log_softmax,
    prelu,
    relu6,
    softmax,
    softmin,
    softplus,
)
from jaxnets.layers.bilinear import bilinear
from jaxnets.layers.dropout_functions import (
    alpha_dropout,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
)
from jaxnets.layers.embedding import embedding
from jaxnets.layers.embedding_bag import embedding_bag
from jaxnets.layers.linear import linear
from jaxnets.layers.norm_functions import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    rms_norm,
)
from jaxnets.layers.response_norm import local_response_norm
from jaxnets.layers.rrelu import rrelu
from jaxnets.layers.shrinkage import hardshrink, softshrink, tanhshrink, threshold
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
    "alpha_dropout",
    "batch_norm",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "celu",
    "cross_entropy",
    "ctc_loss",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "elu",
    "embedding",
    "embedding_bag",
    "feature_alpha_dropout",
    "gelu",
    "glu",
    "group_norm",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "huber_loss",
    "instance_norm",
    "kl_div",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "local_response_norm",
    "log_softmax",
    "logsigmoid",
    "mish",
    "mse_loss",
    "nll_loss",
    "prelu",
    "relu",
    "relu6",
    "rms_norm",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
]

"""Building blocks with PyTorch's meaning: images are NHWC, sequences batch first.

PyTorch's arguments that change nothing here are accepted, such as ``inplace``, ``device=None`` and
``batch_first=True``. Any other value of them is refused, with what to do instead.
"""

from jaxnets.layers.activation import (
    CELU,
    ELU,
    GELU,
    GLU,
    SELU,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    Identity,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softmax2d,
    Softmin,
    Softplus,
    Softsign,
    Tanh,
)
from jaxnets.layers.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.bilinear import Bilinear
from jaxnets.layers.convolution import Conv1d, Conv2d, ConvTranspose2d
from jaxnets.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from jaxnets.layers.embedding import Embedding
from jaxnets.layers.embedding_bag import EmbeddingBag
from jaxnets.layers.flatten import Flatten, flatten
from jaxnets.layers.gru import GRU, GRUCell
from jaxnets.layers.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from jaxnets.layers.linear import Linear
from jaxnets.layers.lstm import LSTM, LSTMCell
from jaxnets.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    LayerNorm,
    RMSNorm,
)
from jaxnets.layers.parametrization import SpectralNorm, WeightNorm
from jaxnets.layers.pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
)
from jaxnets.layers.response_norm import CrossMapLRN2d, LocalResponseNorm
from jaxnets.layers.rnn import RNN, RNNCell
from jaxnets.layers.rrelu import RReLU
from jaxnets.layers.shrinkage import Hardshrink, Softshrink, Tanhshrink, Threshold
from jaxnets.layers.transformer import TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "GRU",
    "LSTM",
    "RNN",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveLogSoftmaxWithLoss",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "ConvTranspose2d",
    "CrossMapLRN2d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Flatten",
    "GRUCell",
    "GroupNorm",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "Identity",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "Mish",
    "MultiheadAttention",
    "PReLU",
    "RMSNorm",
    "RNNCell",
    "RReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmax2d",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SpectralNorm",
    "Tanh",
    "Tanhshrink",
    "Threshold",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "WeightNorm",
    "flatten",
]

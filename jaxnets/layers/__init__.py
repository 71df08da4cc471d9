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
from jaxnets.layers.adaptive_pooling import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AdaptiveAvgPool3d,
    AdaptiveMaxPool1d,
    AdaptiveMaxPool2d,
    AdaptiveMaxPool3d,
)
from jaxnets.layers.adaptive_softmax import AdaptiveLogSoftmaxWithLoss
from jaxnets.layers.attention import MultiheadAttention
from jaxnets.layers.bilinear import Bilinear
from jaxnets.layers.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
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
from jaxnets.layers.fractional_pooling import FractionalMaxPool2d, FractionalMaxPool3d
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
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    LPPool1d,
    LPPool2d,
    LPPool3d,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
)
from jaxnets.layers.response_norm import CrossMapLRN2d, LocalResponseNorm
from jaxnets.layers.rnn import RNN, RNNCell
from jaxnets.layers.rrelu import RReLU
from jaxnets.layers.shrinkage import Hardshrink, Softshrink, Tanhshrink, Threshold
from jaxnets.layers.transformer import Transformer
from jaxnets.layers.transformer_decoder import TransformerDecoder, TransformerDecoderLayer
from jaxnets.layers.transformer_encoder import TransformerEncoder, TransformerEncoderLayer
from jaxnets.layers.unpooling import MaxUnpool1d, MaxUnpool2d, MaxUnpool3d

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
    "AdaptiveAvgPool3d",
    "AdaptiveLogSoftmaxWithLoss",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AlphaDropout",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CrossMapLRN2d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Flatten",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
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
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "LSTMCell",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LocalResponseNorm",
    "LogSigmoid",
    "LogSoftmax",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
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
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "WeightNorm",
    "flatten",
]

"""PyTorch's layers, with channels last: images are [N, H, W, C], sequences are batch first.

Arguments of PyTorch that have no effect here, such as ``inplace``, ``device=None`` and
``batch_first=True``, are accepted. Unsupported values raise an error that names the alternative.
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
from jaxnets.layers.containers import ModuleDict, Sequential
from jaxnets.layers.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from jaxnets.layers.distance import CosineSimilarity, PairwiseDistance, cdist
from jaxnets.layers.dropout import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
)
from jaxnets.layers.embedding import Embedding, TiedLinear
from jaxnets.layers.embedding_bag import EmbeddingBag
from jaxnets.layers.flatten import Flatten, Unflatten, flatten
from jaxnets.layers.fold import Fold, Unfold
from jaxnets.layers.fractional_pooling import FractionalMaxPool2d, FractionalMaxPool3d
from jaxnets.layers.gru import GRU, GRUCell
from jaxnets.layers.instance_norm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from jaxnets.layers.interpolation import Upsample, UpsamplingBilinear2d, UpsamplingNearest2d
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
from jaxnets.layers.padding import (
    CircularPad1d,
    CircularPad2d,
    CircularPad3d,
    ConstantPad1d,
    ConstantPad2d,
    ConstantPad3d,
    ReflectionPad1d,
    ReflectionPad2d,
    ReflectionPad3d,
    ReplicationPad1d,
    ReplicationPad2d,
    ReplicationPad3d,
    ZeroPad1d,
    ZeroPad2d,
    ZeroPad3d,
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
from jaxnets.layers.shuffle import ChannelShuffle, PixelShuffle, PixelUnshuffle
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
    "ChannelShuffle",
    "CircularPad1d",
    "CircularPad2d",
    "CircularPad3d",
    "ConstantPad1d",
    "ConstantPad2d",
    "ConstantPad3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "CosineSimilarity",
    "CrossMapLRN2d",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "Embedding",
    "EmbeddingBag",
    "FeatureAlphaDropout",
    "Flatten",
    "Fold",
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
    "ModuleDict",
    "MultiheadAttention",
    "PReLU",
    "PairwiseDistance",
    "PixelShuffle",
    "PixelUnshuffle",
    "RMSNorm",
    "RNNCell",
    "RReLU",
    "ReLU",
    "ReLU6",
    "ReflectionPad1d",
    "ReflectionPad2d",
    "ReflectionPad3d",
    "ReplicationPad1d",
    "ReplicationPad2d",
    "ReplicationPad3d",
    "Sequential",
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
    "TiedLinear",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "Unflatten",
    "Unfold",
    "Upsample",
    "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
    "WeightNorm",
    "ZeroPad1d",
    "ZeroPad2d",
    "ZeroPad3d",
    "cdist",
    "flatten",
]

"""Tables of PyTorch's names with their counterparts in jaxnets, or the reason for having none.

The conversion of weights, the tests and ``docs/coverage.md`` use these tables. A new layer is one
row of ``LAYERS``. The rows are in alphabetical order.
"""

import inspect
from collections.abc import Mapping
from typing import NamedTuple

from flax import nnx

from jaxnets import layers
from jaxnets.interop import rules
from jaxnets.interop.links import Leaf
from jaxnets.interop.rules import Rule

#: Any number of spatial axes.
ANY = -1


class Layer(NamedTuple):
    """The counterpart of one class of ``torch.nn``.

    Attributes:
        ours: the class of the same name in jaxnets.
        leaves: the rule for PyTorch's names and layouts of its arrays; None without arrays.
        spatial: the number of spatial axes, which follow the channels in PyTorch and precede them
            in jaxnets; 0 if the axes are as in PyTorch.
        note: the difference from PyTorch, in a sentence; empty without a difference.
    """

    ours: type[nnx.Module]
    leaves: Rule | None = None
    spatial: int = 0
    note: str = ""

    @property
    def name(self) -> str:
        """The qualified name of the class in jaxnets."""
        return f"jaxnets.layers.{self.ours.__name__}"

    @property
    def takes_rngs(self) -> bool:
        """Whether the constructor takes ``rngs``."""
        return "rngs" in inspect.signature(self.ours.__init__).parameters


class Counterpart(NamedTuple):
    """The counterpart of a name of PyTorch other than a layer.

    Attributes:
        name: the qualified name of the counterpart.
        note: the difference from PyTorch, in a sentence; empty without a difference.
    """

    name: str
    note: str = ""


_BATCH_FIRST = "Sequences are batch first."
_CLASSES = "Classes are the last axis."
_DIM = "The channels, PyTorch's `dim=1`, are `-1`."
_DRAWS = "The masks are drawn by another generator."
_FANS = "`fan_in` and `fan_out` of transposed convolutions are swapped."
_IMAGE = "`normalized_shape` of an image is (H, W, C); with two axes `channels_last` decides."
_KERNEL = "`weight` is laid out as the layer's `kernel`: [..., I / groups, O]."
_FLIPPED = f"{_KERNEL} It is PyTorch's weight, flipped spatially."
_KEY = "In training, `key` determines the random numbers."
_LAST = "The normalized axes are those of the channels-last layout."
_PLAIN_ROWS = "`max_norm`, `scale_grad_by_freq` and `sparse` are not supported."
_NEAREST = "Rounds as PyTorch does for the memory format channels last."
_RANDOM = "Another generator places the windows, unless `_random_samples` is given."
_RUNNING = "Running statistics to update are `nnx.Variable`s."
_SIXTH = "In float64, PyTorch's slope is 1/6 rounded to float32."
_STABLE = "Does not overflow where PyTorch's does."
_WINDOWS = "Windows are rows: [N, L, C · kh · kw], in PyTorch's order."

#: The layers of ``torch.nn``.
LAYERS: dict[str, Layer] = {
    "AdaptiveAvgPool1d": Layer(layers.AdaptiveAvgPool1d, spatial=1),
    "AdaptiveAvgPool2d": Layer(layers.AdaptiveAvgPool2d, spatial=2),
    "AdaptiveAvgPool3d": Layer(layers.AdaptiveAvgPool3d, spatial=3),
    "AdaptiveLogSoftmaxWithLoss": Layer(layers.AdaptiveLogSoftmaxWithLoss),
    "AdaptiveMaxPool1d": Layer(layers.AdaptiveMaxPool1d, spatial=1),
    "AdaptiveMaxPool2d": Layer(layers.AdaptiveMaxPool2d, spatial=2),
    "AdaptiveMaxPool3d": Layer(layers.AdaptiveMaxPool3d, spatial=3),
    "AlphaDropout": Layer(layers.AlphaDropout, note=_DRAWS),
    "AvgPool1d": Layer(layers.AvgPool1d, spatial=1),
    "AvgPool2d": Layer(layers.AvgPool2d, spatial=2),
    "AvgPool3d": Layer(layers.AvgPool3d, spatial=3),
    "BatchNorm1d": Layer(layers.BatchNorm1d, rules.batch_norm, spatial=1),
    "BatchNorm2d": Layer(layers.BatchNorm2d, rules.batch_norm, spatial=2),
    "BatchNorm3d": Layer(layers.BatchNorm3d, rules.batch_norm, spatial=3),
    "Bilinear": Layer(layers.Bilinear, rules.bilinear),
    "CELU": Layer(layers.CELU),
    "ChannelShuffle": Layer(layers.ChannelShuffle, spatial=ANY),
    "CircularPad1d": Layer(layers.CircularPad1d, spatial=1),
    "CircularPad2d": Layer(layers.CircularPad2d, spatial=2),
    "CircularPad3d": Layer(layers.CircularPad3d, spatial=3),
    "ConstantPad1d": Layer(layers.ConstantPad1d, spatial=1),
    "ConstantPad2d": Layer(layers.ConstantPad2d, spatial=2),
    "ConstantPad3d": Layer(layers.ConstantPad3d, spatial=3),
    "Conv1d": Layer(layers.Conv1d, rules.convolution, spatial=1),
    "Conv2d": Layer(layers.Conv2d, rules.convolution, spatial=2),
    "Conv3d": Layer(layers.Conv3d, rules.convolution, spatial=3),
    "ConvTranspose1d": Layer(layers.ConvTranspose1d, rules.transposed_convolution, spatial=1),
    "ConvTranspose2d": Layer(layers.ConvTranspose2d, rules.transposed_convolution, spatial=2),
    "ConvTranspose3d": Layer(layers.ConvTranspose3d, rules.transposed_convolution, spatial=3),
    "CosineSimilarity": Layer(layers.CosineSimilarity, note=_DIM),
    "CrossMapLRN2d": Layer(layers.CrossMapLRN2d, spatial=2),
    "Dropout": Layer(layers.Dropout, note=_DRAWS),
    "Dropout1d": Layer(layers.Dropout1d, spatial=1, note=_DRAWS),
    "Dropout2d": Layer(layers.Dropout2d, spatial=ANY, note=_DRAWS),
    "Dropout3d": Layer(layers.Dropout3d, spatial=3, note=_DRAWS),
    "ELU": Layer(layers.ELU),
    "Embedding": Layer(layers.Embedding, rules.embedding, note=_PLAIN_ROWS),
    "EmbeddingBag": Layer(layers.EmbeddingBag, rules.embedding, note=_PLAIN_ROWS),
    "FeatureAlphaDropout": Layer(layers.FeatureAlphaDropout, spatial=ANY, note=_DRAWS),
    "Flatten": Layer(
        layers.Flatten, spatial=ANY, note="Flattens all axes but the batch, in PyTorch's order."
    ),
    "Fold": Layer(layers.Fold, spatial=2, note=_WINDOWS),
    "FractionalMaxPool2d": Layer(
        layers.FractionalMaxPool2d, rules.random_samples, spatial=2, note=_RANDOM
    ),
    "FractionalMaxPool3d": Layer(
        layers.FractionalMaxPool3d, rules.random_samples, spatial=3, note=_RANDOM
    ),
    "GELU": Layer(layers.GELU),
    "GLU": Layer(layers.GLU, note=_DIM),
    "GRU": Layer(layers.GRU, rules.recurrent, note=_BATCH_FIRST),
    "GRUCell": Layer(layers.GRUCell, rules.recurrent),
    "GroupNorm": Layer(layers.GroupNorm, rules.normalization, spatial=ANY),
    "Hardshrink": Layer(layers.Hardshrink),
    "Hardsigmoid": Layer(layers.Hardsigmoid, note=_SIXTH),
    "Hardswish": Layer(layers.Hardswish),
    "Hardtanh": Layer(layers.Hardtanh),
    "Identity": Layer(layers.Identity),
    "InstanceNorm1d": Layer(layers.InstanceNorm1d, rules.batch_norm, spatial=1),
    "InstanceNorm2d": Layer(layers.InstanceNorm2d, rules.batch_norm, spatial=2),
    "InstanceNorm3d": Layer(layers.InstanceNorm3d, rules.batch_norm, spatial=3),
    "LPPool1d": Layer(layers.LPPool1d, spatial=1),
    "LPPool2d": Layer(layers.LPPool2d, spatial=2),
    "LPPool3d": Layer(layers.LPPool3d, spatial=3),
    "LSTM": Layer(layers.LSTM, rules.recurrent, note=_BATCH_FIRST),
    "LSTMCell": Layer(layers.LSTMCell, rules.recurrent),
    "LayerNorm": Layer(layers.LayerNorm, rules.layer_norm, note=_IMAGE),
    "LeakyReLU": Layer(layers.LeakyReLU),
    "Linear": Layer(layers.Linear, rules.linear),
    "LocalResponseNorm": Layer(layers.LocalResponseNorm, spatial=ANY),
    "LogSigmoid": Layer(layers.LogSigmoid),
    "LogSoftmax": Layer(layers.LogSoftmax, note=_DIM),
    "MaxPool1d": Layer(layers.MaxPool1d, spatial=1),
    "MaxPool2d": Layer(layers.MaxPool2d, spatial=2),
    "MaxPool3d": Layer(layers.MaxPool3d, spatial=3),
    "MaxUnpool1d": Layer(layers.MaxUnpool1d, spatial=1),
    "MaxUnpool2d": Layer(layers.MaxUnpool2d, spatial=2),
    "MaxUnpool3d": Layer(layers.MaxUnpool3d, spatial=3),
    "Mish": Layer(layers.Mish),
    "MultiheadAttention": Layer(
        layers.MultiheadAttention,
        rules.attention,
        note=f"{_BATCH_FIRST} `add_bias_kv` and `add_zero_attn` are not supported.",
    ),
    "PReLU": Layer(layers.PReLU, rules.prelu, spatial=ANY),
    "PairwiseDistance": Layer(layers.PairwiseDistance),
    "PixelShuffle": Layer(layers.PixelShuffle, spatial=2),
    "PixelUnshuffle": Layer(layers.PixelUnshuffle, spatial=2),
    "RMSNorm": Layer(layers.RMSNorm, rules.layer_norm, note=_IMAGE),
    "RNN": Layer(layers.RNN, rules.recurrent, note=_BATCH_FIRST),
    "RNNCell": Layer(layers.RNNCell, rules.recurrent),
    "RReLU": Layer(layers.RReLU, note="The slopes are drawn by another generator."),
    "ReLU": Layer(layers.ReLU),
    "ReLU6": Layer(layers.ReLU6),
    "ReflectionPad1d": Layer(layers.ReflectionPad1d, spatial=1),
    "ReflectionPad2d": Layer(layers.ReflectionPad2d, spatial=2),
    "ReflectionPad3d": Layer(layers.ReflectionPad3d, spatial=3),
    "ReplicationPad1d": Layer(layers.ReplicationPad1d, spatial=1),
    "ReplicationPad2d": Layer(layers.ReplicationPad2d, spatial=2),
    "ReplicationPad3d": Layer(layers.ReplicationPad3d, spatial=3),
    "SELU": Layer(layers.SELU),
    "SiLU": Layer(layers.SiLU),
    "Sigmoid": Layer(layers.Sigmoid),
    "Softmax": Layer(layers.Softmax, note=_DIM),
    "Softmax2d": Layer(layers.Softmax2d, spatial=2),
    "Softmin": Layer(layers.Softmin, note=_DIM),
    "Softplus": Layer(layers.Softplus),
    "Softshrink": Layer(layers.Softshrink),
    "Softsign": Layer(layers.Softsign),
    "Tanh": Layer(layers.Tanh),
    "Tanhshrink": Layer(layers.Tanhshrink),
    "Threshold": Layer(layers.Threshold),
    "Transformer": Layer(layers.Transformer, note=_BATCH_FIRST),
    "TransformerDecoder": Layer(layers.TransformerDecoder, note=_BATCH_FIRST),
    "TransformerDecoderLayer": Layer(layers.TransformerDecoderLayer, note=_BATCH_FIRST),
    "TransformerEncoder": Layer(layers.TransformerEncoder, note=_BATCH_FIRST),
    "TransformerEncoderLayer": Layer(layers.TransformerEncoderLayer, note=_BATCH_FIRST),
    "Unflatten": Layer(
        layers.Unflatten,
        spatial=ANY,
        note="`(C, H, W)` makes [N, H, W, C]; `channels_last=False` is for any other array.",
    ),
    "Unfold": Layer(layers.Unfold, spatial=2, note=_WINDOWS),
    "Upsample": Layer(layers.Upsample, spatial=ANY, note=_NEAREST),
    "UpsamplingBilinear2d": Layer(layers.UpsamplingBilinear2d, spatial=2),
    "UpsamplingNearest2d": Layer(layers.UpsamplingNearest2d, spatial=2, note=_NEAREST),
    "ZeroPad1d": Layer(layers.ZeroPad1d, spatial=1),
    "ZeroPad2d": Layer(layers.ZeroPad2d, spatial=2),
    "ZeroPad3d": Layer(layers.ZeroPad3d, spatial=3),
}

#: The classes of ``torch.nn`` that contain layers or parameters.
CONTAINERS: dict[str, Counterpart] = {
    "Module": Counterpart("flax.nnx.Module", "`forward` is `__call__`."),
    "ModuleDict": Counterpart("jaxnets.layers.ModuleDict"),
    "ModuleList": Counterpart("flax.nnx.List"),
    "ParameterDict": Counterpart("flax.nnx.Dict", "of `nnx.Param`s."),
    "ParameterList": Counterpart("flax.nnx.List", "of `nnx.Param`s."),
    "Sequential": Counterpart("jaxnets.layers.Sequential"),
}

#: The losses of ``torch.nn``, which are functions in jaxnets: ``MSELoss(...)(outputs, labels)`` is
#: ``mse_loss(outputs, labels, ...)``.
LOSSES: dict[str, Counterpart] = {
    "BCELoss": Counterpart("jaxnets.losses.binary_cross_entropy"),
    "BCEWithLogitsLoss": Counterpart("jaxnets.losses.binary_cross_entropy_with_logits"),
    "CTCLoss": Counterpart("jaxnets.losses.ctc_loss"),
    "CosineEmbeddingLoss": Counterpart("jaxnets.losses.cosine_embedding_loss"),
    "CrossEntropyLoss": Counterpart("jaxnets.losses.cross_entropy", _CLASSES),
    "GaussianNLLLoss": Counterpart("jaxnets.losses.gaussian_nll_loss"),
    "HingeEmbeddingLoss": Counterpart("jaxnets.losses.hinge_embedding_loss"),
    "HuberLoss": Counterpart("jaxnets.losses.huber_loss"),
    "KLDivLoss": Counterpart("jaxnets.losses.kl_div"),
    "L1Loss": Counterpart("jaxnets.losses.l1_loss"),
    "MSELoss": Counterpart("jaxnets.losses.mse_loss"),
    "MarginRankingLoss": Counterpart("jaxnets.losses.margin_ranking_loss"),
    "MultiLabelMarginLoss": Counterpart("jaxnets.losses.multilabel_margin_loss"),
    "MultiLabelSoftMarginLoss": Counterpart("jaxnets.losses.multilabel_soft_margin_loss"),
    "MultiMarginLoss": Counterpart("jaxnets.losses.multi_margin_loss"),
    "NLLLoss": Counterpart("jaxnets.losses.nll_loss", _CLASSES),
    "PoissonNLLLoss": Counterpart("jaxnets.losses.poisson_nll_loss"),
    "SmoothL1Loss": Counterpart("jaxnets.losses.smooth_l1_loss"),
    "SoftMarginLoss": Counterpart("jaxnets.losses.soft_margin_loss", _STABLE),
    "TripletMarginLoss": Counterpart("jaxnets.losses.triplet_margin_loss"),
    "TripletMarginWithDistanceLoss": Counterpart(
        "jaxnets.losses.triplet_margin_with_distance_loss"
    ),
}

#: The functions of ``torch.nn.functional``; ``jaxnets.functional`` has all of them by these names.
FUNCTIONS: dict[str, Counterpart] = {
    "adaptive_avg_pool1d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_avg_pool1d"),
    "adaptive_avg_pool2d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_avg_pool2d"),
    "adaptive_avg_pool3d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_avg_pool3d"),
    "adaptive_max_pool1d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_max_pool1d"),
    "adaptive_max_pool2d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_max_pool2d"),
    "adaptive_max_pool3d": Counterpart("jaxnets.layers.adaptive_pooling.adaptive_max_pool3d"),
    "affine_grid": Counterpart(
        "jaxnets.layers.grid.affine_grid", "`size` is the shape of the output: (N, H, W, C)."
    ),
    "alpha_dropout": Counterpart("jaxnets.layers.dropout_functions.alpha_dropout", _KEY),
    "avg_pool1d": Counterpart("jaxnets.layers.pooling.avg_pool1d"),
    "avg_pool2d": Counterpart("jaxnets.layers.pooling.avg_pool2d"),
    "avg_pool3d": Counterpart("jaxnets.layers.pooling.avg_pool3d"),
    "batch_norm": Counterpart("jaxnets.layers.norm_functions.batch_norm", _RUNNING),
    "bilinear": Counterpart("jaxnets.layers.bilinear.bilinear"),
    "binary_cross_entropy": Counterpart("jaxnets.losses.binary_cross_entropy"),
    "binary_cross_entropy_with_logits": Counterpart(
        "jaxnets.losses.binary_cross_entropy_with_logits"
    ),
    "celu": Counterpart("jaxnets.layers.activation_functions.celu"),
    "channel_shuffle": Counterpart("jaxnets.layers.shuffle.channel_shuffle"),
    "conv1d": Counterpart("jaxnets.layers.convolution.conv1d", _KERNEL),
    "conv2d": Counterpart("jaxnets.layers.convolution.conv2d", _KERNEL),
    "conv3d": Counterpart("jaxnets.layers.convolution.conv3d", _KERNEL),
    "conv_transpose1d": Counterpart("jaxnets.layers.convolution.conv_transpose1d", _FLIPPED),
    "conv_transpose2d": Counterpart("jaxnets.layers.convolution.conv_transpose2d", _FLIPPED),
    "conv_transpose3d": Counterpart("jaxnets.layers.convolution.conv_transpose3d", _FLIPPED),
    "cosine_embedding_loss": Counterpart("jaxnets.losses.cosine_embedding_loss"),
    "cosine_similarity": Counterpart("jaxnets.layers.distance.cosine_similarity", _DIM),
    "cross_entropy": Counterpart("jaxnets.losses.cross_entropy", _CLASSES),
    "ctc_loss": Counterpart("jaxnets.losses.ctc_loss"),
    "dropout": Counterpart("jaxnets.layers.dropout_functions.dropout", _KEY),
    "dropout1d": Counterpart("jaxnets.layers.dropout_functions.dropout1d", _KEY),
    "dropout2d": Counterpart("jaxnets.layers.dropout_functions.dropout2d", _KEY),
    "dropout3d": Counterpart("jaxnets.layers.dropout_functions.dropout3d", _KEY),
    "elu": Counterpart("jaxnets.layers.activation_functions.elu"),
    "embedding": Counterpart("jaxnets.layers.embedding.embedding", _PLAIN_ROWS),
    "fold": Counterpart("jaxnets.layers.fold.fold", _WINDOWS),
    "embedding_bag": Counterpart("jaxnets.layers.embedding_bag.embedding_bag", _PLAIN_ROWS),
    "feature_alpha_dropout": Counterpart(
        "jaxnets.layers.dropout_functions.feature_alpha_dropout", _KEY
    ),
    "fractional_max_pool2d": Counterpart(
        "jaxnets.layers.fractional_pooling.fractional_max_pool2d", _RANDOM
    ),
    "fractional_max_pool3d": Counterpart(
        "jaxnets.layers.fractional_pooling.fractional_max_pool3d", _RANDOM
    ),
    "gaussian_nll_loss": Counterpart("jaxnets.losses.gaussian_nll_loss"),
    "gelu": Counterpart("jaxnets.layers.activation_functions.gelu"),
    "glu": Counterpart("jaxnets.layers.activation_functions.glu", _DIM),
    "grid_sample": Counterpart("jaxnets.layers.grid.grid_sample"),
    "gumbel_softmax": Counterpart(
        "jaxnets.layers.categories.gumbel_softmax",
        "`rngs` provides the random key, for another generator.",
    ),
    "group_norm": Counterpart("jaxnets.layers.norm_functions.group_norm"),
    "hardshrink": Counterpart("jaxnets.layers.shrinkage.hardshrink"),
    "hardsigmoid": Counterpart("jaxnets.layers.activation_functions.hardsigmoid", _SIXTH),
    "hardswish": Counterpart("jaxnets.layers.activation_functions.hardswish"),
    "hardtanh": Counterpart("jaxnets.layers.activation_functions.hardtanh"),
    "hinge_embedding_loss": Counterpart("jaxnets.losses.hinge_embedding_loss"),
    "huber_loss": Counterpart("jaxnets.losses.huber_loss"),
    "interpolate": Counterpart("jaxnets.layers.interpolation.interpolate", _NEAREST),
    "instance_norm": Counterpart("jaxnets.layers.norm_functions.instance_norm", _RUNNING),
    "kl_div": Counterpart("jaxnets.losses.kl_div"),
    "l1_loss": Counterpart("jaxnets.losses.l1_loss"),
    "layer_norm": Counterpart("jaxnets.layers.norm_functions.layer_norm", _LAST),
    "leaky_relu": Counterpart("jaxnets.layers.activation_functions.leaky_relu"),
    "linear": Counterpart("jaxnets.layers.linear.linear"),
    "local_response_norm": Counterpart("jaxnets.layers.response_norm.local_response_norm"),
    "log_softmax": Counterpart("jaxnets.layers.activation_functions.log_softmax", _DIM),
    "logsigmoid": Counterpart("jax.nn.log_sigmoid"),
    "lp_pool1d": Counterpart("jaxnets.layers.pooling.lp_pool1d"),
    "lp_pool2d": Counterpart("jaxnets.layers.pooling.lp_pool2d"),
    "lp_pool3d": Counterpart("jaxnets.layers.pooling.lp_pool3d"),
    "margin_ranking_loss": Counterpart("jaxnets.losses.margin_ranking_loss"),
    "max_pool1d": Counterpart("jaxnets.layers.pooling.max_pool1d"),
    "max_pool2d": Counterpart("jaxnets.layers.pooling.max_pool2d"),
    "max_pool3d": Counterpart("jaxnets.layers.pooling.max_pool3d"),
    "max_unpool1d": Counterpart("jaxnets.layers.unpooling.max_unpool1d"),
    "max_unpool2d": Counterpart("jaxnets.layers.unpooling.max_unpool2d"),
    "max_unpool3d": Counterpart("jaxnets.layers.unpooling.max_unpool3d"),
    "mish": Counterpart("jaxnets.layers.activation_functions.mish"),
    "mse_loss": Counterpart("jaxnets.losses.mse_loss"),
    "multi_margin_loss": Counterpart("jaxnets.losses.multi_margin_loss"),
    "multilabel_margin_loss": Counterpart("jaxnets.losses.multilabel_margin_loss"),
    "multilabel_soft_margin_loss": Counterpart("jaxnets.losses.multilabel_soft_margin_loss"),
    "nll_loss": Counterpart("jaxnets.losses.nll_loss", _CLASSES),
    "normalize": Counterpart("jaxnets.layers.distance.normalize", _DIM),
    "one_hot": Counterpart(
        "jaxnets.layers.categories.one_hot", "Under `jax.jit`, `num_classes` is required."
    ),
    "pad": Counterpart(
        "jaxnets.layers.padding.pad", "`channels_last=False` is for arrays with PyTorch's axes."
    ),
    "pairwise_distance": Counterpart("jaxnets.layers.distance.pairwise_distance"),
    "pdist": Counterpart("jaxnets.layers.distance.pdist"),
    "pixel_shuffle": Counterpart("jaxnets.layers.shuffle.pixel_shuffle"),
    "pixel_unshuffle": Counterpart("jaxnets.layers.shuffle.pixel_unshuffle"),
    "poisson_nll_loss": Counterpart("jaxnets.losses.poisson_nll_loss"),
    "prelu": Counterpart("jaxnets.layers.activation_functions.prelu"),
    "relu": Counterpart("jaxnets.layers.activation_functions.relu"),
    "relu6": Counterpart("jaxnets.layers.activation_functions.relu6"),
    "scaled_dot_product_attention": Counterpart(
        "jaxnets.layers.scaled_dot_product.scaled_dot_product_attention",
        "`rngs` provides the random key of dropout, for another generator.",
    ),
    "rms_norm": Counterpart("jaxnets.layers.norm_functions.rms_norm", _LAST),
    "rrelu": Counterpart("jaxnets.layers.rrelu.rrelu", _KEY),
    "selu": Counterpart("jaxnets.layers.activation_functions.selu"),
    "sigmoid": Counterpart("jax.nn.sigmoid"),
    "silu": Counterpart("jaxnets.layers.activation_functions.silu"),
    "smooth_l1_loss": Counterpart("jaxnets.losses.smooth_l1_loss"),
    "soft_margin_loss": Counterpart("jaxnets.losses.soft_margin_loss", _STABLE),
    "softmax": Counterpart("jaxnets.layers.activation_functions.softmax", _DIM),
    "softmin": Counterpart("jaxnets.layers.activation_functions.softmin", _DIM),
    "softplus": Counterpart("jaxnets.layers.activation_functions.softplus"),
    "softshrink": Counterpart("jaxnets.layers.shrinkage.softshrink"),
    "softsign": Counterpart("jax.nn.soft_sign"),
    "tanh": Counterpart("jax.numpy.tanh"),
    "tanhshrink": Counterpart("jaxnets.layers.shrinkage.tanhshrink"),
    "threshold": Counterpart("jaxnets.layers.shrinkage.threshold"),
    "triplet_margin_loss": Counterpart("jaxnets.losses.triplet_margin_loss"),
    "triplet_margin_with_distance_loss": Counterpart(
        "jaxnets.losses.triplet_margin_with_distance_loss"
    ),
    "unfold": Counterpart("jaxnets.layers.fold.unfold", _WINDOWS),
}

#: The functions of ``torch.nn.init``.
INITIALIZERS: dict[str, Counterpart] = {
    "calculate_gain": Counterpart("jaxnets.initializers.calculate_gain"),
    "constant_": Counterpart("jaxnets.initializers.constant"),
    "dirac_": Counterpart("jaxnets.initializers.dirac"),
    "eye_": Counterpart("jaxnets.initializers.eye"),
    "kaiming_normal_": Counterpart("jaxnets.initializers.kaiming_normal", _FANS),
    "kaiming_uniform_": Counterpart("jaxnets.initializers.kaiming_uniform", _FANS),
    "normal_": Counterpart("jaxnets.initializers.normal"),
    "ones_": Counterpart("jaxnets.initializers.ones"),
    "orthogonal_": Counterpart("jaxnets.initializers.orthogonal"),
    "sparse_": Counterpart("jaxnets.initializers.sparse"),
    "trunc_normal_": Counterpart("jaxnets.initializers.trunc_normal"),
    "uniform_": Counterpart("jaxnets.initializers.uniform"),
    "xavier_normal_": Counterpart("jaxnets.initializers.xavier_normal"),
    "xavier_uniform_": Counterpart("jaxnets.initializers.xavier_uniform"),
    "zeros_": Counterpart("jaxnets.initializers.zeros"),
}

#: The functions of ``torch.nn.utils.parametrizations``, which are wrapper layers in jaxnets.
PARAMETRIZATIONS: dict[str, Counterpart] = {
    "spectral_norm": Counterpart("jaxnets.layers.SpectralNorm", "Takes `rngs`."),
    "weight_norm": Counterpart("jaxnets.layers.WeightNorm"),
}

#: The classes of ``torch.optim``.
OPTIMIZERS: dict[str, Counterpart] = {
    "ASGD": Counterpart("jaxnets.optimizers.asgd"),
    "Adadelta": Counterpart("jaxnets.optimizers.adadelta"),
    "Adafactor": Counterpart("jaxnets.optimizers.adafactor"),
    "Adagrad": Counterpart("jaxnets.optimizers.adagrad"),
    "Adam": Counterpart("jaxnets.optimizers.adam"),
    "AdamW": Counterpart("jaxnets.optimizers.adamw"),
    "Adamax": Counterpart("jaxnets.optimizers.adamax"),
    "LBFGS": Counterpart(
        "jaxnets.optimizers.lbfgs", "Running statistics are updated by a step's first evaluation."
    ),
    "Muon": Counterpart("jaxnets.optimizers.muon"),
    "NAdam": Counterpart("jaxnets.optimizers.nadam"),
    "Optimizer": Counterpart("optax.GradientTransformation"),
    "RAdam": Counterpart("jaxnets.optimizers.radam"),
    "RMSprop": Counterpart("jaxnets.optimizers.rmsprop"),
    "Rprop": Counterpart("jaxnets.optimizers.rprop"),
    "SGD": Counterpart("jaxnets.optimizers.sgd"),
}

#: The classes of ``torch.optim.lr_scheduler``, which are functions of the step in jaxnets.
SCHEDULES: dict[str, Counterpart] = {
    "ChainedScheduler": Counterpart(
        "jaxnets.optimizers.chained_scheduler",
        "Supports only schedules that multiply the learning rate.",
    ),
    "ConstantLR": Counterpart("jaxnets.optimizers.constant_lr"),
    "CosineAnnealingLR": Counterpart("jaxnets.optimizers.cosine_annealing_lr"),
    "CosineAnnealingWarmRestarts": Counterpart("jaxnets.optimizers.cosine_annealing_warm_restarts"),
    "CyclicLR": Counterpart(
        "jaxnets.optimizers.cyclic_lr",
        "For the momentum, use `jaxnets.optimizers.cyclic_momentum`.",
    ),
    "ExponentialLR": Counterpart("jaxnets.optimizers.exponential_lr"),
    "LRScheduler": Counterpart("jaxnets.optimizers.Schedule"),
    "LambdaLR": Counterpart("jaxnets.optimizers.lambda_lr"),
    "LinearLR": Counterpart("jaxnets.optimizers.linear_lr"),
    "MultiStepLR": Counterpart("jaxnets.optimizers.multi_step_lr"),
    "MultiplicativeLR": Counterpart("jaxnets.optimizers.multiplicative_lr"),
    "OneCycleLR": Counterpart(
        "jaxnets.optimizers.one_cycle_lr",
        "For the momentum, use `jaxnets.optimizers.one_cycle_momentum`.",
    ),
    "PolynomialLR": Counterpart("jaxnets.optimizers.polynomial_lr"),
    "ReduceLROnPlateau": Counterpart("jaxnets.optimizers.reduce_lr_on_plateau"),
    "SequentialLR": Counterpart("jaxnets.optimizers.sequential_lr"),
    "StepLR": Counterpart("jaxnets.optimizers.step_lr"),
}

#: The tables of each module of PyTorch.
TABLES: dict[str, tuple[Mapping[str, Layer | Counterpart], ...]] = {
    "nn": (LAYERS, CONTAINERS, LOSSES),
    "nn.functional": (FUNCTIONS,),
    "nn.init": (INITIALIZERS,),
    "nn.utils.parametrizations": (PARAMETRIZATIONS,),
    "optim": (OPTIMIZERS,),
    "optim.lr_scheduler": (SCHEDULES,),
}

_DEPRECATED = "PyTorch's older name"
_IN_PLACE = "arrays are immutable: use the function without the underscore"
_INDICES = "use the function without `_with_indices`"
_LAZY = "sizes are required when a layer is created"

#: Names without a counterpart, with the reason.
REASONS: dict[str, str] = {
    "nn.Container": f"{_DEPRECATED} of `Module`",
    "nn.DataParallel": "`fit` uses all devices: see the page on devices",
    "nn.LazyBatchNorm1d": _LAZY,
    "nn.LazyBatchNorm2d": _LAZY,
    "nn.LazyBatchNorm3d": _LAZY,
    "nn.LazyConv1d": _LAZY,
    "nn.LazyConv2d": _LAZY,
    "nn.LazyConv3d": _LAZY,
    "nn.LazyConvTranspose1d": _LAZY,
    "nn.LazyConvTranspose2d": _LAZY,
    "nn.LazyConvTranspose3d": _LAZY,
    "nn.LazyInstanceNorm1d": _LAZY,
    "nn.LazyInstanceNorm2d": _LAZY,
    "nn.LazyInstanceNorm3d": _LAZY,
    "nn.LazyLinear": _LAZY,
    "nn.LinearCrossEntropyLoss": "`Linear`, then `cross_entropy`",
    "nn.NLLLoss2d": f"{_DEPRECATED} of `NLLLoss`",
    "nn.RNNBase": "the common part of `RNN`, `LSTM` and `GRU`",
    "nn.RNNCellBase": "the common part of the recurrent cells",
    "nn.SyncBatchNorm": "`BatchNorm` uses the statistics of the whole batch on several devices",
    "nn.functional.adaptive_max_pool1d_with_indices": _INDICES,
    "nn.functional.adaptive_max_pool2d_with_indices": _INDICES,
    "nn.functional.adaptive_max_pool3d_with_indices": _INDICES,
    "nn.functional.celu_": _IN_PLACE,
    "nn.functional.conv_tbc": "`conv1d`, with the axes moved",
    "nn.functional.elu_": _IN_PLACE,
    "nn.functional.fractional_max_pool2d_with_indices": _INDICES,
    "nn.functional.fractional_max_pool3d_with_indices": _INDICES,
    "nn.functional.grouped_mm": "`jax.lax.ragged_dot`",
    "nn.functional.hardtanh_": _IN_PLACE,
    "nn.functional.leaky_relu_": _IN_PLACE,
    "nn.functional.linear_cross_entropy": "`linear`, then `cross_entropy`",
    "nn.functional.max_pool1d_with_indices": _INDICES,
    "nn.functional.max_pool2d_with_indices": _INDICES,
    "nn.functional.max_pool3d_with_indices": _INDICES,
    "nn.functional.multi_head_attention_forward": "the layer `MultiheadAttention`",
    "nn.functional.native_channel_shuffle": "`channel_shuffle`",
    "nn.functional.relu_": _IN_PLACE,
    "nn.functional.rrelu_": _IN_PLACE,
    "nn.functional.scaled_grouped_mm": "quantized products",
    "nn.functional.scaled_mm": "quantized products: `jax.nn.scaled_matmul`",
    "nn.functional.selu_": _IN_PLACE,
    "nn.functional.threshold_": _IN_PLACE,
    "nn.functional.upsample": f"{_DEPRECATED} of `interpolate`",
    "nn.functional.upsample_bilinear": f"{_DEPRECATED} of `interpolate`",
    "nn.functional.upsample_nearest": f"{_DEPRECATED} of `interpolate`",
    "nn.init.constant": f"{_DEPRECATED} of `constant_`",
    "nn.init.dirac": f"{_DEPRECATED} of `dirac_`",
    "nn.init.eye": f"{_DEPRECATED} of `eye_`",
    "nn.init.kaiming_normal": f"{_DEPRECATED} of `kaiming_normal_`",
    "nn.init.kaiming_uniform": f"{_DEPRECATED} of `kaiming_uniform_`",
    "nn.init.normal": f"{_DEPRECATED} of `normal_`",
    "nn.init.orthogonal": f"{_DEPRECATED} of `orthogonal_`",
    "nn.init.sparse": f"{_DEPRECATED} of `sparse_`",
    "nn.init.uniform": f"{_DEPRECATED} of `uniform_`",
    "nn.init.xavier_normal": f"{_DEPRECATED} of `xavier_normal_`",
    "nn.init.xavier_uniform": f"{_DEPRECATED} of `xavier_uniform_`",
    "nn.utils.parametrizations.orthogonal": "`initializers.orthogonal` only initializes",
    "optim.SparseAdam": "gradients are dense: `adam`",
}

#: Names whose row is still missing.
PENDING: frozenset[str] = frozenset()

#: The rules of all layers with arrays, including Flax's; the most derived class takes precedence.
RULES: dict[type[nnx.Module], Rule] = {
    **{row.ours: row.leaves for row in LAYERS.values() if row.leaves is not None},
    nnx.BatchNorm: rules.flax_batch_norm,
    nnx.Conv: rules.convolution,
    nnx.ConvTranspose: rules.transposed_convolution,
    nnx.Embed: rules.embedding,
    nnx.GroupNorm: rules.normalization,
    nnx.InstanceNorm: rules.normalization,
    nnx.LayerNorm: rules.normalization,
    nnx.Linear: rules.linear,
    nnx.PReLU: rules.flax_prelu,
    nnx.RMSNorm: rules.normalization,
}


def leaves(layer: nnx.Module) -> dict[str, Leaf]:
    """Returns the leaves of one layer by attribute name; empty for a module without own arrays.

    Leaves whose attribute is None on this layer, such as an unused bias, are omitted.
    """
    for kind in type(layer).__mro__:
        if kind in RULES:
            found = RULES[kind](layer)
            return {k: leaf for k, leaf in found.items() if getattr(layer, k, None) is not None}
    return {}

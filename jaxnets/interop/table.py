"""Each of PyTorch's names with its counterpart here, or the reason why there is none.

Weights, tests and the page ``docs/coverage.md`` follow from these tables: a new layer is one row
of ``LAYERS``. The rows are in alphabetical order.
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
        ours: our class, of the same name.
        leaves: how its arrays are called and laid out in PyTorch; None if it has no arrays.
        spatial: how many axes come after the channels in PyTorch's inputs and outputs and before
            them in ours; 0 where the axes are PyTorch's.
        note: what differs from PyTorch, in a sentence.
    """

    ours: type[nnx.Module]
    leaves: Rule | None = None
    spatial: int = 0
    note: str = ""

    @property
    def name(self) -> str:
        """Where our class is found."""
        return f"jaxnets.layers.{self.ours.__name__}"

    @property
    def takes_rngs(self) -> bool:
        """Whether the constructor takes ``rngs``."""
        return "rngs" in inspect.signature(self.ours.__init__).parameters


class Counterpart(NamedTuple):
    """The counterpart of another name.

    Attributes:
        name: where ours is found.
        note: what differs from PyTorch, in a sentence.
    """

    name: str
    note: str = ""


_BATCH_FIRST = "Sequences are batch first."
_CLASSES = "Classes are the last axis."
_DIM = "The channels, PyTorch's `dim=1`, are `-1`."
_DRAWS = "The masks are drawn by another generator."
_NO_INDICES = "`return_indices` is refused."

#: The layers of ``torch.nn``.
LAYERS: dict[str, Layer] = {
    "AdaptiveAvgPool1d": Layer(layers.AdaptiveAvgPool1d, spatial=1),
    "AdaptiveAvgPool2d": Layer(layers.AdaptiveAvgPool2d, spatial=2),
    "AvgPool1d": Layer(layers.AvgPool1d, spatial=1),
    "AvgPool2d": Layer(layers.AvgPool2d, spatial=2),
    "BatchNorm1d": Layer(layers.BatchNorm1d, rules.batch_norm, spatial=1),
    "BatchNorm2d": Layer(layers.BatchNorm2d, rules.batch_norm, spatial=2),
    "CELU": Layer(layers.CELU),
    "Conv1d": Layer(layers.Conv1d, rules.convolution, spatial=1),
    "Conv2d": Layer(layers.Conv2d, rules.convolution, spatial=2),
    "ConvTranspose2d": Layer(layers.ConvTranspose2d, rules.transposed_convolution, spatial=2),
    "Dropout": Layer(layers.Dropout, note=_DRAWS),
    "Dropout2d": Layer(layers.Dropout2d, spatial=ANY, note=_DRAWS),
    "ELU": Layer(layers.ELU),
    "Embedding": Layer(
        layers.Embedding,
        rules.embedding,
        note="`max_norm`, `scale_grad_by_freq` and `sparse` are refused.",
    ),
    "Flatten": Layer(
        layers.Flatten, spatial=ANY, note="Flattens all axes but the batch, in PyTorch's order."
    ),
    "GELU": Layer(layers.GELU),
    "GLU": Layer(layers.GLU, note=_DIM),
    "GRU": Layer(layers.GRU, rules.recurrent, note=_BATCH_FIRST),
    "GRUCell": Layer(layers.GRUCell, rules.recurrent),
    "GroupNorm": Layer(layers.GroupNorm, rules.normalization, spatial=ANY),
    "Hardsigmoid": Layer(
        layers.Hardsigmoid, note="In float64 PyTorch's slope is a sixth rounded to float32."
    ),
    "Hardswish": Layer(layers.Hardswish),
    "Hardtanh": Layer(layers.Hardtanh),
    "Identity": Layer(layers.Identity),
    "InstanceNorm2d": Layer(
        layers.InstanceNorm2d,
        rules.normalization,
        spatial=2,
        note="`track_running_stats` is refused.",
    ),
    "LSTM": Layer(layers.LSTM, rules.recurrent, note=_BATCH_FIRST),
    "LSTMCell": Layer(layers.LSTMCell, rules.recurrent),
    "LayerNorm": Layer(
        layers.LayerNorm,
        rules.layer_norm,
        note="`normalized_shape` of an image is (H, W, C); `channels_last` says what two axes are.",
    ),
    "LeakyReLU": Layer(layers.LeakyReLU),
    "Linear": Layer(layers.Linear, rules.linear),
    "LogSigmoid": Layer(layers.LogSigmoid),
    "LogSoftmax": Layer(layers.LogSoftmax, note=_DIM),
    "MaxPool1d": Layer(layers.MaxPool1d, spatial=1, note=_NO_INDICES),
    "MaxPool2d": Layer(layers.MaxPool2d, spatial=2, note=_NO_INDICES),
    "Mish": Layer(layers.Mish),
    "MultiheadAttention": Layer(
        layers.MultiheadAttention,
        rules.attention,
        note=f"{_BATCH_FIRST} `add_bias_kv` and `add_zero_attn` are refused.",
    ),
    "PReLU": Layer(layers.PReLU, rules.prelu, spatial=ANY),
    "RNN": Layer(layers.RNN, rules.recurrent, note=_BATCH_FIRST),
    "RNNCell": Layer(layers.RNNCell, rules.recurrent),
    "ReLU": Layer(layers.ReLU),
    "ReLU6": Layer(layers.ReLU6),
    "SELU": Layer(layers.SELU),
    "SiLU": Layer(layers.SiLU),
    "Sigmoid": Layer(layers.Sigmoid),
    "Softmax": Layer(layers.Softmax, note=_DIM),
    "Softplus": Layer(layers.Softplus),
    "Softsign": Layer(layers.Softsign),
    "Tanh": Layer(layers.Tanh),
    "TransformerEncoder": Layer(layers.TransformerEncoder, note=_BATCH_FIRST),
    "TransformerEncoderLayer": Layer(layers.TransformerEncoderLayer, note=_BATCH_FIRST),
}

#: The rest of ``torch.nn`` that holds layers or parameters.
CONTAINERS: dict[str, Counterpart] = {
    "Module": Counterpart("flax.nnx.Module", "`forward` is `__call__`."),
    "ModuleDict": Counterpart("flax.nnx.Dict"),
    "ModuleList": Counterpart("flax.nnx.List"),
    "ParameterDict": Counterpart("flax.nnx.Dict", "of `nnx.Param`s."),
    "ParameterList": Counterpart("flax.nnx.List", "of `nnx.Param`s."),
    "Sequential": Counterpart("flax.nnx.Sequential"),
}

#: The losses of ``torch.nn``, which are functions here: ``MSELoss(...)(outputs, labels)`` is
#: ``mse_loss(outputs, labels, ...)``.
LOSSES: dict[str, Counterpart] = {
    "BCELoss": Counterpart("jaxnets.losses.binary_cross_entropy"),
    "BCEWithLogitsLoss": Counterpart("jaxnets.losses.binary_cross_entropy_with_logits"),
    "CTCLoss": Counterpart("jaxnets.losses.ctc_loss"),
    "CrossEntropyLoss": Counterpart("jaxnets.losses.cross_entropy", _CLASSES),
    "HuberLoss": Counterpart("jaxnets.losses.huber_loss"),
    "KLDivLoss": Counterpart("jaxnets.losses.kl_div"),
    "L1Loss": Counterpart("jaxnets.losses.l1_loss"),
    "MSELoss": Counterpart("jaxnets.losses.mse_loss"),
    "NLLLoss": Counterpart("jaxnets.losses.nll_loss", _CLASSES),
    "SmoothL1Loss": Counterpart("jaxnets.losses.smooth_l1_loss"),
}

#: The functions of ``torch.nn.functional``; ``jaxnets.functional`` has all of them by these names.
FUNCTIONS: dict[str, Counterpart] = {
    "binary_cross_entropy": Counterpart("jaxnets.losses.binary_cross_entropy"),
    "binary_cross_entropy_with_logits": Counterpart(
        "jaxnets.losses.binary_cross_entropy_with_logits"
    ),
    "celu": Counterpart("jax.nn.celu"),
    "cross_entropy": Counterpart("jaxnets.losses.cross_entropy", _CLASSES),
    "ctc_loss": Counterpart("jaxnets.losses.ctc_loss"),
    "elu": Counterpart("jax.nn.elu"),
    "huber_loss": Counterpart("jaxnets.losses.huber_loss"),
    "kl_div": Counterpart("jaxnets.losses.kl_div"),
    "l1_loss": Counterpart("jaxnets.losses.l1_loss"),
    "logsigmoid": Counterpart("jax.nn.log_sigmoid"),
    "mish": Counterpart("jax.nn.mish"),
    "mse_loss": Counterpart("jaxnets.losses.mse_loss"),
    "nll_loss": Counterpart("jaxnets.losses.nll_loss", _CLASSES),
    "relu": Counterpart("jax.nn.relu"),
    "selu": Counterpart("jax.nn.selu"),
    "sigmoid": Counterpart("jax.nn.sigmoid"),
    "silu": Counterpart("jax.nn.silu"),
    "smooth_l1_loss": Counterpart("jaxnets.losses.smooth_l1_loss"),
    "softsign": Counterpart("jax.nn.soft_sign"),
    "tanh": Counterpart("jax.numpy.tanh"),
}

#: The functions of ``torch.nn.init``.
INITIALIZERS: dict[str, Counterpart] = {
    "normal_": Counterpart("jaxnets.initializers.normal"),
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
        "jaxnets.optimizers.lbfgs", "Running statistics change by the first evaluation of a step."
    ),
    "Muon": Counterpart("jaxnets.optimizers.muon"),
    "NAdam": Counterpart("jaxnets.optimizers.nadam"),
    "Optimizer": Counterpart("optax.GradientTransformation"),
    "RAdam": Counterpart("jaxnets.optimizers.radam"),
    "RMSprop": Counterpart("jaxnets.optimizers.rmsprop"),
    "Rprop": Counterpart("jaxnets.optimizers.rprop"),
    "SGD": Counterpart("jaxnets.optimizers.sgd"),
}

#: The classes of ``torch.optim.lr_scheduler``, which are functions of the count of steps here.
SCHEDULES: dict[str, Counterpart] = {
    "ChainedScheduler": Counterpart(
        "jaxnets.optimizers.chained_scheduler",
        "The schedules multiply the learning rate; others are refused.",
    ),
    "ConstantLR": Counterpart("jaxnets.optimizers.constant_lr"),
    "CosineAnnealingLR": Counterpart("jaxnets.optimizers.cosine_annealing_lr"),
    "CosineAnnealingWarmRestarts": Counterpart("jaxnets.optimizers.cosine_annealing_warm_restarts"),
    "CyclicLR": Counterpart(
        "jaxnets.optimizers.cyclic_lr",
        "The cycle of the momentum is `jaxnets.optimizers.cyclic_momentum`.",
    ),
    "ExponentialLR": Counterpart("jaxnets.optimizers.exponential_lr"),
    "LRScheduler": Counterpart("jaxnets.optimizers.Schedule"),
    "LambdaLR": Counterpart("jaxnets.optimizers.lambda_lr"),
    "LinearLR": Counterpart("jaxnets.optimizers.linear_lr"),
    "MultiStepLR": Counterpart("jaxnets.optimizers.multi_step_lr"),
    "MultiplicativeLR": Counterpart("jaxnets.optimizers.multiplicative_lr"),
    "OneCycleLR": Counterpart(
        "jaxnets.optimizers.one_cycle_lr",
        "The cycle of the momentum is `jaxnets.optimizers.one_cycle_momentum`.",
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
    "optim": (OPTIMIZERS,),
    "optim.lr_scheduler": (SCHEDULES,),
}

_DEPRECATED = "PyTorch's older name"
_IN_PLACE = "arrays do not change: the function without the underscore"
_INDICES = "the function without `_with_indices`"
_LAZY = "sizes are given when a layer is made"

#: Names without a counterpart, and why.
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
    "nn.SyncBatchNorm": "`BatchNorm` has the statistics of the whole batch on several devices",
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
    "optim.SparseAdam": "gradients are dense: `adam`",
}

#: Names that will get a row.
PENDING: frozenset[str] = frozenset(
    {
        "nn.AdaptiveAvgPool3d",
        "nn.AdaptiveLogSoftmaxWithLoss",
        "nn.AdaptiveMaxPool1d",
        "nn.AdaptiveMaxPool2d",
        "nn.AdaptiveMaxPool3d",
        "nn.AlphaDropout",
        "nn.AvgPool3d",
        "nn.BatchNorm3d",
        "nn.Bilinear",
        "nn.ChannelShuffle",
        "nn.CircularPad1d",
        "nn.CircularPad2d",
        "nn.CircularPad3d",
        "nn.ConstantPad1d",
        "nn.ConstantPad2d",
        "nn.ConstantPad3d",
        "nn.Conv3d",
        "nn.ConvTranspose1d",
        "nn.ConvTranspose3d",
        "nn.CosineEmbeddingLoss",
        "nn.CosineSimilarity",
        "nn.CrossMapLRN2d",
        "nn.Dropout1d",
        "nn.Dropout3d",
        "nn.EmbeddingBag",
        "nn.FeatureAlphaDropout",
        "nn.Fold",
        "nn.FractionalMaxPool2d",
        "nn.FractionalMaxPool3d",
        "nn.GaussianNLLLoss",
        "nn.Hardshrink",
        "nn.HingeEmbeddingLoss",
        "nn.InstanceNorm1d",
        "nn.InstanceNorm3d",
        "nn.LPPool1d",
        "nn.LPPool2d",
        "nn.LPPool3d",
        "nn.LocalResponseNorm",
        "nn.MarginRankingLoss",
        "nn.MaxPool3d",
        "nn.MaxUnpool1d",
        "nn.MaxUnpool2d",
        "nn.MaxUnpool3d",
        "nn.MultiLabelMarginLoss",
        "nn.MultiLabelSoftMarginLoss",
        "nn.MultiMarginLoss",
        "nn.PairwiseDistance",
        "nn.PixelShuffle",
        "nn.PixelUnshuffle",
        "nn.PoissonNLLLoss",
        "nn.RMSNorm",
        "nn.RReLU",
        "nn.ReflectionPad1d",
        "nn.ReflectionPad2d",
        "nn.ReflectionPad3d",
        "nn.ReplicationPad1d",
        "nn.ReplicationPad2d",
        "nn.ReplicationPad3d",
        "nn.SoftMarginLoss",
        "nn.Softmax2d",
        "nn.Softmin",
        "nn.Softshrink",
        "nn.Tanhshrink",
        "nn.Threshold",
        "nn.Transformer",
        "nn.TransformerDecoder",
        "nn.TransformerDecoderLayer",
        "nn.TripletMarginLoss",
        "nn.TripletMarginWithDistanceLoss",
        "nn.Unflatten",
        "nn.Unfold",
        "nn.Upsample",
        "nn.UpsamplingBilinear2d",
        "nn.UpsamplingNearest2d",
        "nn.ZeroPad1d",
        "nn.ZeroPad2d",
        "nn.ZeroPad3d",
        "nn.functional.adaptive_avg_pool1d",
        "nn.functional.adaptive_avg_pool2d",
        "nn.functional.adaptive_avg_pool3d",
        "nn.functional.adaptive_max_pool1d",
        "nn.functional.adaptive_max_pool2d",
        "nn.functional.adaptive_max_pool3d",
        "nn.functional.affine_grid",
        "nn.functional.alpha_dropout",
        "nn.functional.avg_pool1d",
        "nn.functional.avg_pool2d",
        "nn.functional.avg_pool3d",
        "nn.functional.batch_norm",
        "nn.functional.bilinear",
        "nn.functional.channel_shuffle",
        "nn.functional.conv1d",
        "nn.functional.conv2d",
        "nn.functional.conv3d",
        "nn.functional.conv_transpose1d",
        "nn.functional.conv_transpose2d",
        "nn.functional.conv_transpose3d",
        "nn.functional.cosine_embedding_loss",
        "nn.functional.cosine_similarity",
        "nn.functional.dropout",
        "nn.functional.dropout1d",
        "nn.functional.dropout2d",
        "nn.functional.dropout3d",
        "nn.functional.embedding",
        "nn.functional.embedding_bag",
        "nn.functional.feature_alpha_dropout",
        "nn.functional.fold",
        "nn.functional.fractional_max_pool2d",
        "nn.functional.fractional_max_pool3d",
        "nn.functional.gaussian_nll_loss",
        "nn.functional.gelu",
        "nn.functional.glu",
        "nn.functional.grid_sample",
        "nn.functional.group_norm",
        "nn.functional.gumbel_softmax",
        "nn.functional.hardshrink",
        "nn.functional.hardsigmoid",
        "nn.functional.hardswish",
        "nn.functional.hardtanh",
        "nn.functional.hinge_embedding_loss",
        "nn.functional.instance_norm",
        "nn.functional.interpolate",
        "nn.functional.layer_norm",
        "nn.functional.leaky_relu",
        "nn.functional.linear",
        "nn.functional.local_response_norm",
        "nn.functional.log_softmax",
        "nn.functional.lp_pool1d",
        "nn.functional.lp_pool2d",
        "nn.functional.lp_pool3d",
        "nn.functional.margin_ranking_loss",
        "nn.functional.max_pool1d",
        "nn.functional.max_pool2d",
        "nn.functional.max_pool3d",
        "nn.functional.max_unpool1d",
        "nn.functional.max_unpool2d",
        "nn.functional.max_unpool3d",
        "nn.functional.multi_margin_loss",
        "nn.functional.multilabel_margin_loss",
        "nn.functional.multilabel_soft_margin_loss",
        "nn.functional.normalize",
        "nn.functional.one_hot",
        "nn.functional.pad",
        "nn.functional.pairwise_distance",
        "nn.functional.pdist",
        "nn.functional.pixel_shuffle",
        "nn.functional.pixel_unshuffle",
        "nn.functional.poisson_nll_loss",
        "nn.functional.prelu",
        "nn.functional.relu6",
        "nn.functional.rms_norm",
        "nn.functional.rrelu",
        "nn.functional.scaled_dot_product_attention",
        "nn.functional.soft_margin_loss",
        "nn.functional.softmax",
        "nn.functional.softmin",
        "nn.functional.softplus",
        "nn.functional.softshrink",
        "nn.functional.tanhshrink",
        "nn.functional.threshold",
        "nn.functional.triplet_margin_loss",
        "nn.functional.triplet_margin_with_distance_loss",
        "nn.functional.unfold",
        "nn.init.calculate_gain",
        "nn.init.constant_",
        "nn.init.dirac_",
        "nn.init.eye_",
        "nn.init.kaiming_normal_",
        "nn.init.kaiming_uniform_",
        "nn.init.ones_",
        "nn.init.orthogonal_",
        "nn.init.sparse_",
        "nn.init.trunc_normal_",
        "nn.init.uniform_",
        "nn.init.xavier_normal_",
        "nn.init.xavier_uniform_",
        "nn.init.zeros_",
    }
)

#: The rules of all layers with arrays, Flax's own among them; the most derived class wins.
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
    """The leaves of one layer by attribute name; empty for a module that holds none of its own.

    A leaf whose attribute is None on this layer (no bias, say) does not count.
    """
    for kind in type(layer).__mro__:
        if kind in RULES:
            found = RULES[kind](layer)
            return {k: leaf for k, leaf in found.items() if getattr(layer, k, None) is not None}
    return {}

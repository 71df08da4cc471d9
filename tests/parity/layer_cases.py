"""Cases for the comparison of the layers of ``jaxnets.interop.table`` with PyTorch's."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from flax import nnx

from jaxnets.arrays import shown
from jaxnets.interop.table import LAYERS


class Integers(NamedTuple):
    """Integers from 0 to ``count`` - 1."""

    shape: tuple[int, ...]
    count: int


class Ties(NamedTuple):
    """Few different values, and zero twice as often, for ties and kinks."""

    shape: tuple[int, ...]
    values: tuple[float, ...] = (-1.0, 0.0, 0.0, 0.5, 1.0)


#: An input of a layer: the shape of random normal numbers, or values.
Input = tuple[int, ...] | Integers | Ties | np.ndarray


@dataclass(frozen=True)
class Case:
    """One layer as it is made and called, in PyTorch and here.

    Attributes:
        name: name of the layer.
        arguments: positional arguments of both constructors; a ``Case`` is replaced by its layer.
        inputs: inputs of the layer in PyTorch's layout.
        options: keyword arguments of both constructors.
        ours: keyword arguments of our constructor, which are added or take precedence.
        theirs: the same for PyTorch's.
        call: keyword arguments of both calls.
        unbatched: whether the inputs have no batch axis before the channels.
        drawn: why only evaluation mode is compared: the tests of the random numbers.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    inputs: tuple[Input, ...] = ((3, 4),)
    options: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    unbatched: bool = False
    drawn: str = ""

    def __str__(self) -> str:
        named = {**self.options, **self.theirs}
        words = [
            *map(str, self.arguments),
            *(f"{name}={shown(value)}" for name, value in named.items()),
        ]
        return f"{self.name}({', '.join(words)})"

    def built_arguments(self, build: Callable[["Case"], Any]) -> list[Any]:
        """The positional arguments, in which layers replace cases."""
        return [build(one) if isinstance(one, Case) else one for one in self.arguments]

    def values(self) -> list[np.ndarray]:
        """The inputs in PyTorch's layout, float64 or integers."""
        random = np.random.default_rng(0)
        return [_drawn(given, random) for given in self.inputs]

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        """Converts an input or an output from PyTorch's layout to ours."""
        axis = 0 if self.unbatched else 1
        moves = LAYERS[self.name].spatial and array.ndim > axis
        return np.moveaxis(array, axis, -1) if moves else array

    def from_ours(self, array: np.ndarray) -> np.ndarray:
        """Converts an input or an output from our layout to PyTorch's."""
        axis = 0 if self.unbatched else 1
        moves = LAYERS[self.name].spatial and array.ndim > axis
        return np.moveaxis(array, -1, axis) if moves else array


def our_layer(case: Case, **others: Any) -> nnx.Module:
    """Our layer of a case; it gets those of the other arguments that its constructor has."""
    make = LAYERS[case.name].ours
    taken = inspect.signature(make.__init__).parameters
    extra = {name: value for name, value in others.items() if name in taken}
    arguments = case.built_arguments(lambda one: our_layer(one, **others))
    return make(*arguments, **{**case.options, **case.ours, **extra})


def _drawn(given: Input, random: np.random.Generator) -> np.ndarray:
    if isinstance(given, np.ndarray):
        return given
    if isinstance(given, Integers):
        return random.integers(0, given.count, given.shape)
    if isinstance(given, Ties):
        return random.choice(np.array(given.values), given.shape)
    return random.normal(size=given)


#: The kinks of piecewise activations, each twice, and points far from them.
KINKS = np.repeat([-20.0, -6.0, -3.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 20.0, 21.0], 2)
KINKS = KINKS.reshape(4, 6)
#: Random positions of the windows of a fractional pool, for two examples of three channels.
SAMPLES = np.random.default_rng(0).random((2, 3, 3))
FIVE_BY_SIX = {"output_size": [5, 6]}
#: Rows that include zeros, a norm smaller than every eps, and several equal maxima.
VECTORS = np.random.default_rng(1).normal(size=(6, 4))
VECTORS[[1, 3, 5]] *= [[0.0], [1e-13], [1.0]]
VECTORS[4] = [2.0, -2.0, 1.0, 0.0]
BATCH_FIRST = {"batch_first": True}
DRAWN = "tests/test_layers.py looks at the masks"

#: In the order of the table.
CASES = [
    Case("AdaptiveAvgPool1d", (3,), ((2, 3, 7),)),
    Case("AdaptiveAvgPool2d", ((3, None),), ((2, 3, 7, 5),)),
    Case("AdaptiveAvgPool3d", ((1, None, 2),), ((2, 3, 2, 3, 5),)),
    Case(
        "AdaptiveLogSoftmaxWithLoss",
        (8, 20, [5, 11]),
        ((6, 8), np.array([0, 4, 5, 10, 11, 19])),
        {"div_value": 2.0},
    ),
    Case("AdaptiveLogSoftmaxWithLoss", (8, 6, [2]), ((8,), np.array(4)), {"head_bias": True}),
    Case("AdaptiveMaxPool1d", (3, True), (Ties((2, 3, 7)),)),
    Case("AdaptiveMaxPool2d", ((3, None), True), (Ties((2, 3, 7, 5)),)),
    Case("AdaptiveMaxPool3d", ((1, 2, 3),), (Ties((2, 3, 2, 3, 5)),)),
    Case("AlphaDropout", (0.3,), drawn=DRAWN),
    Case("AvgPool1d", (3, 2, 1), ((2, 3, 8),)),
    Case("AvgPool2d", (3, 2, 1), ((2, 3, 8, 7),), {"ceil_mode": True}),
    Case("AvgPool3d", (2, 1, 1, True, False), ((2, 3, 2, 3, 4),)),
    Case("BatchNorm1d", (3,), ((4, 3, 5),)),
    Case("BatchNorm1d", (3,), ((5, 3),)),
    Case("BatchNorm2d", (3,), ((4, 3, 2, 3),), {"momentum": None}),
    Case("BatchNorm3d", (3,), ((2, 3, 2, 3, 2),)),
    Case("Bilinear", (3, 4, 2), ((5, 2, 3), (5, 2, 4))),
    Case("CELU", (2.0,), (KINKS,)),
    Case("ChannelShuffle", (3,), ((2, 6, 3, 2),)),
    Case("CircularPad1d", ((1, 2),), ((2, 3, 5),)),
    Case("CircularPad2d", ((1, -2, 3, 0),), ((2, 2, 4, 5),)),
    Case("CircularPad3d", (1,), ((1, 2, 2, 3, 4),)),
    Case("ConstantPad1d", ((1, -2), 0.5), ((2, 3, 5),)),
    Case("ConstantPad2d", ((1, -2, 3, 0), -1.5), ((2, 2, 4, 5),)),
    Case("ConstantPad3d", (1, 2.0), ((1, 2, 2, 3, 4),)),
    Case("Conv1d", (2, 4, 3), ((2, 2, 7),)),
    Case("Conv2d", (2, 4, 3), ((2, 2, 7, 6),), {"padding": 1, "groups": 2}),
    Case("Conv3d", (2, 4, 3), ((2, 2, 3, 4, 5),), {"padding": 1, "groups": 2}),
    Case("ConvTranspose1d", (4, 2, 3), ((2, 4, 5),), {"stride": 2, "output_padding": 1}),
    Case("ConvTranspose2d", (4, 2, 3), ((2, 4, 4, 3),), {"stride": 2, "groups": 2}),
    Case("ConvTranspose3d", (4, 2, 2), ((2, 4, 2, 3, 2),), {"padding": 1, "groups": 2}),
    Case("CosineSimilarity", (-1,), (VECTORS, (6, 4))),
    Case("CosineSimilarity", (-1, 0.5), ((2, 1, 4), (3, 4))),
    Case("CrossMapLRN2d", (3, 0.5, 0.7, 1.5), ((2, 7, 2, 3),)),
    Case("CrossMapLRN2d", (4, 0.5), ((2, 5, 2, 3),)),
    Case("Dropout", (0.3,), drawn=DRAWN),
    Case("Dropout1d", (0.3,), ((2, 3, 4),), drawn=DRAWN),
    Case("Dropout2d", (0.3,), ((2, 3, 4, 4),), drawn=DRAWN),
    Case("Dropout3d", (0.3,), ((2, 3, 2, 4, 2),), drawn=DRAWN),
    Case("ELU", (0.5,), (KINKS,)),
    Case("Embedding", (5, 3), (Integers((4, 3), 5),), {"padding_idx": 1}),
    Case("EmbeddingBag", (5, 3), (Integers((4, 3), 5),), {"padding_idx": 1}),
    Case(
        "EmbeddingBag",
        (5, 3),
        (Integers((9,), 5), np.array([0, 2, 2, 7])),
        {"mode": "max", "padding_idx": -1},
    ),
    Case(
        "EmbeddingBag",
        (5, 3),
        (Integers((9,), 5), np.array([0, 2, 2, 9]), (9,)),
        {"mode": "sum", "include_last_offset": True, "padding_idx": 2},
    ),
    Case("EmbeddingBag", (5, 3), (Integers((4, 3), 5),), {"mode": "max"}),
    Case("FeatureAlphaDropout", (0.3,), ((2, 3, 4),), drawn=DRAWN),
    Case("Flatten", (), ((2, 3, 4, 5),)),
    Case("Fold", ((4, 5), (2, 3)), ((2, 12, 9),)),
    Case("Fold", ((4, 6), (2, 3), (1, 2), (1, 0), 2), ((2, 12, 3),)),
    Case(
        "FractionalMaxPool2d",
        (2, 3, None, True),
        (Ties((2, 3, 7, 5)),),
        ours={"_random_samples": SAMPLES[..., :2]},
        theirs={"_random_samples": torch.tensor(SAMPLES[..., :2])},
    ),
    Case(
        "FractionalMaxPool3d",
        (2, None, (0.6, 0.6, 0.5)),
        (Ties((2, 3, 5, 7, 6)),),
        ours={"_random_samples": SAMPLES},
        theirs={"_random_samples": torch.tensor(SAMPLES)},
    ),
    Case("GELU", (), (KINKS,)),
    Case("GLU", (-1,), (KINKS,)),
    Case("GRU", (3, 4), ((2, 5, 3),), BATCH_FIRST),
    Case("GRUCell", (3, 4), ((2, 3), (2, 4))),
    Case("GroupNorm", (2, 6), ((2, 6, 3, 4),)),
    Case("Hardshrink", (), (KINKS,)),
    Case("Hardswish", (), (KINKS,)),
    Case("Hardtanh", (-0.5, 3.0), (KINKS,)),
    Case("Identity"),
    Case("InstanceNorm1d", (3,), ((2, 3, 5),), {"affine": True, "track_running_stats": True}),
    Case(
        "InstanceNorm1d",
        (3,),
        ((3, 5),),
        {"momentum": None, "track_running_stats": True},
        unbatched=True,
    ),
    Case("InstanceNorm2d", (3,), ((2, 3, 4, 5),), {"affine": True}),
    Case("InstanceNorm2d", (3,), ((3, 4, 5),), unbatched=True),
    Case("InstanceNorm2d", (3,), ((2, 3, 4, 5),), {"momentum": 0.3, "track_running_stats": True}),
    Case("InstanceNorm3d", (3,), ((2, 3, 2, 3, 2),), {"affine": True, "bias": False}),
    Case("InstanceNorm3d", (3,), ((2, 3, 2, 3, 2),), {"track_running_stats": True}),
    Case("LPPool1d", (2, 3, 2), (Ties((2, 3, 8)),)),
    Case("LPPool2d", (3, 3, 2, True), (np.arange(1.0, 241).reshape(2, 3, 8, 5),)),
    Case("LPPool3d", (1, 2, 1), (Ties((2, 3, 2, 3, 4)),)),
    Case("LSTM", (3, 4), ((2, 5, 3),), BATCH_FIRST),
    Case("LSTMCell", (3, 4), ((2, 3),)),
    Case("LayerNorm", (4,), ((2, 3, 4),)),
    Case("LeakyReLU", (0.3,), (KINKS,)),
    Case("Linear", (3, 2), ((2, 5, 3),)),
    Case("LocalResponseNorm", (3, 0.5, 0.7, 1.5), ((2, 7, 2, 3),)),
    Case("LocalResponseNorm", (4, 0.5), ((2, 5, 3),)),
    Case("LogSigmoid", (), (KINKS,)),
    Case("LogSoftmax", (-1,), (KINKS,)),
    Case("MaxPool1d", (3, 2, 1), (Ties((2, 3, 8)),)),
    Case("MaxPool2d", (3, 2, 1), (Ties((2, 3, 8, 7)),), {"ceil_mode": True}),
    Case("MaxPool3d", (2, 1, 1), (Ties((2, 3, 2, 3, 4)),), {"return_indices": True}),
    Case("MaxUnpool1d", (2,), ((2, 3, 4), Integers((2, 3, 4), 8))),
    Case("MaxUnpool2d", (2, 3), ((2, 3, 2, 2), Integers((2, 3, 2, 2), 30)), call=FIVE_BY_SIX),
    Case("MaxUnpool3d", (2, 1), ((2, 3, 2, 3, 1), Integers((2, 3, 2, 3, 1), 24))),
    Case("Mish", (), (KINKS,)),
    Case("MultiheadAttention", (4, 2), ((2, 3, 4), (2, 5, 4), (2, 5, 4)), BATCH_FIRST),
    Case("PReLU", (3,), (Ties((2, 3, 4)),)),
    Case("PairwiseDistance", (), (VECTORS, VECTORS[::-1].copy())),
    Case("PairwiseDistance", (1.0, 0.0, True), (VECTORS, VECTORS[::-1].copy())),
    Case("PixelShuffle", (2,), ((2, 12, 3, 4),)),
    Case("PixelUnshuffle", (2,), ((2, 3, 4, 6),)),
    Case("RMSNorm", (4,), ((2, 3, 4),)),
    Case("RMSNorm", ((3, 4), 0.1), ((2, 3, 4),)),
    Case("RNN", (3, 4), ((2, 5, 3),), BATCH_FIRST),
    Case("RNNCell", (3, 4), ((2, 3), (2, 4))),
    Case("RReLU", (), (KINKS,), drawn=DRAWN),
    Case("RReLU", (0.25, 0.25), (KINKS,)),
    Case("ReLU", (), (KINKS,)),
    Case("ReLU6", (), (KINKS,)),
    Case("ReflectionPad1d", ((1, 2),), ((2, 3, 5),)),
    Case("ReflectionPad2d", ((1, -2, 3, 0),), ((2, 2, 4, 5),)),
    Case("ReflectionPad3d", (1,), ((1, 2, 2, 3, 4),)),
    Case("ReplicationPad1d", ((1, 2),), ((2, 3, 5),)),
    Case("ReplicationPad2d", ((1, -2, 3, 0),), ((2, 2, 4, 5),)),
    Case("ReplicationPad3d", (1,), ((1, 2, 2, 3, 4),)),
    Case("SELU", (), (KINKS,)),
    Case("SiLU", (), (KINKS,)),
    Case("Sigmoid", (), (KINKS,)),
    Case("Softmax", (-1,), (KINKS,)),
    Case("Softmax2d", (), ((2, 3, 4, 2),)),
    Case("Softmin", (-1,), ((2, 3, 4),)),
    Case("Softplus", (2.0, 5.0), (KINKS,)),
    Case("Softshrink", (), (KINKS,)),
    Case("Softsign", (), (KINKS,)),
    Case("Tanh", (), (KINKS,)),
    Case("Tanhshrink", (), (KINKS,)),
    Case("Threshold", (0.5, 3.0), (KINKS,)),
    Case("Transformer", (4, 2, 1, 1, 6, 0.0), ((2, 3, 4), (2, 5, 4)), BATCH_FIRST),
    Case(
        "TransformerDecoder",
        (Case("TransformerDecoderLayer", (4, 2, 6, 0.0), options=BATCH_FIRST), 2),
        ((2, 3, 4), (2, 5, 4)),
    ),
    Case("TransformerDecoderLayer", (4, 2, 6, 0.0), ((2, 3, 4), (2, 5, 4)), BATCH_FIRST),
    Case(
        "TransformerDecoderLayer",
        (4, 2, 6, 0.0, "gelu"),
        ((2, 3, 4), (2, 5, 4)),
        {**BATCH_FIRST, "norm_first": True, "bias": False},
    ),
    Case(
        "TransformerEncoder",
        (Case("TransformerEncoderLayer", (4, 2, 6, 0.0), options=BATCH_FIRST), 2),
        ((2, 3, 4),),
        theirs={"enable_nested_tensor": False},
    ),
    Case("TransformerEncoderLayer", (4, 2, 6, 0.0), ((2, 3, 4),), BATCH_FIRST),
    Case("Unflatten", (1, (3, 2, 2)), ((2, 12),)),
    Case("Unfold", ((2, 3), (1, 2), (1, 0), 2), ((2, 3, 5, 6),)),
    Case("Upsample", (4,), ((2, 3, 3, 2),)),
    Case("Upsample", (None, (1.5, 0.7), "bilinear"), ((2, 3, 4, 5),)),
    Case("Upsample", ((2, 3, 5), None, "trilinear", True), ((1, 2, 3, 2, 4),)),
    Case("UpsamplingBilinear2d", (None, 2), ((2, 3, 3, 2),)),
    Case("UpsamplingNearest2d", (None, (2, 1.5)), ((2, 3, 3, 4),)),
    Case("ZeroPad1d", ((1, 2),), ((2, 3, 5),)),
    Case("ZeroPad2d", ((1, -2, 3, 0),), ((2, 2, 4, 5),)),
    Case("ZeroPad3d", (1,), ((1, 2, 2, 3, 4),)),
]
#: The first case of each layer.
FIRST = {case.name: case for case in reversed(CASES)}
#: The reasons why layers have no case.
ELSEWHERE = {
    "Hardsigmoid": "test_activation.py: in float64 PyTorch's slope is rounded to float32",
}

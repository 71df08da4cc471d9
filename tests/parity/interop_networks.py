"""Networks and their PyTorch counterparts, whose layers have the same names."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from torch import nn

from jaxnets import layers
from jaxnets.compare import twin
from jaxnets.training.objective import outputs_of
from tests.networks import CASES
from tests.parity.oracle import images_first, images_last

RNGS = nnx.Rngs(0)


@dataclass(frozen=True)
class Pair:
    """A network, its PyTorch counterpart, and the shape of the inputs, which may be tokens."""

    ours: Callable[[], nnx.Module]
    theirs: Callable[[], nn.Module]
    shape: tuple[int, ...]
    vocabulary: int = 0
    columns: tuple[tuple[str, int], ...] = ()
    floats: str | None = None

    def inputs(self) -> np.ndarray | dict[str, np.ndarray]:
        draw = np.random.default_rng(1)
        if self.columns:
            found = {name: draw.integers(n, size=4).astype(np.int32) for name, n in self.columns}
            size = (4, *self.shape[1:])
            more = {self.floats: draw.normal(size=size).astype(np.float32)} if self.floats else {}
            return {**found, **more}
        if self.vocabulary:
            return draw.integers(self.vocabulary, size=self.shape).astype(np.int32)
        return draw.normal(size=self.shape).astype(np.float32)

    def outputs(self, model: nnx.Module, inputs: np.ndarray) -> np.ndarray:
        model.eval()
        x = jax.tree.map(lambda one: images_last(one) if np.ndim(one) == 4 else one, inputs)
        graphdef, state = nnx.split(model)
        y = np.asarray(jax.jit(lambda s, x: outputs_of(nnx.merge(graphdef, s), x))(state, x))
        return images_first(y) if y.ndim == 4 else y

    def torch_outputs(self, model: nn.Module, inputs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return outputs_of(model.eval(), jax.tree.map(torch.tensor, inputs)).numpy()


class Block(nnx.Module):
    def __init__(self, inputs, outputs, stride):
        conv = {"bias": False, "rngs": RNGS}
        self.conv1 = layers.Conv2d(inputs, outputs, 3, stride, padding=1, **conv)
        self.bn1 = layers.BatchNorm2d(outputs)
        self.conv2 = layers.Conv2d(outputs, outputs, 3, padding=1, **conv)
        self.bn2 = layers.BatchNorm2d(outputs)
        self.relu = layers.ReLU()
        shortcut = (layers.Conv2d(inputs, outputs, 1, stride, **conv), layers.BatchNorm2d(outputs))
        self.downsample = None if inputs == outputs else nnx.Sequential(*shortcut)

    def __call__(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class TorchBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        shortcut = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = None if inputs == outputs else nn.Sequential(*shortcut)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nnx.Module):
    def __init__(self):
        self.conv1 = layers.Conv2d(3, 4, 3, padding=1, bias=False, rngs=RNGS)
        self.bn1 = layers.BatchNorm2d(4)
        self.layer1 = nnx.Sequential(Block(4, 4, 1), Block(4, 4, 1))
        self.layer2 = nnx.Sequential(Block(4, 6, 2), Block(6, 6, 1))
        self.avgpool = layers.AdaptiveAvgPool2d(1)
        self.fc = layers.Linear(6, 5, rngs=RNGS)

    def __call__(self, x):
        x = jax.nn.relu(self.bn1(self.conv1(x)))
        return self.fc(layers.flatten(self.avgpool(self.layer2(self.layer1(x)))))


class TorchResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(TorchBlock(4, 4, 1), TorchBlock(4, 4, 1))
        self.layer2 = nn.Sequential(TorchBlock(4, 6, 2), TorchBlock(6, 6, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


class First(nnx.Module):
    """Returns only the outputs of a recurrent layer, which is the attribute ``rnn``."""

    def __init__(self, rnn):
        self.rnn = rnn

    def __call__(self, x):
        found = self.rnn(x)
        return found[0] if isinstance(found, tuple) else found


class TorchFirst(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0]


class Transformer(nnx.Module):
    def __init__(self):
        self.embedding = layers.Embedding(11, 8, rngs=RNGS)
        self.position = nnx.Param(jnp.zeros((1, 7, 8), jnp.float32))
        layer = layers.TransformerEncoderLayer(8, 2, 12, rngs=RNGS)
        self.encoder = layers.TransformerEncoder(layer, 2, norm=layers.LayerNorm(8))
        self.head = layers.Linear(8, 3, rngs=RNGS)

    def __call__(self, tokens):
        x = self.embedding(tokens)
        x = x + jnp.broadcast_to(self.position[...], x.shape)
        return self.head(self.encoder(x).mean(axis=1))


class TorchTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.position = nn.Parameter(torch.randn(1, 7, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(
            layer, 2, norm=nn.LayerNorm(8), enable_nested_tensor=False
        )
        self.head = nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.encoder(self.embedding(tokens) + self.position).mean(dim=1))


class Tower(nnx.Sequential):
    """A subclass of Sequential, as VGG's features often are."""


class Collections(nnx.Module):
    def __init__(self):
        self.stack = nnx.List([layers.Linear(4, 4, rngs=RNGS) for _ in range(2)])
        self.heads = nnx.Dict({"a": layers.Linear(4, 2, rngs=RNGS), "b": Tower(layers.PReLU(4))})
        self.scales = nnx.List([nnx.Param(jnp.ones(4, jnp.float32)) for _ in range(2)])
        self.plain = nnx.data([layers.Linear(2, 2, rngs=RNGS)])

    def __call__(self, x):
        for layer, scale in zip(self.stack, self.scales, strict=True):
            x = layer(x) * scale[None]
        return self.plain[0](self.heads["a"](self.heads["b"](x)))


class TorchCollections(nn.Module):
    def __init__(self):
        super().__init__()
        self.stack = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Sequential(nn.PReLU(4))})
        self.scales = nn.ParameterList([torch.randn(4) for _ in range(2)])
        self.plain = nn.ModuleList([nn.Linear(2, 2)])

    def forward(self, x):
        for layer, scale in zip(self.stack, self.scales, strict=True):
            x = layer(x) * scale
        return self.plain[0](self.heads["a"](self.heads["b"](x)))


class Attention(nnx.Module):
    """Two of Flax's attention layers; ``other`` has keys and values of another size."""

    def __init__(self, use_bias):
        options = {"rngs": RNGS, "decode": False, "use_bias": use_bias}
        self.same = nnx.MultiHeadAttention(2, 6, **options)
        self.other = nnx.MultiHeadAttention(3, 6, in_kv_features=4, **options)

    def __call__(self, x):
        return self.other(self.same(x), x[..., :4])


class TorchAttention(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.same = nn.MultiheadAttention(6, 2, bias=bias, batch_first=True)
        self.other = nn.MultiheadAttention(6, 3, bias=bias, kdim=4, vdim=4, batch_first=True)

    def forward(self, x):
        y = self.same(x, x, x)[0]
        return self.other(y, x[..., :4], x[..., :4])[0]


def sequential():
    return nnx.Sequential(
        layers.Conv2d(2, 4, 3, rngs=RNGS),
        layers.BatchNorm2d(4),
        layers.ReLU(),
        layers.MaxPool2d(2),
        nnx.Sequential(layers.Flatten(), layers.Linear(36, 5, rngs=RNGS)),
        jax.nn.relu,
        layers.Linear(5, 3, rngs=RNGS),
    )


def torch_sequential():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Flatten(), nn.Linear(36, 5)),
        nn.ReLU(),
        nn.Linear(5, 3),
    )


def stock():
    """Flax's own layers."""
    return nnx.Sequential(
        nnx.Conv(2, 4, (3, 3), padding=1, feature_group_count=2, rngs=RNGS),
        nnx.BatchNorm(4, rngs=RNGS),
        nnx.PReLU(),
        nnx.GroupNorm(4, num_groups=2, epsilon=1e-5, rngs=RNGS),
        nnx.ConvTranspose(4, 3, (2, 2), (2, 2), padding="VALID", transpose_kernel=True, rngs=RNGS),
        nnx.InstanceNorm(3, epsilon=1e-5, rngs=RNGS),
        layers.Flatten(),
        nnx.LayerNorm(48, epsilon=1e-5, rngs=RNGS),
        nnx.Linear(48, 5, rngs=RNGS),
        nnx.RMSNorm(5, epsilon=1e-5, rngs=RNGS),
    )


def torch_stock():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.PReLU(),
        nn.GroupNorm(2, 4),
        nn.ConvTranspose2d(4, 3, 2, 2),
        nn.InstanceNorm2d(3, affine=True),
        nn.Flatten(),
        nn.LayerNorm(48),
        nn.Linear(48, 5),
        nn.RMSNorm(5, eps=1e-5),
    )


def flax_rnn(cell, **options):
    return nnx.RNN(cell(5, 4, rngs=RNGS), **options)


def flax_bidirectional():
    rnns = [flax_rnn(nnx.OptimizedLSTMCell) for _ in range(2)]
    return nnx.Bidirectional(*rnns)


def torch_gru_for_flax():
    gru = nn.GRU(5, 4, batch_first=True)
    with torch.no_grad():
        gru.bias_hh_l0[8:] = 0  # Flax has no bias within the reset gate's product
    return gru


def lstm_with_projection():
    options = {"num_layers": 2, "bidirectional": True, "proj_size": 3}
    return Pair(
        lambda: First(layers.LSTM(5, 6, rngs=RNGS, **options)),
        lambda: TorchFirst(nn.LSTM(5, 6, batch_first=True, **options)),
        (3, 7, 5),
    )


def documented(case):
    *space, channels = case.example or (0,)
    shape = (2, channels, *space) if len(space) == 2 else (2, *case.example)
    build = case.build
    return Pair(
        *(lambda: build(RNGS), lambda: twin(build(RNGS)), shape, case.vocabulary),
        *(case.columns, case.floats),
    )


#: The documented networks.
DOCUMENTED = {name: documented(case) for name, case in CASES.items()}

#: Networks that a user might write.
OTHERS = {
    "resnet": Pair(ResNet, TorchResNet, (2, 3, 8, 8)),
    "lstm-projected": lstm_with_projection(),
    "rnn": Pair(
        lambda: First(layers.RNN(5, 6, rngs=RNGS)),
        lambda: TorchFirst(nn.RNN(5, 6, batch_first=True)),
        (3, 7, 5),
    ),
    "transformer": Pair(Transformer, TorchTransformer, (2, 7), vocabulary=11),
    "sequential": Pair(sequential, torch_sequential, (2, 2, 8, 8)),
    "collections": Pair(Collections, TorchCollections, (3, 4)),
    "stock": Pair(stock, torch_stock, (2, 2, 2, 2)),
    "stock-attention": Pair(lambda: Attention(True), lambda: TorchAttention(True), (2, 5, 6)),
    "stock-attention-without-bias": Pair(
        lambda: Attention(False), lambda: TorchAttention(False), (2, 5, 6)
    ),
}

#: Flax's recurrent cells have one bias. Converting it back to PyTorch gives another pair of biases.
ONE_BIAS = {
    "stock-lstm": Pair(
        lambda: First(flax_rnn(nnx.OptimizedLSTMCell)),
        lambda: TorchFirst(nn.LSTM(5, 4, batch_first=True)),
        (3, 7, 5),
    ),
    "stock-lstm-unfused": Pair(
        lambda: First(flax_rnn(nnx.LSTMCell)),
        lambda: TorchFirst(nn.LSTM(5, 4, batch_first=True)),
        (3, 7, 5),
    ),
    "stock-lstm-bidirectional": Pair(
        lambda: First(flax_bidirectional()),
        lambda: TorchFirst(nn.LSTM(5, 4, batch_first=True, bidirectional=True)),
        (3, 7, 5),
    ),
    "stock-rnn": Pair(
        lambda: First(flax_rnn(nnx.SimpleCell)),
        lambda: TorchFirst(nn.RNN(5, 4, batch_first=True)),
        (3, 7, 5),
    ),
    "stock-gru": Pair(
        lambda: First(flax_rnn(nnx.GRUCell)),
        lambda: TorchFirst(torch_gru_for_flax()),
        (3, 7, 5),
    ),
}

#: One network of each kind of layer.
DIFFERENT = {
    *("mlp", "lenet-28", "cifar-resnet-b", "lstm-bidirectional", "speech-cnn", "text-lstm", "gpt"),
    *("vae", "neumf", "conditional-generator", "collections", "stock", "stock-gru", "transformer"),
}

"""Ordinary networks as users write them with Flax's layers, channels last.

The classes of `ordinary_jaxnets.py`, `ordinary_torch.py` and `ordinary_keras.py` have the same
names, layers and sizes.
"""

from functools import partial
from itertools import pairwise

import jax.numpy as jnp
from flax import nnx


def pool(x):
    window = (2,) * (x.ndim - 2)
    return nnx.max_pool(x, window, strides=window)


class MLP(nnx.Module):
    def __init__(self, *sizes, rngs):
        self.layers = nnx.List(nnx.Linear(*pair, rngs=rngs) for pair in pairwise(sizes))

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


class CNN(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(3, 32, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(32, 64, (3, 3), rngs=rngs)
        self.conv3 = nnx.Conv(64, 128, (3, 3), rngs=rngs)
        self.fc = nnx.Linear(128 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = pool(nnx.relu(conv(x)))
        return self.fc(x.reshape(len(x), -1))


class VGG(nnx.Sequential):
    def __init__(self, *, rngs):
        layers, inputs = [], 3
        for outputs in (32, 64, 128):
            for _ in range(2):
                layers.append(nnx.Conv(inputs, outputs, (3, 3), rngs=rngs))
                layers += [nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs), nnx.relu]
                inputs = outputs
            layers.append(pool)
        hidden, head = nnx.Linear(128 * 4 * 4, 128, rngs=rngs), nnx.Linear(128, 10, rngs=rngs)
        super().__init__(*layers, lambda x: x.reshape(len(x), -1), hidden, nnx.relu, head)


class ResidualBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride, *, rngs):
        conv = partial(nnx.Conv, use_bias=False, rngs=rngs)
        norm = partial(nnx.BatchNorm, outputs, momentum=0.9, rngs=rngs)
        self.conv1 = conv(inputs, outputs, (3, 3), strides=stride, padding=1)
        self.conv2 = conv(outputs, outputs, (3, 3))
        self.norm1, self.norm2 = norm(), norm()
        if inputs == outputs:
            self.shortcut = None
        else:
            self.shortcut = nnx.Sequential(conv(inputs, outputs, (1, 1), strides=stride), norm())

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet20(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = nnx.Conv(3, 16, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(16, momentum=0.9, rngs=rngs)
        blocks, inputs = [], 16
        for outputs, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                blocks.append(ResidualBlock(inputs, outputs, stride, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.Sequential(*blocks)
        self.fc = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = self.blocks(nnx.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((1, 2)))


class SeparableBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride, *, rngs):
        options = {"padding": 1, "feature_group_count": inputs, "use_bias": False, "rngs": rngs}
        self.depthwise = nnx.Conv(inputs, inputs, (3, 3), strides=stride, **options)
        self.norm1 = nnx.BatchNorm(inputs, momentum=0.9, rngs=rngs)
        self.pointwise = nnx.Conv(inputs, outputs, (1, 1), use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(outputs, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm1(self.depthwise(x)))
        return nnx.relu(self.norm2(self.pointwise(x)))


class MobileNet(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = nnx.Conv(3, 32, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(32, momentum=0.9, rngs=rngs)
        sizes = (32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 128, 1)
        self.blocks = nnx.Sequential(*(SeparableBlock(*size, rngs=rngs) for size in sizes))
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.blocks(nnx.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((1, 2)))


class TwoConvs(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.conv2(nnx.relu(self.conv1(x))))


class UNet(nnx.Module):
    def __init__(self, *, rngs):
        self.down1, self.down2 = TwoConvs(1, 16, rngs=rngs), TwoConvs(16, 32, rngs=rngs)
        self.middle = TwoConvs(32, 64, rngs=rngs)
        self.up2 = nnx.ConvTranspose(64, 32, (2, 2), strides=(2, 2), rngs=rngs)
        self.merge2 = TwoConvs(64, 32, rngs=rngs)
        self.up1 = nnx.ConvTranspose(32, 16, (2, 2), strides=(2, 2), rngs=rngs)
        self.merge1 = TwoConvs(32, 16, rngs=rngs)
        self.out = nnx.Conv(16, 1, (1, 1), rngs=rngs)

    def __call__(self, x):
        one = self.down1(x)
        two = self.down2(pool(one))
        x = self.middle(pool(two))
        x = self.merge2(jnp.concatenate([two, self.up2(x)], -1))
        x = self.merge1(jnp.concatenate([one, self.up1(x)], -1))
        return self.out(x)


class Generator(nnx.Module):
    def __init__(self, *, rngs):
        options = {"kernel_size": (4, 4), "use_bias": False, "rngs": rngs}
        self.up1 = nnx.ConvTranspose(100, 256, padding="VALID", **options)
        self.up2 = nnx.ConvTranspose(256, 128, strides=(2, 2), **options)
        self.up3 = nnx.ConvTranspose(128, 64, strides=(2, 2), **options)
        self.up4 = nnx.ConvTranspose(64, 3, strides=(2, 2), **options)
        self.norm1 = nnx.BatchNorm(256, momentum=0.9, rngs=rngs)
        self.norm2 = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.norm3 = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm1(self.up1(x)))
        x = nnx.relu(self.norm2(self.up2(x)))
        x = nnx.relu(self.norm3(self.up3(x)))
        return jnp.tanh(self.up4(x))


class Discriminator(nnx.Module):
    def __init__(self, *, rngs):
        options = {"kernel_size": (4, 4), "use_bias": False, "rngs": rngs}
        self.conv1 = nnx.Conv(3, 64, strides=2, padding=1, **options)
        self.conv2 = nnx.Conv(64, 128, strides=2, padding=1, **options)
        self.conv3 = nnx.Conv(128, 256, strides=2, padding=1, **options)
        self.conv4 = nnx.Conv(256, 1, padding="VALID", **options)
        self.norm2 = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.norm3 = nnx.BatchNorm(256, momentum=0.9, rngs=rngs)

    def __call__(self, x):
        x = nnx.leaky_relu(self.conv1(x), 0.2)
        x = nnx.leaky_relu(self.norm2(self.conv2(x)), 0.2)
        x = nnx.leaky_relu(self.norm3(self.conv3(x)), 0.2)
        return self.conv4(x).reshape(len(x), 1)


class CNN1d(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = nnx.Conv(16, 64, 5, rngs=rngs)
        self.conv2 = nnx.Conv(64, 128, 5, rngs=rngs)
        self.conv3 = nnx.Conv(128, 128, 3, rngs=rngs)
        self.norm1 = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
        self.norm2 = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.norm3 = nnx.BatchNorm(128, momentum=0.9, rngs=rngs)
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = pool(nnx.relu(self.norm1(self.conv1(x))))
        x = pool(nnx.relu(self.norm2(self.conv2(x))))
        x = nnx.relu(self.norm3(self.conv3(x)))
        return self.fc(x.mean(1))


class CausalBlock(nnx.Module):
    def __init__(self, inputs, outputs, dilation, *, rngs):
        options = {"padding": "CAUSAL", "kernel_dilation": dilation, "rngs": rngs}
        self.conv1 = nnx.Conv(inputs, outputs, 3, **options)
        self.conv2 = nnx.Conv(outputs, outputs, 3, **options)
        self.shortcut = nnx.Conv(inputs, outputs, 1, rngs=rngs) if inputs != outputs else None

    def __call__(self, x):
        y = nnx.relu(self.conv2(nnx.relu(self.conv1(x))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class TCN(nnx.Module):
    def __init__(self, *, rngs):
        sizes = (16, 64, 1), (64, 64, 2), (64, 64, 4), (64, 64, 8)
        self.blocks = nnx.Sequential(*(CausalBlock(*size, rngs=rngs) for size in sizes))
        self.fc = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.blocks(x)[:, -1])


class BiLSTM(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(5000, 128, rngs=rngs)
        self.forwards = nnx.RNN(nnx.OptimizedLSTMCell(128, 128, rngs=rngs))
        self.backwards = nnx.RNN(nnx.OptimizedLSTMCell(128, 128, rngs=rngs), reverse=True)
        self.fc = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x)
        last = [self.forwards(x)[:, -1], self.backwards(x)[:, -1]]
        return self.fc(jnp.concatenate(last, 1))


class CharLSTM(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(65, 256, rngs=rngs)
        self.one = nnx.RNN(nnx.OptimizedLSTMCell(256, 256, rngs=rngs))
        self.two = nnx.RNN(nnx.OptimizedLSTMCell(256, 256, rngs=rngs))
        self.fc = nnx.Linear(256, 65, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.two(self.one(self.embedding(x))))


class EncoderLayer(nnx.Module):
    def __init__(self, *, rngs):
        self.attention = nnx.MultiHeadAttention(4, 128, decode=False, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(128, 512, rngs=rngs), nnx.Linear(512, 128, rngs=rngs)
        self.norm1, self.norm2 = nnx.LayerNorm(128, rngs=rngs), nnx.LayerNorm(128, rngs=rngs)

    def __call__(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.fc2(nnx.relu(self.fc1(x))))


class Transformer(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(5000, 128, rngs=rngs)
        self.positions = nnx.Embed(64, 128, rngs=rngs)
        self.encoder = nnx.Sequential(EncoderLayer(rngs=rngs), EncoderLayer(rngs=rngs))
        self.fc = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x) + self.positions(jnp.arange(64))
        return self.fc(self.encoder(x).mean(1))


class GPTBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1, self.norm2 = nnx.LayerNorm(128, rngs=rngs), nnx.LayerNorm(128, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 128, decode=False, rngs=rngs)
        self.fc1, self.fc2 = nnx.Linear(128, 512, rngs=rngs), nnx.Linear(512, 128, rngs=rngs)

    def __call__(self, x):
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(x[:, :, 0]))
        return x + self.fc2(nnx.gelu(self.fc1(self.norm2(x)), approximate=False))


class GPT(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = nnx.Embed(65, 128, rngs=rngs)
        self.positions = nnx.Embed(64, 128, rngs=rngs)
        self.blocks = nnx.Sequential(GPTBlock(rngs=rngs), GPTBlock(rngs=rngs))
        self.norm = nnx.LayerNorm(128, rngs=rngs)
        self.fc = nnx.Linear(128, 65, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x) + self.positions(jnp.arange(64))
        return self.fc(self.norm(self.blocks(x)))

"""Ordinary networks as users write them with jaxnets' layers, channels last.

The classes of `ordinary_torch.py`, `ordinary_flax.py` and `ordinary_keras.py` have the same
names, layers and sizes.
"""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from jaxnets import layers


class MLP(nnx.Module):
    def __init__(self, *sizes, rngs):
        self.layers = nnx.List(layers.Linear(*pair, rngs=rngs) for pair in pairwise(sizes))

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = jax.nn.relu(layer(x))
        return self.layers[-1](x)


class CNN(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = layers.Conv2d(3, 32, 3, padding=1, rngs=rngs)
        self.conv2 = layers.Conv2d(32, 64, 3, padding=1, rngs=rngs)
        self.conv3 = layers.Conv2d(64, 128, 3, padding=1, rngs=rngs)
        self.pool = layers.MaxPool2d(2)
        self.fc = layers.Linear(128 * 4 * 4, 10, rngs=rngs)

    def __call__(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = self.pool(jax.nn.relu(conv(x)))
        return self.fc(layers.flatten(x))


class VGG(nnx.Sequential):
    def __init__(self, *, rngs):
        stack, inputs = [], 3
        for outputs in (32, 64, 128):
            for _ in range(2):
                stack.append(layers.Conv2d(inputs, outputs, 3, padding=1, rngs=rngs))
                stack += [layers.BatchNorm2d(outputs), layers.ReLU()]
                inputs = outputs
            stack.append(layers.MaxPool2d(2))
        hidden = layers.Linear(128 * 4 * 4, 128, rngs=rngs)
        head = layers.Linear(128, 10, rngs=rngs)
        super().__init__(*stack, layers.Flatten(), hidden, layers.ReLU(), head)


class ResidualBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride, *, rngs):
        options = {"bias": False, "rngs": rngs}
        self.conv1 = layers.Conv2d(inputs, outputs, 3, stride, padding=1, **options)
        self.norm1 = layers.BatchNorm2d(outputs)
        self.conv2 = layers.Conv2d(outputs, outputs, 3, padding=1, **options)
        self.norm2 = layers.BatchNorm2d(outputs)
        self.shortcut = layers.Identity()
        if inputs != outputs:
            project = layers.Conv2d(inputs, outputs, 1, stride, **options)
            self.shortcut = nnx.Sequential(project, layers.BatchNorm2d(outputs))

    def __call__(self, x):
        y = jax.nn.relu(self.norm1(self.conv1(x)))
        return jax.nn.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet20(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = layers.Conv2d(3, 16, 3, padding=1, bias=False, rngs=rngs)
        self.norm = layers.BatchNorm2d(16)
        blocks, inputs = [], 16
        for outputs, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                blocks.append(ResidualBlock(inputs, outputs, stride, rngs=rngs))
                inputs = outputs
        self.blocks = nnx.Sequential(*blocks)
        self.fc = layers.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = self.blocks(jax.nn.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((1, 2)))


class SeparableBlock(nnx.Module):
    def __init__(self, inputs, outputs, stride, *, rngs):
        options = {"bias": False, "rngs": rngs}
        self.depthwise = layers.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, **options)
        self.norm1 = layers.BatchNorm2d(inputs)
        self.pointwise = layers.Conv2d(inputs, outputs, 1, **options)
        self.norm2 = layers.BatchNorm2d(outputs)

    def __call__(self, x):
        x = jax.nn.relu(self.norm1(self.depthwise(x)))
        return jax.nn.relu(self.norm2(self.pointwise(x)))


class MobileNet(nnx.Module):
    def __init__(self, *, rngs):
        self.conv = layers.Conv2d(3, 32, 3, padding=1, bias=False, rngs=rngs)
        self.norm = layers.BatchNorm2d(32)
        sizes = (32, 32, 1), (32, 64, 2), (64, 128, 2), (128, 128, 1)
        self.blocks = nnx.Sequential(*(SeparableBlock(*size, rngs=rngs) for size in sizes))
        self.fc = layers.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.blocks(jax.nn.relu(self.norm(self.conv(x))))
        return self.fc(x.mean((1, 2)))


class TwoConvs(nnx.Module):
    def __init__(self, inputs, outputs, *, rngs):
        self.conv1 = layers.Conv2d(inputs, outputs, 3, padding=1, rngs=rngs)
        self.conv2 = layers.Conv2d(outputs, outputs, 3, padding=1, rngs=rngs)

    def __call__(self, x):
        return jax.nn.relu(self.conv2(jax.nn.relu(self.conv1(x))))


class UNet(nnx.Module):
    def __init__(self, *, rngs):
        self.down1, self.down2 = TwoConvs(1, 16, rngs=rngs), TwoConvs(16, 32, rngs=rngs)
        self.middle = TwoConvs(32, 64, rngs=rngs)
        self.up2 = layers.ConvTranspose2d(64, 32, 2, 2, rngs=rngs)
        self.merge2 = TwoConvs(64, 32, rngs=rngs)
        self.up1 = layers.ConvTranspose2d(32, 16, 2, 2, rngs=rngs)
        self.merge1 = TwoConvs(32, 16, rngs=rngs)
        self.pool = layers.MaxPool2d(2)
        self.out = layers.Conv2d(16, 1, 1, rngs=rngs)

    def __call__(self, x):
        one = self.down1(x)
        two = self.down2(self.pool(one))
        x = self.middle(self.pool(two))
        x = self.merge2(jnp.concatenate([two, self.up2(x)], -1))
        x = self.merge1(jnp.concatenate([one, self.up1(x)], -1))
        return self.out(x)


class Generator(nnx.Module):
    def __init__(self, *, rngs):
        options = {"bias": False, "rngs": rngs}
        self.up1 = layers.ConvTranspose2d(100, 256, 4, **options)
        self.up2 = layers.ConvTranspose2d(256, 128, 4, 2, 1, **options)
        self.up3 = layers.ConvTranspose2d(128, 64, 4, 2, 1, **options)
        self.up4 = layers.ConvTranspose2d(64, 3, 4, 2, 1, **options)
        self.norm1, self.norm2 = layers.BatchNorm2d(256), layers.BatchNorm2d(128)
        self.norm3 = layers.BatchNorm2d(64)

    def __call__(self, x):
        x = jax.nn.relu(self.norm1(self.up1(x)))
        x = jax.nn.relu(self.norm2(self.up2(x)))
        x = jax.nn.relu(self.norm3(self.up3(x)))
        return jnp.tanh(self.up4(x))


class Discriminator(nnx.Module):
    def __init__(self, *, rngs):
        options = {"bias": False, "rngs": rngs}
        self.conv1 = layers.Conv2d(3, 64, 4, 2, 1, **options)
        self.conv2 = layers.Conv2d(64, 128, 4, 2, 1, **options)
        self.conv3 = layers.Conv2d(128, 256, 4, 2, 1, **options)
        self.conv4 = layers.Conv2d(256, 1, 4, **options)
        self.norm2, self.norm3 = layers.BatchNorm2d(128), layers.BatchNorm2d(256)
        self.act = layers.LeakyReLU(0.2)

    def __call__(self, x):
        x = self.act(self.conv1(x))
        x = self.act(self.norm2(self.conv2(x)))
        x = self.act(self.norm3(self.conv3(x)))
        return layers.flatten(self.conv4(x))


class CNN1d(nnx.Module):
    def __init__(self, *, rngs):
        self.conv1 = layers.Conv1d(16, 64, 5, padding=2, rngs=rngs)
        self.conv2 = layers.Conv1d(64, 128, 5, padding=2, rngs=rngs)
        self.conv3 = layers.Conv1d(128, 128, 3, padding=1, rngs=rngs)
        self.norm1, self.norm2 = layers.BatchNorm1d(64), layers.BatchNorm1d(128)
        self.norm3 = layers.BatchNorm1d(128)
        self.pool = layers.MaxPool1d(2)
        self.fc = layers.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.pool(jax.nn.relu(self.norm1(self.conv1(x))))
        x = self.pool(jax.nn.relu(self.norm2(self.conv2(x))))
        x = jax.nn.relu(self.norm3(self.conv3(x)))
        return self.fc(x.mean(1))


class CausalBlock(nnx.Module):
    def __init__(self, inputs, outputs, dilation, *, rngs):
        self.padding = 2 * dilation
        options = {"padding": self.padding, "dilation": dilation, "rngs": rngs}
        self.conv1 = layers.Conv1d(inputs, outputs, 3, **options)
        self.conv2 = layers.Conv1d(outputs, outputs, 3, **options)
        self.shortcut = layers.Identity()
        if inputs != outputs:
            self.shortcut = layers.Conv1d(inputs, outputs, 1, rngs=rngs)

    def __call__(self, x):
        y = jax.nn.relu(self.conv1(x)[:, : -self.padding])
        y = jax.nn.relu(self.conv2(y)[:, : -self.padding])
        return jax.nn.relu(y + self.shortcut(x))


class TCN(nnx.Module):
    def __init__(self, *, rngs):
        sizes = (16, 64, 1), (64, 64, 2), (64, 64, 4), (64, 64, 8)
        self.blocks = nnx.Sequential(*(CausalBlock(*size, rngs=rngs) for size in sizes))
        self.fc = layers.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.blocks(x)[:, -1])


class BiLSTM(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = layers.Embedding(5000, 128, rngs=rngs)
        self.lstm = layers.LSTM(128, 128, bidirectional=True, rngs=rngs)
        self.fc = layers.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        _, (h, _) = self.lstm(self.embedding(x))
        return self.fc(jnp.concatenate([h[0], h[1]], 1))


class CharLSTM(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = layers.Embedding(65, 256, rngs=rngs)
        self.lstm = layers.LSTM(256, 256, 2, rngs=rngs)
        self.fc = layers.Linear(256, 65, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.lstm(self.embedding(x))[0])


class Transformer(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = layers.Embedding(5000, 128, rngs=rngs)
        self.positions = layers.Embedding(64, 128, rngs=rngs)
        layer = layers.TransformerEncoderLayer(128, 4, 512, dropout=0.0, rngs=rngs)
        self.encoder = layers.TransformerEncoder(layer, 2)
        self.fc = layers.Linear(128, 10, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x) + self.positions(jnp.arange(64))
        return self.fc(self.encoder(x).mean(1))


class GPTBlock(nnx.Module):
    def __init__(self, *, rngs):
        self.norm1, self.norm2 = layers.LayerNorm(128), layers.LayerNorm(128)
        self.attention = layers.MultiheadAttention(128, 4, rngs=rngs)
        self.fc1 = layers.Linear(128, 512, rngs=rngs)
        self.fc2 = layers.Linear(512, 128, rngs=rngs)

    def __call__(self, x):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, is_causal=True, need_weights=False)[0]
        return x + self.fc2(jax.nn.gelu(self.fc1(self.norm2(x)), approximate=False))


class GPT(nnx.Module):
    def __init__(self, *, rngs):
        self.embedding = layers.Embedding(65, 128, rngs=rngs)
        self.positions = layers.Embedding(64, 128, rngs=rngs)
        self.blocks = nnx.Sequential(GPTBlock(rngs=rngs), GPTBlock(rngs=rngs))
        self.norm = layers.LayerNorm(128)
        self.fc = layers.Linear(128, 65, rngs=rngs)

    def __call__(self, x):
        x = self.embedding(x) + self.positions(jnp.arange(64))
        return self.fc(self.norm(self.blocks(x)))

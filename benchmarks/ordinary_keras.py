"""Ordinary networks as users write them in Keras 3, channels last.

The classes of `ordinary_jaxnets.py`, `ordinary_torch.py` and `ordinary_flax.py` have the same
names, layers and sizes.
"""

from functools import partial

import keras
from keras import layers, ops

Conv2D = partial(layers.Conv2D, padding="same")
Up2D = partial(layers.Conv2DTranspose, padding="same", use_bias=False)
Norm = partial(layers.BatchNormalization, momentum=0.9)


class MLP(keras.Sequential):
    def __init__(self, inputs, *sizes):
        hidden = [layers.Dense(size, activation="relu") for size in sizes[:-1]]
        super().__init__([keras.Input((inputs,)), *hidden, layers.Dense(sizes[-1])])


class CNN(keras.Sequential):
    def __init__(self):
        stack = [keras.Input((32, 32, 3))]
        for size in (32, 64, 128):
            stack += [Conv2D(size, 3, activation="relu"), layers.MaxPooling2D()]
        super().__init__([*stack, layers.Flatten(), layers.Dense(10)])


class VGG(keras.Sequential):
    def __init__(self):
        stack = [keras.Input((32, 32, 3))]
        for size in (32, 64, 128):
            for _ in range(2):
                stack += [Conv2D(size, 3), Norm(), layers.ReLU()]
            stack.append(layers.MaxPooling2D())
        head = [layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dense(10)]
        super().__init__([*stack, *head])


def residual_block(x, outputs, stride):
    y = Conv2D(outputs, 3, stride, use_bias=False)(x)
    y = Conv2D(outputs, 3, use_bias=False)(layers.ReLU()(Norm()(y)))
    if x.shape[-1] != outputs:
        x = Norm()(Conv2D(outputs, 1, stride, use_bias=False)(x))
    return layers.ReLU()(layers.Add()([Norm()(y), x]))


class ResNet20(keras.Model):
    def __init__(self):
        inputs = keras.Input((32, 32, 3))
        x = layers.ReLU()(Norm()(Conv2D(16, 3, use_bias=False)(inputs)))
        for outputs, first in ((16, 1), (32, 2), (64, 2)):
            for stride in (first, 1, 1):
                x = residual_block(x, outputs, stride)
        outputs = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
        super().__init__(inputs, outputs)


class MobileNet(keras.Sequential):
    def __init__(self):
        stack = [keras.Input((32, 32, 3)), Conv2D(32, 3, use_bias=False), Norm(), layers.ReLU()]
        for size, stride in ((32, 1), (64, 2), (128, 2), (128, 1)):
            stack.append(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False))
            stack += [Norm(), layers.ReLU()]
            stack += [Conv2D(size, 1, use_bias=False), Norm(), layers.ReLU()]
        super().__init__([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10)])


def two_convs(x, size):
    return Conv2D(size, 3, activation="relu")(Conv2D(size, 3, activation="relu")(x))


class UNet(keras.Model):
    def __init__(self):
        inputs = keras.Input((32, 32, 1))
        one = two_convs(inputs, 16)
        two = two_convs(layers.MaxPooling2D()(one), 32)
        x = two_convs(layers.MaxPooling2D()(two), 64)
        x = layers.Concatenate()([two, layers.Conv2DTranspose(32, 2, 2)(x)])
        x = two_convs(x, 32)
        x = layers.Concatenate()([one, layers.Conv2DTranspose(16, 2, 2)(x)])
        super().__init__(inputs, Conv2D(1, 1)(two_convs(x, 16)))


class Generator(keras.Sequential):
    def __init__(self):
        stack = [keras.Input((1, 1, 100)), Up2D(256, 4, padding="valid"), Norm(), layers.ReLU()]
        for size in (128, 64):
            stack += [Up2D(size, 4, 2), Norm(), layers.ReLU()]
        super().__init__([*stack, Up2D(3, 4, 2, activation="tanh")])


class Discriminator(keras.Sequential):
    def __init__(self):
        conv = partial(Conv2D, kernel_size=4, use_bias=False)
        stack = [keras.Input((32, 32, 3)), conv(64, strides=2), layers.LeakyReLU(0.2)]
        for size in (128, 256):
            stack += [conv(size, strides=2), Norm(), layers.LeakyReLU(0.2)]
        super().__init__([*stack, conv(1, padding="valid"), layers.Flatten()])


class CNN1d(keras.Sequential):
    def __init__(self):
        conv = partial(layers.Conv1D, padding="same")
        stack = [keras.Input((128, 16))]
        for size in (64, 128):
            stack += [conv(size, 5), Norm(), layers.ReLU(), layers.MaxPooling1D()]
        stack += [conv(128, 3), Norm(), layers.ReLU()]
        super().__init__([*stack, layers.GlobalAveragePooling1D(), layers.Dense(10)])


class TCN(keras.Model):
    def __init__(self):
        inputs = x = keras.Input((128, 16))
        for dilation in (1, 2, 4, 8):
            options = {"padding": "causal", "dilation_rate": dilation, "activation": "relu"}
            y = layers.Conv1D(64, 3, **options)(x)
            y = layers.Conv1D(64, 3, **options)(y)
            if x.shape[-1] != 64:
                x = layers.Conv1D(64, 1)(x)
            x = layers.ReLU()(layers.Add()([y, x]))
        super().__init__(inputs, layers.Dense(10)(x[:, -1]))


class BiLSTM(keras.Sequential):
    def __init__(self):
        both = layers.Bidirectional(layers.LSTM(128))
        embedding = layers.Embedding(5000, 128)
        super().__init__([keras.Input((64,), dtype="int32"), embedding, both, layers.Dense(10)])


class CharLSTM(keras.Sequential):
    def __init__(self):
        stack = [layers.LSTM(256, return_sequences=True) for _ in range(2)]
        embedding = layers.Embedding(65, 256)
        super().__init__([keras.Input((100,), dtype="int32"), embedding, *stack, layers.Dense(65)])


class Positions(layers.Layer):
    """Embeddings of tokens and positions."""

    def __init__(self, vocabulary):
        super().__init__()
        self.tokens, self.places = layers.Embedding(vocabulary, 128), layers.Embedding(64, 128)

    def call(self, x):
        return self.tokens(x) + self.places(ops.arange(64))


class Transformer(keras.Model):
    def __init__(self):
        inputs = keras.Input((64,), dtype="int32")
        x = Positions(5000)(inputs)
        for _ in range(2):
            y = layers.MultiHeadAttention(4, 32)(x, x)
            x = layers.LayerNormalization()(layers.Add()([x, y]))
            y = layers.Dense(128)(layers.Dense(512, activation="relu")(x))
            x = layers.LayerNormalization()(layers.Add()([x, y]))
        super().__init__(inputs, layers.Dense(10)(layers.GlobalAveragePooling1D()(x)))


class GPT(keras.Model):
    def __init__(self):
        inputs = keras.Input((64,), dtype="int32")
        x = Positions(65)(inputs)
        for _ in range(2):
            y = layers.LayerNormalization()(x)
            y = layers.MultiHeadAttention(4, 32)(y, y, use_causal_mask=True)
            x = layers.Add()([x, y])
            y = layers.Dense(512, activation="gelu")(layers.LayerNormalization()(x))
            x = layers.Add()([x, layers.Dense(128)(y)])
        super().__init__(inputs, layers.Dense(65)(layers.LayerNormalization()(x)))

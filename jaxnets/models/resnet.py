"""The residual networks for photographs: ResNet-18 and ResNet-34."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_floats, check_positive
from jaxnets.initializers import kaiming_normal
from jaxnets.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d
from jaxnets.layers.parameters import draw_kernels

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}


class Residual(nnx.Module):
    """F of a residual block y = relu(F(x) + shortcut(x)): two 3×3 convolutions with BatchNorm.

    Subclasses define the shortcut.

    Args:
        inputs: number of channels of x.
        outputs: number of channels of y.
        stride: stride of the first convolution.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        kw: dict[str, Any] = {"bias": False, "rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(inputs, outputs, 3, stride, 1, **kw)
        self.bn1 = BatchNorm2d(outputs, param_dtype=param_dtype)
        self.conv2 = Conv2d(outputs, outputs, 3, 1, 1, **kw)
        self.bn2 = BatchNorm2d(outputs, param_dtype=param_dtype)

    def residual(self, x: jax.Array) -> jax.Array:
        """Returns F(x), [batch, height / stride, width / stride, outputs]."""
        y = jax.nn.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


def projection(
    inputs: int,
    outputs: int,
    stride: int,
    *,
    rngs: nnx.Rngs | None,
    param_dtype: DTypeLike,
) -> nnx.Sequential:
    """Returns the shortcut between different shapes: a 1×1 convolution with BatchNorm.

    The shortcut between equal shapes is empty, which stands for the identity.
    """
    if stride == 1 and inputs == outputs:
        return nnx.Sequential()
    conv = Conv2d(inputs, outputs, 1, stride, bias=False, rngs=rngs, param_dtype=param_dtype)
    return nnx.Sequential(conv, BatchNorm2d(outputs, param_dtype=param_dtype))


class BasicBlock(Residual):
    """The block of ``ResNet``; ``downsample`` is its shortcut. See ``Residual``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, **kw: Any) -> None:
        super().__init__(inputs, outputs, stride, **kw)
        self.downsample = projection(inputs, outputs, stride, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, height / stride, width / stride, outputs]."""
        shortcut = self.downsample(x) if self.downsample.layers else x
        return jax.nn.relu(self.residual(x) + shortcut)


class ResNet(nnx.Module):
    """The residual network of He et al. (2015), table 1, with basic blocks; returns logits.

    A 7×7 convolution and a max-pool, each of stride 2, four groups of blocks with 64, 128, 256 and
    512 channels, the mean over the image, and a linear layer. Attribute names and initial values
    are those of torchvision's ``resnet18`` and ``resnet34``, so that published weights can be
    loaded. Convolutions start as N(0, 2 / fan_out).

    Args:
        depth: number of layers with weights: 18 or 34.
        num_classes: number of classes.
        in_channels: number of channels of the images.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        InputError: if a number is not a positive integer, or the depth is neither 18 nor 34.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385.
    """

    def __init__(
        self,
        depth: int = 18,
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        if check_positive("depth", depth) not in _BLOCKS:
            raise InputError("depth", "18 or 34", depth)
        check_positive("num_classes", num_classes)
        self.depth, self.in_channels = depth, check_positive("in_channels", in_channels)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(in_channels, 64, 7, 2, 3, bias=False, **kw)
        self.bn1 = BatchNorm2d(64, param_dtype=param_dtype)
        self.maxpool = MaxPool2d(3, 2, 1)
        inputs = 64
        for number, blocks in enumerate(_BLOCKS[depth]):
            outputs, layer = 64 * 2**number, []
            for block in range(blocks):
                stride = 2 if number > 0 and block == 0 else 1
                layer.append(BasicBlock(inputs, outputs, stride, **kw))
                inputs = outputs
            setattr(self, f"layer{number + 1}", nnx.Sequential(*layer))
        self.fc = Linear(512, num_classes, **kw)
        draw = kaiming_normal(mode="fan_out", nonlinearity="relu")
        draw_kernels(self, (Conv2d,), draw, rngs)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        classes = self.fc.out_features
        return {"depth": self.depth, "num_classes": classes, "in_channels": self.in_channels}

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits [batch, num_classes] for images [batch, height, width, in_channels]."""
        check_floats("images", images, ("batch", "height", "width", self.in_channels))
        x = jax.nn.relu(self.bn1(self.conv1(images)))
        x = self.maxpool(x)  # [batch, height / 4, width / 4, 64]
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.layer3(x)
        x = self.layer4(x)  # [batch, height / 32, width / 32, 512]
        return self.fc(x.mean(axis=(1, 2)))

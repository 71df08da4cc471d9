"""Residual networks for images of 32×32 pixels."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_choice, check_floats, check_positive
from jaxnets.initializers import kaiming_normal
from jaxnets.layers import BatchNorm2d, Conv2d, Linear
from jaxnets.layers.parameters import draw_kernels
from jaxnets.models.resnet import Residual, projection


class CifarBlock(Residual):
    """The block of ``CifarResNet``; see ``Residual``.

    Args:
        inputs: number of channels of x.
        outputs: number of channels of y.
        stride: stride of the first convolution.
        kind: what replaces the identity where the shapes differ, see ``CifarResNet``.
        **kw: ``rngs`` and ``param_dtype``.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, kind: str, **kw: Any) -> None:
        super().__init__(inputs, outputs, stride, **kw)
        self.stride, self.more = stride, outputs - inputs
        self.shortcut = nnx.Sequential()
        if kind == "B":
            self.shortcut = projection(inputs, outputs, stride, **kw)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [batch, height / stride, width / stride, outputs]."""
        y = self.residual(x)
        if self.shortcut.layers:
            return jax.nn.relu(y + self.shortcut(x))
        x = x[:, :: self.stride, :: self.stride]
        before = self.more // 2
        return jax.nn.relu(y + jnp.pad(x, ((0, 0),) * 3 + ((before, self.more - before),)))


class CifarResNet(nnx.Module):
    """The residual network of He et al. (2015), section 4.2: 6n + 2 layers; returns logits.

    A convolution with 16 channels, three groups of n blocks with 16, 32 and 64 channels, of which
    the second and the third halve the image, the mean over the image, and a linear layer. Depths
    of 20, 32, 44, 56 and 110 are the paper's. Attribute names are those of the PyTorch
    implementations with published weights: ``conv1``, ``bn1``, ``layer1`` to ``layer3``,
    ``linear``. Convolutions and the linear layer start as N(0, 2 / fan_in).

    Args:
        depth: number of layers with weights, 6n + 2.
        num_classes: number of classes.
        in_channels: number of channels of the images.
        shortcut: the kind of shortcut if a block changes the shape. ``"A"`` takes every second
            pixel and adds channels of zeros, as in the paper; ``"B"`` is a 1×1 convolution with
            BatchNorm.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        InputError: if a number is not a positive integer, the depth is not 6n + 2, or the shortcut
            is unknown.

    Source: He, Zhang, Ren, Sun, "Deep residual learning for image recognition", arXiv:1512.03385.
    """

    def __init__(
        self,
        depth: int = 20,
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        shortcut: str = "A",
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        if check_positive("depth", depth) < 8 or depth % 6 != 2:
            raise InputError("depth", "6n + 2, such as 20, 32, 44 or 56", depth)
        check_positive("num_classes", num_classes)
        self.in_channels = check_positive("in_channels", in_channels)
        self.depth, self.kind = depth, check_choice("shortcut", shortcut, ("A", "B"))
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(in_channels, 16, 3, 1, 1, bias=False, **kw)
        self.bn1 = BatchNorm2d(16, param_dtype=param_dtype)
        inputs = 16
        for number, (outputs, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
            blocks = []
            for step in (stride, *[1] * ((depth - 2) // 6 - 1)):
                blocks.append(CifarBlock(inputs, outputs, step, shortcut, **kw))
                inputs = outputs
            setattr(self, f"layer{number}", nnx.Sequential(*blocks))
        self.linear = Linear(64, num_classes, **kw)
        draw_kernels(self, (Conv2d, Linear), kaiming_normal(), rngs)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        sizes = {"depth": self.depth, "num_classes": self.linear.out_features}
        return sizes | {"in_channels": self.in_channels, "shortcut": self.kind}

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits [batch, num_classes] for images [batch, height, width, in_channels]."""
        check_floats("images", images, ("batch", "height", "width", self.in_channels))
        x = jax.nn.relu(self.bn1(self.conv1(images)))  # [batch, height, width, 16]
        x = self.layer1(x)
        x = self.layer2(x)  # [batch, height / 2, width / 2, 32]
        x = self.layer3(x)  # [batch, height / 4, width / 4, 64]
        return self.linear(x.mean(axis=(1, 2)))

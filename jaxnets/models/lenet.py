"""LeNet, the convolutional network of documents 002 and 003."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_floats, check_integer, check_positive
from jaxnets.layers import Conv2d, Linear, MaxPool2d, flatten


class LeNet(nnx.Module):
    """LeNet: two convolutions with pooling, then three linear layers; returns logits.

    The network of document 003 has one input channel, that of document 002 three. Both require
    images of 32×32 pixels, because fc1 has 16·5·5 inputs. Images of 28×28 pixels, as in MNIST, are
    padded to 32×32 by conv1.

    Args:
        in_channels: the number of channels of the images.
        num_classes: the number of classes.
        image_size: height and width of the images, 28 or 32.
        rngs: the random streams for the initial values.
        param_dtype: the dtype of the parameters.

    Raises:
        InputError: if a number is not a positive integer, or the image size is not 28 or 32.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("in_channels", in_channels)
        check_positive("num_classes", num_classes)
        if check_integer("image_size", image_size) not in (28, 32):
            raise InputError("image_size", "28 or 32", image_size)
        self.image_shape = (image_size, image_size, in_channels)
        padding = (32 - image_size) // 2
        options: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(in_channels, 6, 5, padding=padding, **options)
        self.conv2 = Conv2d(6, 16, 5, **options)
        self.pool = MaxPool2d(2)
        self.fc1 = Linear(16 * 5 * 5, 120, **options)
        self.fc2 = Linear(120, 84, **options)
        self.fc3 = Linear(84, num_classes, **options)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        size, _, channels = self.image_shape
        classes = self.fc3.out_features
        return {"in_channels": channels, "num_classes": classes, "image_size": size}

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits [batch, num_classes] for images [batch, size, size, in_channels]."""
        check_floats("images", images, ("batch", *self.image_shape))
        x = self.pool(jax.nn.relu(self.conv1(images)))  # [batch, 14, 14, 6]
        x = self.pool(jax.nn.relu(self.conv2(x)))  # [batch, 5, 5, 16]
        x = flatten(x)  # [batch, 400]
        x = jax.nn.relu(self.fc1(x))
        x = jax.nn.relu(self.fc2(x))
        return self.fc3(x)

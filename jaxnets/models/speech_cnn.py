"""A convolutional network that recognizes words from their spectrograms."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import tensors
from jaxnets.arrays import InputError, check_floats, check_positive
from jaxnets.layers import BatchNorm2d, Conv2d, Linear, MaxPool2d


class SpeechCNN(nnx.Module):
    """Three convolutions with batch normalization, then the largest value over time.

    A spectrogram is an image of one channel whose height is time. The maximum over time allows
    recordings of any length.

    Args:
        num_classes: number of classes.
        bands: values of a frame, a multiple of 4.
        channels: channels of the first convolution; the others have twice and four times as many.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    def __init__(
        self,
        num_classes: int = 10,
        bands: int = 40,
        channels: int = 16,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("num_classes", num_classes)
        check_positive("channels", channels)
        if check_positive("bands", bands) % 4:
            raise InputError("bands", "a multiple of 4", bands)
        self.bands = bands
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.conv1 = Conv2d(1, channels, 3, padding=1, bias=False, **kw)
        self.bn1 = BatchNorm2d(channels, **kw)
        self.conv2 = Conv2d(channels, 2 * channels, 3, padding=1, bias=False, **kw)
        self.bn2 = BatchNorm2d(2 * channels, **kw)
        self.conv3 = Conv2d(2 * channels, 4 * channels, 3, padding=1, bias=False, **kw)
        self.bn3 = BatchNorm2d(4 * channels, **kw)
        self.pool = MaxPool2d(2)
        self.fc = Linear(channels * bands, num_classes, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        sizes = {"bands": self.bands, "channels": self.bn1.num_features}
        return {"num_classes": self.fc.out_features, **sizes}

    def __call__(self, sound: jax.Array) -> jax.Array:
        """Returns logits [batch, num_classes] for spectrograms [batch, frames, bands]."""
        check_floats("sound", sound, ("batch", "frames", self.bands))
        x = sound[..., None]  # [batch, frames, bands, 1]
        x = self.pool(jax.nn.relu(self.bn1(self.conv1(x))))  # [batch, frames/2, bands/2, channels]
        x = self.pool(jax.nn.relu(self.bn2(self.conv2(x))))
        x = jax.nn.relu(self.bn3(self.conv3(x)))  # [batch, frames/4, bands/4, 4·channels]
        x = tensors.amax(x, 1)  # [batch, bands/4, 4·channels]
        x = jnp.swapaxes(x, 1, 2)  # channels slowest, as in PyTorch
        return self.fc(x.reshape(x.shape[0], -1))

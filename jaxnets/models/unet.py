"""The U-Net of a diffusion model, which predicts the noise in an image."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets.arrays import InputError, check_floats, check_positive
from jaxnets.layers import Conv2d, ConvTranspose2d, Embedding, GroupNorm, Linear
from jaxnets.models.dcgan import check_classes, check_integers, check_labels
from jaxnets.models.positions import sinusoidal_positions

_GROUPS = 8


class TimeBlock(nnx.Module):
    """A residual block y = F(x) + shortcut(x) whose F depends on the step, as in Ho et al. (2020).

    F is twice group normalization, SiLU and a 3×3 convolution; a linear function of the vector of
    the step is added after the first one. The shortcut is a 1×1 convolution, or x itself if the
    number of channels does not change.

    Args:
        inputs: number of channels of x.
        outputs: number of channels of y.
        size: size of the vector of the step.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.
    """

    def __init__(self, inputs: int, outputs: int, size: int, **kw: Any) -> None:
        self.norm1 = GroupNorm(_GROUPS, inputs, **kw)
        self.conv1 = Conv2d(inputs, outputs, 3, padding=1, **kw)
        self.time = Linear(size, outputs, **kw)
        self.norm2 = GroupNorm(_GROUPS, outputs, **kw)
        self.conv2 = Conv2d(outputs, outputs, 3, padding=1, **kw)
        self.shortcut = None if inputs == outputs else Conv2d(inputs, outputs, 1, **kw)

    def __call__(self, x: jax.Array, step: jax.Array) -> jax.Array:
        """Returns [batch, height, width, outputs].

        Args:
            x: [batch, height, width, inputs].
            step: vectors of the steps, [batch, size].
        """
        y = self.conv1(jax.nn.silu(self.norm1(x))) + self.time(step)[:, None, None, :]
        y = self.conv2(jax.nn.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class UNet(nnx.Module):
    """Residual blocks at 1/2 and 1/4 of the resolution, with skip connections.

    The number of the step is encoded like a position in a Transformer and passed through two linear
    layers; an embedding of the class is added. The last row of ``label`` stands for no class.

    Args:
        image_size: height and width of the images, a multiple of 4.
        in_channels: number of channels of the images.
        channels: number of channels at half the resolution, a multiple of 8; twice as many at a
            quarter of the resolution.
        num_classes: number of classes, or None to ignore classes.
        timesteps: number of steps.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or not a multiple as stated above.
    """

    def __init__(
        self,
        image_size: int = 28,
        in_channels: int = 1,
        channels: int = 32,
        num_classes: int | None = None,
        timesteps: int = 1000,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        for name, value, factor in (("image_size", image_size, 4), ("channels", channels, _GROUPS)):
            if check_positive(name, value) % factor:
                raise InputError(name, f"a multiple of {factor}", value)
        check_positive("in_channels", in_channels)
        self.timesteps = check_positive("timesteps", timesteps)
        classes = self.num_classes = check_classes(num_classes)
        self.image_shape, c, size = (image_size, image_size, in_channels), channels, 4 * channels
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.time1, self.time2 = Linear(c, size, **kw), Linear(size, size, **kw)
        self.label = None if classes is None else Embedding(classes + 1, size, **kw)
        self.conv_in = Conv2d(in_channels, c // 2, 3, padding=1, **kw)
        self.halve, self.down1 = Conv2d(c // 2, c, 4, 2, 1, **kw), TimeBlock(c, c, size, **kw)
        self.quarter, self.down2 = Conv2d(c, c, 4, 2, 1, **kw), TimeBlock(c, 2 * c, size, **kw)
        self.middle, self.up2 = TimeBlock(2 * c, 2 * c, size, **kw), TimeBlock(4 * c, c, size, **kw)
        self.twice, self.up1 = ConvTranspose2d(c, c, 4, 2, 1, **kw), TimeBlock(2 * c, c, size, **kw)
        self.norm = GroupNorm(_GROUPS, c, **kw)
        self.whole = ConvTranspose2d(c, c // 2, 4, 2, 1, **kw)
        self.conv_up, self.time = Conv2d(c, c // 2, 3, padding=1, **kw), Linear(size, c // 2, **kw)
        self.conv_out = Conv2d(c // 2, in_channels, 3, padding=1, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        size, _, inputs = self.image_shape
        sizes = {"image_size": size, "in_channels": inputs, "channels": self.time1.in_features}
        return {**sizes, "num_classes": self.num_classes, "timesteps": self.timesteps}

    def __call__(
        self, images: jax.Array, time: jax.Array, labels: jax.Array | None = None
    ) -> jax.Array:
        """Returns the predicted noise, of the shape of the images.

        Args:
            images: noisy images [batch, image_size, image_size, in_channels].
            time: the numbers of the steps, integers [batch] in [0, timesteps).
            labels: classes, integers [batch] in [0, num_classes]; the last one, and None, stand for
                no class.
        """
        check_floats("images", images, ("batch", *self.image_shape))
        step = self.vectors(time, labels, len(images), images.dtype)
        full = jax.nn.silu(self.conv_in(images))
        half = self.down1(self.halve(full), step)
        quarter = self.down2(self.quarter(half), step)
        x = self.middle(quarter, step)
        x = self.up2(jnp.concatenate([x, quarter], axis=-1), step)
        x = self.up1(jnp.concatenate([self.twice(x), half], axis=-1), step)
        x = self.whole(jax.nn.silu(self.norm(x)))
        x = self.conv_up(jnp.concatenate([x, full], axis=-1)) + self.time(step)[:, None, None, :]
        return self.conv_out(jax.nn.silu(x))

    def vectors(self, time: Any, labels: Any, count: int, dtype: DTypeLike) -> jax.Array:
        """Returns the vectors of steps and classes, [count, 4 · channels]."""
        check_integers("time", time, count)
        table = sinusoidal_positions(self.timesteps, self.time1.in_features)
        x = self.time2(jax.nn.silu(self.time1(jnp.asarray(table, dtype)[time])))
        if self.label is not None:
            none = jnp.full(count, self.label.num_embeddings - 1)
            x = x + self.label(none if labels is None else check_labels(labels, count))
        return jax.nn.silu(x)

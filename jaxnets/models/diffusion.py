"""A denoising diffusion model of images."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.typing import DTypeLike

from jaxnets import losses
from jaxnets.arrays import check_choice, check_integer, check_number
from jaxnets.models.unet import UNet

Schedule = Literal["cosine", "linear"]
_MOST_STEPS = 100_000
_UNLABELLED = 0.1  # the fraction of training images whose class is hidden, for guidance


def signal(timesteps: int, schedule: Schedule) -> np.ndarray:
    """Returns ᾱ, the fraction of the variance that comes from the image, after each noise step.

    ᾱ_t is the product of 1 - β_s for s from 0 to t. ``"linear"`` is the schedule of Ho et al., in
    which β rises from 1e-4 to 0.02 in 1,000 steps; for T steps, β is multiplied by 1000 / T.
    ``"cosine"`` is the schedule of Nichol and Dhariwal (arXiv:2102.09672), which adds noise to
    small images more slowly.

    Args:
        timesteps: T, the number of steps.
        schedule: the schedule.

    Returns:
        float64 [T], decreasing.

    Raises:
        ValueError: if the number is not an integer from 1 to 100,000, or the schedule is unknown.
    """
    check_integer("timesteps", timesteps, least=1, most=_MOST_STEPS)
    if check_choice("schedule", schedule, ("cosine", "linear")) == "linear":
        scale = 1000 / timesteps
        betas = np.linspace(scale * 1e-4, scale * 0.02, timesteps)
    else:
        angles = (np.arange(timesteps + 1) / timesteps + 0.008) / 1.008 * np.pi / 2
        squares = np.cos(angles) ** 2
        betas = 1 - squares[1:] / squares[:-1]
    return np.cumprod(1 - np.minimum(betas, 0.999))


class Diffusion(nnx.Module):
    """Predicts the noise in a noisy image with ``unet``; generates images by removing noise.

    After t steps, an image x with values from -1 to 1 has become √ᾱ_t x + √(1 - ᾱ_t) ε with
    ε from N(0, 1); see ``signal`` for ᾱ.

    Args:
        image_size: height and width of the images, a multiple of 4.
        in_channels: number of channels of the images.
        channels: see ``UNet``.
        num_classes: number of classes, or None to ignore classes.
        timesteps: T, the number of steps in which noise is added.
        schedule: see ``signal``.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, the image size is not a multiple of 4, or
            ``channels`` is not a multiple of 8.

    Source: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", arXiv:2006.11239.

    Examples:
        >>> model = Diffusion(image_size=8, channels=8, timesteps=10, rngs=nnx.Rngs(0))
        >>> model.sample(jax.random.key(0), 2, steps=5).shape
        (2, 8, 8, 1)
    """

    def __init__(
        self,
        image_size: int = 28,
        in_channels: int = 1,
        channels: int = 32,
        num_classes: int | None = None,
        timesteps: int = 1000,
        schedule: Schedule = "cosine",
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        signal(timesteps, schedule)
        self.schedule = schedule
        sizes = image_size, in_channels, channels, num_classes, timesteps
        self.unet = UNet(*sizes, rngs=rngs, param_dtype=param_dtype)

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None."""
        return self.unet.num_classes

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {**self.unet.options, "schedule": self.schedule}

    def __call__(
        self, images: jax.Array, time: jax.Array, labels: jax.Array | None = None
    ) -> jax.Array:
        """Returns the noise that is predicted in noisy images; see ``UNet``."""
        return self.unet(images, time, labels)

    def signal(self, dtype: DTypeLike) -> jax.Array:
        """Returns ᾱ after each step, [timesteps]."""
        return jnp.asarray(signal(self.unet.timesteps, self.schedule), dtype)

    def guided(
        self, images: jax.Array, time: jax.Array, labels: jax.Array | None, guidance: float
    ) -> jax.Array:
        """Returns the predicted noise, with classifier-free guidance.

        Args:
            images: noisy images [batch, height, width, channels].
            time: the number of the step, a scalar.
            labels: classes, integers [batch], or None.
            guidance: w in ε_none + w (ε_class - ε_none); 1 is the prediction for the class.

        Source: Ho, Salimans, "Classifier-free diffusion guidance", arXiv:2207.12598.
        """
        times = jnp.full(len(images), time)
        if labels is None or guidance == 1:
            return self(images, times, labels)
        none = self(images, times)
        return none + guidance * (self(images, times, labels) - none)

    def sample(
        self,
        key: jax.Array,
        count: int,
        labels: jax.Array | None = None,
        *,
        steps: int = 25,
        eta: float = 1.0,
        guidance: float = 3.0,
    ) -> jax.Array:
        """Generates images with values from 0 to 1, [count, image_size, image_size, in_channels].

        ``steps=timesteps, eta=1`` is DDPM: algorithm 2 of Ho et al. with the variance β̃_t. Fewer
        steps are evenly spaced, as in DDIM (Song, Meng, Ermon, arXiv:2010.02502). ``eta=0`` is the
        sampler of DDIM, which only draws the initial noise.

        Args:
            key: a random key.
            count: number of images.
            labels: their classes, integers [count]; None for images of any class.
            steps: number of steps, at most ``timesteps``.
            eta: the factor η of the noise that is added in each step, from 0 to 1.
            guidance: see ``guided``.

        Raises:
            ValueError: if an argument is out of range.
        """
        check_integer("steps", steps, least=1, most=self.unet.timesteps)
        check_number("eta", eta, least=0, most=1)
        check_number("guidance", guidance, least=0)
        dtype = self.unet.conv_in.kernel.dtype
        times = np.linspace(self.unet.timesteps - 1, 0, steps).round().astype(np.int32)
        before = self.signal(dtype)[times]
        after = jnp.append(before[1:], jnp.ones(1, dtype))

        def step(x: jax.Array, each: Any) -> tuple[jax.Array, None]:
            time, a, b, key = each
            noise = self.guided(x, time, labels, guidance)
            image = jnp.clip((x - jnp.sqrt(1 - a) * noise) / jnp.sqrt(a), -1, 1)
            noise = (x - jnp.sqrt(a) * image) / jnp.sqrt(1 - a)
            fresh = eta * jnp.sqrt((1 - b) / (1 - a) * (1 - a / b))
            x = jnp.sqrt(b) * image + jnp.sqrt(jnp.maximum(1 - b - fresh**2, 0)) * noise
            return x + fresh * jax.random.normal(key, x.shape, dtype), None

        start, *keys = jax.random.split(key, steps + 1)
        x = jax.random.normal(start, (count, *self.unet.image_shape), dtype)
        x, _ = lax.scan(step, x, (jnp.asarray(times), before, after, jnp.stack(keys)))
        return (x + 1) / 2


def diffusion_loss(model: Diffusion, batch: Mapping[str, Any], key: jax.Array) -> jax.Array:
    """The objective of a diffusion model: the squared error of the predicted noise.

    For each image a step is drawn uniformly, and the noise of this step is added. The class of a
    tenth of the images is hidden from the network, as guidance requires.

    Args:
        model: a ``Diffusion``.
        batch: ``inputs``, images with floats from 0 to 1, [batch, height, width, channels], and
            their classes ``labels``, integers [batch], if the network has classes.
        key: the random key of the steps, the noise and the hidden classes.

    Returns:
        The mean over images and pixels: the simplified objective of Ho et al. (2020).
    """
    images, labels = 2 * batch["inputs"] - 1, None
    count, (time_key, noise_key, hiding_key) = len(images), jax.random.split(key, 3)
    time = jax.random.randint(time_key, (count,), 0, model.unet.timesteps)
    noise = jax.random.normal(noise_key, images.shape, images.dtype)
    if model.num_classes is not None:
        hidden = jax.random.bernoulli(hiding_key, _UNLABELLED, (count,))
        labels = jnp.where(hidden, model.num_classes, batch["labels"])
    share = model.signal(images.dtype)[time][:, None, None, None]
    noisy = jnp.sqrt(share) * images + jnp.sqrt(1 - share) * noise
    return losses.mse_loss(model(noisy, time, labels), noise)

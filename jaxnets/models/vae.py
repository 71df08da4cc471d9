"""A variational autoencoder."""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import losses
from jaxnets.arrays import check_choice, check_floats, check_positive
from jaxnets.layers import Linear, flatten

_STD = 0.1  # of a pixel, with likelihood="gaussian"


class VAE(nnx.Module):
    """The variational autoencoder of PyTorch's example: fully connected, with one hidden layer.

    The encoder ``fc1``, ``fc21``, ``fc22`` computes the mean and the log variance of a normal
    distribution of codes; the decoder ``fc3``, ``fc4`` computes an image from a code.

    Args:
        image_size: height and width of the images.
        in_channels: number of channels of the images.
        hidden_dim: number of units of each hidden layer.
        latent_dim: number of values in a code.
        likelihood: the distribution of a pixel given a code: ``"bernoulli"``, of which the decoder
            computes the logits, or ``"gaussian"`` with standard deviation 0.1, of which the
            decoder computes the means.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or the likelihood is unknown.

    Source: Kingma, Welling, "Auto-encoding variational Bayes", arXiv:1312.6114.

    Examples:
        >>> model = VAE(image_size=8, hidden_dim=16, latent_dim=2, rngs=nnx.Rngs(0))
        >>> model.sample(jax.random.key(0), 5).shape
        (5, 8, 8, 1)
    """

    def __init__(
        self,
        image_size: int = 28,
        in_channels: int = 1,
        hidden_dim: int = 400,
        latent_dim: int = 20,
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli",
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        check_positive("image_size", image_size)
        check_positive("in_channels", in_channels)
        check_positive("hidden_dim", hidden_dim)
        check_positive("latent_dim", latent_dim)
        self.likelihood = check_choice("likelihood", likelihood, ("bernoulli", "gaussian"))
        self.image_shape = (image_size, image_size, in_channels)
        pixels = image_size**2 * in_channels
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.fc1 = Linear(pixels, hidden_dim, **kw)
        self.fc21 = Linear(hidden_dim, latent_dim, **kw)
        self.fc22 = Linear(hidden_dim, latent_dim, **kw)
        self.fc3 = Linear(latent_dim, hidden_dim, **kw)
        self.fc4 = Linear(hidden_dim, pixels, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        size, _, channels = self.image_shape
        hidden, codes = self.fc21.in_features, self.fc21.out_features
        options = {"image_size": size, "in_channels": channels, "likelihood": self.likelihood}
        return {**options, "hidden_dim": hidden, "latent_dim": codes}

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the mean and the log variance of the codes, [batch, latent_dim] each.

        Args:
            images: floats from 0 to 1, [batch, image_size, image_size, in_channels].
        """
        check_floats("images", images, ("batch", *self.image_shape))
        x = jax.nn.relu(self.fc1(flatten(images)))
        return self.fc21(x), self.fc22(x)

    def decode(self, codes: jax.Array) -> jax.Array:
        """Returns logits, or means, of the pixels, [batch, image_size, image_size, in_channels].

        Args:
            codes: floats [batch, latent_dim].
        """
        check_floats("codes", codes, ("batch", self.fc3.in_features))
        size, _, channels = self.image_shape
        x = self.fc4(jax.nn.relu(self.fc3(codes)))
        return jnp.moveaxis(x.reshape(-1, channels, size, size), 1, -1)

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns reconstructions: the images decoded from the means of the codes."""
        return self.mean_images(self.encode(images)[0])

    def mean_images(self, codes: jax.Array) -> jax.Array:
        """Returns the means of the pixels; see ``decode``."""
        x = self.decode(codes)
        return jax.nn.sigmoid(x) if self.likelihood == "bernoulli" else x

    def sample(self, key: jax.Array, count: int) -> jax.Array:
        """Draws codes from N(0, 1), and returns their mean images, from 0 to 1.

        Args:
            key: a random key.
            count: number of images.
        """
        codes = jax.random.normal(key, (count, self.fc3.in_features), self.fc3.kernel.dtype)
        return jnp.clip(self.mean_images(codes), 0, 1)


def vae_loss(
    model: VAE, batch: Mapping[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The objective of a VAE: the negative evidence lower bound, in nats per image.

    It is -log p(x | z) for a code z = μ + σ · ε drawn from the encoder's N(μ, σ²), plus the
    divergence of this distribution from N(0, 1), ½ Σ (μ² + σ² - 1 - log σ²).

    Args:
        model: a ``VAE``.
        batch: ``inputs``, images with floats from 0 to 1, [batch, height, width, channels].
        key: the random key of ε.

    Returns:
        The mean over the images, and its two terms, the metrics ``reconstruction`` and
        ``divergence``.
    """
    images = batch["inputs"]
    mean, log_variance = model.encode(images)
    noise = jax.random.normal(key, mean.shape, mean.dtype)
    pixels = model.decode(mean + jnp.exp(log_variance / 2) * noise)
    if model.likelihood == "bernoulli":
        total = losses.binary_cross_entropy_with_logits(pixels, images, reduction="sum")
    else:
        constant = jnp.log(_STD) + jnp.log(2 * jnp.pi) / 2
        total = jnp.sum((pixels - images) ** 2 / (2 * _STD**2) + constant)
    reconstruction = total / len(images)
    terms = mean**2 + jnp.exp(log_variance) - 1 - log_variance
    divergence = jnp.sum(terms) / (2 * len(images))
    return reconstruction + divergence, {
        "reconstruction": reconstruction,
        "divergence": divergence,
    }

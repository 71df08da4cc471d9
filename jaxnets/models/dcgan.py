"""A deep convolutional generative adversarial network (DCGAN), optionally conditional."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from jaxnets import losses
from jaxnets.arrays import InputError, check_floats, check_positive, check_usable, describe
from jaxnets.layers import (
    BatchNorm2d,
    Conv2d,
    ConvTranspose2d,
    Embedding,
    LeakyReLU,
    ReLU,
    Tanh,
    flatten,
)


class Generator(nnx.Module):
    """Makes images from noise with three transposed convolutions, ``main``.

    The layers are those of PyTorch's DCGAN tutorial, but three instead of five for images of about
    28×28 pixels. With classes, the noise is multiplied by an embedding of the class, as in ACGAN
    (arXiv:1610.09585). A generator that receives the two concatenated learns to ignore the noise.

    Args:
        nz: number of values of the noise.
        ngf: number of channels before the last layer.
        nc: number of channels of the images.
        image_size: height and width of the images, a multiple of 4.
        num_classes: number of classes, or None to ignore classes.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or the image size is not a multiple of 4.
    """

    def __init__(
        self,
        nz: int = 64,
        ngf: int = 32,
        nc: int = 1,
        image_size: int = 28,
        num_classes: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_sizes(image_size, nz=nz, ngf=ngf, nc=nc)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        classes = check_classes(num_classes)
        self.nz = nz
        self.embedding = None if classes is None else Embedding(classes, nz, **kw)
        self.main = nnx.Sequential(
            ConvTranspose2d(nz, 2 * ngf, image_size // 4, bias=False, **kw),
            BatchNorm2d(2 * ngf, **kw),
            ReLU(),
            ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=False, **kw),
            BatchNorm2d(ngf, **kw),
            ReLU(),
            ConvTranspose2d(ngf, nc, 4, 2, 1, bias=False, **kw),
            Tanh(),
        )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        first, *_, last, _ = self.main.layers
        classes = None if self.embedding is None else self.embedding.num_embeddings
        sizes = {"ngf": last.in_channels, "nc": last.out_channels}
        return {
            "nz": self.nz,
            **sizes,
            "image_size": 4 * first.kernel_size[0],
            "num_classes": classes,
        }

    def __call__(self, noise: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Returns images with values from -1 to 1, [batch, image_size, image_size, nc].

        Args:
            noise: floats [batch, nz].
            labels: classes, integers [batch], if the network has classes.
        """
        check_floats("noise", noise, ("batch", self.nz))
        if self.embedding is not None:
            noise = noise * self.embedding(check_labels(labels, len(noise)))
        return self.main(noise[:, None, None, :])


class Discriminator(nnx.Module):
    """Classifies images as real or generated with three convolutions, ``main``; returns logits.

    The layers are those of PyTorch's DCGAN tutorial (see ``Generator``), without batch
    normalization, with which the discriminator recognizes samples too easily. With classes, the dot
    product of the last layer's inputs and an embedding of the class is added to the logit, as in
    Miyato and Koyama (arXiv:1802.05637).

    Args:
        ndf: number of channels after the first layer.
        nc: number of channels of the images.
        image_size: height and width of the images, a multiple of 4.
        num_classes: number of classes, or None to ignore classes.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or the image size is not a multiple of 4.
    """

    def __init__(
        self,
        ndf: int = 32,
        nc: int = 1,
        image_size: int = 28,
        num_classes: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        _check_sizes(image_size, ndf=ndf, nc=nc)
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        self.image_shape, classes = (image_size, image_size, nc), check_classes(num_classes)
        self.main = nnx.Sequential(
            Conv2d(nc, ndf, 4, 2, 1, bias=False, **kw),
            LeakyReLU(0.2),
            Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False, **kw),
            LeakyReLU(0.2),
            Conv2d(2 * ndf, 1, image_size // 4, bias=False, **kw),
        )
        features = 2 * ndf * (image_size // 4) ** 2
        self.embedding = None if classes is None else Embedding(classes, features, **kw)
        if self.embedding is not None:
            self.embedding.embedding[...] *= 0.02

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        size, _, channels = self.image_shape
        classes = None if self.embedding is None else self.embedding.num_embeddings
        sizes = {"ndf": self.main.layers[0].out_channels, "nc": channels, "image_size": size}
        return {**sizes, "num_classes": classes}

    def __call__(self, images: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Returns logits [batch], which are positive for images classified as real.

        Args:
            images: values from -1 to 1, [batch, image_size, image_size, nc].
            labels: classes, integers [batch], if the network has classes.
        """
        check_floats("images", images, ("batch", *self.image_shape))
        *layers, last = self.main.layers
        x = images
        for layer in layers:
            x = layer(x)
        logits = last(x)[:, 0, 0, 0]
        if self.embedding is not None:
            vectors = self.embedding(check_labels(labels, len(images)))
            logits = logits + jnp.sum(flatten(x) * vectors, axis=1)
        return logits


class DCGAN(nnx.Module):
    """A ``generator`` and a ``discriminator``, optionally conditional on classes.

    ``jaxnets.training.in_turn`` trains them with ``discriminator_loss`` and ``generator_loss``.

    Args:
        nz: see ``Generator``.
        ngf: see ``Generator``.
        ndf: see ``Discriminator``.
        nc: number of channels of the images.
        image_size: height and width of the images, a multiple of 4.
        num_classes: number of classes, or None to ignore classes.
        rngs: the random streams for the initial values.
        param_dtype: dtype of the parameters.

    Raises:
        ValueError: if a size is not a positive integer, or the image size is not a multiple of 4.

    Source: Radford, Metz, Chintala, "Unsupervised representation learning with deep convolutional
    generative adversarial networks", arXiv:1511.06434; Mirza, Osindero, "Conditional generative
    adversarial nets", arXiv:1411.1784.

    Examples:
        >>> model = DCGAN(nz=4, ngf=2, ndf=2, image_size=8, num_classes=3, rngs=nnx.Rngs(0))
        >>> model.sample(jax.random.key(0), 2, jnp.array([0, 2])).shape
        (2, 8, 8, 1)
    """

    def __init__(
        self,
        nz: int = 64,
        ngf: int = 32,
        ndf: int = 32,
        nc: int = 1,
        image_size: int = 28,
        num_classes: int | None = None,
        *,
        rngs: nnx.Rngs | None = None,
        param_dtype: DTypeLike = jnp.float32,
    ) -> None:
        kw: dict[str, Any] = {"rngs": rngs, "param_dtype": param_dtype}
        shape = nc, image_size, num_classes
        self.generator = Generator(nz, ngf, *shape, **kw)
        self.discriminator = Discriminator(ndf, *shape, **kw)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the constructor that determine the structure of the network."""
        return {**self.generator.options, **self.discriminator.options}

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None."""
        classes: int | None = self.generator.options["num_classes"]
        return classes

    def __call__(self, noise: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        """Returns the generator's images; see ``Generator``."""
        return self.generator(noise, labels)

    def sample(self, key: jax.Array, count: int, labels: jax.Array | None = None) -> jax.Array:
        """Generates images with values from 0 to 1, [count, image_size, image_size, nc].

        Args:
            key: a random key.
            count: number of images.
            labels: their classes, integers [count], if the network has classes.
        """
        return (self(self.noise(key, count), labels) + 1) / 2

    def noise(self, key: jax.Array, count: int) -> jax.Array:
        """Draws noise from N(0, 1), [count, nz]."""
        dtype = self.generator.main.layers[0].kernel.dtype
        return jax.random.normal(key, (count, self.generator.nz), dtype)


def discriminator_loss(
    model: DCGAN, batch: Mapping[str, Any], key: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    """The objective of the discriminator: cross-entropy with label 1 for images, 0 for samples.

    Args:
        model: a ``DCGAN``.
        batch: ``inputs``, images with floats from 0 to 1, [batch, height, width, channels], and
            their classes ``labels``, integers [batch], if the network has classes.
        key: the random key of the noise; there are as many samples as images.

    Returns:
        The sum of the means over the images and over the samples, and the metric ``accuracy``.
    """
    images, labels = 2 * batch["inputs"] - 1, _labels_of(model, batch)
    samples = model(model.noise(key, len(images)), labels)
    real, fake = model.discriminator(images, labels), model.discriminator(samples, labels)
    loss = _cross_entropy(real, 1) + _cross_entropy(fake, 0)
    return loss, {"accuracy": (jnp.sum(real > 0) + jnp.sum(fake <= 0), 2 * len(images))}


def generator_loss(model: DCGAN, batch: Mapping[str, Any], key: jax.Array) -> jax.Array:
    """The objective of the generator: cross-entropy of the discriminator with label 1 for samples.

    Args:
        model: a ``DCGAN``.
        batch: see ``discriminator_loss``. There are as many samples as images, with the same
            classes.
        key: the random key of the noise.
    """
    labels = _labels_of(model, batch)
    samples = model(model.noise(key, len(batch["inputs"])), labels)
    return _cross_entropy(model.discriminator(samples, labels), 1)


def _cross_entropy(logits: jax.Array, label: int) -> jax.Array:
    return losses.binary_cross_entropy_with_logits(logits, jnp.full_like(logits, label))


def _labels_of(model: DCGAN, batch: Mapping[str, Any]) -> Any:
    return None if model.num_classes is None else batch.get("labels")


def check_labels(labels: Any, count: int) -> jax.Array:
    """Checks that there is a class for each of several images, and returns the classes.

    Raises:
        InputError: if they are not integers [count].
    """
    return check_integers("labels", labels, count)


def check_integers(argument: str, array: Any, count: int) -> jax.Array:
    """Checks that an array is integers [count], and returns it.

    Raises:
        InputError: if it is not.
    """
    expected = f"integers [{count}], one for each image"
    check_usable(argument, expected, array)
    if array.shape != (count,) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise InputError(argument, expected, describe(array))
    integers: jax.Array = array
    return integers


def check_classes(num_classes: int | None) -> int | None:
    """Checks that a number of classes is a positive integer or None, and returns it."""
    return None if num_classes is None else check_positive("num_classes", num_classes)


def _check_sizes(image_size: int, **sizes: int) -> None:
    for name, size in sizes.items():
        check_positive(name, size)
    if check_positive("image_size", image_size) % 4:
        raise InputError("image_size", "a multiple of 4", image_size)

"""Resampling of images under an affine map."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxnets.data.transforms.checks import check_pixels, fitting
from jaxnets.data.transforms.transform import dtype_of_draws

Interpolation = Literal["nearest", "bilinear"]


def inverse_matrix(
    angle: jax.Array, translate: jax.Array, scale: jax.Array, shear: jax.Array
) -> jax.Array:
    """Computes the map from output positions to input positions, in pixels from the centre.

    The forward map shears, then scales and rotates by R(angle), then translates.

    Args:
        angle: rotation in degrees, clockwise.
        translate: [2], pixels to the right and downwards.
        scale: a factor.
        shear: [2], degrees along x and y.

    Returns:
        [2, 3], to be multiplied with (x, y, 1).
    """
    angle, (shear_x, shear_y) = jnp.deg2rad(angle), jnp.deg2rad(shear)
    turned = angle - shear_y
    a = jnp.cos(turned) / jnp.cos(shear_y)
    b = -a * jnp.tan(shear_x) - jnp.sin(angle)
    c = jnp.sin(turned) / jnp.cos(shear_y)
    d = -c * jnp.tan(shear_x) + jnp.cos(angle)
    # The determinant of [[a, b], [c, d]] is 1, so this is its inverse.
    inverse = jnp.stack([d, -b, -c, a]).reshape(2, 2) / scale
    move = -jnp.sum(inverse * translate[None, :], axis=1, keepdims=True)
    return jnp.concatenate([inverse, move], axis=1)


def sample(
    image: jax.Array, matrix: jax.Array, interpolation: Interpolation, fill: float
) -> jax.Array:
    """Samples an image [H, W, C] at the positions that the matrix [2, 3] maps its pixels to.

    PyTorch: ``grid_sample(image, affine_grid(...), align_corners=False)``, with ``fill`` outside.
    """
    height, width, _ = image.shape
    fill = fitting("fill", fill, image.dtype)
    x = jnp.arange(width, dtype=matrix.dtype)[None, :] - (width - 1) / 2
    y = jnp.arange(height, dtype=matrix.dtype)[:, None] - (height - 1) / 2
    x, y = (row[0] * x + row[1] * y + row[2] for row in matrix)  # [H, W] each
    x, y = x + (width - 1) / 2, y + (height - 1) / 2
    if interpolation == "nearest":
        return _pixels(image, jnp.round(y), jnp.round(x), fill)
    values = check_pixels(image).astype(dtype_of_draws(image.dtype))
    top, left = jnp.floor(y), jnp.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    above, below = (
        _pixels(values, row, left, fill) * (1 - right)
        + _pixels(values, row, left + 1, fill) * right
        for row in (top, top + 1)
    )
    result = above * (1 - down) + below * down
    return (jnp.round(result) if image.dtype == jnp.uint8 else result).astype(image.dtype)


def _pixels(image: jax.Array, y: jax.Array, x: jax.Array, fill: float) -> jax.Array:
    """Returns the pixels at integer positions [H, W], or ``fill`` outside of the image."""
    height, width, _ = image.shape
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    rows = jnp.clip(y, 0, height - 1).astype(jnp.int32)
    columns = jnp.clip(x, 0, width - 1).astype(jnp.int32)
    return jnp.where(inside[..., None], image[rows, columns], jnp.asarray(fill, image.dtype))

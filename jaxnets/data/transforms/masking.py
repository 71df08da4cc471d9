"""SpecAugment: masks bands of time and frequency in spectrograms."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_integer,
    check_number,
    describe,
)
from jaxnets.data.transforms.checks import check_key
from jaxnets.data.transforms.transform import RandomTransform, dtype_of_draws


@dataclass(frozen=True)
class SpecAugment(RandomTransform):
    """Masks times and frequencies of spectrograms: ``torchaudio.transforms.SpecAugment``.

    A mask covers [v₀, v₀ + v): v is uniform in [0, mask_param) and v₀ in [0, size - v), both
    rounded down. Each example draws its own masks. This is an augmentation of spectrograms, after
    the transform: ``augment=AfterTransform(SpecAugment(…))``.

    Args:
        n_time_masks: number of masks along time in each example.
        time_mask_param: the largest width of a mask along time, in frames.
        n_freq_masks: number of masks along frequency in each example.
        freq_mask_param: the largest width of a mask along frequency, in frequencies or bands.
        p: the largest fraction of the frames or frequencies that a mask covers.
        zero_masking: whether masked values become 0; otherwise they become the mean of the batch.

    Raises:
        InputError: if a setting is invalid; on a call, if the batch does not consist of
            floating-point spectrograms.

    Examples:
        >>> augment = SpecAugment(2, 20, 2, 8)
        >>> augment(jnp.ones((2, 101, 40)), jax.random.key(0)).shape
        (2, 101, 40)
    """

    n_time_masks: int
    time_mask_param: int
    n_freq_masks: int
    freq_mask_param: int
    p: float = 1.0
    zero_masking: bool = False

    def __post_init__(self) -> None:
        """Checks the settings."""
        for name in ("n_time_masks", "time_mask_param", "n_freq_masks", "freq_mask_param"):
            check_integer(name, getattr(self, name), least=0)
        check_number("p", self.p, least=0, most=1)
        check_bool("zero_masking", self.zero_masking)

    def __call__(self, x: ArrayLike, key: jax.Array) -> jax.Array:
        """Masks spectrograms [batch, frames, frequencies]."""
        x = as_array("x", x)
        if x.ndim != 3 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError("x", "spectrograms [batch, frames, frequencies]", describe(x))
        keys = jax.random.split(check_key(key), len(x))
        masked = jax.vmap(lambda key: self._masked(key, x.shape[1:], dtype_of_draws(x.dtype)))(keys)
        value = jnp.zeros((), x.dtype) if self.zero_masking else jnp.mean(x)
        return jnp.where(masked, value, x)

    def example(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Masks one spectrogram [frames, frequencies]."""
        return self(image[None], key)[0]

    def _masked(self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype) -> jax.Array:
        """Returns which values of a spectrogram are masked, boolean [frames, frequencies]."""
        times, frequencies = jax.random.split(key)
        in_time = self._covered(times, shape[0], self.n_time_masks, self.time_mask_param, dtype)
        in_frequency = self._covered(
            frequencies, shape[1], self.n_freq_masks, self.freq_mask_param, dtype
        )
        return in_time[:, None] | in_frequency[None, :]

    def _covered(
        self, key: jax.Array, size: int, masks: int, longest: int, dtype: np.dtype
    ) -> jax.Array:
        """Which places of an axis are covered by one of the masks, boolean [size]."""
        lengths, places = jax.random.uniform(key, (2, masks), dtype)
        lengths = lengths * min(longest, int(size * self.p))
        starts = (places * (size - lengths)).astype(jnp.int32)
        stops = starts + lengths.astype(jnp.int32)
        axis = jnp.arange(size)[:, None]
        return jnp.any((axis >= starts[None, :]) & (axis < stops[None, :]), axis=1)

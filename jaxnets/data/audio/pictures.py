"""Recordings as pictures of their spectrograms."""

import jax.numpy as jnp
import numpy as np

from jaxnets.data.audio.dataset import AudioFormat
from jaxnets.data.dataset import Split
from jaxnets.data.transforms import AmplitudeToDB, Compose, MelSpectrogram

_BANDS, _WINDOW, _HOP = 40, 0.032, 0.016  # bands, seconds, seconds
_RANGE = 80.0  # decibels from black to white


def pictures(split: Split, audio: AudioFormat) -> Split:
    """Draws the log-mel spectrogram of each recording: time to the right, frequency upwards.

    Args:
        split: waveforms [N, samples], or a dictionary with them as ``"sound"``.
        audio: their format.

    Returns:
        Images, uint8 [N, 40, frames, 1], in which the maximum of each is white, and the labels.
    """
    waveforms = split.inputs["sound"] if isinstance(split.inputs, dict) else split.inputs
    rate = audio.sample_rate
    size, hop = round(_WINDOW * rate), max(round(_HOP * rate), 1)
    shortest = max(0, size - waveforms.shape[1])  # a frame is padded with its own reflection
    mel = MelSpectrogram(rate, n_fft=size, hop_length=hop, n_mels=_BANDS)
    decibels = np.asarray(
        Compose(mel, AmplitudeToDB(top_db=_RANGE))(jnp.pad(waveforms, ((0, 0), (0, shortest))))
    )
    loudest = decibels.max(axis=(1, 2), keepdims=True)
    levels = np.rint(255 * (1 + (decibels - loudest) / _RANGE)).astype(np.uint8)
    return Split(levels.swapaxes(1, 2)[:, ::-1, :, None], split.labels)

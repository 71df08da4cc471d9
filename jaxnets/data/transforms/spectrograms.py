"""Spectrograms of sound, equal to torchaudio's except that time is before frequency.

A waveform [..., samples] becomes [..., frames, frequencies], the transpose of torchaudio's result:
a sequence of vectors, as recurrent layers expect.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxnets.arrays import (
    ArrayLike,
    InputError,
    as_array,
    check_bool,
    check_choice,
    check_integer,
    check_number,
    check_positive,
    describe,
)

Window = Literal["hann_window", "hamming_window", "blackman_window"]
PadMode = Literal["reflect", "constant", "edge"]
MelScaleName = Literal["htk", "slaney"]

#: The coefficients of the windows, which are sums of cosines: a0 - a1 cos(x) + a2 cos(2x).
_COSINES: dict[str, tuple[float, float, float]] = {
    "hann_window": (0.5, 0.5, 0.0),
    "hamming_window": (0.54, 0.46, 0.0),
    "blackman_window": (0.42, 0.5, 0.08),
}
#: The smallest power or amplitude that has a logarithm.
_SMALLEST = 1e-10
#: The range of decibels that ``MFCC`` keeps.
_TOP_DB = 80.0
#: What ``MFCC(log_mels=True)`` adds before the logarithm.
_OFFSET = 1e-6


@dataclass(frozen=True)
class Spectrogram:
    """The power of each frequency over time: ``torchaudio.transforms.Spectrogram``.

    Frame t is the discrete Fourier transform of ``n_fft`` samples times a periodic window::

        X[t, k] = Σₙ x[t · hop_length + n] w[n] exp(-2πi k n / n_fft)
        output  = |X[t, k]| ** power,  k = 0 … n_fft / 2

    Args:
        n_fft: number of samples in a frame.
        win_length: number of samples in the window, which is centred in a frame; by default
            ``n_fft``.
        hop_length: number of samples between the starts of successive frames; by default half of
            ``win_length``.
        pad: number of zeros added at both ends of the waveform.
        window_fn: the name of PyTorch's function that makes the window.
        power: the exponent: 2 for power, 1 for magnitude.
        normalized: ``True`` or ``"window"`` divides by the window's L2 norm, ``"frame_length"`` by
            the square root of ``n_fft``.
        center: whether frame t is centred at sample t · hop_length, so that both ends are padded
            with half a frame. Otherwise it starts at this sample.
        pad_mode: the padding with ``center``: ``"reflect"``, ``"constant"`` (zeros) or ``"edge"``,
            which PyTorch calls "replicate".

    Raises:
        InputError: if a setting is invalid; on a call, if the waveforms are not floating or are too
            short.

    Examples:
        >>> Spectrogram(n_fft=256, hop_length=80)(jnp.zeros((2, 8000))).shape
        (2, 101, 129)
    """

    n_fft: int = 400
    win_length: int | None = None
    hop_length: int | None = None
    pad: int = 0
    window_fn: Window = "hann_window"
    power: float = 2.0
    normalized: bool | Literal["window", "frame_length"] = False
    center: bool = True
    pad_mode: PadMode = "reflect"

    def __post_init__(self) -> None:
        """Checks the settings, and fills in the lengths that were left out."""
        size = check_positive("n_fft", self.n_fft)
        window = size if self.win_length is None else check_positive("win_length", self.win_length)
        if window > size:
            raise InputError("win_length", f"at most the {size} of n_fft", window)
        hop = max(window // 2, 1) if self.hop_length is None else self.hop_length
        object.__setattr__(self, "win_length", window)
        object.__setattr__(self, "hop_length", check_positive("hop_length", hop))
        check_integer("pad", self.pad, least=0)
        check_choice("window_fn", self.window_fn, get_args(Window))
        check_number("power", self.power, above=0)
        if not isinstance(self.normalized, bool):
            check_choice("normalized", self.normalized, ("window", "frame_length"))
        check_bool("center", self.center)
        check_choice("pad_mode", self.pad_mode, get_args(PadMode))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns spectrograms [..., frames, n_fft // 2 + 1] of waveforms [..., samples]."""
        x = check_waveforms(x)
        frames = self._frames(x)
        window = jnp.asarray(self._window(), x.dtype).reshape((1,) * (frames.ndim - 1) + (-1,))
        spectra = jnp.fft.rfft(frames * window)
        square = spectra.real**2 + spectra.imag**2
        return square if self.power == 2 else square ** (self.power / 2)

    @property
    def _sizes(self) -> tuple[int, int]:
        assert self.hop_length is not None
        return self.n_fft, self.hop_length

    def _frames(self, x: jax.Array) -> jax.Array:
        """The frames of padded waveforms, [..., frames, n_fft]."""
        size, hop = self._sizes
        before = [(0, 0)] * (x.ndim - 1)
        x = jnp.pad(x, [*before, (self.pad, self.pad)])
        half = size // 2 if self.center else 0
        least = half + 1 if half and self.pad_mode == "reflect" else max(size - 2 * half, 1)
        if x.shape[-1] < least:
            expected = f"at least {least - 2 * self.pad} samples, for frames of {size}"
            raise InputError("x", expected, describe(x))
        if half:
            x = jnp.pad(x, [*before, (half, half)], mode=self.pad_mode)
        count = (x.shape[-1] - size) // hop + 1
        # Blocks of one hop, several of which are a frame: slices, which cost less than a gather.
        blocks = -(-size // hop)
        length = (count + blocks - 1) * hop
        x = jnp.pad(x, [*before, (0, max(length - x.shape[-1], 0))])[..., :length]
        x = x.reshape(*x.shape[:-1], -1, hop)
        parts = [x[..., block : block + count, :] for block in range(blocks)]
        return jnp.concatenate(parts, axis=-1)[..., :size]

    def _window(self) -> np.ndarray:
        """The window, padded to a frame and divided by what ``normalized`` says, float64."""
        size, length = self.n_fft, self.win_length or self.n_fft
        angles = 2 * np.pi * np.arange(length) / length
        a0, a1, a2 = _COSINES[self.window_fn]
        window = a0 - a1 * np.cos(angles) + a2 * np.cos(2 * angles)
        norm = 1.0
        if self.normalized in (True, "window"):
            norm = math.sqrt(float(np.sum(window**2)))
        elif self.normalized == "frame_length":
            norm = math.sqrt(size)
        left = (size - length) // 2
        return np.pad(window / norm, (left, size - length - left))


@dataclass(frozen=True)
class FrameCounts:
    """Computes the number of frames of a ``Spectrogram`` from the number of samples.

    Args:
        n_fft: see ``Spectrogram``.
        hop_length: see ``Spectrogram``.
        pad: see ``Spectrogram``.
        center: see ``Spectrogram``.

    Raises:
        InputError: if a setting is invalid; on a call, if x does not contain integers.

    Examples:
        >>> FrameCounts(256, 80)(jnp.array([8000, 4000]))
        Array([101,  51], dtype=int32)
    """

    n_fft: int
    hop_length: int
    pad: int = 0
    center: bool = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_positive("n_fft", self.n_fft)
        check_positive("hop_length", self.hop_length)
        check_integer("pad", self.pad, least=0)
        check_bool("center", self.center)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns numbers of frames for numbers of samples, integers of any shape."""
        x = as_array("x", x)
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise InputError("x", "numbers of samples, integers", describe(x))
        length = x + 2 * (self.pad + (self.n_fft // 2 if self.center else 0))
        return jnp.maximum((length - self.n_fft) // self.hop_length + 1, 0)


@dataclass(frozen=True)
class MelScale:
    """Sums frequencies into bands of the mel scale: ``torchaudio.transforms.MelScale``.

    Each band is a triangular filter from the centre of the previous band to that of the next one;
    the centres are equally spaced on the mel scale. A band that is narrower than the distance
    between two frequencies may contain none of them and is then 0; a larger ``n_fft`` avoids this.

    Args:
        n_mels: number of bands.
        sample_rate: the sample rate of the waveforms in Hz.
        f_min: the lower edge of the first band in Hz.
        f_max: the upper edge of the last band in Hz; by default half the sample rate.
        n_stft: number of frequencies of a spectrogram, ``n_fft // 2 + 1``.
        norm: ``"slaney"`` divides each band by its width; None for triangles of height 1.
        mel_scale: ``"htk"``, 2595 log₁₀(1 + f / 700), or ``"slaney"``, which is linear up to 1 kHz
            and logarithmic above.

    Raises:
        InputError: if a setting is invalid; on a call, if the spectrograms have another number of
            frequencies.

    Examples:
        >>> MelScale(n_mels=40, sample_rate=8000, n_stft=129)(jnp.ones((2, 101, 129))).shape
        (2, 101, 40)
    """

    n_mels: int = 128
    sample_rate: int = 16000
    f_min: float = 0.0
    f_max: float | None = None
    n_stft: int = 201
    norm: Literal["slaney"] | None = None
    mel_scale: MelScaleName = "htk"

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_positive("n_mels", self.n_mels)
        check_positive("sample_rate", self.sample_rate)
        check_positive("n_stft", self.n_stft)
        check_number("f_min", self.f_min, least=0)
        top = float(self.sample_rate // 2) if self.f_max is None else self.f_max
        object.__setattr__(self, "f_max", check_number("f_max", top, above=self.f_min))
        if self.norm is not None:
            check_choice("norm", self.norm, ("slaney",))
        check_choice("mel_scale", self.mel_scale, get_args(MelScaleName))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns the bands [..., n_mels] of spectrograms [..., n_stft]."""
        x = as_array("x", x)
        if not jnp.issubdtype(x.dtype, jnp.floating) or x.shape[-1:] != (self.n_stft,):
            raise InputError("x", f"spectrograms [..., frames, {self.n_stft}]", describe(x))
        filters = jnp.asarray(self.filters(), x.dtype)
        return jnp.matmul(x, filters, precision=jax.lax.Precision.HIGHEST)

    def filters(self) -> np.ndarray:
        """Returns the weight of each frequency in each band, float64 [n_stft, n_mels]."""
        assert self.f_max is not None
        frequencies = np.linspace(0, self.sample_rate // 2, self.n_stft)
        low, high = (_to_mel(f, self.mel_scale) for f in (self.f_min, self.f_max))
        edges = _to_hertz(np.linspace(low, high, self.n_mels + 2), self.mel_scale)
        widths = np.diff(edges)
        slopes = edges[None, :] - frequencies[:, None]
        rising, falling = -slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]
        filters = np.maximum(0.0, np.minimum(rising, falling))
        return filters * (2.0 / (edges[2:] - edges[:-2])) if self.norm == "slaney" else filters


# Slaney's scale
_BREAK = 1000.0  # Hz, where the linear part ends
_LINEAR = 200.0 / 3  # Hz per mel below the break
_STEP = math.log(6.4) / 27  # the difference of log(Hz) per mel above the break


def _to_mel(frequency: float, scale: str) -> float:
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + frequency / 700.0)
    if frequency < _BREAK:
        return frequency / _LINEAR
    return _BREAK / _LINEAR + math.log(frequency / _BREAK) / _STEP


def _to_hertz(mels: np.ndarray, scale: str) -> np.ndarray:
    if scale == "htk":
        return 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    above = _BREAK * np.exp(_STEP * (mels - _BREAK / _LINEAR))
    return np.where(mels < _BREAK / _LINEAR, _LINEAR * mels, above)


@dataclass(frozen=True)
class AmplitudeToDB:
    """Converts to decibels: ``torchaudio.transforms.AmplitudeToDB``.

    Decibels are 10 log₁₀ of power or 20 log₁₀ of magnitude.

    Args:
        stype: ``"power"`` or ``"magnitude"``: what the spectrograms contain.
        top_db: values more than ``top_db`` below the maximum of their example are raised to this
            limit; None for no limit. torchaudio also uses the maximum of each example for batches
            [batch, channel, …].

    Raises:
        InputError: if a setting is invalid; on a call, if the values are not floating, or with
            ``top_db`` have no batch axis.

    Examples:
        >>> AmplitudeToDB()(jnp.array([1.0, 100.0, 0.0]))
        Array([   0.,   20., -100.], dtype=float32)
    """

    stype: Literal["power", "magnitude"] = "power"
    top_db: float | None = None

    def __post_init__(self) -> None:
        """Checks the settings."""
        check_choice("stype", self.stype, ("power", "magnitude"))
        if self.top_db is not None:
            check_number("top_db", self.top_db, least=0)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns the decibels of spectrograms [batch, ..., frames, frequencies]."""
        x = as_array("x", x)
        batched = self.top_db is None or x.ndim > 2
        if not jnp.issubdtype(x.dtype, jnp.floating) or not batched:
            raise InputError("x", "spectrograms [batch, frames, frequencies]", describe(x))
        scale = 10.0 if self.stype == "power" else 20.0
        decibels = scale * jnp.log10(jnp.maximum(x, _SMALLEST))
        if self.top_db is None:
            return decibels
        loudest = jnp.max(decibels, axis=tuple(range(1, x.ndim)), keepdims=True)
        return jnp.maximum(decibels, loudest - self.top_db)


@dataclass(frozen=True)
class MelSpectrogram:
    """``Spectrogram`` and then ``MelScale``: ``torchaudio.transforms.MelSpectrogram``.

    Args:
        sample_rate: the sample rate of the waveforms in Hz.
        n_fft: see ``Spectrogram``.
        win_length: see ``Spectrogram``.
        hop_length: see ``Spectrogram``.
        f_min: see ``MelScale``.
        f_max: see ``MelScale``.
        pad: see ``Spectrogram``.
        n_mels: see ``MelScale``.
        window_fn: see ``Spectrogram``.
        power: see ``Spectrogram``.
        normalized: see ``Spectrogram``.
        center: see ``Spectrogram``.
        pad_mode: see ``Spectrogram``.
        norm: see ``MelScale``.
        mel_scale: see ``MelScale``.

    Raises:
        InputError: see ``Spectrogram`` and ``MelScale``.

    Examples:
        >>> MelSpectrogram(8000, n_fft=256, hop_length=80, n_mels=40)(jnp.zeros((2, 8000))).shape
        (2, 101, 40)
    """

    sample_rate: int = 16000
    n_fft: int = 400
    win_length: int | None = None
    hop_length: int | None = None
    f_min: float = 0.0
    f_max: float | None = None
    pad: int = 0
    n_mels: int = 128
    window_fn: Window = "hann_window"
    power: float = 2.0
    normalized: bool | Literal["window", "frame_length"] = False
    center: bool = True
    pad_mode: PadMode = "reflect"
    norm: Literal["slaney"] | None = None
    mel_scale: MelScaleName = "htk"

    def __post_init__(self) -> None:
        """Checks the settings."""
        _ = self.spectrogram, self.mel

    @property
    def spectrogram(self) -> Spectrogram:
        """The ``Spectrogram``."""
        return Spectrogram(
            self.n_fft,
            self.win_length,
            self.hop_length,
            self.pad,
            self.window_fn,
            self.power,
            self.normalized,
            self.center,
            self.pad_mode,
        )

    @property
    def mel(self) -> MelScale:
        """The ``MelScale``."""
        bins = self.n_fft // 2 + 1
        bands = self.n_mels, self.sample_rate, self.f_min, self.f_max
        return MelScale(*bands, bins, self.norm, self.mel_scale)

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns mel spectrograms [..., frames, n_mels] of waveforms [..., samples]."""
        return self.mel(self.spectrogram(x))


@dataclass(frozen=True, init=False)
class MFCC:
    """Mel-frequency cepstral coefficients: ``torchaudio.transforms.MFCC``.

    A discrete cosine transform (DCT-II) of a mel spectrogram in decibels, with ``top_db`` 80; see
    ``AmplitudeToDB``.

    Args:
        sample_rate: the sample rate of the waveforms in Hz.
        n_mfcc: number of coefficients, at most ``n_mels``.
        norm: ``"ortho"`` for an orthonormal transform; None for twice the plain sum.
        log_mels: whether to use log(mel spectrogram + 1e-6) instead of decibels.
        melkwargs: the arguments of ``MelSpectrogram`` except for the sample rate, by name.

    Attributes:
        mel: the ``MelSpectrogram``.

    Raises:
        InputError: if a setting is invalid; on a call, see ``MelSpectrogram``.

    Examples:
        >>> mfcc = MFCC(8000, 13, melkwargs={"n_fft": 256, "hop_length": 80, "n_mels": 40})
        >>> mfcc(jnp.zeros((2, 8000))).shape
        (2, 101, 13)
    """

    mel: MelSpectrogram
    n_mfcc: int
    norm: Literal["ortho"] | None
    log_mels: bool

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mfcc: int = 40,
        norm: Literal["ortho"] | None = "ortho",
        log_mels: bool = False,
        melkwargs: dict | None = None,
    ) -> None:
        names = MelSpectrogram.__dataclass_fields__.keys() - {"sample_rate"}
        given = {} if melkwargs is None else melkwargs
        if not isinstance(given, dict) or not given.keys() <= names:
            raise InputError("melkwargs", "arguments of MelSpectrogram by name", melkwargs)
        mel = MelSpectrogram(sample_rate, **given)
        if check_positive("n_mfcc", n_mfcc) > mel.n_mels:
            raise InputError("n_mfcc", f"at most the {mel.n_mels} of n_mels", n_mfcc)
        if norm is not None:
            check_choice("norm", norm, ("ortho",))
        object.__setattr__(self, "mel", mel)
        object.__setattr__(self, "n_mfcc", n_mfcc)
        object.__setattr__(self, "norm", norm)
        object.__setattr__(self, "log_mels", check_bool("log_mels", log_mels))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Returns coefficients [batch, ..., frames, n_mfcc] of waveforms [batch, ..., samples]."""
        mel = self.mel(x)
        levels = jnp.log(mel + _OFFSET) if self.log_mels else AmplitudeToDB(top_db=_TOP_DB)(mel)
        transform = jnp.asarray(self._transform(), levels.dtype)
        return jnp.matmul(levels, transform, precision=jax.lax.Precision.HIGHEST)

    def _transform(self) -> np.ndarray:
        """The matrix of the DCT, float64 [n_mels, n_mfcc]."""
        bands = self.mel.n_mels
        angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(self.n_mfcc)
        if self.norm is None:
            return 2 * np.cos(angles)
        scales = np.where(np.arange(self.n_mfcc) == 0, math.sqrt(0.5), 1.0)
        return np.cos(angles) * scales * math.sqrt(2.0 / bands)


def check_waveforms(x: ArrayLike) -> jax.Array:
    """Checks waveforms [..., samples], and returns them as a JAX array.

    Raises:
        InputError: if they are not floating.
    """
    x = as_array("x", x)
    if x.ndim == 0 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError("x", "waveforms [..., samples], floating", describe(x))
    return x

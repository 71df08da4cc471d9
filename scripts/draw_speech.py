"""Draws ``docs/images/speech.png``: a waveform, its log-mel spectrogram, and the same with masks.

    python scripts/draw_speech.py [FILE.png] [SOUND.wav]

Without a sound it draws a synthetic one: three vowels of a voice with falling pitch.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from jaxnets.data import MFCC, AmplitudeToDB, Compose, MelSpectrogram, SpecAugment, read_wav

RATE = 8000
#: The frequencies of the first three formants of the vowels of "a", "i" and "u", in Hz.
VOWELS = ((750, 1200, 2500), (300, 2300, 3000), (320, 800, 2300))
LOG_MEL = Compose(
    MelSpectrogram(RATE, n_fft=256, hop_length=64, n_mels=40), AmplitudeToDB(top_db=70)
)
CEPSTRUM = MFCC(RATE, 13, melkwargs={"n_fft": 256, "hop_length": 64, "n_mels": 40})


def voice() -> np.ndarray:
    """Three vowels of 0.3 s, with pauses: harmonics of a falling pitch, weighted by formants."""
    times = np.arange(round(0.3 * RATE)) / RATE
    pieces = [np.zeros(600)]
    for number, formants in enumerate(VOWELS):
        pitch = 140 - 15 * number - 40 * times
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        sound = np.zeros_like(times)
        for harmonic in range(1, 26):
            distance = [(harmonic * pitch - formant) / 120 for formant in formants]
            sound += sum(np.exp(-(d**2) / 2) for d in distance) * np.sin(harmonic * phase)
        pieces += [sound * np.hanning(len(times)) ** 0.5, np.zeros(600)]
    sound = np.concatenate(pieces)
    noise = np.random.default_rng(0).normal(size=len(sound))
    return (0.8 * sound / np.abs(sound).max() + 0.003 * noise).astype(np.float32)


def main(path: Path, sound: Path | None) -> None:
    """Draws the picture."""
    from matplotlib.figure import Figure

    wave = voice() if sound is None else read_wav(sound, RATE)[0]
    decibels = LOG_MEL(wave[None])
    masked = SpecAugment(2, 25, 2, 8)(decibels, jax.random.key(3))
    mfcc = CEPSTRUM(wave[None])
    seconds = len(wave) / RATE
    figure = Figure(figsize=(9, 7), layout="constrained")
    grid = figure.subplots(4, 1, sharex=True)
    grid[0].plot(np.arange(len(wave)) / RATE, wave, linewidth=0.5)
    grid[0].set_title("the waveform, float32 [samples]", loc="left")
    rows = (
        ("MelSpectrogram and AmplitudeToDB, [frames, 40]", "mel band", decibels),
        ("SpecAugment(2, 25, 2, 8), in training", "mel band", masked),
        ("MFCC, [frames, 13] (the first is left out)", "coefficient", mfcc[..., 1:]),
    )
    for axes, (title, label, values) in zip(grid[1:], rows, strict=True):
        image = np.asarray(values[0]).T
        axes.imshow(
            image, aspect="auto", origin="lower", interpolation="nearest", cmap="magma",
            extent=(0, seconds, 0, len(image)),
        )  # fmt: skip
        axes.set_title(title, loc="left")
        axes.set_ylabel(label)
    grid[-1].set_xlabel("seconds")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    arguments = [Path(word) for word in sys.argv[1:]]
    default = Path(__file__).parent.parent / "docs" / "images" / "speech.png"
    main(arguments[0] if arguments else default, arguments[1] if len(arguments) > 1 else None)

"""Recordings for tests: a tone for each digit, with random length and volume."""

from pathlib import Path

import numpy as np

from jaxnets.data import write_wav

RATE = 8000


def tone(frequency: float, seconds: float, rate: int = RATE) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_digits(folder: Path, digits: int = 10, indices: int = 7, speakers=("ann",)) -> None:
    """Writes files of 0.1 to 0.15 s with the names of the Free Spoken Digit Dataset."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for digit in range(digits):
        for speaker in speakers:
            for index in range(indices):
                sound = tone(300 * (digit + 1), draw.uniform(0.1, 0.149)) * draw.uniform(0.5, 1)
                sound += 0.01 * draw.normal(size=len(sound))
                write_wav(folder / f"{digit}_{speaker}_{index}.wav", sound, RATE)

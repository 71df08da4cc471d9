"""A data set of recordings with the same sample rate and length."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer
from jaxnets.data.audio.wav import read_wav
from jaxnets.data.dataset import Dataset


@dataclass(frozen=True)
class AudioFormat:
    """The format of the recordings of a data set.

    Args:
        sample_rate: the sample rate in Hz.
        samples: the number of samples in an example. A shorter recording is padded with zeros at
            its end, a longer one is cut off.
        lengths: whether an example also contains its number of samples before the padding.

    Raises:
        InputError: if a number is not a positive integer.
    """

    sample_rate: int
    samples: int
    lengths: bool = False

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_integer("sample_rate", self.sample_rate, least=1)
        check_integer("samples", self.samples, least=1)
        check_bool("lengths", self.lengths)

    @property
    def seconds(self) -> float:
        """The length of an example in seconds."""
        return self.samples / self.sample_rate

    def read(self, path: Path | str) -> Any:
        """Reads a WAV file as one example.

        Args:
            path: the file, which is resampled if it has another sample rate.

        Returns:
            A waveform, float32 [samples]; with ``lengths`` a dictionary of ``"sound"`` and
            ``"lengths"``, int32 [].

        Raises:
            InputError: if the file cannot be read.
        """
        example = self.batch([read_wav(path, self.sample_rate)[0]])
        if isinstance(example, dict):
            return {name: array[0] for name, array in example.items()}
        return example[0]

    def batch(self, recordings: Sequence[np.ndarray]) -> Any:
        """Pads recordings to one length.

        Args:
            recordings: floats [samples] each, at the sample rate of the format.

        Returns:
            Waveforms, float32 [batch, samples]; with ``lengths`` a dictionary as ``read``.
        """
        waveforms = np.zeros((len(recordings), self.samples), np.float32)
        lengths = np.array([min(len(each), self.samples) for each in recordings], np.int32)
        for waveform, recording, length in zip(waveforms, recordings, lengths, strict=True):
            waveform[:length] = recording[:length]
        return {"sound": waveforms, "lengths": lengths} if self.lengths else waveforms


@dataclass(frozen=True, eq=False, repr=False)
class AudioDataset(Dataset):
    """A ``Dataset`` of waveforms, float32 [N, samples], with their format.

    With lengths, its inputs are a dictionary of ``"sound"`` and ``"lengths"``, int32 [N].

    Args:
        audio: the format of the inputs, which also reads new WAV files.

    Raises:
        InputError: if the inputs do not have that format, and as ``Dataset``.
    """

    audio: AudioFormat = field(kw_only=True)

    def __post_init__(self) -> None:
        """Checks that the inputs have the format."""
        super().__post_init__()
        if not isinstance(self.audio, AudioFormat):
            raise InputError("audio", "an AudioFormat", self.audio)
        inputs = self.spec.inputs
        several = isinstance(inputs, dict)
        waveform = inputs.get("sound") if several else inputs
        if several != self.audio.lengths or getattr(waveform, "shape", None) != (
            self.audio.samples,
        ):
            raise InputError("audio", f"the format of inputs {inputs}", self.audio)

    def _lines(self) -> list[str]:
        rate, seconds = self.audio.sample_rate, self.audio.seconds
        return [*super()._lines(), f"{seconds:g} s at {rate:,} Hz"]

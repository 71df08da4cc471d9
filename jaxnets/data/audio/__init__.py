"""Sound: WAV files, folders of them, and sequences of recordings."""

from jaxnets.data.audio.dataset import AudioDataset, AudioFormat
from jaxnets.data.audio.wav import read_wav, write_wav

__all__ = ["AudioDataset", "AudioFormat", "read_wav", "write_wav"]

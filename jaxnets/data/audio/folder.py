"""Folders of WAV files: a subfolder for each class, or spoken digits recognized by file name."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_bool, check_integer, check_number, check_positive
from jaxnets.data.audio.dataset import AudioFormat
from jaxnets.data.audio.wav import read_header, read_wav
from jaxnets.data.batching import epoch_plan
from jaxnets.data.source import Part, Source, lying
from jaxnets.data.streaming import Examples

#: The endings by which a sound file is recognized.
ENDINGS = (".wav", ".wave")
_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("val", "valid", "validation", "dev"),
}
#: The names of the Free Spoken Digit Dataset: digit, speaker and number of the recording.
_DIGIT = re.compile(r"(\d)_([^_]+)_(\d+)\.wav")
#: Recordings of each digit and speaker with a smaller number are for testing.
_TESTED = 5
#: The label that pads a sequence of classes.
PADDING = -1


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings are read.

    Args:
        seconds: the length to which each recording is padded or cut; None for the longest one's.
        sample_rate: the rate in Hz to which each recording is converted; None if all recordings
            have the same rate.
        lengths: whether an example also contains its number of samples before the padding.
        join: the largest number of recordings that are joined into one example, whose label is then
            the sequence of their classes; None for one recording in each example.

    Raises:
        InputError: if a value is out of range.
    """

    seconds: float | None = None
    sample_rate: int | None = None
    lengths: bool = False
    join: int | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.seconds is not None:
            check_number("seconds", self.seconds, above=0)
        if self.sample_rate is not None:
            check_positive("sample_rate", self.sample_rate)
        if self.join is not None:
            check_integer("join", self.join, least=1)
        check_bool("lengths", self.lengths)


def find(folder: Path, seed: int = 0, recording: RecordingOptions | None = None) -> Source | None:
    """Finds the recordings in a folder; returns None if there are none.

    There are two layouts. In that of the Free Spoken Digit Dataset, the folder or its subfolder
    ``recordings`` contains files ``{digit}_{speaker}_{index}.wav``, and those with an index below 5
    are the test split. Otherwise there is a subfolder of WAV files for each class, in ``train`` and
    ``test`` or without splits. The recordings are shuffled, so a range of them contains examples of
    all classes.

    Args:
        folder: the folder to search.
        seed: the seed of the order, and of the sequences that are joined.
        recording: how to read the recordings.

    Raises:
        InputError: if a file is damaged, sample rates differ and none is given, or ``test`` has a
            class that ``train`` lacks.
    """
    found = _digits(folder) or _by_folders(folder)
    if not found:
        return None
    classes = tuple(sorted({name for files in found.values() for _, name in files}))
    _check_classes(folder, found, classes)
    recording = recording or RecordingOptions()
    form, counts = _measured([path for files in found.values() for path, _ in files], recording)
    parts: dict[str, Any] = {}
    for split, files in found.items():
        order = epoch_plan(len(files), len(files), seed=seed, epoch=0).full[0]
        chosen = [files[place] for place in order]
        names = np.array([os.fsencode(path.relative_to(folder)) for path, _ in chosen])
        labels = np.array([classes.index(name) for _, name in chosen], np.int32)
        samples = np.array([counts[path] for path, _ in chosen], np.int32)
        parts[split] = AudioFiles(folder, names, labels, samples, form)
    if recording.join is not None:
        parts, form = _joined(parts, recording.join, seed, form)
    held: dict[str, Part] = {split: lying(files) for split, files in parts.items()}
    return Source(f"recordings in {folder}", held, classes, audio=form)


@dataclass(frozen=True, eq=False, repr=False)
class AudioFiles(Examples):
    """Recordings that are read when they are used.

    Args:
        folder: the folder of the files.
        names: the paths of the files in the folder, encoded as by ``os.fsencode``, bytes [N].
        labels: class numbers, int32 [N].
        samples: the length of each recording at the format's sample rate, at most that of an
            example, int32 [N].
        form: the format of an example.
    """

    folder: Path
    names: np.ndarray
    labels: np.ndarray
    samples: np.ndarray
    form: AudioFormat

    def __len__(self) -> int:
        """The number of recordings."""
        return len(self.names)

    def gather(self, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        """See ``Examples``."""
        return self.form.batch([self.recording(row) for row in rows]), self.labels[rows]

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        return self.labels

    def recording(self, row: int) -> np.ndarray:
        """The samples of one recording, float32 [samples], cut to its length."""
        path = self.folder / os.fsdecode(self.names[row])
        return read_wav(path, self.form.sample_rate)[0][: self.samples[row]]


@dataclass(frozen=True, eq=False, repr=False)
class JoinedRecordings(Examples):
    """Concatenated recordings, labelled with the sequence of their classes.

    Args:
        files: the recordings.
        members: the recordings of each sequence, int32 [N, join], padded with -1.
        form: the format of an example.
    """

    files: AudioFiles
    members: np.ndarray
    form: AudioFormat

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.members)

    def gather(self, rows: np.ndarray) -> tuple[Any, np.ndarray]:
        """See ``Examples``; labels are class numbers [b, join], padded with -1."""
        several = [members[members != PADDING] for members in self.members[rows]]
        joined = [np.concatenate([self.files.recording(k) for k in members]) for members in several]
        return self.form.batch(joined), self._labels(self.members[rows])

    def known_labels(self) -> np.ndarray:
        """See ``Examples``."""
        return self._labels(self.members)

    def _labels(self, members: np.ndarray) -> np.ndarray:
        return np.where(members == PADDING, PADDING, self.files.labels[members]).astype(np.int32)


def _joined(
    parts: dict[str, AudioFiles], most: int, seed: int, form: AudioFormat
) -> tuple[dict[str, JoinedRecordings], AudioFormat]:
    """Joins recordings: each one starts a sequence, which random ones of its split continue."""
    drawn, longest = {}, 0
    for stream, (split, files) in enumerate(parts.items()):
        draw = np.random.Generator(np.random.Philox(key=[seed, stream]))
        members = draw.integers(len(files), size=(len(files), most), dtype=np.int32)
        members[:, 0] = np.arange(len(files))
        counts = draw.integers(1, most + 1, size=(len(files), 1))
        members = np.where(np.arange(most) < counts, members, PADDING).astype(np.int32)
        samples = np.where(members == PADDING, 0, files.samples[members]).sum(1)
        longest, drawn[split] = max(longest, int(samples.max())), members
    form = replace(form, samples=longest)
    return {split: JoinedRecordings(parts[split], drawn[split], form) for split in parts}, form


def _digits(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """The recordings of spoken digits by split, each with its digit; empty if there are none."""
    for place in (folder, folder / "recordings"):
        files = _sounds(place)
        matches = [(path, _DIGIT.fullmatch(path.name)) for path in files]
        if not files or not all(match for _, match in matches):
            continue
        found: dict[str, list[tuple[Path, str]]] = {"train": [], "test": []}
        for path, match in matches:
            if match is not None:
                found["test" if int(match[3]) < _TESTED else "train"].append((path, match[1]))
        complete = found["train"] and found["test"]
        return found if complete else {"train": [*found["train"], *found["test"]]}
    return {}


def _by_folders(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """The recordings of each split, each with the name of its class; empty if there are none."""
    splits = {}
    for child in _folders(folder):
        word = child.name.lower()
        split = next((name for name, words in _SPLITS.items() if word in words), None)
        files = _of_classes(child) if split else []
        if split and files:
            splits[split] = files
    if "train" in splits:
        return {split: splits[split] for split in _SPLITS if split in splits}
    files = _of_classes(folder)
    return {"train": files} if files else {}


def _of_classes(folder: Path) -> list[tuple[Path, str]]:
    return [(path, child.name) for child in _folders(folder) for path in _beneath(child)]


def _folders(folder: Path) -> list[Path]:
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(child for child in children if child.is_dir() and child.name[0] != ".")


def _sounds(folder: Path) -> list[Path]:
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in children if _is_sound(path))


def _beneath(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_sound(path))


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS and path.name[0] != "." and path.is_file()


def _check_classes(
    folder: Path, found: dict[str, list[tuple[Path, str]]], classes: Sequence[str]
) -> None:
    known = {name for _, name in found["train"]}
    strange = next((name for name in classes if name not in known), None)
    if strange is not None:
        expected = f"classes of the training recordings, which are {', '.join(sorted(known))}"
        raise InputError(str(folder), expected, strange)


def _measured(
    paths: list[Path], recording: RecordingOptions
) -> tuple[AudioFormat, dict[Path, int]]:
    """Reads the format of recordings, and the length of each, from the headers of the files."""
    headers = {path: read_header(path) for path in paths}
    rate = recording.sample_rate or headers[paths[0]].rate
    for path, header in headers.items():
        if recording.sample_rate is None and header.rate != rate:
            expected = f"{rate} Hz, as {paths[0]} (sample_rate= converts all to one rate)"
            raise InputError(str(path), expected, f"{header.rate} Hz")
    counts = {path: -(-header.samples * rate // header.rate) for path, header in headers.items()}
    seconds = recording.seconds
    samples = max(counts.values()) if seconds is None else max(round(seconds * rate), 1)
    counts = {path: min(count, samples) for path, count in counts.items()}
    return AudioFormat(rate, samples, recording.lengths), counts

"""Stores the finished trainings of a comparison in a folder, so that it can be resumed."""

import dataclasses
import json
import os
import signal
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.compare.records import Side, Timing
from jaxnets.disk import replacing
from jaxnets.json_files import WRONG, read_object, reason
from jaxnets.training import Interrupted

_BEGUN = "begun.json"
_SIDES = "trainings"
#: Settings that may change when a comparison is resumed.
_FREE = {"seeds"}


class ComparisonInterrupted(Interrupted):
    """A comparison was interrupted; ``step`` is the number of finished trainings."""

    def __init__(self, directory: Path, done: int) -> None:
        super().__init__(signal.SIGINT, directory, done)

    def __str__(self) -> str:
        done = f"{self.step} finished training{'' if self.step == 1 else 's'}"
        return f"stopped by {self.signal.name}, with {done} kept in {self.directory}"


class Store:
    """Stores each training as soon as it is finished, completely or not at all.

    Args:
        directory: the comparison's folder; None to store nothing.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory

    def begin(self, record: Mapping[str, Any]) -> None:
        """Makes the folder, or checks that it contains the same comparison.

        Args:
            record: the settings that determine the results, ready for JSON.

        Raises:
            InputError: if a setting differs, or the folder cannot be written to.
        """
        if self.directory is None:
            return
        now = json.loads(json.dumps(dict(record)))
        if (self.directory / _BEGUN).exists():
            check_same(read_begun(self.directory), now, self.directory)
        try:
            (self.directory / _SIDES).mkdir(parents=True, exist_ok=True)
            _write(self.directory / _BEGUN, (json.dumps(now, indent=2) + "\n").encode())
        except OSError as error:
            expected = "a folder that can be written to"
            raise InputError("out", expected, f"{self.directory}: {error.strerror}") from error

    def side(self, name: str, seed: int) -> Side | None:
        """Reads a finished training; returns None if it is not stored."""
        if self.directory is None or not self._path(name, seed).exists():
            return None
        path = self._path(name, seed)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found: dict[str, Any] = {key: arrays[key] for key in arrays.files}
            framework = str(found.pop("framework"))
            absent = {field.name: None for field in dataclasses.fields(Side)}
            return Side(**{**absent, **found, "framework": framework, "seed": seed})
        except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError("resume", "a file written by jaxnets", f"{path}: {error}") from error

    def keep(self, side: Side, name: str | None = None) -> None:
        """Stores a finished training."""
        if self.directory is None:
            return
        values = {field.name: getattr(side, field.name) for field in dataclasses.fields(Side)}
        there = {key: value for key, value in values.items() if value is not None}
        path = self._path(name or side.framework, side.seed)
        part = path.with_name(f".{path.name}.partial")
        with part.open("wb") as file:
            np.savez(file, **there)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def alone(self) -> tuple[int | None, tuple[Timing, ...]]:
        """Reads the other framework's number of threads, and the timings; empty if not stored."""
        if self.directory is None or not self._alone.exists():
            return None, ()
        try:
            record = read_object(self._alone)
            threads = record["threads"]
            if threads is not None:
                check_positive("threads", threads)
            return threads, tuple(map(_timing, record["timings"]))
        except WRONG as error:
            got = f"{self._alone}: {reason(error)}"
            raise InputError("resume", "a file written by jaxnets", got) from error

    def keep_alone(self, threads: int | None, timings: tuple[Timing, ...]) -> None:
        """Stores the values that ``alone`` returns."""
        if self.directory is not None:
            rows = [dataclasses.asdict(timing) for timing in timings]
            _write(self._alone, json.dumps({"threads": threads, "timings": rows}).encode())

    @property
    def _alone(self) -> Path:
        assert self.directory is not None
        return self.directory / _SIDES / "alone.json"

    def interrupted(self) -> KeyboardInterrupt:
        """Returns the exception to raise at Ctrl-C."""
        if self.directory is None:
            return KeyboardInterrupt()
        done = list((self.directory / _SIDES).glob("*.npz"))
        return ComparisonInterrupted(self.directory, len(done))

    def _path(self, name: str, seed: int) -> Path:
        assert self.directory is not None
        return self.directory / _SIDES / f"{name}-{seed}.npz"


def _timing(row: dict[str, Any]) -> Timing:
    """Makes a timing from a row of a file, and checks it."""
    timing = Timing(**{**row, "epoch_seconds": tuple(row["epoch_seconds"])})
    if not isinstance(timing.framework, str):
        raise InputError("framework", "a name", timing.framework)
    memory = [] if timing.peak_memory is None else [timing.peak_memory]
    for seconds in (*timing.epoch_seconds, timing.compile_seconds, *memory):
        check_number("timings", seconds, least=0)
    return timing


def read_begun(directory: Path) -> dict[str, Any]:
    """Reads the settings that a comparison began with.

    Raises:
        InputError: if the folder has no readable ``begun.json``.
    """
    path = directory / _BEGUN
    if not path.is_file():
        expected = f"the folder of a comparison, which contains {_BEGUN}"
        raise InputError("resume", expected, repr(str(directory)))
    try:
        return read_object(path)
    except WRONG as error:
        got = f"{path}: {reason(error)}"
        raise InputError("resume", f"a {_BEGUN} written by jaxnets", got) from error


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], directory: Path) -> None:
    """Checks that a comparison is resumed with the same settings.

    Args:
        before: the settings in the folder.
        now: the settings now.
        directory: the folder, for the message.

    Raises:
        InputError: with all settings that differ.
    """
    faults = [
        f"{name} is {now.get(name)}, was {before.get(name)}"
        for name in sorted((before.keys() | now.keys()) - _FREE)
        if before.get(name) != now.get(name)
    ]
    if faults:
        got = f"another: {'; '.join(faults)}"
        raise InputError("resume", f"the comparison in {directory}", got)


def new_directory(directory: Path | None, name: str) -> Path:
    """Returns a folder for a new comparison, without making it.

    Args:
        directory: the folder; None for the next free name in ``comparisons``.
        name: the name of the experiment.

    Raises:
        InputError: if the folder is not empty.
    """
    if directory is None:
        names = (f"{name}-{number}" if number > 1 else name for number in range(1, 10**6))
        return next(path for path in map(Path("comparisons").joinpath, names) if not path.exists())
    if (directory / _BEGUN).exists():
        got = f"{str(directory)!r}, which contains a comparison (use --resume)"
        raise InputError("out", "a new or empty folder", got)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        got = f"{str(directory)!r}, which exists and is not empty"
        raise InputError("out", "a new or empty folder", got)
    return directory


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)

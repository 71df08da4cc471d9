"""Manifests of folders: the sizes and SHA-256 hashes of their files, to detect damage."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from jaxnets.json_files import read_object

MANIFEST = "manifest.json"


def appear(partial: Path, path: Path) -> None:
    """Writes a folder's manifest, and renames the folder when all of it is on disk.

    The rename is atomic, so a folder of the final name is always complete.

    Args:
        partial: the folder, in a temporary folder that is removed.
        path: the final path, on the same file system.
    """
    write_manifest(partial)
    partial.rename(path)
    _sync(path.parent)
    shutil.rmtree(partial.parent, ignore_errors=True)


def write_manifest(folder: Path) -> None:
    """Writes the manifest of a folder's files into it."""
    files = {name: _measured(folder / name) for name in _names(folder)}
    with open(folder / MANIFEST, "w") as file:
        json.dump({"files": files, "sha256": _digest(files)}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    # Flushing a file does not flush its entry in the folder.
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync(inner)


def damage(folder: Path) -> str | None:
    """Compares a folder with its manifest; returns a description of the damage, or None."""
    try:
        manifest = read_object(folder / MANIFEST)
        files = manifest["files"]
        if _digest(files) != manifest["sha256"] or not all(map(_is_entry, files.values())):
            return f"{MANIFEST} is damaged"
        found = _names(folder)
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return f"{MANIFEST} is damaged"
    faults = [fault for name in sorted({*files, *found}) if (fault := _fault(folder, name, files))]
    return "; ".join(faults) or None


def _is_entry(value: Any) -> bool:
    """Whether a value has the form that ``_measured`` returns."""
    return isinstance(value, list) and [type(part) for part in value] == [int, str]


def _fault(folder: Path, name: str, files: dict[str, Any]) -> str | None:
    if name not in files:
        return f"{name} is not in the manifest"
    size, digest = files[name]
    try:
        # Reading a pipe would block.
        if not (folder / name).is_file() and (folder / name).exists():
            return f"{name} is not a file"
        if (has := (folder / name).stat().st_size) != size:
            return f"{name} has {has} bytes instead of {size}"
        with open(folder / name, "rb") as file:
            intact = hashlib.file_digest(file, "sha256").hexdigest() == digest
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return None if intact else f"{name} differs from what was written"


def _names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    return [name for name in names if name != MANIFEST]


def _measured(path: Path) -> list[int | str]:
    with open(path, "rb+") as file:  # Windows flushes only files that are open for writing
        os.fsync(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return [os.fstat(file.fileno()).st_size, digest]


def _digest(files: Any) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _sync(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems do not support flushing folders.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)

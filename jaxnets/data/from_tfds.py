"""Data sets of TensorFlow Datasets (TFDS): read without TensorFlow, prepared with it."""

import difflib
import functools
import importlib.util
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, narrowed
from jaxnets.data import connection, image_files, tfrecords
from jaxnets.data.dataset import Split
from jaxnets.data.source import Part, Source
from jaxnets.data.streaming import Examples
from jaxnets.data.streaming.examples import stacked
from jaxnets.optional import require

_ANY_HOST = "https://storage.googleapis.com"  # TFDS's own host, for data sets without known URLs


def root(data_dir: Path | None = None) -> Path:
    """Returns the folder of prepared data sets: ``data_dir``, or else TFDS's default."""
    own = os.environ.get("TFDS_DATA_DIR") or Path.home() / "tensorflow_datasets"
    return data_dir or Path(own)


def find(name: str, data_dir: Path | None = None) -> Source | None:
    """Finds the highest version of a prepared data set; returns None if no version exists.

    Args:
        name: TFDS's name, such as ``kmnist`` or ``emnist/letters``.
        data_dir: the folder of prepared data sets; None for TFDS's default.

    Raises:
        InputError: if several configurations are prepared and the name includes none of them, or
            the examples are not pairs of an input and a label.
    """
    folder = _prepared(root(data_dir), name)
    return None if folder is None else _source(name, folder)


def at(path: Path) -> Source | None:
    """Opens a prepared data set, by its folder or that of a version; returns None if it is not one.

    Args:
        path: an existing file or folder.

    Raises:
        InputError: see ``find``.
    """
    if (path / "dataset_info.json").is_file():
        return _source(path.parent.name, path)
    folder = _prepared(path.parent, path.name) if path.is_dir() else None
    return None if folder is None else _source(path.name, folder)


def prepare(name: str, data_dir: Path | None = None) -> Source:
    """Downloads and prepares a data set.

    The connection is checked first, because TFDS would retry for minutes without one.

    Args:
        name: TFDS's name.
        data_dir: the folder of prepared data sets; None for TFDS's default.

    Raises:
        InputError: if there is no connection.
        ImportError: if TensorFlow is not installed.
    """
    url = _address(name)
    fault = connection.fault(url)
    if fault is not None:
        place = root(data_dir) / name
        raise InputError(
            "name",
            f"a set prepared in {place}, or a connection to {connection.host(url)} to download it",
            f"{name!r}, with neither ({fault}); use a connection, or copy the files",
        )
    tfds = _tfds()
    _require_tensorflow(name)
    builder = tfds.builder(name, data_dir=root(data_dir), file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return _source(name, Path(builder.data_path))


def names() -> list[str]:
    """Returns the names of TFDS's data sets, without network access."""
    return list(_tfds().list_builders(with_community_datasets=False))


def prepared(data_dir: Path | None = None) -> list[tuple[str, Path]]:
    """Returns the names of prepared data sets, each with the folder of its newest version.

    Args:
        data_dir: the folder of prepared data sets; None for TFDS's default.
    """
    found: dict[str, Path] = {}
    top = root(data_dir)
    for pattern in ("*", "*/*"):
        for folder in sorted(top.glob(pattern)):
            versions = _versions(folder)
            if versions:
                found[folder.relative_to(top).as_posix()] = max(versions, key=_version)
    return sorted(found.items())


def texts(name: str, split: str = "train", data_dir: Path | None = None) -> tuple[list[str], Any]:
    """Reads the texts and labels of a prepared data set of texts, such as ``imdb_reviews``.

    Args:
        name: TFDS's name.
        split: a split string, such as ``train[:10%]``.
        data_dir: see ``find``.

    Returns:
        The texts, and their class numbers int32 [N].

    Raises:
        InputError: if the data set is not prepared, or its examples are not texts with labels.
    """
    folder = _prepared(root(data_dir), name)
    if folder is None:
        raise InputError("name", f"a set prepared in {root(data_dir) / name}", repr(name))
    builder = _builder(folder)
    key, label = _keys(builder, name, text=True)
    try:
        examples = list(_examples(builder, split))
    except (KeyError, ValueError) as error:  # raised by TFDS for an invalid split
        choices = ", ".join(builder.info.splits)
        raise InputError("split", f"one of {choices}, or a range", repr(split)) from error
    labels = _numbers(f"{name}, {split}", np.array([example[label] for example in examples]))
    return [example[key].decode() for example in examples], labels


def nearest(name: str, others: list[str]) -> str:
    """Returns a suggestion of names similar to an unknown one, or an empty string."""
    near = difflib.get_close_matches(name, sorted({*others, *names()} - {name}), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def _tfds() -> Any:
    import tensorflow_datasets

    return tensorflow_datasets


def _require_tensorflow(name: str) -> None:
    if importlib.util.find_spec("tensorflow") is None:
        require("tensorflow", extra="tensorflow", feature=f"downloading and preparing {name}")


def _address(name: str) -> str:
    """Returns a URL that the data set is downloaded from."""
    infos = _tfds().builder_cls(name.partition("/")[0]).url_infos
    return next((url for url in infos or {} if url.startswith("http")), _ANY_HOST)


def _prepared(root: Path, name: str) -> Path | None:
    """Returns the folder of the highest prepared version, or None."""
    top = root / name
    if not os.path.isdir(top):  # unlike ``Path.is_dir``, also of a name too long for a file
        return None
    versions = _versions(top)
    if not versions:
        configurations = {child.name: _versions(child) for child in top.iterdir() if child.is_dir()}
        configurations = {child: found for child, found in configurations.items() if found}
        if len(configurations) > 1:
            choices = ", ".join(f"{name}/{child}" for child in sorted(configurations))
            raise InputError("name", f"one of {choices}", repr(name))
        versions = [version for found in configurations.values() for version in found]
    return max(versions, key=_version, default=None)


def _versions(folder: Path) -> list[Path]:
    """Returns the folders of complete versions; TFDS gives unfinished ones another name."""
    found = (info.parent for info in folder.glob("*/dataset_info.json"))
    return [version for version in found if _version(version)]


def _version(folder: Path) -> tuple[int, ...]:
    numbers = folder.name.split(".")
    return tuple(map(int, numbers)) if all(map(str.isdecimal, numbers)) else ()


def _source(name: str, folder: Path) -> Source:
    builder = _builder(folder)
    keys = _keys(builder, name, text=False)
    parts = {split: _part(builder, split, keys) for split in builder.info.splits}
    names = getattr(builder.info.features[keys[1]], "names", None)
    return Source(f"TensorFlow Datasets, {folder}", parts, tuple(names) if names else None)


def _builder(folder: Path) -> Any:
    info = folder / "dataset_info.json"
    try:
        json.loads(info.read_text())
    except ValueError as error:
        raise InputError(str(info), "a data set description of TFDS", str(error)) from error
    builder = _tfds().builder_from_directory(folder)
    for feature in builder.info.features.flat_features:
        if isinstance(feature, _tfds().features.Image):
            feature.decode_example_np = functools.partial(_decoded, feature.decode_example_np)
    return builder


def _decoded(decode: Callable[[bytes], np.ndarray], content: bytes) -> np.ndarray:
    """Decodes an image by TFDS, after a check of its format; TFDS allows all of Pillow's."""
    image_files.check_content(content)
    return decode(content)


def _keys(builder: Any, name: str, *, text: bool) -> tuple[str, str]:
    """Returns the names of the features that are the input and the label."""
    features = builder.info.features
    keys = builder.info.supervised_keys
    if not isinstance(keys, tuple) or len(keys) != 2 or not set(keys) <= set(features):
        found = ", ".join(sorted(features))
        raise InputError("name", f"a data set of inputs and labels, not of {found}", repr(name))
    is_text = isinstance(features[keys[0]], _tfds().features.Text)
    if is_text and not text:
        expected = "a set of images or numbers; jaxnets.data.from_tfds.texts reads texts"
        raise InputError("name", expected, repr(name))
    if text and not is_text:
        raise InputError("name", "a data set of texts", repr(name))
    return keys


def _part(builder: Any, split: str, keys: tuple[str, str]) -> Part:
    def read(start: int, stop: int) -> Split:
        examples = _examples(builder, f"{split}[{start}:{stop}]")
        pairs = [tuple(np.asarray(example[key]) for key in keys) for example in examples]
        inputs, labels = zip(*pairs, strict=True)
        shapes = sorted({array.shape for array in inputs})
        if len(shapes) > 1:
            expected = f"examples of one shape in {builder.info.name}'s split {split}"
            raise InputError("name", expected, f"{list(shapes[0])} and {list(shapes[-1])}")
        what = f"{builder.info.name}, {split}[{start}:{stop}]"
        return Split(np.stack(inputs), _numbers(what, np.stack(labels)))

    return Part(builder.info.splits[split].num_examples, read, _streamed(builder, split, keys))


def _streamed(builder: Any, split: str, keys: tuple[str, str]) -> Examples | str:
    if builder.info.file_format.value != "array_record":
        return "a set prepared with file_format='array_record', which has random access"
    count = builder.info.splits[split].num_examples
    return PreparedExamples(Path(builder.data_path), split, keys, count)


class PreparedExamples(Examples):
    """The examples of a data set prepared as array_record, decoded when they are needed.

    Args:
        folder: the folder of the version.
        split: the name of the split.
        keys: the names of the features that are the input and the label.
        count: number of examples.
    """

    def __init__(self, folder: Path, split: str, keys: tuple[str, str], count: int) -> None:
        self._place = (folder, split, keys, count)
        self._rows: Any = None  # opened at the first read, in the process that reads

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the location for worker processes, without the open files."""
        return PreparedExamples, self._place

    def __len__(self) -> int:
        """The number of examples."""
        return self._place[3]

    def gather(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See ``Examples``."""
        pairs = [self._read(int(row)) for row in rows]
        inputs, labels = zip(*pairs, strict=True)
        folder, split, *_ = self._place
        what = f"{folder}, {split}"
        return stacked("input", inputs, rows), _numbers(what, stacked("label", labels, rows))

    def _read(self, number: int) -> tuple[np.ndarray, ...]:
        from google.protobuf.message import DecodeError

        folder, split, keys, _ = self._place
        try:
            if self._rows is None:
                self._rows = _builder(folder).as_data_source(split=split)
            example = self._rows[number]
        except (RuntimeError, DecodeError, InputError) as error:
            place = f"{folder}, example {number} of {split}"
            raise InputError(place, "an undamaged example", str(error)) from error
        return tuple(np.asarray(example[key]) for key in keys)


def _numbers(what: str, labels: np.ndarray) -> np.ndarray:
    dtype = np.float32 if labels.dtype.kind == "f" else np.int32
    return narrowed(f"labels of {what}", labels, dtype)


def _examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    """Yields the decoded examples that a split string names."""
    kind = builder.info.file_format.value
    try:
        if kind == "tfrecord":
            yield from _tfrecord_examples(builder, split)
        else:
            rows = builder.as_data_source(split=split)
            yield from (rows[number] for number in range(len(rows)))
    except (NotImplementedError, ImportError) as error:
        what = f"a set prepared with file_format='array_record' in {builder.data_path}"
        raise InputError(
            "name", what, f"{kind} files, which require other packages ({error})"
        ) from error
    except RuntimeError as error:  # raised by array_record for a damaged or missing file
        what = f"undamaged files of the split {split}"
        raise InputError(str(builder.data_path), what, str(error)) from error


def _tfrecord_examples(builder: Any, split: str) -> Iterator[dict[str, Any]]:
    # TFDS reads TFRecord files only with TensorFlow.
    from google.protobuf.message import DecodeError

    for instruction in builder.info.splits[split].file_instructions:
        path = Path(instruction.filename)
        stop = None if instruction.take < 0 else instruction.skip + instruction.take
        for number, record in enumerate(itertools.islice(tfrecords.read(path), stop)):
            if number < instruction.skip:
                continue
            try:
                yield builder.info.features.deserialize_example_np(record)
            except (DecodeError, InputError) as error:
                raise InputError(f"{path}, record {number}", "an example", str(error)) from error

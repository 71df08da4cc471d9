"""``load``, which finds a data set by its name or path and reads it."""

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_integer,
    check_number,
    check_positive,
    check_seed,
    printable,
    shown,
)
from jaxnets.data import files, from_tfds, tables
from jaxnets.data.audio.dataset import AudioDataset
from jaxnets.data.audio.folder import RecordingOptions
from jaxnets.data.bundled import DATASETS
from jaxnets.data.dataset import Dataset, in_memory
from jaxnets.data.detection import DetectionDataset
from jaxnets.data.image_files import check_size
from jaxnets.data.image_folder import UnclearClasses
from jaxnets.data.known import KNOWN, canonical, named
from jaxnets.data.ratings import RatingsEncoder
from jaxnets.data.ratings import finding as ratings
from jaxnets.data.ratings.files import Columns
from jaxnets.data.series import check_length, cut
from jaxnets.data.source import Source
from jaxnets.data.splitting import hold_out, hold_out_last, keep_labels, select, stream
from jaxnets.data.standardization import standardize as standardized
from jaxnets.data.streaming import StreamedSplit
from jaxnets.data.table_encoding import TableDataset, TableEncoder
from jaxnets.data.table_files import listed
from jaxnets.data.tables import Reading
from jaxnets.data.text import finding
from jaxnets.data.text.corpora import check_encoder
from jaxnets.data.text.dataset import TextDataset
from jaxnets.data.text.encoder import TextEncoder

SOURCES = ("bundled", "files", "tfds")


def load(
    name: str | os.PathLike[str],
    *,
    source: Literal["bundled", "files", "tfds"] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    train: str | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    label: str | int | None = None,
    regression: bool = False,
    standardize: bool = False,
    window: int | None = None,
    horizon: int | None = None,
    stride: int | None = None,
    tokens: Literal["characters", "words"] | None = None,
    size: int | tuple[int, int] | None = None,
    seconds: float | None = None,
    sample_rate: int | None = None,
    lengths: bool = False,
    join: int | None = None,
    header: bool | None = None,
    categories: str | int | Sequence[str | int] = (),
    drop: str | int | Sequence[str | int] = (),
    user: str | int | None = None,
    item: str | int | None = None,
    time: str | int | None = None,
    negatives: int | None = None,
    labels: int | None = None,
    unlabelled: bool = True,
    streaming: bool = False,
    workers: int = 0,
    encoder: TextEncoder | TableEncoder | RatingsEncoder | None = None,
) -> Dataset:
    """Loads a data set by its name or path.

    A name is looked up in this order: the data sets bundled with jaxnets, the folder in the
    environment variable ``JAXNETS_DATA``, the folders where system packages install data sets, and
    the data sets prepared by TensorFlow Datasets, which downloads the data set if necessary. With
    ``data_dir`` only this folder is searched. A path is a data set's own file or folder.

    Args:
        name: ``mnist``, ``scattered-digits``, ``engel``, ``elnino`` and ``linear`` are bundled;
            ``fashion_mnist``, ``kmnist``, ``cifar10``, ``cifar100`` and ``fsdd`` are known;
            ``rt-polarity``, ``names``, ``text``, ``pairs``, ``dates`` and ``imdb_reviews`` are
            texts; ``ratings`` are generated ratings, ``ml-100k`` and others are those of MovieLens.
            Any other name is that of a folder or file, or one of TensorFlow Datasets. Or a path: of
            a table, a ``.npz`` file, a text file, or a folder in a supported layout.
        source: the only place to search: "bundled", "files" or "tfds"; None for all.
        data_dir: the data set's own folder or file, or the folder that contains it, or into which
            TensorFlow Datasets prepares it.
        train: the training examples, in the notation of TensorFlow Datasets: ``train[:90%]``,
            ``train[-5000:]``, ``train+validation``; by default ``train``.
        test: the test examples; by default ``test``, or else ``validation``, or else a random
            fraction of ``train``, or the end of a series.
        test_fraction: this fraction, the same in each class; by default 0.2, or 0.1 for texts.
        seed: seed of the selection of test examples, and of the order of a folder of images.
        label: for a table, the label column: its name or its number.
        regression: for a table, whether labels are values to predict even if all are integers.
        standardize: whether to return a ``StandardizedDataset``, whose inputs, and labels if they
            are values, have mean 0 and standard deviation 1 in the training split.
        window: for a table that is a series, the number of rows in a window; see
            ``jaxnets.data.windows``. The training and test splits are divided into windows
            separately, so that no row is in both. For a text, the number of characters in an
            example; by default 64.
        horizon: for a series, the number of rows to forecast after a window; by default 1.
        stride: for a text, the number of characters from the start of a training example to the
            start of the next; by default ``window``.
        tokens: for ``pairs`` of texts, the tokens into which both are split; by default
            characters.
        size: for a folder of images, the height and width, or the side of a square, to which each
            image is brought. As in ``PIL.ImageOps.fit``, the largest central part with this aspect
            ratio is resized.
        seconds: for a folder of WAV files, the length to which each recording is padded with zeros
            or cut; by default the length of the longest one.
        sample_rate: for a folder of WAV files, the sample rate in Hz to which each is converted;
            None requires that all have the same.
        lengths: for a folder of WAV files, whether the inputs are a dictionary of ``"sound"`` and
            ``"lengths"``, the number of samples before the padding.
        join: for a folder of WAV files, joins from one to this many of them into an example, whose
            label is the sequence of their classes, padded with -1.
        header: for a table, whether the first row has the column names; None detects it.
        categories: for a table, columns of numbers that are categories, by name or number.
        drop: for a table, columns to leave out, by name or number.
        user: for a table of ratings, the column of the users' ids, by name or number from 0. A
            table with ``user`` or ``item`` is one of ratings; so is a file with the name of one of
            MovieLens', such as ``u.data``. ``label`` is then the column of the ratings, and
            ``test="last"`` sets aside the last rating of each user.
        item: for a table of ratings, the column of the items' ids.
        time: for a table of ratings, the column of the times.
        negatives: reads ratings as implicit feedback, whatever their values: a test example is an
            item that the user has rated and this number of items that the user has not rated.
        labels: for classes, the number of training examples that keep their label: the same number
            in each class, drawn with ``seed``. The label of the others is -1. None keeps all.
        unlabelled: with ``labels``, whether to keep the training examples without a label.
        streaming: whether to read examples during training, for data sets larger than memory. The
            splits are then ``StreamedSplit``, with the same examples in the same order.
        workers: number of processes that read a streamed split; 0 for threads of this process.
        encoder: the encoder of texts, a table or ratings, for example that of a trained run; None
            builds one from the data.

    Raises:
        InputError: if an argument is invalid, the data set is not found (the message lists the
            places that were searched), its files are damaged (the message names the file and the
            place in it), or they cannot be streamed (the message describes a format that can).
        ImportError: if the data set must be prepared and TensorFlow is not installed.

    Examples:
        >>> load("linear").train.inputs.shape
        (1000, 1)
        >>> len(load("mnist", train="train[:90%]", test="train[90%:]").test)
        6000
        >>> load("elnino", window=24, horizon=3).spec  # two years, and the three months after them
        ElementSpec(inputs=ShapeDtypeStruct(shape=(24, 1), dtype=float32),
                    labels=ShapeDtypeStruct(shape=(3,), dtype=float32))
    """
    check_seed("seed", seed)
    if test_fraction is not None:
        check_number("test_fraction", test_fraction, above=0, below=1)
    check_bool("regression", regression)
    check_bool("standardize", standardize)
    if not isinstance(name, str | os.PathLike) or not str(name).strip():
        raise InputError("name", "the name of a data set, or a path", shown(name))
    place = path_of(name, data_dir)
    roles = (user, item, time, negatives)
    ratings_file = (
        None if place is None else ratings.at(place, has_columns=roles[:2] != (None, None))
    )
    if ratings_file is not None or (place is None and name in ratings.RATINGS):
        strange = {
            "source": source, "train": train, "regression": regression or None,
            "standardize": standardize or None, "window": window, "horizon": horizon, "size": size,
            "categories": categories or None, "drop": drop or None,
            "streaming": streaming or None, "workers": workers or None, "seconds": seconds,
            "sample_rate": sample_rate, "lengths": lengths or None, "join": join, "labels": labels,
            "unlabelled": None if unlabelled is True else unlabelled,
        }  # fmt: skip
        _check_absent(strange, name, "ratings")
        header = None if header is None else check_bool("header", header)
        columns = Columns(user, item, label, time, header)
        below = None if data_dir is None else _existing(data_dir)
        return ratings.load(
            str(name), ratings_file, below, columns=columns, test=test,
            test_fraction=test_fraction, seed=seed, negatives=negatives, encoder=encoder,
        )  # fmt: skip
    for argument, value in zip(("user", "item", "time", "negatives"), roles, strict=True):
        if value is not None:
            raise InputError(argument, f"None, as {shown(name)} is no table of ratings", value)
    texts = finding.at(place) if place is not None else None
    if texts is not None or name in finding.TEXTS:
        given = {
            "source": source, "train": train, "test": test, "label": label,
            "regression": regression or None, "standardize": standardize or None,
            "window": window, "stride": stride, "tokens": tokens, "horizon": horizon,
            "size": size, "header": header,
            "seconds": seconds, "sample_rate": sample_rate, "lengths": lengths or None,
            "join": join,
            "categories": categories or None, "drop": drop or None,
            "streaming": streaming or None, "workers": workers or None,
        }  # fmt: skip
        kind, root = texts or (str(name), data_dir)
        whole = _load_texts(kind, given, root, test_fraction, seed, encoder)
        return _labelled(whole, labels, seed, unlabelled)
    for argument, value in (("stride", stride), ("tokens", tokens)):
        if value is not None:
            raise InputError(
                argument, f"None, as {shown(str(name))} is not a data set of texts", value
            )
    table_encoder = _of_table(name, encoder)
    _check_streaming(streaming, workers, standardize)
    size = None if size is None else check_size("size", size)
    recording = RecordingOptions(seconds, sample_rate, lengths, join)
    reading = _reading(label, regression, window, size, header, table_encoder, categories, drop)
    reading = dataclasses.replace(reading, recording=recording)
    if place is None:
        found = find(str(name), source=source, data_dir=data_dir, seed=seed, reading=reading)
        name = canonical(str(name))
    else:
        name, found = find_at(place, source=source, seed=seed, reading=reading)
    _check_label(name, found, reading)
    _check_columns(name, found, table_encoder)
    _check_series(name, found, window, horizon)
    _check_recording(name, found, recording)
    if size is not None and not found.images:
        expected = f"None, as {name} ({found.origin}) is not a folder of images"
        raise InputError("size", expected, size)
    if found.left_out:
        text = f"{found.origin}: left out {'; '.join(found.left_out)}"
        warnings.warn(printable(text, limit=None), UserWarning, stacklevel=2)
    window = window or found.window
    read: Callable[[Source, str, str], Any] = select
    if streaming:
        read = functools.partial(_streamed, workers)
    learn = read(found, "train" if train is None else train, "train")
    if test is None:
        test = next((part for part in ("test", "validation") if part in found.parts), None)
    if test is not None:
        judge = read(found, test, "test")
    elif window is not None:
        learn, judge = hold_out_last(learn, 0.2 if test_fraction is None else test_fraction)
    else:
        learn, judge = hold_out(learn, 0.2 if test_fraction is None else test_fraction, seed)
    parts = (name, learn, judge, found.class_names, found.origin)
    data = _of_kind(found, parts)
    if standardize:
        data = standardized(data)
    data = _labelled(data, labels, seed, unlabelled)
    return data if window is None else _windowed(data, window, horizon or 1)


def _labelled(data: Dataset, labels: int | None, seed: int, unlabelled: bool) -> Dataset:
    """Keeps the labels of a few training examples; see ``load``."""
    if not check_bool("unlabelled", unlabelled) and labels is None:
        raise InputError("unlabelled", "True, unless labels is given", unlabelled)
    if labels is None:
        return data
    train: Any = data.train
    return dataclasses.replace(data, train=keep_labels(train, labels, seed, unlabelled=unlabelled))


def _of_kind(found: Source, parts: tuple[Any, ...]) -> Dataset:
    """A data set of the parts, of the kind that brings what encodes new examples."""
    if found.encoder:
        return TableDataset(*parts, encoder=found.encoder)
    if found.boxes:
        return DetectionDataset(*parts, scatter=found.scatter)
    return AudioDataset(*parts, audio=found.audio) if found.audio else Dataset(*parts)


def _check_recording(name: str, found: Source, recording: RecordingOptions) -> None:
    for argument, value in dataclasses.asdict(recording).items():
        if found.audio is None and value not in (None, False):
            expected = f"the default, as {name} ({found.origin}) is no folder of WAV files"
            raise InputError(argument, expected, value)


def _reading(
    label: str | int | None,
    regression: bool,
    window: int | None,
    size: tuple[int, int] | None,
    header: Any,
    encoder: TableEncoder | None,
    *columns: Any,
) -> Reading:
    if header is not None:
        header = check_bool("header", header)
    named = []
    for argument, names in zip(("categories", "drop"), columns, strict=True):
        names = (names,) if isinstance(names, str | int) else names
        if not isinstance(names, tuple | list) or not all(
            isinstance(name, str | int) and not isinstance(name, bool) for name in names
        ):
            raise InputError(argument, "names or numbers of columns", names)
        named.append(tuple(names))
    categories, drop = named
    return Reading(label, regression, window, size, header, categories, drop, encoder)


def _check_streaming(streaming: bool, workers: int, standardize: bool) -> None:
    check_bool("streaming", streaming)
    if check_integer("workers", workers, least=0) and not streaming:
        raise InputError("workers", "0, unless streaming=True", workers)
    if standardize and streaming:
        raise InputError("standardize", "False with streaming=True", True)


def _streamed(workers: int, found: Source, spec: str, argument: str) -> StreamedSplit:
    return StreamedSplit(stream(found, spec, argument), workers=workers)


def _check_label(name: str, found: Source, reading: Reading) -> None:
    """Checks that arguments about columns are used only for a table."""
    if found.asks_label:
        return
    if reading.label is not None:
        expected = f"None, as {name} ({found.origin}) has its labels"
        raise InputError("label", expected, reading.label)
    if reading.regression:
        raise InputError("regression", f"False, as {name} ({found.origin}) has its labels", True)
    for argument in ("header", "categories", "drop"):
        value = getattr(reading, argument)
        if value not in (None, ()):
            expected = f"the default, as {name} ({found.origin}) is not the user's table"
            raise InputError(argument, expected, value)


def _of_table(name: Any, encoder: Any) -> TableEncoder | None:
    """Checks that an encoder is one of a table or None, and returns it."""
    if isinstance(encoder, TextEncoder):
        raise InputError(shown(name), "texts, as the encoder is a TextEncoder", "other data")
    if isinstance(encoder, RatingsEncoder):
        raise InputError(shown(name), "ratings, as the encoder is a RatingsEncoder", "other data")
    if encoder is not None and not isinstance(encoder, TableEncoder):
        expected = "a TextEncoder, a TableEncoder, a RatingsEncoder or None"
        raise InputError("encoder", expected, encoder)
    return encoder


def _check_columns(name: str, found: Source, encoder: TableEncoder | None) -> None:
    """Checks that a table has the columns of an encoder."""
    if encoder is None or found.encoder == encoder:
        return
    where = f"{name} ({found.origin})"
    if found.encoder is None:
        raise InputError(where, f"a table with the columns {listed(encoder.names)}", "no table")
    got = listed(found.encoder.names)
    raise InputError(where, f"the columns {listed(encoder.names)}", got)


def _check_series(name: str, found: Source, window: int | None, horizon: int | None) -> None:
    for argument, value in (("window", window), ("horizon", horizon)):
        if value is None:
            continue
        if found.window is None:
            raise InputError(argument, f"None, as {name} ({found.origin}) is not a series", value)
        check_positive(argument, value)


def _windowed(data: Dataset, window: int, horizon: int) -> Dataset:
    for part, steps in (("train", data.train), ("test", data.test)):
        what = f"the {part} part of {data.name} ({data.origin})"
        check_length("window", window, horizon, len(steps), what)
    train, test = (cut(in_memory(steps), window, horizon) for steps in (data.train, data.test))
    return dataclasses.replace(data, train=train, test=test)


def _load_texts(
    name: str,
    given: dict[str, Any],
    data_dir: str | os.PathLike[str] | None,
    test_fraction: float | None,
    seed: int,
    encoder: Any,
) -> TextDataset:
    own = finding.OPTIONS.get(name, ())
    _check_absent({k: v for k, v in given.items() if k not in own}, name, "a data set of texts")
    given = {argument: given[argument] for argument in own if given[argument] is not None}
    root = None if data_dir is None else _existing(data_dir)
    if isinstance(encoder, TableEncoder):
        raise InputError(name, "a table, as the encoder is a TableEncoder", "a data set of texts")
    if isinstance(encoder, RatingsEncoder):
        raise InputError(name, "ratings, as the encoder is a RatingsEncoder", "a data set of texts")
    check_encoder(encoder)
    return finding.load(name, root, test_fraction, seed, encoder, **given)


def _check_absent(given: dict[str, Any], name: Any, kind: str) -> None:
    """Refuses arguments that a kind of data does not take."""
    for argument, value in given.items():
        if value is not None:
            raise InputError(argument, f"None, as {name} is {kind}", value)


def _existing(data_dir: str | os.PathLike[str]) -> Path:
    try:
        root = Path(data_dir).expanduser()
        there = bool(os.fspath(data_dir)) and root.exists()
    except (OSError, TypeError, ValueError, RuntimeError) as error:
        raise InputError("data_dir", "an existing folder or file", shown(data_dir)) from error
    if not there:
        raise InputError("data_dir", "an existing folder or file", shown(str(data_dir)))
    return root


def path_of(
    name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """Returns the path that a name stands for; None if it is not a path.

    A name is a path if it begins with ``/``, ``./`` or ``~``, ends in a suffix such as ``.csv``, or
    contains a separator and exists.

    Args:
        name: see ``load``.
        data_dir: see ``load``; relative paths are relative to this folder.

    Raises:
        InputError: if the name is a path that does not exist.
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
    if not isinstance(text, str) or not text.strip():
        return None
    begins = text.startswith(("./", "../", "~")) or text in (".", "..")
    certain = begins or Path(text).is_absolute() or not isinstance(name, str)
    ending = Path(text).suffix.lower() in (*tables.ENDINGS, *finding.ENDINGS, ".npz")
    ending = ending or ratings.is_file_of_ratings(Path(text))
    if not certain and not ending and (data_dir is not None or os.sep not in text):
        return None
    try:
        path = Path(text).expanduser()
        path = path if data_dir is None else Path(data_dir).expanduser() / path
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise InputError("name", "an existing file or folder", repr(text)) from error
    if certain or (ending and data_dir is None and "://" not in text):
        raise InputError("name", "an existing file or folder", repr(text))
    return None


def find_at(
    path: Path,
    *,
    source: Literal["bundled", "files", "tfds"] | None = None,
    seed: int = 0,
    reading: Reading | None = None,
) -> tuple[str, Source]:
    """Finds the data set at a path; returns its name and source.

    Args:
        path: an existing file or folder.
        source: see ``load``.
        seed: see ``find``.
        reading: see ``find``.

    Raises:
        InputError: if there is no data set at the path, or it is damaged.
    """
    if source not in (None, "files"):
        raise InputError("source", "None or 'files', as the name is a path", source)
    found = files.at(path, seed=seed, reading=reading) or from_tfds.at(path)
    if found is None:
        expected = f"a file or folder with {files.LAYOUTS}, or texts"
        raise InputError("name", expected, repr(str(path)))
    return named(path, found)


def find(
    name: str,
    *,
    source: Literal["bundled", "files", "tfds"] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    reading: Reading | None = None,
) -> Source:
    """Finds a data set with all its splits, and reads as little of it as possible.

    Args:
        name: see ``load``.
        source: see ``load``.
        data_dir: see ``load``.
        seed: seed of the order of a folder of images.
        reading: how to read a table.

    Raises:
        InputError: see ``load``.
        ImportError: see ``load``.
    """
    if not isinstance(name, str) or not name.strip():
        raise InputError("name", "the name of a data set", shown(name))
    if source is not None and (not isinstance(source, str) or source not in SOURCES):
        raise InputError("source", f"one of {', '.join(SOURCES)}, or None for all", source)
    name, root = canonical(name), None if data_dir is None else _existing(data_dir)
    found = unclear = None
    if source in (None, "files") and root is not None:
        try:
            found = files.find(name, root, given=True, seed=seed, reading=reading)
        except UnclearClasses as error:
            unclear = error  # raised below only if no other source has the data set
    bundled = name in DATASETS
    if bundled and (source == "bundled" or (source is None and root is None)):
        found = DATASETS[name]()
    if found is None and source in (None, "files") and root is None:
        found = _installed(name, seed, reading)
    if found is None and source in (None, "tfds"):
        found = from_tfds.find(name, root)
        wanted = source is not None or not bundled
        if found is None and wanted and name.partition("/")[0] in from_tfds.names():
            found = _prepare(name, source, root)
    if found is None:
        known = name in DATASETS or name in KNOWN
        raise unclear if unclear and not known else _nowhere(name, source, root)
    return found


def _installed(name: str, seed: int, reading: Reading | None) -> Source | None:
    """Finds the files of a data set in the user's folder, or else in the system's."""
    own, system = files.variable_root(), files.system_root(name)
    found = None if own is None else files.find(name, own, seed=seed, reading=reading)
    if found is None and system is not None:
        found = files.find(name, system, given=True, reading=reading)
    return found


def _prepare(name: str, source: str | None, root: Path | None) -> Source:
    try:
        return from_tfds.prepare(name, root)
    except InputError as error:
        if source is not None:
            raise
        expected = f"{_files(name, root)}, {error.expected}"
        raise InputError(error.argument, expected, error.got, whole=True) from error


def _nowhere(name: str, source: str | None, root: Path | None) -> InputError:
    if source is None and name in KNOWN and KNOWN[name].wanted:
        return InputError("name", _files(name, root), f"{name!r} and no such files")
    if source in (None, "files") and root is not None and root.is_dir() and not any(root.iterdir()):
        return InputError("data_dir", f"a folder with {files.LAYOUTS}", f"the empty folder {root}")
    if source is None and root is not None and name in DATASETS:
        expected = f"{_files(name, root)}, or a set prepared in {root / name}"
        return InputError("data_dir", expected, f"none; without data_dir {name} is the bundled one")
    places = {
        "bundled": f"one of {', '.join(DATASETS)}, which are bundled",
        "files": _files(name, root),
        "tfds": "a name of TensorFlow Datasets",
    }
    expected = ", or ".join(places.values()) if source is None else places[source]
    near = from_tfds.nearest(name, [*DATASETS, *KNOWN, *finding.TEXTS])
    return InputError("name", expected, f"{name!r}{near}")


def _files(name: str, root: Path | None) -> str:
    """Describes where the files of a data set were searched."""
    known = KNOWN.get(name)
    layouts = (known and known.wanted) or f"files ({files.LAYOUTS})"
    if root is not None:
        return f"{layouts} in {root}"
    roots = [files.variable_root(), files.system_root(name)]
    places = [str(place) for place in roots if place is not None]
    unset = [] if files.variable_root() else [files.VARIABLE]
    places.append(f"{' or '.join(['data_dir', *unset])} (not given)")
    return f"{layouts} in {', '.join(places)}"

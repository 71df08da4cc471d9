"""Finds ratings by a name or at a path, and splits them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_positive, shown
from jaxnets.data.dataset import Split
from jaxnets.data.files import VARIABLE, variable_root
from jaxnets.data.ratings import generated
from jaxnets.data.ratings.dataset import RatingsDataset, RatingsEncoder
from jaxnets.data.ratings.files import Columns, Table, ids_in_order, read, read_titles
from jaxnets.data.ratings.rated import Rated
from jaxnets.data.splitting import hold_out

#: MovieLens' data sets by the names of their folders, each with the file of its ratings.
MOVIELENS = {
    "ml-100k": "u.data",
    "ml-1m": "ratings.dat",
    "ml-10m": "ratings.dat",
    "ml-20m": "ratings.csv",
    "ml-25m": "ratings.csv",
    "ml-32m": "ratings.csv",
    "ml-latest": "ratings.csv",
    "ml-latest-small": "ratings.csv",
}
#: The ratings that are found by a name.
RATINGS = ("ratings", *MOVIELENS)
_FOLDERS = {"ml-10m": "ml-10M100K"}
_SITE = "https://grouplens.org/datasets/movielens"
_FILES = re.compile(r"u\.data|ratings\.(dat|csv|tsv)|u[1-5ab]\.(base|test)|r[ab1-5]\.(train|test)")
_IN_A_FOLDER = ("u.data", "ratings.dat", "ratings.csv", "ratings.tsv")


def is_file_of_ratings(path: Path) -> bool:
    """Whether a file has the name of a MovieLens file of ratings, such as ``u.data``."""
    return _FILES.fullmatch(path.name) is not None


def at(path: Path, *, has_columns: bool = False) -> Path | None:
    """Returns the file of ratings at a path, or None.

    Args:
        path: an existing file or folder.
        has_columns: whether the user has named the columns of users or items; then a file of any
            name is accepted.
    """
    if path.is_file():
        return path if has_columns or is_file_of_ratings(path) else None
    return next((path / name for name in _IN_A_FOLDER if (path / name).is_file()), None)


def place(name: str, root: Path) -> Path | None:
    """Returns the file of a MovieLens data set in a folder or its subfolder, or None."""
    folders = (root, root / name, root / _FOLDERS.get(name, name))
    files = (folder / MOVIELENS[name] for folder in folders)
    return next((file for file in files if file.is_file()), None)


def load(
    name: str,
    file: Path | None,
    data_dir: Path | None = None,
    *,
    columns: Columns | None = None,
    test: str | None = None,
    test_fraction: float | None = None,
    seed: int = 0,
    negatives: int | None = None,
    encoder: Any = None,
) -> RatingsDataset:
    """Loads ratings.

    Args:
        name: one of ``RATINGS``; not used if ``file`` is given.
        file: the file of the ratings, as ``at`` returns it; None to find it by ``name``.
        data_dir: the folder to search for ``name``; None for the folder in JAXNETS_DATA.
        columns: the columns of users, items, ratings and times.
        test: ``"last"`` to test on the last rating of each user. None for the test split of the
            files if they have one, otherwise for the last ratings of implicit feedback with times,
            otherwise for a random fraction.
        test_fraction: the random fraction to test with, by default a fifth.
        seed: the seed of the random fraction and of the negatives.
        negatives: for implicit feedback, the number of items that the user has not rated in each
            test example.
        encoder: the encoder of a trained run; None makes one from the ids in the ratings.

    Raises:
        InputError: if the ratings are not found or damaged, or do not fit the arguments.
    """
    if encoder is not None and not isinstance(encoder, RatingsEncoder):
        raise InputError("encoder", "a RatingsEncoder or None, for ratings", encoder)
    if file is None and name in MOVIELENS:
        file = _found(name, data_dir)
    if file is None:
        tables, name, origin = {"train": generated.generate()[0]}, "ratings", "generated"
    else:
        tables, origin = _tables(file, columns or Columns()), f"the ratings {file}"
        name = f"{file.absolute().parent.name or 'ratings'}"
        name += f" {file.stem}" if "test" in tables else ""
    if negatives is not None:
        check_positive("negatives", negatives)
    if encoder is None:
        items = ids_in_order(tables, "items")
        titles = None if file is None else read_titles(file, items)
        encoder = RatingsEncoder(ids_in_order(tables, "users"), items, titles)
    parts = _parts(tables, encoder, test, test_fraction, seed, negatives)
    candidates = None if negatives is None else 1 + negatives
    return RatingsDataset(name, *parts, None, origin, encoder=encoder, candidates=candidates)


def _found(name: str, data_dir: Path | None) -> Path:
    """Finds the file of a MovieLens data set.

    Raises:
        InputError: if the file is not found; the message says where to get it.
    """
    root = data_dir or variable_root()
    file = None if root is None else place(name, root)
    if file is None:
        looked = f"in {root}" if root is not None else f"with data_dir or {VARIABLE}, neither given"
        expected = f"{MOVIELENS[name]} of MovieLens ({_SITE}) {looked}"
        raise InputError("name", expected, f"{name!r} and no such file")
    return file


def _tables(file: Path, columns: Columns) -> dict[str, Table]:
    """Reads the ratings in a file, and the test ratings if the file is part of a fold."""
    for train in (".base", ".train"):
        if file.suffix in (train, ".test") and file.with_suffix(train).is_file():
            files = {"train": file.with_suffix(train), "test": file.with_suffix(".test")}
            return {part: read(each, columns) for part, each in files.items()}
    if file.suffix == ".test" and is_file_of_ratings(file):
        expected = f"{file.stem}.base next to it, with the ratings to train on ({_SITE})"
        raise InputError(str(file), expected, "no such file")
    return {"train": read(file, columns)}


def _parts(
    tables: Mapping[str, Table],
    encoder: RatingsEncoder,
    test: Any,
    test_fraction: float | None,
    seed: int,
    negatives: int | None,
) -> tuple[Split, Split]:
    """Divides the ratings into a training split and a test split."""
    whole = tables["train"]
    if test is not None and (not isinstance(test, str) or test != "last"):
        raise InputError("test", "'last' for each user's last rating, or None", shown(test))
    for argument, value in (("test", test), ("test_fraction", test_fraction)):
        if "test" in tables and value is not None:
            expected = f"None, as {tables['test'].path.name} has the ratings to test with"
            raise InputError(argument, expected, value)
    if "test" in tables:
        train, judge = (_split(table, encoder, negatives) for table in tables.values())
    else:
        train = _split(whole, encoder, negatives)
        by_time = test_fraction is None and negatives is not None and whole.times is not None
        if test == "last" or (test is None and by_time):
            train, judge = _last_out(train, whole, test_fraction)
        else:
            train, judge = hold_out(train, 0.2 if test_fraction is None else test_fraction, seed)
    if negatives is None:
        return train, judge
    return _unique(train), _with_negatives(train, judge, encoder, negatives, seed)


def _split(table: Table, encoder: RatingsEncoder, negatives: int | None) -> Split:
    inputs = encoder(table.users, table.items)
    if negatives is not None:
        return Split(inputs, np.ones(len(table.users), np.float32))
    if table.values is None:
        expected = "a column of ratings, or negatives=99 for implicit feedback"
        raise InputError(str(table.path), expected, "none")
    return Split(inputs, table.values)


def _last_out(train: Split, table: Table, test_fraction: float | None) -> tuple[Split, Split]:
    """Holds out the last rating of each user with several; of equally late ones, the last row."""
    if test_fraction is not None:
        raise InputError("test_fraction", "None, as test='last'", test_fraction)
    if table.times is None:
        raise InputError("test", "None, as there is no column of times", "last")
    users = train.inputs["user"]
    order = np.lexsort((np.arange(len(users)), table.times, users))
    of = users[order]
    last = np.append(of[1:] != of[:-1], True)
    several = np.append(False, of[1:] == of[:-1])
    held = order[last & several]
    if not len(held):
        raise InputError("test", "None, as no user has two ratings", "last")
    kept = np.setdiff1d(np.arange(len(users)), held)
    return train.chosen(kept), train.chosen(np.sort(held))


def _unique(split: Split) -> Split:
    """Removes repeated pairs of a user and an item."""
    pairs = np.stack([split.inputs["user"], split.inputs["item"]])
    _, first = np.unique(pairs, axis=1, return_index=True)
    return split.chosen(np.sort(first))


def _with_negatives(
    train: Split, judge: Split, encoder: RatingsEncoder, negatives: int, seed: int
) -> Split:
    """Adds to each test pair items that the user has rated in neither split."""
    user, item = judge.inputs["user"], judge.inputs["item"]
    columns = {
        name: np.concatenate([part.inputs[name] for part in (train, judge)])
        for name in ("user", "item")
    }
    sizes = len(encoder.users), len(encoder.items)
    rated = Rated.of(columns["user"], columns["item"], *sizes)
    items = np.column_stack([item, rated.draw(user, negatives, seed)])
    labels = np.zeros(items.shape, np.float32)
    labels[:, 0] = 1
    return Split({"item": items.ravel(), "user": np.repeat(user, 1 + negatives)}, labels.ravel())

"""The checkpoints of a run: whole or not there, checked when they are read."""

import contextlib
import dataclasses
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

import jax
import numpy as np
from flax import nnx

from jaxnets.arrays import (
    InputError,
    check_bool,
    check_integer,
    check_number,
    check_path,
    check_positive,
)
from jaxnets.json_files import MOST_NESTED, is_nested, read_object, reason
from jaxnets.training import storage
from jaxnets.training.evaluation import check_model
from jaxnets.training.lock import lock
from jaxnets.training.manifest import appear, damage
from jaxnets.training.state import initialize, untrained

_T = TypeVar("_T")
_ABOUT = "checkpoint.json"
_PARTIAL, _REMOVED = ".partial-", ".removed-"
_MODEL = "['state'].parameters", "['state'].model_state"  # where ``fit`` saves the model


@dataclass(frozen=True, repr=False)
class Saved:
    """A checkpoint that is complete and undamaged.

    Attributes:
        directory: its folder.
        step: under which number it was saved.
        record: what was saved beside the state.
        score: how good it was said to be; None if nothing was said.
        metric: what the score measures; None if nothing was said.
    """

    directory: Path
    step: int
    record: dict[str, Any]
    score: float | None
    metric: str | None = None

    def __repr__(self) -> str:
        by = "" if self.metric is None else f" by {self.metric}"
        score = "" if self.score is None else f", score {self.score:.6g}{by}"
        return f"Saved: step {self.step}{score}, in {self.directory}"

    def restore(self, like: Any) -> Any:
        """The state that was saved, bit for bit, with each array where ``like`` has it.

        Args:
            like: a pytree of the same structure, of arrays or ``jax.ShapeDtypeStruct``. An array
                goes onto the devices of its counterpart, which may be others, and more or fewer,
                than at saving; where that one is NumPy's or a number, it becomes one too.

        Returns:
            A pytree of that structure.

        Raises:
            InputError: if arrays are missing, unexpected, or of another shape or dtype: all are
                named.
            OSError: if the checkpoint cannot be read.
        """
        return self._restore(like, f"the state that {self.directory} holds")

    def model(self, like: nnx.Module) -> nnx.Module:
        """The model as ``fit`` saved it, in evaluation mode.

        Args:
            like: a model of the same kind, whatever its weights; it is left as it is.

        Returns:
            A model with the weights, statistics and random streams that were saved.

        Raises:
            InputError: if it is another model, or ``fit`` saved none: all differences are named.
            OSError: if the checkpoint cannot be read.
        """
        check_model(like)
        state = initialize(like, untrained)
        rest: Any = dict.fromkeys(("optimizer_state", "step", "epoch", "key"))
        weights = {"state": dataclasses.replace(state, **rest)}
        expected = f"the model that {self.directory} holds"
        return self._restore(weights, expected, _MODEL)["state"].model

    def _restore(self, like: Any, expected: str, within: tuple[str, ...] = ("",)) -> Any:
        leaves = storage.named(like)
        storage.check(leaves)
        try:
            faults = storage.differences(self.directory, leaves, within)
            if faults:
                raise InputError("like", expected, faults, whole=True)
            values = storage.read(self.directory, leaves)
        except OSError as error:
            got = error.strerror or error
            raise OSError(f"{self.directory} could not be read: {got}") from error
        return jax.tree.unflatten(jax.tree.structure(like), values.values())


def steps(directory: Path | str) -> list[int]:
    """The numbers of a folder's checkpoints, damaged ones too, from the oldest to the newest.

    Args:
        directory: the folder; one that does not exist has none.

    Raises:
        InputError: if it is no folder that can be read.
    """
    try:
        names = os.listdir(check_path("directory", directory, "a folder"))
    except FileNotFoundError:
        return []
    except OSError as error:
        got = f"{directory}: {error.strerror}"
        raise InputError("directory", "a folder of checkpoints", got) from error
    return sorted(int(name[5:]) for name in names if re.fullmatch(r"step-(0|[1-9]\d*)", name))


def read(
    directory: Path | str,
    which: Literal["latest", "best"] | int = "latest",
    fault: Callable[["Saved"], str | None] = lambda saved: None,
) -> Saved | None:
    """Finds a run's newest or best checkpoint, also while the run is still training.

    Args:
        directory: the folder of checkpoints; it is left as it is.
        which: ``"latest"`` by number, or ``"best"`` by score, of those that the folder still has;
            or the number of one.
        fault: says what is wrong with a checkpoint that is whole, in words; None if nothing is.

    Returns:
        The first one that is whole, in this order; a warning names those that were passed over.
        None if there are no checkpoints, or none of this number.

    Raises:
        InputError: if all are damaged, or the folder cannot be read.
    """
    root = check_path("directory", directory)
    order = _order(root, which)
    passed: list[str] = []
    for step in order:
        path = _folder(root, step)
        saved = _whole(path, step)
        wrong = saved if isinstance(saved, str) else fault(saved)
        if isinstance(saved, str) or wrong:
            passed.append(f"{path} is damaged ({wrong})")
            continue
        if passed:
            text = f"{'; '.join(passed)}: {path} is taken instead"
            warnings.warn(text, UserWarning, stacklevel=2)
        return saved
    if passed:
        raise InputError("directory", "an intact checkpoint", "; ".join(passed), whole=True)
    return None


def _whole(path: Path, step: int) -> Saved | str:
    """A checkpoint, or what is wrong with it, in words."""
    if wrong := damage(path):
        return wrong
    try:
        held = read_object(path / _ABOUT)
        held.setdefault("metric", None)  # an older version did not save it
        _about(held["record"], held["step"], held["score"], held["metric"])
        if held.keys() == {"record", "step", "score", "metric"} and held["step"] == step:
            return Saved(path, **held)
    except (OSError, ValueError, LookupError) as error:
        return f"{_ABOUT} is damaged: {reason(error)}"
    return f"{_ABOUT} is damaged"


def _order(root: Path, which: Any) -> list[int]:
    """The numbers of checkpoints in the order in which they are tried."""
    if isinstance(which, int) and not isinstance(which, bool):
        return [step for step in steps(root) if step == which]
    if not isinstance(which, str) or which not in ("latest", "best"):
        raise InputError("which", "'latest' or 'best'", which)
    return steps(root)[::-1] if which == "latest" else _best_first(_scores(root))


class Checkpoints:
    """The folder of one run's checkpoints, locked for writing.

    A checkpoint appears under its name when it is on the disk as a whole, and only then are older
    ones removed; so a run may be killed at any moment. While this object is open, no other can
    write into the folder. Closing it waits for what is being written, which is lost otherwise::

        with Checkpoints("runs/a/checkpoints") as checkpoints:
            checkpoints.save(state, {"epoch": 1}, step=100)

    With several processes, each opens its own and all call the same methods in the same order;
    the first one holds the folder.

    Args:
        directory: the folder; it is made if it does not exist. What a killed run left half-written
            in it is removed.
        keep: how many checkpoints to keep, the newest ones.
        keep_best: whether to keep the one of the largest score as well.
        since: the number of the checkpoint with which the run continues: later ones that it did not
            understand are removed as it comes to their numbers. None for no such.

    Raises:
        InputError: if the folder cannot be written to, or another run is writing to it.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        keep: int = 3,
        keep_best: bool = True,
        since: int | None = None,
    ) -> None:
        check_positive("keep", keep)
        keep_best = check_bool("keep_best", keep_best)
        if since is not None:
            check_integer("since", since, least=0)
        self._since = since
        self.directory = check_path("directory", directory, "a folder").absolute()
        self._keep, self._keep_best = keep, keep_best
        self._writing: Future[None] | None = None
        self._lock = _on_first_process(self._take)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def steps(self) -> list[int]:
        """The numbers of the checkpoints, damaged ones too, from the oldest to the newest."""
        return steps(self.directory)

    def latest(self) -> Saved | None:
        """The newest checkpoint that is whole; see ``read``."""
        self.wait()
        return read(self.directory)

    def save(
        self,
        state: Any,
        record: dict[str, Any],
        *,
        step: int,
        score: float | None = None,
        metric: str | None = None,
    ) -> None:
        """Begins to save; returns when the arrays have been copied to the host.

        Waits for the save before.

        Args:
            state: a pytree of arrays, random keys and numbers. They may be changed or donated
                as soon as this returns.
            record: a dictionary of what JSON can hold, such as the configuration and the position
                in the data. Tuples come back as lists.
            step: the checkpoint's number, above those of all that are there. Damaged ones of
                this number or above are removed.
            score: how good the model is; larger is better.
            metric: what the score measures, in a word. Scores of another metric than the newest
                one's are not compared with it.

        Raises:
            InputError: if an argument is bad; nothing is written then.
            OSError: if this checkpoint cannot be written, or the one before could not be; those
                that were there remain.
        """
        self.wait()
        arrays = storage.named(state)
        storage.check(arrays)
        about = _about(record, step, score, metric)
        abandoned = self._abandoned(step)
        path = _folder(self.directory, step)
        with _in_one_sentence(path):
            _on_first_process(lambda: _begin(path))
            arrays_written = storage.start_writing(_partial(path), arrays)
        self._writing = self._writer.submit(self._finish, path, about, abandoned, arrays_written)

    def wait(self) -> None:
        """Waits until what is being saved is on the disk.

        Raises:
            OSError: if it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            _agree(writing.exception())

    def close(self) -> None:
        """Waits, and lets other runs write into the folder.

        Raises:
            OSError: if what was being saved could not be written.
        """
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            if self._lock is not None:
                self._sweep()
                self._lock.close()

    def _take(self) -> IO[str]:
        held = lock(self.directory)
        self._sweep()
        return held

    def _sweep(self) -> None:
        """Removes what is no checkpoint: of a writer that was killed, or of a save that failed."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if name.startswith((_PARTIAL, _REMOVED)):
                    storage.remove(self.directory / name)

    def _abandoned(self, step: int) -> list[int]:
        """The damaged checkpoints that the run has gone back behind."""
        later = [other for other in self.steps() if other >= step]
        for other in reversed(later):
            passed = self._since is not None and other > self._since
            if not passed and isinstance(_whole(_folder(self.directory, other), other), Saved):
                expected = f"a number above {other}, a checkpoint in {self.directory}"
                raise InputError("step", expected, step)
        return later

    def _finish(
        self, path: Path, about: str, abandoned: list[int], arrays_written: Callable[[], None]
    ) -> None:
        with _in_one_sentence(path):
            arrays_written()
            if jax.process_index() > 0:
                return
            (_partial(path) / _ABOUT).write_text(about)
            self._remove(abandoned)
            appear(_partial(path), path)
        self._prune()

    def _prune(self) -> None:
        kept = self.steps()[-self._keep :]
        if self._keep_best:
            kept.append(_best_first(_scores(self.directory))[0])
        self._remove([step for step in self.steps() if step not in kept])

    def _remove(self, unwanted: list[int]) -> None:
        for step in unwanted:
            path = _folder(self.directory, step)
            # Under another name first: killed half-way, what is left must not look damaged.
            removed = path.with_name(f"{_REMOVED}{path.name}")
            storage.remove(removed)
            path.rename(removed)
            storage.remove(removed)


def _folder(root: Path, step: int) -> Path:
    return root / f"step-{step}"


def _partial(path: Path) -> Path:
    return path.with_name(f"{_PARTIAL}{path.name}") / path.name


def _begin(path: Path) -> None:
    holder = _partial(path).parent
    storage.remove(holder)
    holder.mkdir()


def _scores(root: Path) -> dict[int, float]:
    """Each checkpoint's score; the smallest of all where there is none, or it cannot be read.

    Where they measure different things, those that measure what the newest does count.
    """
    found: dict[int, tuple[float, Any]] = {}
    for step in steps(root):
        with contextlib.suppress(OSError, ValueError, KeyError):
            about = read_object(_folder(root, step) / _ABOUT)
            found[step] = check_number("score", about["score"]), about.get("metric")
    newest = found[max(found)][1] if found else None
    scores = {step: score for step, (score, metric) in found.items() if metric == newest}
    return dict.fromkeys(steps(root), -math.inf) | scores


def _best_first(scores: dict[int, float]) -> list[int]:
    return sorted(scores, key=lambda step: (scores[step], step), reverse=True)


def _about(record: dict[str, Any], step: int, score: float | None, metric: str | None) -> str:
    """What is saved beside the arrays, as JSON; checks all of it."""
    if isinstance(step, bool) or not isinstance(step, int | np.integer) or step < 0:
        raise InputError("step", "an integer of at least 0", step)
    if score is not None and (isinstance(score, bool) or not _is_finite(score)):
        raise InputError("score", "a finite number or None", score)
    if not isinstance(record, dict):
        raise InputError("record", "a dictionary", record)
    if is_nested({"record": record}, MOST_NESTED):
        expected = f"at most {MOST_NESTED - 1} levels of dictionaries and lists"
        raise InputError("record", expected, "more")
    _check_json(record, "record")
    if metric is not None and not isinstance(metric, str):
        raise InputError("metric", "a word or None", metric)
    score = None if score is None else float(score)
    about = {"step": int(step), "score": score, "metric": metric, "record": record}
    return json.dumps(about, indent=1)


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float | np.number) and math.isfinite(float(value))
    except (OverflowError, TypeError):  # beyond floats, or complex
        return False


def _check_json(value: Any, place: str) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not isinstance(name, str):
                raise InputError(place, "names that are strings", name)
            _check_json(inner, f"{place}[{name!r}]")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_json(inner, f"{place}[{index}]")
    elif value is not None and not isinstance(value, str | int | float):
        raise InputError(place, "what JSON can hold", value)


@contextlib.contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    """Leaves nothing behind of a checkpoint that cannot be written, and says why."""
    try:
        yield
    except BaseException as error:
        if jax.process_index() == 0:
            storage.discard(_partial(path).parent)
        if not isinstance(error, OSError):
            raise
        raise OSError(f"{path} could not be saved: {error.strerror or error}") from error


def _on_first_process(action: Callable[[], _T]) -> _T | None:
    """Has process 0 do something; where it fails there, every process raises."""
    result, failure = None, None
    if jax.process_index() == 0:
        try:
            result = action()
        except (OSError, InputError) as error:
            failure = error
    _agree(failure)
    return result


def _agree(failure: BaseException | None) -> None:
    """Raises on every process if something failed on one of them, once all have come here."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = multihost_utils.process_allgather(np.array(failure is not None))
        if failure is None and failed.any():
            failure = OSError("another process failed; its error says why")
    if failure is not None:
        raise failure

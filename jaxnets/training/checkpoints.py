"""The checkpoints of a run: written atomically, verified when they are read."""

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
        directory: the checkpoint's folder.
        step: the number under which it was saved.
        record: the dictionary that was saved with the state.
        score: its score, larger is better; None if it was saved without one.
        metric: the name of the metric that the score measures; None if it was saved without one.
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
        """Reads the saved state, bit for bit, onto the devices of ``like``.

        Args:
            like: a pytree of the same structure, of arrays or ``jax.ShapeDtypeStruct``. Each array
                is placed on the devices of its counterpart, which may differ from those at saving;
                where the counterpart is a NumPy array or a number, so is the result.

        Returns:
            A pytree with the structure of ``like``.

        Raises:
            InputError: if arrays are missing, unexpected, or of another shape or dtype; the message
                names all of them.
            OSError: if the checkpoint cannot be read.
        """
        return self._restore(like, f"the state saved in {self.directory}")

    def model(self, like: nnx.Module) -> nnx.Module:
        """Reads the model that ``fit`` saved, in evaluation mode.

        Args:
            like: a model of the same structure, with any weights; it is not changed.

        Returns:
            A model with the saved weights, statistics and random streams.

        Raises:
            InputError: if the saved model differs in structure, or ``fit`` saved none; the message
                names all differences.
            OSError: if the checkpoint cannot be read.
        """
        check_model(like)
        state = initialize(like, untrained)
        rest: Any = dict.fromkeys(("optimizer_state", "step", "epoch", "key"))
        weights = {"state": dataclasses.replace(state, **rest)}
        expected = f"the model saved in {self.directory}"
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
    """Lists the step numbers of a folder's checkpoints, damaged ones included, in rising order.

    Args:
        directory: the folder of checkpoints; if it does not exist, the list is empty.

    Raises:
        InputError: if the folder cannot be read.
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
        directory: the folder of checkpoints; it is not changed.
        which: ``"latest"`` for the largest step number, ``"best"`` for the largest score, or a step
            number.
        fault: a function that returns what is wrong with an undamaged checkpoint, or None.

    Returns:
        The first undamaged checkpoint in this order; a warning names the damaged ones before it.
        None if there are no checkpoints, or none with this number.

    Raises:
        InputError: if all checkpoints are damaged, or the folder cannot be read.
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
            text = f"{'; '.join(passed)}: {path} is used instead"
            warnings.warn(text, UserWarning, stacklevel=2)
        return saved
    if passed:
        raise InputError("directory", "an intact checkpoint", "; ".join(passed), whole=True)
    return None


def _whole(path: Path, step: int) -> Saved | str:
    """Returns a checkpoint, or a description of what is wrong with it."""
    if wrong := damage(path):
        return wrong
    try:
        about = read_object(path / _ABOUT)
        about.setdefault("metric", None)  # older versions did not save it
        _about(about["record"], about["step"], about["score"], about["metric"])
        if about.keys() == {"record", "step", "score", "metric"} and about["step"] == step:
            return Saved(path, **about)
    except (OSError, ValueError, LookupError) as error:
        return f"{_ABOUT} is damaged: {reason(error)}"
    return f"{_ABOUT} is damaged"


def _order(root: Path, which: Any) -> list[int]:
    """Returns the step numbers of checkpoints in the order in which to try them."""
    if isinstance(which, int) and not isinstance(which, bool):
        return [step for step in steps(root) if step == which]
    if not isinstance(which, str) or which not in ("latest", "best"):
        raise InputError("which", "'latest' or 'best'", which)
    return steps(root)[::-1] if which == "latest" else _best_first(_scores(root))


class Checkpoints:
    """The folder of one run's checkpoints, locked for writing.

    A checkpoint gets its name only when all of it is on disk, and only then are older ones
    removed, so a run may be killed at any moment. While this object is open, no other process can
    write to the folder. Closing it waits for the checkpoint that is being written; without closing,
    that checkpoint is lost::

        with Checkpoints("runs/a/checkpoints") as checkpoints:
            checkpoints.save(state, {"epoch": 1}, step=100)

    With several processes, each opens its own object and all call the same methods in the same
    order; the first process locks the folder.

    Args:
        directory: the folder; it is created if it does not exist. Unfinished files of a killed run
            are removed.
        keep: number of newest checkpoints to keep.
        keep_best: whether to keep the checkpoint with the largest score as well.
        since: step number of the checkpoint from which the run resumes. Later checkpoints, which
            were not usable, are removed when the run reaches their numbers. None if it does not
            resume.

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
        self._lock = _on_first_process(self._locked)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the folder."""
        self.close()

    def steps(self) -> list[int]:
        """Lists the step numbers of the checkpoints, damaged ones included, in rising order."""
        return steps(self.directory)

    def latest(self) -> Saved | None:
        """Returns the newest undamaged checkpoint, or None; see ``read``."""
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
        """Starts to save a checkpoint; returns when the arrays have been copied to the host.

        It first waits for the previous checkpoint to be written.

        Args:
            state: a pytree of arrays, random keys and numbers. They may be changed or donated
                as soon as this method returns.
            record: a dictionary of JSON values, such as the configuration and the position in the
                data. Tuples are read back as lists.
            step: the checkpoint's number, larger than those of all existing checkpoints. Damaged
                checkpoints with this number or a larger one are removed.
            score: the score by which the best checkpoint is selected; larger is better.
            metric: name of the metric that the score measures. Only scores of the same metric as
                the newest checkpoint's are compared.

        Raises:
            InputError: if an argument is invalid; nothing is written then.
            OSError: if this checkpoint or the previous one cannot be written; existing checkpoints
                remain.
        """
        self.wait()  # one checkpoint at a time, and to report the error of the previous one
        arrays = storage.named(state)
        storage.check(arrays)
        about = _about(record, step, score, metric)
        abandoned = self._abandoned(step)
        path = _folder(self.directory, step)
        with _in_one_sentence(path):
            _on_first_process(lambda: _begin(path))
            arrays_written = storage.start_writing(_partial(path), arrays)
        # In the background, so that training continues while files are written.
        self._writing = self._writer.submit(self._finish, path, about, abandoned, arrays_written)

    def wait(self) -> None:
        """Waits until the checkpoint that is being saved is on disk.

        Raises:
            OSError: if it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            _agree(writing.exception())

    def close(self) -> None:
        """Waits for the checkpoint that is being saved, and unlocks the folder.

        Raises:
            OSError: if it could not be written.
        """
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            if self._lock is not None:
                self._sweep()
                self._lock.close()

    def _locked(self) -> IO[str]:
        file = lock(self.directory)
        self._sweep()
        return file

    def _sweep(self) -> None:
        """Removes unfinished checkpoints of a killed process or a failed save."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                if name.startswith((_PARTIAL, _REMOVED)):
                    storage.remove(self.directory / name)

    def _abandoned(self, step: int) -> list[int]:
        """Returns the checkpoints from ``step`` on, which a run that went back has to replace.

        Raises:
            InputError: if one of them is undamaged and the run did not skip it when it resumed.
        """
        later = [other for other in self.steps() if other >= step]
        for other in reversed(later):
            skipped = self._since is not None and other > self._since
            if not skipped and isinstance(_whole(_folder(self.directory, other), other), Saved):
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
        # Only after the new checkpoint is complete: there is always at least one.
        self._prune()

    def _prune(self) -> None:
        kept = self.steps()[-self._keep :]
        if self._keep_best:
            kept.append(_best_first(_scores(self.directory))[0])
        self._remove([step for step in self.steps() if step not in kept])

    def _remove(self, unwanted: list[int]) -> None:
        for step in unwanted:
            path = _folder(self.directory, step)
            # Renamed first, so that a process killed meanwhile leaves no damaged checkpoint.
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
    """Returns each checkpoint's score; -inf without one, or if it cannot be read.

    A score counts only if its metric is that of the newest checkpoint.
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
    """Checks what is saved with the arrays, and returns it as JSON."""
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
        raise InputError("metric", "a string or None", metric)
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
        raise InputError(place, "a JSON value", value)


@contextlib.contextmanager
def _in_one_sentence(path: Path) -> Iterator[None]:
    """Removes a checkpoint that cannot be written, and raises an OSError of one line."""
    try:
        yield
    except BaseException as error:
        if jax.process_index() == 0:
            storage.discard(_partial(path).parent)
        if not isinstance(error, OSError):
            raise
        raise OSError(f"{path} could not be saved: {error.strerror or error}") from error


def _on_first_process(action: Callable[[], _T]) -> _T | None:
    """Calls a function on process 0; if it fails there, every process raises."""
    result, failure = None, None
    if jax.process_index() == 0:
        try:
            result = action()
        except (OSError, InputError) as error:
            failure = error
    _agree(failure)
    return result


def _agree(failure: BaseException | None) -> None:
    """Raises on every process if one of them has failed; all processes must call this."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        failed = multihost_utils.process_allgather(np.array(failure is not None))
        if failure is None and failed.any():
            failure = OSError("another process failed; see its error message")
    if failure is not None:
        raise failure

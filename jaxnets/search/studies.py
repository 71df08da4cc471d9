"""The Optuna study of a search: where its trials are kept, and how several workers share them."""

import contextlib
import json
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxnets.arrays import InputError, check_path
from jaxnets.optional import require

if TYPE_CHECKING:
    import optuna

SAMPLERS = ("tpe", "random", "grid")
PRUNERS = ("halving", "median", "none")
#: What is kept of a search and of its trials, beside Optuna's own.
ABOUT, COUNT, WORKER, FAULT = "about", "count", "worker", "fault"
_HEARTBEAT, _GRACE = 30, 150  # seconds
#: What databases say if another worker makes the same tables at the same time.
_BEING_MADE = re.compile("already exists|unique|duplicate|is locked", re.IGNORECASE)
_PATIENCE = 10.0  # seconds in which another worker fills the queue
_QUEUED = "fixed_params"  # what Optuna keeps of a queued trial
_ETA = 3  # of successive halving: one trial in so many trains on


def imported() -> ModuleType:
    """Optuna, which the extra ``search`` installs."""
    return require("optuna", extra="search", feature="a search")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna without its own lines and its warnings of what is experimental."""
    optuna = imported()
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        optuna.logging.set_verbosity(before)


def opened(
    storage: Path | str | None, name: str, *, grows: bool, pruner: Any, about: Mapping[str, Any]
) -> "tuple[optuna.Study, bool]":
    """The study of a search: a new one, or the one that is stored under this name.

    Args:
        storage: a database URL, the path of an SQLite file, or None for memory.
        name: of the study.
        grows: whether the metric is to be large.
        pruner: Optuna's.
        about: what decides the numbers of a search, ready for JSON.

    Returns:
        The study, and whether it was there already.

    Raises:
        InputError: if the storage cannot be reached, or has another search under this name.
    """
    optuna = imported()
    about = json.loads(json.dumps(about))
    with quiet():
        place = _storage(storage)
        given = {"study_name": name, "storage": place, "pruner": pruner}
        direction = "maximize" if grows else "minimize"
        try:
            study = optuna.create_study(**given, direction=direction)
            study.set_user_attr(ABOUT, about)
            return study, False
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(**given)
    _check_same(study, storage, about)
    return study, True


def made_pruner(kind: str, epochs: int) -> Any:
    """Optuna's pruner.

    Args:
        kind: one of ``PRUNERS``.
        epochs: of a trial.
    """
    pruners = imported().pruners
    if kind == "halving":
        return pruners.SuccessiveHalvingPruner(1, _ETA)
    return pruners.NopPruner() if kind == "none" else pruners.MedianPruner(5, epochs // 4)


def _storage(storage: Path | str | None) -> Any:
    """Optuna's storage."""
    if storage is None:
        return imported().storages.InMemoryStorage()
    place = check_path("storage", storage, "a database URL or the path of a file")
    if "://" in str(storage):  # which a path reduces to one slash
        return _database(str(storage))
    return _database(f"sqlite:///{place.expanduser().absolute()}")


def _database(url: str) -> Any:
    """The database of a URL, which is made if need be.

    Raises:
        InputError: if it cannot be opened.
    """
    optuna = imported()
    from sqlalchemy.exc import SQLAlchemyError

    for wait in (0.2, 0.5, 1.0, None):
        try:
            return _connected(url)
        except (
            ImportError,
            RuntimeError,  # of a database of another version of Optuna
            ValueError,
            optuna.exceptions.StorageInternalError,
            SQLAlchemyError,
        ) as error:
            reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            if wait is None or not _BEING_MADE.search(reason):
                got = f"{_without_password(url)}: {reason}"
                raise InputError("storage", "a database that can be opened", got) from error
            time.sleep(wait)
    raise AssertionError


def _connected(url: str) -> Any:
    # several workers wait for each other's turn
    patient = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    return imported().storages.RDBStorage(
        url,
        engine_kwargs={"pool_pre_ping": True, **patient},
        heartbeat_interval=_HEARTBEAT,
        grace_period=_GRACE,
        heartbeat_stale_trial_callback=_queue_again,
    )


def _without_password(url: str) -> str:
    from sqlalchemy.engine import make_url

    try:
        return make_url(url).render_as_string(hide_password=True)
    except Exception:  # of what is no URL
        return url


def _check_same(
    study: "optuna.Study", storage: Path | str | None, about: Mapping[str, Any]
) -> None:
    """Checks that a stored search is the one to continue."""
    before = _waited_for(study, ABOUT)
    if not isinstance(before, dict):
        expected = f"a search of jaxnets under the name {study.study_name!r}, or another name"
        raise InputError("storage", expected, _without_password(str(storage)))
    differing = [key for key in about if about[key] != before.get(key)]
    if differing:
        key = differing[0]
        expected = f"the search {study.study_name!r} as it began, or another name for this one"
        raise InputError("name", expected, f"{key} {about[key]}, which was {before.get(key)}")


def _waited_for(study: "optuna.Study", key: str) -> Any:
    """What is kept of a study under a key; another worker may be about to write it."""
    until = time.monotonic() + _PATIENCE
    while key not in study.user_attrs and time.monotonic() < until:
        time.sleep(0.05)
    return study.user_attrs.get(key)


def fill(study: "optuna.Study", queue: Sequence[Mapping[str, Any]], *, joined: bool) -> None:
    """Queues the trials that are not there yet. Workers take them, each one once.

    Args:
        study: of the search.
        queue: for each trial what it is given; the sampler draws the rest.
        joined: whether the study was there already, and another worker may be filling its queue.
    """
    before = _waited_for(study, COUNT) if joined else None
    for given in queue[len(kept(study)) :]:
        study.enqueue_trial(dict(given))
    study.set_user_attr(COUNT, max(len(queue), before or 0))


def forget_unbegun(study: "optuna.Study", storage: Path | str | None) -> None:
    """Removes a new search whose settings were wrong, so that no trial has ended.

    Args:
        study: of the search.
        storage: as in ``opened``; the file of a database with no other search is removed too.
    """
    optuna = imported()
    state = optuna.trial.TrialState
    if study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)):
        return
    optuna.delete_study(study_name=study.study_name, storage=study._storage)
    if storage is not None and "://" not in str(storage) and not study._storage.get_all_studies():
        study._storage.remove_session()
        Path(storage).expanduser().unlink(missing_ok=True)


def kept(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """The trials of a study but those that were lost with their worker."""
    lost = imported().trial.TrialState.FAIL
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state != lost or FAULT in trial.user_attrs]


def begun(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Those of ``kept`` that wait no longer."""
    waiting = imported().trial.TrialState.WAITING
    return [trial for trial in kept(study) if trial.state != waiting]


def next_trial(study: "optuna.Study") -> "optuna.Trial | None":
    """Takes a trial from the queue; None if it is empty."""
    state = imported().trial.TrialState
    if not study.get_trials(deepcopy=False, states=(state.WAITING,)):
        return None
    with quiet():
        trial = study.ask()
        if _QUEUED not in study.get_trials(deepcopy=False)[trial.number].system_attrs:
            study.tell(trial, state=state.FAIL)  # another worker has taken the last one
            return None
    trial.set_user_attr(WORKER, worker())
    return trial


def retry_lost(study: "optuna.Study") -> int:
    """Marks trials as failed whose worker is gone, and queues them again.

    A worker on this machine is gone if its process is; another one if nothing has been heard of it
    for some minutes.

    Returns:
        How many there were.
    """
    optuna = imported()
    running = optuna.trial.TrialState.RUNNING
    lost = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(running,))
        if _is_gone(trial.user_attrs.get(WORKER))
    ]
    for trial in lost:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            give_up(study, trial.number)
    with quiet():
        optuna.storages.fail_stale_trials(study)
    return len(lost)


def give_up(study: "optuna.Study", number: int) -> None:
    """Marks a running trial as failed, and queues it again."""
    failed = study.tell(number, state=imported().trial.TrialState.FAIL)
    _queue_again(study, failed)


def _queue_again(study: "optuna.Study", trial: "optuna.trial.FrozenTrial") -> None:
    study.enqueue_trial(trial.system_attrs.get(_QUEUED, {}))


def worker() -> str:
    """Who this process is."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_gone(name: Any) -> bool:
    """Whether a worker was a process of this machine that has ended."""
    host, _, process = str(name).rpartition(":")
    if host != socket.gethostname() or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return True  # one of an earlier search of this process
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # somebody else's
        return False
    return False


class Heart:
    """Tells the storage, from a thread, that the trials under way have a worker.

    Args:
        study: of the search.
        trials: under way.
    """

    def __init__(self, study: "optuna.Study", trials: "Sequence[optuna.Trial]") -> None:
        self._storage: Any = study._storage
        self._trials = [trial._trial_id for trial in trials]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> None:
        if hasattr(self._storage, "record_heartbeat"):
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # what is lasting is said by the next result
                for trial in self._trials:
                    self._storage.record_heartbeat(trial)
            if self._ended.wait(_HEARTBEAT):
                return


def seeded_sampler(kind: str, seed: int) -> Any:
    """A sampler whose draws follow from the seed and from the number of trials begun before.

    So a search that was interrupted draws what it would have drawn. ``fixed`` holds values that are
    not drawn.

    Args:
        kind: one of ``SAMPLERS``.
        seed: of the search.
    """
    optuna = imported()

    class Seeded(optuna.samplers.BaseSampler):  # type: ignore[name-defined]
        fixed: Mapping[str, Any] = {}
        _drawing: Any = optuna.samplers.RandomSampler(seed)

        def before_trial(self, study: Any, trial: Any) -> None:
            place = sum(each.number < trial.number for each in begun(study))
            own = int(np.random.SeedSequence([seed, place]).generate_state(1)[0])
            self._drawing = (
                optuna.samplers.TPESampler(seed=own, constant_liar=True)
                if kind == "tpe"
                else optuna.samplers.RandomSampler(own)
            )
            self._drawing.before_trial(study, trial)

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._drawing.infer_relative_search_space(study, trial)

        def sample_relative(self, *given: Any) -> Any:
            return self._drawing.sample_relative(*given)

        def sample_independent(self, study: Any, trial: Any, name: str, values: Any) -> Any:
            if name in self.fixed:
                return self.fixed[name]
            return self._drawing.sample_independent(study, trial, name, values)

    return Seeded()

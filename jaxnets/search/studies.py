"""The Optuna study of a search: its storage, and how several processes share its trials."""

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
#: The keys of user attributes of a study (about, count) and of its trials (worker, fault).
ABOUT, COUNT, WORKER, FAULT = "about", "count", "worker", "fault"
_HEARTBEAT, _GRACE = 30, 150  # seconds
#: Errors of databases if another process creates the same tables at the same time.
_BEING_MADE = re.compile("already exists|unique|duplicate|is locked", re.IGNORECASE)
_PATIENCE = 10.0  # seconds to wait for another process to fill the queue
_QUEUED = "fixed_params"  # Optuna's key for the values of a queued trial
_ETA = 3  # the reduction factor of successive halving: one in three trials continues


def imported() -> ModuleType:
    """Imports Optuna, which the extra ``search`` installs."""
    return require("optuna", extra="search", feature="a search")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppresses Optuna's log messages and its warnings about experimental features."""
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
    """Creates the study of a search, or loads the one with this name.

    Args:
        storage: a database URL, the path of an SQLite file, or None for memory.
        name: the name of the study.
        grows: whether a larger metric is better.
        pruner: Optuna's pruner.
        about: the settings that determine the results of a search, ready for JSON.

    Returns:
        The study, and whether it existed already.

    Raises:
        InputError: if the storage cannot be reached, or has another search with this name.
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
    """Makes Optuna's pruner.

    Args:
        kind: one of ``PRUNERS``.
        epochs: the number of epochs of a trial.
    """
    pruners = imported().pruners
    if kind == "halving":
        return pruners.SuccessiveHalvingPruner(1, _ETA)
    return pruners.NopPruner() if kind == "none" else pruners.MedianPruner(5, epochs // 4)


def _storage(storage: Path | str | None) -> Any:
    """Makes Optuna's storage."""
    if storage is None:
        return imported().storages.InMemoryStorage()
    place = check_path("storage", storage, "a database URL or the path of a file")
    if "://" in str(storage):  # not ``place``, as Path would collapse the two slashes
        return _database(str(storage))
    return _database(f"sqlite:///{place.expanduser().absolute()}")


def _database(url: str) -> Any:
    """Opens the database of a URL, and creates its tables if they are missing.

    Raises:
        InputError: if the database cannot be opened.
    """
    optuna = imported()
    from sqlalchemy.exc import SQLAlchemyError

    for wait in (0.2, 0.5, 1.0, None):
        try:
            return _connected(url)
        except (
            ImportError,
            RuntimeError,  # the database is of another version of Optuna
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
    # with SQLite, processes wait for each other's transactions
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
    except Exception:  # not a URL
        return url


def _check_same(
    study: "optuna.Study", storage: Path | str | None, about: Mapping[str, Any]
) -> None:
    """Checks that a stored search has the same settings."""
    before = _waited_for(study, ABOUT)
    if not isinstance(before, dict):
        expected = f"a search of jaxnets with the name {study.study_name!r}, or another name"
        raise InputError("storage", expected, _without_password(str(storage)))
    differing = [key for key in about if about[key] != before.get(key)]
    if differing:
        key = differing[0]
        expected = f"the settings of the search {study.study_name!r}, or another name"
        raise InputError("name", expected, f"{key} {about[key]}, which was {before.get(key)}")


def _waited_for(study: "optuna.Study", key: str) -> Any:
    """Returns an attribute of a study; waits for it, as another process may be writing it."""
    until = time.monotonic() + _PATIENCE
    while key not in study.user_attrs and time.monotonic() < until:
        time.sleep(0.05)
    return study.user_attrs.get(key)


def fill(study: "optuna.Study", queue: Sequence[Mapping[str, Any]], *, joined: bool) -> None:
    """Queues the trials that are missing; each is run by one process.

    Args:
        study: the study of the search.
        queue: the fixed values of each trial; the sampler draws the others.
        joined: whether the study existed already, so that another process may be filling the queue.
    """
    before = _waited_for(study, COUNT) if joined else None
    for given in queue[len(kept(study)) :]:
        study.enqueue_trial(dict(given))
    study.set_user_attr(COUNT, max(len(queue), before or 0))


def forget_unbegun(study: "optuna.Study", storage: Path | str | None) -> None:
    """Removes a new search that failed before any trial was finished.

    Args:
        study: the study of the search.
        storage: see ``opened``; a database file without another search is removed, too.
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
    """Returns the trials of a study, except for those whose process crashed."""
    lost = imported().trial.TrialState.FAIL
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state != lost or FAULT in trial.user_attrs]


def begun(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    """Returns the trials of ``kept`` that have begun."""
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
            study.tell(trial, state=state.FAIL)  # another process has taken the last queued trial
            return None
    trial.set_user_attr(WORKER, worker())
    return trial


def retry_lost(study: "optuna.Study") -> int:
    """Marks trials as failed whose process has ended, and queues them again.

    A process on another machine is assumed to have ended if it has sent no heartbeat for
    ``_GRACE`` seconds.

    Returns:
        The number of trials of processes on this machine.
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
    """Returns an identifier of this process, ``host:pid``."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_gone(name: Any) -> bool:
    """Whether a worker was a process on this machine that has ended."""
    host, _, process = str(name).rpartition(":")
    if host != socket.gethostname() or not process.isdigit():
        return False
    if int(process) == os.getpid():
        return True  # a trial of an earlier search in this process
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # a process of another user
        return False
    return False


class Heart:
    """A thread that sends heartbeats for running trials to the storage.

    Args:
        study: the study of the search.
        trials: the running trials.
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
            with contextlib.suppress(Exception):  # a lasting error is raised by the next result
                for trial in self._trials:
                    self._storage.record_heartbeat(trial)
            if self._ended.wait(_HEARTBEAT):
                return


def seeded_sampler(kind: str, seed: int) -> Any:
    """Makes a sampler whose draws depend only on the seed and the number of earlier trials.

    So a resumed search draws the same values as an uninterrupted one. The attribute ``fixed`` has
    values that are not drawn.

    Args:
        kind: one of ``SAMPLERS``.
        seed: the seed of the search.
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

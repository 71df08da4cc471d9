"""Those who read batches ahead: threads of this process, or worker processes.

Workers are spawned, never forked: a fork of a process in which JAX runs may hang. They outlive a
pass over the data, as it takes one seconds to start.
"""

import contextlib
import multiprocessing
import pickle
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import jax
import numpy as np

from jaxnets.arrays import InputError
from jaxnets.data.streaming.examples import Examples

#: The inputs and the labels of a batch; see ``Examples.gather``.
Batch = tuple[Any, Any]


class Crew:
    """Reads batches in threads, each of which may have a worker process read for it.

    Args:
        examples: what to read from.
        workers: how many processes; 0 for none.
        threads: how many threads, if there are no processes.

    Raises:
        InputError: if there are to be workers and the examples cannot be pickled.
    """

    def __init__(self, examples: Examples, workers: int, threads: int) -> None:
        packed = _pickled(examples) if workers else b""
        self._workers = [Worker(packed) for _ in range(workers)]
        self._free: SimpleQueue[Callable[[np.ndarray], Batch]] = SimpleQueue()
        for read in [worker.read for worker in self._workers] or [examples.gather] * threads:
            self._free.put(read)
        self._threads = ThreadPoolExecutor(workers or threads, "jaxnets-data")

    def submit(self, rows: np.ndarray) -> Future[Batch]:
        """Has a batch read as soon as somebody is free."""
        return self._threads.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> Batch:
        read = self._free.get()
        try:
            return read(rows)
        finally:
            self._free.put(read)

    def close(self) -> None:
        """Ends all workers, whatever they are at."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()


class Worker:
    """A process that reads batches for one thread of this one.

    Args:
        examples: what to read from, pickled.
    """

    def __init__(self, examples: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, examples), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection

    def read(self, rows: np.ndarray) -> Batch:
        """Has the worker read a batch.

        Raises:
            RuntimeError: if the worker has ended.
            Exception: what was raised in the worker.
        """
        try:
            self._connection.send(rows)
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RuntimeError(
                f"a worker process that reads data ended with exit code {self._process.exitcode}: "
                "it was killed, or a script starts training outside `if __name__ == '__main__':`"
            ) from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self) -> None:
        """Ends the process: a thread that waits for its answer gets an exception."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Gives back what the ended process held."""
        self._connection.close()
        self._process.close()


def _pickled(examples: Examples) -> bytes:
    try:
        return pickle.dumps(examples)
    except Exception as error:  # pickle raises whatever the object does
        expected = "what pickle can write, as worker processes are sent them; or workers=0"
        raise InputError("examples", expected, f"{type(error).__name__}: {error}") from error


def _serve(connection: Connection, packed: bytes) -> None:
    """What a worker does: reads batches until the other end of the connection is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # these are for the process that trains
        signal.signal(number, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # and so is the accelerator
    examples: Examples | None = None
    with contextlib.suppress(EOFError, OSError):  # the other end is gone
        while True:
            rows = connection.recv()
            try:
                examples = examples or pickle.loads(packed)
                answer: Batch | Exception = examples.gather(rows)
            except Exception as error:
                answer = _sendable(error)
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    """The exception, or one that says the same if it cannot be pickled and read again."""
    if not isinstance(error, InputError):
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error

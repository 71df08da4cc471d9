"""Readers of batches: threads of this process, or worker processes.

Workers are spawned, not forked: a fork of a process in which JAX runs may hang. They are kept after
a pass over the data, because starting one takes seconds.
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
    """A pool of threads that read batches, each with its own worker process if there are workers.

    Args:
        examples: the examples to read from.
        workers: number of worker processes; 0 for none.
        threads: number of threads if there are no workers.

    Raises:
        InputError: if there are workers and the examples cannot be pickled.
    """

    def __init__(self, examples: Examples, workers: int, threads: int) -> None:
        packed = _pickled(examples) if workers else b""
        self._workers = [Worker(packed) for _ in range(workers)]
        self._free: SimpleQueue[Callable[[np.ndarray], Batch]] = SimpleQueue()
        for read in [worker.read for worker in self._workers] or [examples.gather] * threads:
            self._free.put(read)
        self._threads = ThreadPoolExecutor(workers or threads, "jaxnets-data")

    def submit(self, rows: np.ndarray) -> Future[Batch]:
        """Starts to read a batch as soon as a reader is free."""
        return self._threads.submit(self._read, rows)

    def _read(self, rows: np.ndarray) -> Batch:
        read = self._free.get()
        try:
            return read(rows)
        finally:
            self._free.put(read)

    def close(self) -> None:
        """Ends all workers, even while they read."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()


class Worker:
    """A process that reads batches for one thread of this process.

    Args:
        examples: the examples to read from, pickled.
    """

    def __init__(self, examples: bytes) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, examples), daemon=True)
        self._process.start()
        theirs.close()  # so that the end of the process ends the connection

    def read(self, rows: np.ndarray) -> Batch:
        """Reads a batch in the worker.

        Raises:
            RuntimeError: if the worker has ended.
            Exception: any exception that the worker raised.
        """
        try:
            self._connection.send(rows)
            result = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise RuntimeError(
                f"a worker process that reads data ended with exit code {self._process.exitcode}: "
                "it was killed, or a script starts training outside `if __name__ == '__main__':`"
            ) from error
        if isinstance(result, Exception):
            raise result
        return result

    def kill(self) -> None:
        """Ends the process; a thread that waits for its result gets an exception."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Releases the resources of the ended process."""
        self._connection.close()
        self._process.close()


def _pickled(examples: Examples) -> bytes:
    try:
        return pickle.dumps(examples)
    except Exception as error:  # pickle raises whatever the object does
        expected = "an object that can be pickled for worker processes, or workers=0"
        raise InputError("examples", expected, f"{type(error).__name__}: {error}") from error


def _serve(connection: Connection, packed: bytes) -> None:
    """Runs a worker: reads batches until the other end of the connection is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # handled by the training process
        signal.signal(number, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # the accelerator belongs to the training process
    examples: Examples | None = None
    with contextlib.suppress(EOFError, OSError):  # the other end is closed
        while True:
            rows = connection.recv()
            try:
                examples = examples or pickle.loads(packed)
                result: Batch | Exception = examples.gather(rows)
            except Exception as error:
                result = _sendable(error)
            connection.send(result)


def _sendable(error: Exception) -> Exception:
    """Returns the exception, or one with the same text if it cannot be pickled and unpickled."""
    if not isinstance(error, InputError):
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError("".join(traceback.format_exception(error)))
    return error

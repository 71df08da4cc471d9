"""Training with several processes: how they connect, and how they end if one is lost.

Every process connects to process 0 and keeps the connection open (see ``rendezvous``). If a
connection closes without a goodbye message, that process is lost. All others then end with an error
message, because their collective operations would wait for it forever.
"""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np

from jaxnets.arrays import InputError, check_integer, check_number, check_positive
from jaxnets.training import rendezvous
from jaxnets.training.bridge import Bridge
from jaxnets.training.interrupts import Interrupted

#: Seconds that processes wait for each other at the start.
PATIENCE = 60.0
#: Environment variables by which launchers show that they started several processes.
LAUNCHED = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

_GOODBYE = b"goodbye\n"
# Seconds. When a process is lost, a collective fails first, and its connection closes soon after.
# The delay lets ``Watch`` report the lost process instead of the collective's error.
_UNTIL_IT_IS_KNOWN = 5.0


def launched(environment: Mapping[str, str]) -> bool:
    """Whether SLURM, Open MPI or Cloud TPU has started this process as one of several."""
    found = (environment.get(name, "") for name in LAUNCHED)
    return any(int(text) > 1 if text.isdigit() else "," in text for text in found)


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    processes: int | None = None,
    process_id: int | None = None,
    *,
    patience: float = PATIENCE,
) -> Iterator[None]:
    """Joins the processes that train together; must be entered before JAX computes anything.

    Within the context, the loss of one process ends the others, with a message on standard error
    and exit code 1. The context exits when all processes have reached its end.

    Args:
        coordinator: "HOST:PORT" of process 0; None reads it from the launcher's environment.
        processes: number of processes.
        process_id: the id of this process, from 0.
        patience: seconds to wait for the others at the start.

    Raises:
        InputError: if an argument is invalid, another process has the same id, or has another
            number of processes.
        OSError: if the others do not connect in time.
    """
    check_number("patience", patience, above=0)
    local_devices = None
    if coordinator is None:
        coordinator, processes, process_id, local_devices = _detected(patience)
    host, port = rendezvous.address(coordinator)
    check_positive("processes", processes)
    assert processes is not None
    check_integer("process_id", process_id, least=0, most=processes - 1)
    assert process_id is not None
    if processes == 1:
        yield
        return
    with contextlib.ExitStack() as open_until_the_end:
        if process_id == 0:
            # JAX's service listens on the same port after ``gather`` has closed it.
            lines = rendezvous.gather(port, coordinator, processes, patience)
            address = f"localhost:{port}"
        else:
            lines = {0: rendezvous.report(host, port, processes, process_id, patience)}
            bridge = open_until_the_end.enter_context(Bridge(host, port, patience))
            address = f"127.0.0.1:{bridge.port}"
        watch = Watch(process_id, lines)
        watch.start()
        with _silent_gloo():
            _initialize(address, processes, process_id, local_devices, patience)
            try:
                yield
            except BaseException as error:
                _after(error, watch)
                raise
            watch.leave()


def gathered(value: np.ndarray) -> np.ndarray:
    """Gathers an array from every process, [processes, …]; all call this with the same shape."""
    if jax.process_count() == 1:
        return value[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value))


def of_first(text: str) -> str:
    """Returns process 0's text, of up to 4096 bytes, on every process; all must call this."""
    letters = np.frombuffer(text.encode().ljust(4096, b"\0"), np.uint8)  # all need one shape
    return gathered(letters)[0].tobytes().rstrip(b"\0").decode()


def check_same(argument: str, expected: str, value: Any) -> None:
    """Checks that all processes pass the same JSON value; raises on every process otherwise."""
    numbers = gathered(np.array(zlib.crc32(json.dumps(value).encode()), np.uint32))
    other = np.flatnonzero(numbers != numbers[0])
    if len(other):
        raise InputError(argument, expected, f"a different one on process {other[0]}")


class Watch(threading.Thread):
    """A thread that ends this process when another is lost.

    Args:
        process_id: the id of this process.
        lines: the connections by process id; process 0 has one to every other process, the others
            have one to process 0.
    """

    def __init__(self, process_id: int, lines: dict[int, socket.socket]) -> None:
        super().__init__(name="watch", daemon=True)
        self._process_id, self._lines = process_id, lines
        self._all_left = threading.Event()
        self._silent = False

    def run(self) -> None:
        """Listens until all processes have sent a goodbye."""
        listeners = [
            threading.Thread(target=self._listen, args=(process, line), daemon=True)
            for process, line in self._lines.items()
        ]
        for listener in listeners:
            listener.start()
        for listener in listeners:
            listener.join()
        self._all_left.set()

    def leave(self) -> None:
        """Sends a goodbye, and waits until all processes have done so."""
        # Process 0 sends its goodbye last, so that the others wait until all are done.
        if self._process_id > 0:
            self._send(_GOODBYE)
        self._all_left.wait()
        if self._process_id == 0:
            self._send(_GOODBYE)
        self.close()

    def close(self) -> None:
        """Closes the connections; without a goodbye the others take this process as lost."""
        self._silent = True
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def _listen(self, process: int, line: socket.socket) -> None:
        try:
            heard = line.makefile("rb").readline()
        except OSError:
            heard = b""
        if heard == _GOODBYE or self._silent:
            return
        sentence = heard.decode().strip()
        sentence = sentence or f"process {process} has ended before the others: see its messages"
        self._send(f"{sentence}\n".encode())  # process 0 forwards the reason to the others
        _end(sentence)

    def _send(self, message: bytes) -> None:
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.sendall(message)


def _end(sentence: str) -> NoReturn:
    print(f"jaxnets: {sentence}", file=sys.stderr, flush=True)
    os._exit(1)  # the main thread may be blocked in a collective, which cannot be interrupted


def _after(error: BaseException, watch: Watch) -> None:
    """Closes the connections after an error, and makes this process exit without JAX's shutdown."""
    if isinstance(error, Interrupted):  # raised on all processes
        watch.leave()
    elif _is_of_a_collective(error):
        time.sleep(_UNTIL_IT_IS_KNOWN)
    watch.close()
    # JAX's shutdown at exit would wait for the other processes.
    code = error.code if isinstance(error, SystemExit) else 1
    atexit.register(_exit, code if isinstance(code, int) else 1)


def _is_of_a_collective(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, can come from a collective of several processes."""
    while error is not None:
        # A failed save is an OSError that quotes the error of the collective within it.
        if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _initialize(
    address: str, processes: int, process_id: int, local_devices: Any, patience: float
) -> None:
    late = f"the processes connected, but JAX's service did not start within {patience:g} s"
    timer = threading.Timer(patience, _end, [late])
    timer.daemon = True
    timer.start()
    options: Any = {} if local_devices is None else {"local_device_ids": local_devices}
    jax.distributed.initialize(
        address,
        processes,
        process_id,
        cluster_detection_method="deactivate",
        initialization_timeout=int(patience) + 60,  # so that the timer ends the process first
        **options,
    )
    timer.cancel()


def _detected(patience: float) -> Any:
    """Returns address, number of processes, id and devices from the launcher's environment."""
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(patience)
    )
    if None in found[:3]:
        expected = "HOST:PORT, as no known launcher has started this process"
        raise InputError("coordinator", expected, "nothing")
    return found


@contextlib.contextmanager
def _silent_gloo() -> Iterator[None]:
    """Discards what Gloo, XLA's CPU collectives, writes to standard output.

    Gloo writes to file descriptor 1 directly, so the descriptor is redirected to the null device,
    and ``sys.stdout`` to a duplicate of the old one.
    """
    python = sys.__stdout__
    if python is None or python is not sys.stdout:  # already replaced, for example by pytest
        yield
        return
    python.flush()
    before = os.dup(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        with open(os.dup(before), "w", 1, python.encoding, python.errors) as sys.stdout:
            yield
    finally:
        sys.stdout = python
        os.dup2(before, 1)
        os.close(before)

"""Several processes that train together: how they find each other, and what if one is lost.

Process 0 waits where the others look for it, and hears from each who it is. These connections stay
open: one that closes before its process has said goodbye tells that the process is lost. Then all
others end, as they would wait for it for ever, with one sentence.
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
from jaxnets.training import meeting
from jaxnets.training.bridge import Bridge
from jaxnets.training.interrupts import Interrupted

#: Seconds that processes wait for each other at the start.
PATIENCE = 60.0
#: What says, in the surroundings of a process, that a launcher has started several.
LAUNCHED = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

_GOODBYE = b"goodbye\n"
# A collective fails in the moment in which a process is lost; its connection closes soon after.
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
    """Joins the processes that train together, before JAX has computed anything.

    While it is entered, the loss of one process ends the others, with one sentence on standard
    error and exit code 1. It is left when all have come to its end.

    Args:
        coordinator: "HOST:PORT", where process 0 is; None asks the launcher of the processes.
        processes: how many there are.
        process_id: which this is, from 0.
        patience: seconds to wait for the others at the start.

    Raises:
        InputError: if an argument is bad, another process has the same id, or was told of another
            number of processes.
        OSError: if the others do not come in time.
    """
    check_number("patience", patience, above=0)
    local_devices = None
    if coordinator is None:
        coordinator, processes, process_id, local_devices = _detected(patience)
    host, port = meeting.address(coordinator)
    check_positive("processes", processes)
    assert processes is not None
    check_integer("process_id", process_id, least=0, most=processes - 1)
    assert process_id is not None
    if processes == 1:
        yield
        return
    with contextlib.ExitStack() as open_until_the_end:
        if process_id == 0:
            lines = meeting.gather(port, coordinator, processes, patience)
            address = f"localhost:{port}"
        else:
            lines = {0: meeting.report(host, port, processes, process_id, patience)}
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
    """An array of every process, [processes, …]; all call this with the same shape."""
    if jax.process_count() == 1:
        return value[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(value))


def of_first(text: str) -> str:
    """What process 0 comes with, of up to 4096 bytes; all call this."""
    letters = np.frombuffer(text.encode().ljust(4096, b"\0"), np.uint8)
    return gathered(letters)[0].tobytes().rstrip(b"\0").decode()


def check_same(argument: str, expected: str, value: Any) -> None:
    """Raises on every process unless all come with the same value, which JSON can hold."""
    numbers = gathered(np.array(zlib.crc32(json.dumps(value).encode()), np.uint32))
    other = np.flatnonzero(numbers != numbers[0])
    if len(other):
        raise InputError(argument, expected, f"another on process {other[0]} than on process 0")


class Watch(threading.Thread):
    """Ends this process when another is lost.

    Args:
        process_id: which this is.
        lines: the connections; from process 0 to all, from the others to process 0.
    """

    def __init__(self, process_id: int, lines: dict[int, socket.socket]) -> None:
        super().__init__(name="watch", daemon=True)
        self._process_id, self._lines = process_id, lines
        self._all_left = threading.Event()
        self._silent = False

    def run(self) -> None:
        """Listens until all have said goodbye."""
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
        """Says goodbye, and waits until all have done so."""
        if self._process_id > 0:
            self._tell(_GOODBYE)
        self._all_left.wait()
        if self._process_id == 0:
            self._tell(_GOODBYE)
        self.close()

    def close(self) -> None:
        """Lets the others know that this process is lost, unless it has said goodbye."""
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
        sentence = sentence or f"process {process} has ended before the others: see what it said"
        self._tell(f"{sentence}\n".encode())
        _end(sentence)

    def _tell(self, message: bytes) -> None:
        for line in self._lines.values():
            with contextlib.suppress(OSError):
                line.sendall(message)


def _end(sentence: str) -> NoReturn:
    print(f"jaxnets: {sentence}", file=sys.stderr, flush=True)
    os._exit(1)


def _after(error: BaseException, watch: Watch) -> None:
    """What an error means for the other processes."""
    if isinstance(error, Interrupted):  # on all of them
        watch.leave()
    elif isinstance(error, jax.errors.JaxRuntimeError):
        time.sleep(_UNTIL_IT_IS_KNOWN)
    watch.close()
    # JAX's own end would wait for the others
    code = error.code if isinstance(error, SystemExit) else 1
    atexit.register(_exit, code if isinstance(code, int) else 1)


def _exit(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _initialize(
    address: str, processes: int, process_id: int, local_devices: Any, patience: float
) -> None:
    late = f"the processes met, but JAX's service did not start within {patience:g} s"
    timer = threading.Timer(patience, _end, [late])
    timer.daemon = True
    timer.start()
    options: Any = {} if local_devices is None else {"local_device_ids": local_devices}
    jax.distributed.initialize(
        address,
        processes,
        process_id,
        cluster_detection_method="deactivate",
        initialization_timeout=int(patience) + 60,  # after which JAX ends the process at length
        **options,
    )
    timer.cancel()


def _detected(patience: float) -> Any:
    """Address, number, id and devices as the launcher of the processes has it."""
    from jax._src.clusters import ClusterEnv

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, int(patience)
    )
    if None in found[:3]:
        expected = "HOST:PORT, as no launcher that JAX knows has started this process"
        raise InputError("coordinator", expected, "nothing")
    return found


@contextlib.contextmanager
def _silent_gloo() -> Iterator[None]:
    """Keeps what Gloo writes to standard output from standing among results."""
    python = sys.__stdout__
    if python is None or python is not sys.stdout:  # somebody else has taken it
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

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
from typing import IO, Any, NoReturn

import jax
import numpy as np

from jaxnets.arrays import InputError, check_integer, check_number, check_positive
from jaxnets.training.bridge import Bridge
from jaxnets.training.interrupts import Interrupted

#: Seconds that processes wait for each other at the start.
PATIENCE = 60.0
#: What says, in the surroundings of a process, that a launcher has started several.
LAUNCHED = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")

_GOODBYE = b"goodbye\n"
# A collective fails in the moment in which a process is lost; its connection closes soon after.
_UNTIL_IT_IS_KNOWN = 5.0
# Seconds until a machine that no longer answers counts as lost: idle, between tries, tries.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


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
    host, port = _address(coordinator)
    check_positive("processes", processes)
    assert processes is not None
    check_integer("process_id", process_id, least=0, most=processes - 1)
    assert process_id is not None
    if processes == 1:
        yield
        return
    with contextlib.ExitStack() as open_until_the_end:
        if process_id == 0:
            lines = _gather(port, coordinator, processes, patience)
            address = f"localhost:{port}"
        else:
            lines = {0: _report(host, port, processes, process_id, patience)}
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


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError("coordinator", "HOST:PORT, such as 10.0.0.1:29500", repr(text))
    return host.strip("[]"), int(port)


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


def _gather(port: int, address: str, processes: int, patience: float) -> dict[int, socket.socket]:
    """As process 0, waits for the others; returns the connection of each."""
    deadline = time.monotonic() + patience
    came: dict[int, socket.socket] = {}
    with _listening(port) as server:
        while len(came) < processes - 1:
            server.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                line = server.accept()[0]
            except TimeoutError:
                missing = sorted({*range(1, processes)} - came.keys())
                names = ", ".join(map(str, missing))
                late = f"process {names} of {processes} did not come to {address}"
                late += f" within {patience:g} s"
                for other in came.values():
                    _send(other, {"late": late})
                raise TimeoutError(late) from None
            _welcome(line, came, processes)
    for line in came.values():
        _send(line, {})
    return came


def _listening(port: int) -> socket.socket:
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        expected = "a port that is free on the machine of process 0"
        got = f"{port}: {error.strerror or error} (is there another process 0?)"
        raise InputError("coordinator", expected, got) from error


def _welcome(line: socket.socket, came: dict[int, socket.socket], processes: int) -> None:
    """Takes up a process, or tells it what is wrong."""
    try:
        line.settimeout(5)  # whoever else connects may say nothing
        other = _receive(line.makefile("rb"))
        number, told = int(other["process_id"]), int(other["processes"])
    except (OSError, ValueError, LookupError, TypeError):
        line.close()
        return
    fault = None
    if told != processes:
        fault = ["processes", f"{processes}, as process 0 was told", f"{told}"]
    elif number in came:
        peer = came[number].getpeername()[0]
        fault = [
            "process_id",
            "one that no other process has",
            f"{number}, which one at {peer} has",
        ]
    if fault is not None:
        _send(line, {"fault": fault})
        line.close()
        return
    _keep_alive(line)
    came[number] = line


def _report(
    host: str, port: int, processes: int, process_id: int, patience: float
) -> socket.socket:
    """As another process, finds process 0; returns the connection."""
    line = _connect(host, port, patience)
    try:
        line.settimeout(2 * patience)  # process 0 waits as long, from when it came
        _send(line, {"process_id": process_id, "processes": processes})
        answer = _receive(line.makefile("rb"))
        late, fault = answer.get("late"), answer.get("fault")
    except (OSError, ValueError, AttributeError) as error:
        line.close()
        text = f"what answers at {host}:{port} is no process 0 that waits for others: it has begun"
        raise ConnectionError(f"{text}, has ended, or is another program") from error
    if late is not None or fault is not None:
        line.close()
        raise InputError(*fault) if fault is not None else TimeoutError(late)
    _keep_alive(line)
    return line


def _connect(host: str, port: int, patience: float) -> socket.socket:
    deadline = time.monotonic() + patience
    while True:
        try:
            return socket.create_connection((host, port), timeout=patience)
        except OSError as error:
            if time.monotonic() > deadline - 0.2:
                text = f"process 0 was not found at {host}:{port} within {patience:g} s"
                raise ConnectionError(f"{text}: {error.strerror or error}") from error
        time.sleep(0.2)


def _keep_alive(line: socket.socket) -> None:
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _send(line: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        line.sendall(json.dumps(message).encode() + b"\n")


def _receive(file: IO[bytes]) -> Any:
    return json.loads(file.readline(10_000))


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

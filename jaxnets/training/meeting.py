"""How processes that train together find each other: process 0 waits, the others come to it.

Each says in a line of JSON which it is, and of how many. When all are there, or one is wrong or
late, process 0 answers in a line.
"""

import contextlib
import json
import os
import socket
import time
from typing import IO, Any

from jaxnets.arrays import InputError

# Seconds until a machine that no longer answers counts as lost: idle, between tries, tries.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


def address(text: str) -> tuple[str, int]:
    """Host and port of process 0.

    Raises:
        InputError: if the text has not both.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError("coordinator", "HOST:PORT, such as 10.0.0.1:29500", repr(text))
    return host.strip("[]"), int(port)


def gather(port: int, address: str, processes: int, patience: float) -> dict[int, socket.socket]:
    """As process 0, waits for the others.

    Args:
        port: on which to listen.
        address: as the others know it.
        processes: how many there are.
        patience: seconds to wait.

    Returns:
        The connection of each.

    Raises:
        InputError: if the port is taken.
        TimeoutError: if one does not come in time.
    """
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
                late = f"of {processes} processes, {names} did not come to {address}"
                late += f" within {patience:g} s"
                for other in came.values():
                    _send(other, {"late": late})
                    other.close()
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
        got = f"{port}: {os.strerror(error.errno or 0)} (is there another process 0?)"
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
        peer = came[number].getpeername()[0].removeprefix("::ffff:")
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


def report(host: str, port: int, processes: int, process_id: int, patience: float) -> socket.socket:
    """As another process, finds process 0 and returns the connection.

    Raises:
        InputError: if process 0 refuses this one.
        OSError: if there is no process 0, or others do not come in time.
    """
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

"""Connections between processes that train together: process 0 listens, the others connect.

Each process sends one line of JSON with its id and the number of processes. Process 0 replies with
one line when all have connected, or when one of them is wrong or late.
"""

import contextlib
import json
import os
import socket
import time
from typing import IO, Any

from jaxnets.arrays import InputError

# A machine that stops responding counts as lost after 5 s of idle time and 4 probes, 5 s apart.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


def address(text: str) -> tuple[str, int]:
    """Parses the host and port of process 0.

    Raises:
        InputError: if the text is not HOST:PORT.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise InputError("coordinator", "HOST:PORT, such as 10.0.0.1:29500", repr(text))
    return host.strip("[]"), int(port)


def gather(port: int, address: str, processes: int, patience: float) -> dict[int, socket.socket]:
    """Waits, as process 0, for the other processes to connect.

    Args:
        port: the port to listen on.
        address: the address of process 0, for error messages.
        processes: number of processes.
        patience: seconds to wait.

    Returns:
        The connection to each process by its id.

    Raises:
        InputError: if the port is in use.
        TimeoutError: if a process does not connect in time.
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
                late = f"of {processes} processes, {names} did not connect to {address}"
                late += f" within {patience:g} s"
                for other in came.values():
                    _send(other, {"late": late})
                    other.close()
                raise TimeoutError(late) from None
            _welcome(line, came, processes)
    for line in came.values():  # an empty message: all processes have connected
        _send(line, {})
    return came


def _listening(port: int) -> socket.socket:
    # One socket for IPv4 and IPv6, because ``coordinator`` may be either.
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        expected = "a port that is free on the machine of process 0"
        got = f"{port}: {os.strerror(error.errno or 0)} (another process 0 may be running)"
        raise InputError("coordinator", expected, got) from error


def _welcome(line: socket.socket, came: dict[int, socket.socket], processes: int) -> None:
    """Accepts the connection of a process, or replies with what is wrong."""
    try:
        line.settimeout(5)  # another program that connects may send nothing
        other = _receive(line.makefile("rb"))
        number, count = int(other["process_id"]), int(other["processes"])
    except (OSError, ValueError, LookupError, TypeError):
        line.close()
        return
    fault = None
    if count != processes:
        fault = ["processes", f"{processes}, as on process 0", f"{count}"]
    elif number in came:
        peer = came[number].getpeername()[0].removeprefix("::ffff:")
        fault = [
            "process_id",
            "a different one for each process",
            f"{number}, which a process on {peer} has",
        ]
    if fault is not None:
        _send(line, {"fault": fault})
        line.close()
        return
    _keep_alive(line)
    came[number] = line


def report(host: str, port: int, processes: int, process_id: int, patience: float) -> socket.socket:
    """Connects to process 0, as one of the others, and returns the connection.

    Raises:
        InputError: if process 0 rejects this process.
        OSError: if process 0 cannot be reached, or other processes do not connect in time.
    """
    line = _connect(host, port, patience)
    try:
        line.settimeout(2 * patience)  # process 0 may have started to wait ``patience`` s later
        _send(line, {"process_id": process_id, "processes": processes})
        answer = _receive(line.makefile("rb"))
        late, fault = answer.get("late"), answer.get("fault")
    except (OSError, ValueError, AttributeError) as error:
        line.close()
        text = f"no process 0 is waiting for others at {host}:{port}: it has begun or ended"
        raise ConnectionError(f"{text}, or another program uses the port") from error
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

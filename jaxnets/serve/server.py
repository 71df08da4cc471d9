"""Runs the HTTP server until a signal arrives."""

import ipaddress
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

from jaxnets.arrays import InputError, check_integer
from jaxnets.optional import require
from jaxnets.runs import SavedRun
from jaxnets.serve.application import Limits, application

_GRACE = 5  # seconds to finish requests after a signal


def serve(
    saved: SavedRun,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    say: Callable[[str], Any] = print,
) -> None:
    """Serves a run over HTTP until Ctrl-C or SIGTERM, and finishes current requests.

    Args:
        saved: the run, from ``jaxnets.load``.
        host: the address to listen on; the default can only be reached from this machine.
        port: the port to listen on; 0 for any free port.
        limits: the limits of the service; None for the defaults.
        say: a function to call with a line that has the address.

    Raises:
        InputError: if the run cannot be served, or the address cannot be used.
        ImportError: if starlette or uvicorn is not installed.
    """
    uvicorn = require("uvicorn", extra="serve", feature="serving")
    listening = _listening(host, check_integer("port", port, least=0, most=65535))
    with listening:
        app = application(saved, limits)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            lifespan="on",
            timeout_graceful_shutdown=_GRACE,
            limit_concurrency=2048,
        )
        server = uvicorn.Server(config)
        say(_address(saved, host, listening.getsockname()[1]))
        _run(server, listening)


def _listening(host: str, port: int) -> socket.socket:
    if not isinstance(host, str) or not host:
        raise InputError("host", "an address such as 127.0.0.1", host)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            "host", "an address and a port to listen on", f"{host}:{port} ({reason})"
        ) from error


def _address(saved: SavedRun, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    line = f"serving {type(saved.model).__name__} at http://{shown}:{port} (Ctrl-C stops)"
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return line if local else f"{line}; anyone who can reach this address can use it"


def _run(server: Any, listening: socket.socket) -> None:
    """Runs the server in a thread; in the main thread, uvicorn would re-raise the signal."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    if threading.current_thread() is not threading.main_thread():
        server.run(sockets=[listening])
        return

    def stop(number: int, frame: Any) -> None:
        server.force_exit = server.should_exit  # a second signal stops immediately

        server.should_exit = True

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        thread.start()
        thread.join()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

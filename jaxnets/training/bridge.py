"""A connection that seems to stay open when the other end is lost."""

import contextlib
import socket
import threading
import time


class Bridge:
    """Carries what is sent to a port of this machine on to another one, and back.

    XLA ends a process at length in the moment in which the service of process 0 is gone. Behind
    this it does not see that, and there is time to say what has happened.

    Args:
        host: of the other machine.
        port: its.
        patience: seconds in which it may begin to answer.

    Attributes:
        port: of this machine.
    """

    def __init__(self, host: str, port: int, patience: float) -> None:
        self._there, self._patience = (host, port), patience
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def __enter__(self) -> "Bridge":
        """Begins to carry."""
        threading.Thread(target=self._accept, name="bridge", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes no further connection; those that there are stay."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near = self._server.accept()[0]
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        far = self._connect()
        if far is None:
            near.close()
            return
        threading.Thread(target=_pump, args=(far, near), daemon=True).start()
        _pump(near, far)
        far.close()

    def _connect(self) -> socket.socket | None:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                far = socket.create_connection(self._there, timeout=self._patience)
                far.settimeout(None)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return far
            time.sleep(0.05)
        return None


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carries bytes until the source is lost; the sink is not told."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)

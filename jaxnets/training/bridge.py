"""A local TCP proxy whose connections stay open when the remote end is lost."""

import contextlib
import socket
import threading
import time


class Bridge:
    """Forwards a port of this machine to another machine.

    XLA aborts a process with a long message as soon as its connection to the service of process 0
    closes. Behind this proxy the connection stays open, so that ``Watch`` can end the process with
    a short message.

    Args:
        host: the other machine.
        port: the port on the other machine.
        patience: seconds to wait for the other machine to accept a connection.

    Attributes:
        port: the port on this machine.
    """

    def __init__(self, host: str, port: int, patience: float) -> None:
        self._there, self._patience = (host, port), patience
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]

    def __enter__(self) -> "Bridge":
        """Starts to accept connections."""
        threading.Thread(target=self._accept, name="bridge", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops accepting connections; existing ones stay open."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                near = self._server.accept()[0]
                threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near: socket.socket) -> None:
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
                # Small messages are forwarded at once, as on a direct connection of gRPC.
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return far
            time.sleep(0.05)
        return None


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Copies bytes until the source closes; the sink stays open."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)

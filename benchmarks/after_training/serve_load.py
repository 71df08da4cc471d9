"""Load on ``jaxnets serve``: many clients at once, and invalid requests.

    python benchmarks/after_training/serve_load.py RUN

RUN is a run directory of mnist-lenet. Clients and server share the processors of this machine.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import record

from jaxnets.data import load

REQUESTS = 4000  # for each number of clients
CLIENTS = (1, 20, 200)
WRONG = {
    "not JSON": b"{",
    "deeply nested": b"[" * 100_000,
    "another shape": b'{"inputs": [[1, 2]]}',
    "no image": b'{"images": ["aGVsbG8="]}',
    "bytes that are no text": b"\xff\xfe\x00",
    "too large": b" " * (5 * 2**20),
}


def main() -> None:
    run = sys.argv[1]
    images, labels = load("mnist").test.gather(np.arange(100))
    bodies = [json.dumps({"inputs": [image.tolist()]}).encode() for image in images]
    names = [str(label) for label in labels]
    command = [sys.executable, "-m", "jaxnets", "serve", run, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(re.search(r":(\d+) ", server.stdout.readline())[1])
        rows = [measured(port, clients, bodies, names) for clients in CLIENTS]
        rows.append(asyncio.run(with_wrong_ones(port, bodies)))
        assert asyncio.run(once(port, b"GET", "/health", b""))[0] == 200
    finally:
        server.terminate()
    assert server.wait(20) == 0
    about = {
        "title": "Serving under load",
        "method": (
            f"`jaxnets serve` with mnist-lenet handles {REQUESTS:,} requests with one image each "
            "(784 numbers as JSON). Each client waits for a response before it sends the next "
            "request, and keeps its connection; clients and server share the 2 cores. In the "
            f"last row every second request is invalid, in one of {len(WRONG)} ways, each of "
            "which closes its connection. The server keeps running and ends with exit code 0."
        ),
        "command": "python benchmarks/after_training/serve_load.py RUN",
        "columns": ["clients", "requests/s", "p50", "p99", "answers"],
        "rows": rows,
    }
    record.write("serve_load", about, ("starlette", "uvicorn"))
    print(json.dumps(rows, indent=1, ensure_ascii=False))


def measured(port: int, clients: int, bodies: list[bytes], names: list[str]) -> list[str]:
    seconds: list[float] = []
    statuses: Counter[int] = Counter()
    right = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(REQUESTS // clients):
            place = (number + turn) % len(bodies)
            begun = time.perf_counter()
            status, reply = await ask(reader, writer, b"POST", "/predict", bodies[place])
            seconds.append(time.perf_counter() - begun)
            statuses[status] += 1
            right.append(reply["predictions"][0]["class"] == names[place])
        writer.close()

    async def every() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        return time.perf_counter() - begun

    whole = asyncio.run(every())
    assert np.mean(right) > 0.95, np.mean(right)
    return row(str(clients), whole, seconds, statuses)


def row(name: str, whole: float, seconds: list[float], statuses: Counter[int]) -> list[str]:
    p50, p99 = statistics.median(seconds), float(np.quantile(seconds, 0.99))
    answers = ", ".join(f"{count:,} × {status}" for status, count in sorted(statuses.items()))
    return [
        name,
        f"{len(seconds) / whole:,.0f}",
        f"{1000 * p50:.1f} ms",
        f"{1000 * p99:.1f} ms",
        answers,
    ]


async def with_wrong_ones(port: int, bodies: list[bytes]) -> list[str]:
    """200 clients, half of which send invalid requests."""
    statuses: Counter[int] = Counter()
    seconds: list[float] = []
    wrong = list(WRONG.values())

    async def client(number: int) -> None:
        for turn in range(3):
            body = wrong[(number // 2 + turn) % len(wrong)] if number % 2 else bodies[turn]
            begun = time.perf_counter()
            status, reply = await once(port, b"POST", "/predict", body)
            seconds.append(time.perf_counter() - begun)
            statuses[status] += 1
            assert ("error" in reply) == bool(number % 2), reply

    begun = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(200)))
    return row("200, half of them wrong", time.perf_counter() - begun, seconds, statuses)


async def once(port: int, method: bytes, path: str, body: bytes) -> tuple[int, dict]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await ask(reader, writer, method, path, body)
    finally:
        writer.close()


async def ask(reader, writer, method: bytes, path: str, body: bytes) -> tuple[int, dict]:
    """Returns the status and the JSON of a response over an open connection."""
    head = f" {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    writer.write(method + head.encode() + f"content-length: {len(body)}\r\n\r\n".encode())
    try:
        writer.write(body)
        await writer.drain()
    except ConnectionError:  # the server responds to a body that is too large before its end
        pass
    status = int((await reader.readline()).split()[1])
    length = 0
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.partition(b":")
        length = int(value) if name.lower() == b"content-length" else length
    return status, json.loads(await reader.readexactly(length))


if __name__ == "__main__":
    main()

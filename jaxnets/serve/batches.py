"""Computes the examples of concurrent requests in batches."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np


class Busy(Exception):
    """The queue of examples is full."""


class Batches:
    """Collects examples until a batch is full or a time has passed, then computes the batch.

    A batch is padded to a power of two, so that few programs are compiled.

    Args:
        compute: a predictor, inputs [batch, …] → outputs [batch, …].
        most: the largest batch, a power of two.
        wait: the time that the first example waits for others, in seconds.
        room: the largest number of waiting examples.
    """

    def __init__(
        self, compute: Callable[[np.ndarray], Any], most: int, wait: float, room: int
    ) -> None:
        self._compute, self._most, self._wait = compute, most, wait
        self._queue: asyncio.Queue[tuple[np.ndarray, asyncio.Future]] = asyncio.Queue(room)
        self._thread = ThreadPoolExecutor(1, "predictor")
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the computation, within a running event loop."""
        self._worker = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops the computation; waiting examples are not computed."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def ask(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs for examples, which may be computed in several batches.

        Raises:
            Busy: if the queue does not have space for the examples.
        """
        if self._queue.qsize() + len(examples) > self._queue.maxsize:
            raise Busy
        loop = asyncio.get_running_loop()
        waiting = [loop.create_future() for _ in examples]
        for pair in zip(examples, waiting, strict=True):
            self._queue.put_nowait(pair)
        try:
            return list(await asyncio.gather(*waiting))
        finally:
            for future in waiting:  # if the request was canceled, its examples are skipped
                future.cancel()

    async def _run(self) -> None:
        while True:
            batch = await self._collected()
            batch = [(example, future) for example, future in batch if not future.done()]
            if not batch:
                continue
            loop = asyncio.get_running_loop()
            examples = [example for example, _ in batch]
            try:
                outputs = await loop.run_in_executor(self._thread, self.compute, examples)
            except Exception as error:
                for _, future in batch:
                    _settle(future, error)
                continue
            for (_, future), output in zip(batch, outputs, strict=True):
                _settle(future, output)

    async def _collected(self) -> list[tuple[np.ndarray, asyncio.Future]]:
        """Waits for an example, and collects those that arrive within ``wait`` seconds."""
        batch = [await self._queue.get()]
        end = asyncio.get_running_loop().time() + self._wait
        while len(batch) < self._most:
            with contextlib.suppress(asyncio.QueueEmpty):
                batch.append(self._queue.get_nowait())
                continue
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), left))
            except TimeoutError:
                break
        return batch

    def compute(self, examples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the outputs for at most ``most`` examples."""
        width = max(len(example) for example in examples) if examples[0].ndim == 1 else None
        if width is not None:  # texts of different lengths are padded
            examples = [np.pad(each, (0, width - len(each))) for each in examples]
        size = 1 << (len(examples) - 1).bit_length()
        filled = [*examples, *[examples[0]] * (size - len(examples))]
        outputs = np.asarray(self._compute(np.stack(filled)))
        return list(outputs[: len(examples)])


def _settle(future: asyncio.Future, result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)

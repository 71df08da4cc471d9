"""The service's addresses, its limits and its errors."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from jaxnets.arrays import InputError, check_number, check_positive
from jaxnets.models import LANGUAGE_MODELS, TRANSLATORS
from jaxnets.optional import require
from jaxnets.runs import SavedRun
from jaxnets.serve.batches import Batches, Busy
from jaxnets.serve.explanation import explanation
from jaxnets.serve.questions import answer, check_served, question

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
_POLICY += "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
_SHORT = 2**15  # bytes
_EXPLAINED = 8  # examples in a request that are explained


@dataclass(frozen=True)
class Limits:
    """What the service takes.

    Args:
        batch: examples that are computed at once, a power of two.
        wait: how long an example waits for others, in seconds.
        body: bytes in a request.
        examples: examples in a request.
        waiting: examples that may wait; more are answered with 503.
        seconds: how long a request may take, in seconds.

    Raises:
        InputError: if a limit is out of range.
    """

    batch: int = 64
    wait: float = 0.002
    body: int = 4 * 2**20
    examples: int = 256
    waiting: int = 4096
    seconds: float = 10.0

    def __post_init__(self) -> None:
        """Checks the limits."""
        for name in ("batch", "body", "examples", "waiting"):
            check_positive(name, getattr(self, name))
        if self.batch & (self.batch - 1):
            raise InputError("batch", "a power of two", self.batch)
        check_number("wait", self.wait, least=0, most=10)
        check_number("seconds", self.seconds, above=0, most=3600)


class Refused(Exception):
    """A request that is answered with an error.

    Args:
        status: of HTTP.
        message: in a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Service:
    """A run behind its batches."""

    def __init__(self, saved: SavedRun, limits: Limits) -> None:
        self.saved, self.limits = saved, limits
        self.batches = Batches(saved.predictor(), limits.batch, limits.wait, limits.waiting)
        self._explainer = ThreadPoolExecutor(1, "explainer")
        self._explaining = 0

    def warm(self) -> None:
        """Compiles the programs, so that no request waits for one."""
        spec = self.saved.inputs
        example = np.zeros(spec.shape, jnp_dtype(spec.dtype))
        size = self.limits.batch
        while size:
            self.batches.compute([example] * size)
            size //= 2
        with contextlib.suppress(InputError):
            explanation(self.saved, example, self.batches.compute([example])[0])

    @contextlib.asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """Computes while the application runs."""
        self.batches.start()
        yield
        await self.batches.stop()
        self._explainer.shutdown(wait=False, cancel_futures=True)

    async def answered(self, request: Any) -> dict[str, Any]:
        """The answer to a request."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise Refused(415, "content-type: expected application/json")
        body = await self._body(request)
        read = functools.partial(question, self.saved, body, self.limits.examples)
        # a short body is read sooner than a thread begins
        examples, options = read() if len(body) < _SHORT else await asyncio.to_thread(read)
        outputs = await self.batches.ask(examples)
        answers = [answer(self.saved, output) for output in outputs]
        if options["explain"]:
            await self._explain(answers, examples, outputs)
        return {"predictions": answers}

    async def _body(self, request: Any) -> bytes:
        most = self.limits.body
        told = request.headers.get("content-length", "0")
        parts, size = [], 0
        if not told.isdecimal() or int(told) <= most:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    break
                parts.append(part)
            else:
                return b"".join(parts)
        raise Refused(413, f"body: expected at most {most:,} bytes")

    async def _explain(
        self, answers: list[dict], examples: list[np.ndarray], outputs: list[np.ndarray]
    ) -> None:
        """Adds to each answer why it is so, and what the network was given."""
        if len(examples) > _EXPLAINED:
            raise Refused(400, f"explain: expected at most {_EXPLAINED} examples")
        if self._explaining + len(examples) > 4 * _EXPLAINED:
            raise Busy
        self._explaining += len(examples)
        loop = asyncio.get_running_loop()
        try:
            for told, example, output in zip(answers, examples, outputs, strict=True):
                explain = functools.partial(explanation, self.saved, example, output)
                told["explanation"] = await loop.run_in_executor(self._explainer, explain)
                told["given"] = self._given(example)
        finally:
            self._explaining -= len(examples)

    def _given(self, example: np.ndarray) -> Any:
        """An example as the page shows it: words of a text, else its numbers."""
        encoder = self.saved.encoder
        if encoder is None:
            return example.tolist()
        return [encoder.vocabulary.tokens[number] for number in example if number]


def jnp_dtype(dtype: Any) -> np.dtype:
    """The dtype of NumPy in which examples are made; of 32 bits where JAX has no 64."""
    return np.dtype({"float64": "float32", "int64": "int32"}.get(str(dtype), dtype))


def application(saved: SavedRun, limits: Limits | None = None) -> Any:
    """The service as an ASGI application, which any ASGI server runs.

    ``GET /`` is a page to try the network on, ``GET /health`` says that it answers, ``GET /about``
    describes it, ``POST /predict`` predicts. Programs are compiled before this returns.

    Args:
        saved: the run, as ``jaxnets.load`` reads it.
        limits: what the service takes; None for the defaults.

    Returns:
        A Starlette application.

    Raises:
        InputError: if the run does not answer to single examples.
        ImportError: if starlette is not installed.
    """
    if not isinstance(saved, SavedRun):
        raise InputError("saved", "a run, as jaxnets.load reads it", saved)
    if not isinstance(limits, Limits | None):
        raise InputError("limits", "Limits, or None", limits)
    if isinstance(saved.model, (*LANGUAGE_MODELS, *TRANSLATORS)):
        raise InputError("run", "a run that predicts", "a network that writes text")
    check_served(saved)
    starlette = require("starlette.applications", extra="serve", feature="serving")
    responses = require("starlette.responses", extra="serve", feature="serving")
    routing = require("starlette.routing", extra="serve", feature="serving")
    service = _Service(saved, Limits() if limits is None else limits)
    service.warm()
    page = files("jaxnets.serve").joinpath("page.html").read_text(encoding="utf-8")
    about = described(saved)

    async def show(request: Any) -> Any:
        return responses.HTMLResponse(page, headers={"content-security-policy": _POLICY})

    async def health(request: Any) -> Any:
        return responses.JSONResponse({"status": "ok"})

    async def tell(request: Any) -> Any:
        return responses.JSONResponse(about)

    async def predict(request: Any) -> Any:
        status, told = await _told(service, request)
        return responses.JSONResponse(told, status)

    async def unknown(request: Any, error: Any) -> Any:
        return responses.JSONResponse({"error": str(error.detail)}, error.status_code)

    routes = [
        routing.Route("/", show),
        routing.Route("/health", health),
        routing.Route("/about", tell),
        routing.Route("/predict", predict, methods=["POST"]),
    ]
    handlers = dict.fromkeys((404, 405), unknown)
    return starlette.Starlette(
        routes=routes, lifespan=service.lifespan, exception_handlers=handlers
    )


async def _told(service: _Service, request: Any) -> tuple[int, dict[str, Any]]:
    """The status and the JSON of an answer, or of an error in one sentence."""
    seconds = service.limits.seconds
    try:
        return 200, await asyncio.wait_for(service.answered(request), seconds)
    except Refused as error:
        return error.status, {"error": str(error)}
    except InputError as error:
        return 400, {"error": str(error)}
    except Busy:
        return 503, {"error": "busy: too many examples wait; try again later"}
    except TimeoutError:
        return 503, {"error": f"no answer within {seconds:g} seconds"}


def described(saved: SavedRun) -> dict[str, Any]:
    """What the page has to know of a run."""
    spec = saved.inputs
    takes = "inputs"
    if saved.encoder is not None:
        takes = "texts"
    elif saved.table is not None:
        takes = "rows"
    elif len(spec.shape) == 3 and spec.shape[-1] in (1, 3) and spec.dtype == np.uint8:
        takes = "images"
    columns = [] if saved.table is None else saved.table.to_json()
    return {
        "network": type(saved.model).__name__,
        "recipe": None if saved.recipe is None else saved.recipe.name,
        "takes": takes,
        "shape": list(spec.shape),
        "dtype": str(spec.dtype),
        "background": saved.background,
        "classes": None if saved.class_names is None else list(saved.class_names),
        "columns": columns,
    }

"""The routes, limits and errors of the service."""

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
from jaxnets.serve.requests import check_served, parsed, response

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
_POLICY += "img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
_SHORT = 2**15  # bytes
_EXPLAINED = 8  # largest number of examples in a request with explanations


@dataclass(frozen=True)
class Limits:
    """The limits of the service.

    Args:
        batch: the largest batch, a power of two.
        wait: the time to wait for further examples of a batch, in seconds.
        body: the largest size of a request's body, in bytes.
        examples: the largest number of examples in a request.
        waiting: the largest number of waiting examples; further requests get status 503.
        seconds: the longest duration of a request, in seconds.

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
    """An error response to a request.

    Args:
        status: the HTTP status.
        message: the message, a sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Service:
    """A run with its batches and explanations."""

    def __init__(self, saved: SavedRun, limits: Limits) -> None:
        self.saved, self.limits = saved, limits
        self.batches = Batches(saved.predictor(), limits.batch, limits.wait, limits.waiting)
        self._explainer = ThreadPoolExecutor(1, "explainer")
        self._explaining = 0

    def warm(self) -> None:
        """Compiles the programs for all batch sizes, so that no request waits for compilation."""
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
        """Runs the batches while the application runs."""
        self.batches.start()
        yield
        await self.batches.stop()
        self._explainer.shutdown(wait=False, cancel_futures=True)

    async def responses_to(self, request: Any) -> dict[str, Any]:
        """Returns the response to a request to predict."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            raise Refused(415, "content-type: expected application/json")
        body = await self._body(request)
        read = functools.partial(parsed, self.saved, body, self.limits.examples)
        # parsing a short body takes less time than starting a thread
        examples, options = read() if len(body) < _SHORT else await asyncio.to_thread(read)
        outputs = await self.batches.ask(examples)
        responses = [response(self.saved, output) for output in outputs]
        if options["explain"]:
            await self._explain(responses, examples, outputs)
        return {"predictions": responses}

    async def _body(self, request: Any) -> bytes:
        most = self.limits.body
        declared = request.headers.get("content-length", "0")
        parts, size = [], 0
        if not declared.isdecimal() or int(declared) <= most:
            async for part in request.stream():
                size += len(part)
                if size > most:
                    break
                parts.append(part)
            else:
                return b"".join(parts)
        raise Refused(413, f"body: expected at most {most:,} bytes")

    async def _explain(
        self, responses: list[dict], examples: list[np.ndarray], outputs: list[np.ndarray]
    ) -> None:
        """Adds to each prediction its explanation and its input."""
        if len(examples) > _EXPLAINED:
            raise Refused(400, f"explain: expected at most {_EXPLAINED} examples")
        if self._explaining + len(examples) > 4 * _EXPLAINED:
            raise Busy
        self._explaining += len(examples)
        loop = asyncio.get_running_loop()
        try:
            for made, example, output in zip(responses, examples, outputs, strict=True):
                explain = functools.partial(explanation, self.saved, example, output)
                made["explanation"] = await loop.run_in_executor(self._explainer, explain)
                made["given"] = self._given(example)
        finally:
            self._explaining -= len(examples)

    def _given(self, example: np.ndarray) -> Any:
        """Returns an example for the page: the words of a text, or nested lists of numbers."""
        encoder = self.saved.encoder
        if encoder is None:
            return example.tolist()
        return [encoder.vocabulary.tokens[number] for number in example if number]


def jnp_dtype(dtype: Any) -> np.dtype:
    """Returns the NumPy dtype for examples, with 32 bits instead of 64."""
    return np.dtype({"float64": "float32", "int64": "int32"}.get(str(dtype), dtype))


def application(saved: SavedRun, limits: Limits | None = None) -> Any:
    """Makes the service, an ASGI application for any ASGI server.

    ``GET /`` is a web page to try the network, ``GET /health`` returns the status, ``GET /about``
    describes the network, ``POST /predict`` predicts. All programs are compiled before the function
    returns.

    Args:
        saved: the run, from ``jaxnets.load``.
        limits: the limits of the service; None for the defaults.

    Returns:
        A Starlette application.

    Raises:
        InputError: if the run does not predict for single examples.
        ImportError: if starlette is not installed.
    """
    if not isinstance(saved, SavedRun):
        raise InputError("saved", "a run from jaxnets.load", saved)
    if not isinstance(limits, Limits | None):
        raise InputError("limits", "Limits, or None", limits)
    if isinstance(saved.model, (*LANGUAGE_MODELS, *TRANSLATORS)):
        raise InputError("run", "a classifier or a regression", "a network that generates text")
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
        status, content = await _response(service, request)
        return responses.JSONResponse(content, status)

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


async def _response(service: _Service, request: Any) -> tuple[int, dict[str, Any]]:
    """Returns the status and the JSON of a response, or of an error message."""
    seconds = service.limits.seconds
    try:
        return 200, await asyncio.wait_for(service.responses_to(request), seconds)
    except Refused as error:
        return error.status, {"error": str(error)}
    except InputError as error:
        return 400, {"error": str(error)}
    except Busy:
        return 503, {"error": "busy: too many waiting examples; try again later"}
    except TimeoutError:
        return 503, {"error": f"timeout: no prediction within {seconds:g} seconds"}


def described(saved: SavedRun) -> dict[str, Any]:
    """Returns a description of a run for the page and for ``GET /about``."""
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

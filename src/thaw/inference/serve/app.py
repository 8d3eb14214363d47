"""HTTP application: a page to try a trained model, and a JSON interface."""

import asyncio
import logging
import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from thaw.data.label_sets import SEPARATOR
from thaw.errors import UnreadableImageError
from thaw.inference.gradcam import overlaid
from thaw.inference.predict import NONE
from thaw.inference.serve import requests
from thaw.inference.serve.batching import Answer, Batcher, BusyError
from thaw.inference.serve.decoding import NotAnImageError, decode
from thaw.inference.serve.forms import image_in
from thaw.inference.serve.start_page import page_response
from thaw.inference.trained_model import TrainedModel
from thaw.pages.html import data_url
from thaw.pages.text import decoded

_THREADS = min(4, os.cpu_count() or 1)  # few threads, because decoding an image may need several hundred MB
_RETRY = {"Retry-After": "1"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """Largest `body` of a request in bytes, longest time to read it in seconds, largest number of open `requests`."""

    body: int = 20_000_000
    body_seconds: float = 30.0
    requests: int = 32


class Endpoints:
    """Handlers of HTTP requests; a pool of threads decodes images, and `batcher` classifies them."""

    def __init__(self, model: TrainedModel, limits: Limits, batcher: Batcher):
        self.model, self.limits, self.batcher = model, limits, batcher
        self._classes = [*map(decoded, model.classes)]
        self._page = page_response(model, limits.body)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="decoding")
        self._under_way = 0

    @asynccontextmanager
    async def lifespan(self, app: Starlette):
        self.batcher.start()
        try:
            yield
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self.batcher.close()

    async def page(self, request: Request) -> Response:
        return self._page

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok", "model": self.model.net.config["name"], "classes": self._classes})

    async def predict(self, request: Request) -> Response:
        top, explain = requests.top(request, len(self.model.classes)), requests.explain(request)
        if self._under_way >= self.limits.requests:
            raise BusyError
        self._under_way += 1
        try:
            return JSONResponse(await self._prediction(request, top, explain))
        except (HTTPException, BusyError, UnreadableImageError, ClientDisconnect):
            raise
        except asyncio.CancelledError:  # the server is stopping
            return _error(503, "the server is stopping.")
        except Exception:  # answer here, because uvicorn would close the connection without an answer
            _log.exception("an image was not classified")
            return _error(500, "the server failed; its terminal shows the error.")
        finally:
            self._under_way -= 1

    async def _prediction(self, request: Request, top: int, explain: bool) -> dict:
        body = await requests.read_body(request, self.limits.body, self.limits.body_seconds)
        run = asyncio.get_running_loop().run_in_executor
        content_type = request.headers.get("content-type", "")
        image = await run(self._pool, lambda: decode(self.model, image_in(content_type, body)))
        answer = await asyncio.wrap_future(self.batcher.submit(image, explain))
        rows = zip(self._classes, answer.probabilities.tolist(), strict=True)
        ranked = [{"class": name, "probability": p} for name, p in sorted(rows, key=lambda row: -row[1])]
        found = {"predicted": ranked[0]["class"], "confidence": ranked[0]["probability"], "probabilities": ranked[:top]}
        if self.model.several:
            chosen, least = self.model.decision(answer.probabilities)
            classes = [name for name, decided in zip(self._classes, chosen.tolist(), strict=True) if decided]
            found |= {"predicted": SEPARATOR.join(classes) or NONE, "confidence": least, "classes": classes}
        found |= _limits(answer, self._classes)
        if (heatmap := answer.heatmap) is not None:
            found["explanation"] = await run(self._pool, lambda: data_url(overlaid(image, heatmap)))
        return found


def _limits(answer: Answer, classes: Sequence[str]) -> dict[str, object]:
    """Return the prediction set, the most probable class first, and the distance, as far as the model has them."""
    found: dict[str, object] = {}
    if answer.within is not None:
        order = answer.probabilities.argsort(descending=True, stable=True)
        found["set"] = [classes[place] for place in order[answer.within[order]].tolist()]
    if answer.distance is not None:
        found |= {"distance": answer.distance, "unknown": answer.distance > 1}
    return found


def create_app(
    model: TrainedModel, hosts: Collection[str] | None, limits: Limits | None = None, batcher: Batcher | None = None
) -> Starlette:
    """Return the ASGI application. `hosts` are the accepted host names of this server, or None to accept any name."""
    endpoints = Endpoints(model, limits or Limits(), batcher or Batcher(model))
    app = Starlette(
        routes=[
            Route("/", endpoints.page),
            Route("/health", endpoints.health),
            Route("/predict", endpoints.predict, methods=["POST"]),
        ],
        middleware=[Middleware(requests.OwnPageOnly, hosts=hosts)],
        exception_handlers={
            404: lambda request, error: _error(404, "this path is unknown; the choices are /, /health and /predict."),
            405: lambda request, error: _refusal(error, f"{request.method} is not allowed for this path."),
            HTTPException: lambda request, error: _refusal(error),
            BusyError: lambda request, error: _error(
                503, "too many images are waiting; try again in a second.", _RETRY
            ),
            NotAnImageError: lambda request, error: _error(415, str(error)),
            UnreadableImageError: lambda request, error: _error(422, str(error)),
            ClientDisconnect: lambda request, error: _error(400, "the request body is incomplete."),
        },
        lifespan=endpoints.lifespan,
    )
    app.router.redirect_slashes = False
    return app


def _refusal(error: Exception, sentence: str | None = None) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, sentence or error.detail, error.headers)


def _error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status, headers)

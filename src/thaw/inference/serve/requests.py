"""Read and check HTTP requests. A bad request raises HTTPException with a sentence for the client."""

from collections.abc import Collection
from urllib.parse import urlsplit

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Return the request's body. At most `most` bytes plus one chunk are ever in memory.

    Raises: HTTPException: 413 if the body is larger, 408 if reading takes longer than `seconds`, 422 if it is empty.
    """
    too_large = HTTPException(413, f"the body is larger than {most / 1e6:g} MB.")
    if _declared(request) > most:
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(seconds):
            async for piece in request.stream():
                if len(body) + len(piece) > most:
                    raise too_large
                body += piece
    except TimeoutError as error:
        raise HTTPException(408, f"the body took more than {seconds:g} s.") from error
    if not body:
        raise HTTPException(422, "the body is empty: send the bytes of an image.")
    return bytes(body)


def _declared(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def top(request: Request, classes: int) -> int:
    """Return the query parameter `top`, the number of classes in the answer. The default is all `classes`.

    Raises: HTTPException: 400 if `top` is not a whole number above 0.
    """
    text = request.query_params.get("top", str(classes))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise HTTPException(400, "top must be a whole number of at least 1.")
    return min(int(text), classes)


def explain(request: Request) -> bool:
    """Return whether the query parameter `explain` is 1, which asks for a Grad-CAM heatmap.

    Raises: HTTPException: 400 if `explain` is neither 0 nor 1.
    """
    text = request.query_params.get("explain", "0")
    if text not in ("0", "1"):
        raise HTTPException(400, "explain must be 0 or 1.")
    return text == "1"


class OwnPageOnly:
    """Middleware that refuses requests which a browser sends for web pages of other sites.

    `hosts` are the host names accepted in the Host header (against DNS rebinding), or None to accept any name.
    Starlette's own middleware for this purpose is not used, because it does not answer in JSON.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None):
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._fault(Request(scope)) if scope["type"] == "http" else None
        if fault:
            await JSONResponse({"error": fault}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _fault(self, request: Request) -> str | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if self.hosts is not None and _hostname(host) not in self.hosts:
            return "the Host header does not name this server."
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "pages of other servers may not use this server."
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

"""What a request may be, and the sentence for one that may not."""

from collections.abc import Collection
from urllib.parse import urlsplit

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """Never holds more than `most` bytes and one piece.

    Raises: HTTPException: 413 for more of them, 408 if they take longer, 422 for none.
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
    """How many classes are asked for; all, unless the query says.

    Raises: HTTPException: 400.
    """
    told = request.query_params.get("top", str(classes))
    if not (told.isascii() and told.isdecimal() and len(told) < 10 and int(told)):
        raise HTTPException(400, "top must be a whole number from 1 on.")
    return min(int(told), classes)


def explain(request: Request) -> bool:
    """Raises: HTTPException: 400."""
    told = request.query_params.get("explain", "0")
    if told not in ("0", "1"):
        raise HTTPException(400, "explain must be 0 or 1.")
    return told == "1"


class OwnPageOnly:
    """Refuses what other pages make a browser ask.

    A page elsewhere whose name is made to point here (DNS rebinding) is known by the Host that it asks for; `hosts` are
    those that are meant, None for any. Starlette's middleware for that does not answer in JSON.
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
            return "this server is asked under another name than its own."
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "pages of other servers may not use this one."
        return None


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None

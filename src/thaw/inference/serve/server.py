"""Run an HTTP application on a port until SIGINT or SIGTERM."""

import asyncio
import ipaddress
import signal
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from thaw.errors import UserError

_CONNECTIONS = 256
_SILENCE = 30.0  # longest time for the head of a request, in seconds


class Address:
    """An open port. Clients can connect at once, and are answered as soon as `serve` is called.

    `hosts` are the accepted host names, or None if other machines can connect, because they may use any host name.

    Raises:
        UserError: if the port cannot be opened.

    """

    def __init__(self, host: str, port: int):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.socket = _listening(socket.socket(family, kind, protocol), address)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot serve at {host}, port {port}: {reason}.") from error
        bound, self.port = self.socket.getsockname()[:2]
        ip = ipaddress.ip_address(bound)
        self.hosts = {"localhost", "127.0.0.1", "::1", bound, host.lower()} if ip.is_loopback else None
        shown = str(ipaddress.ip_address("::1" if ip.version == 6 else "127.0.0.1")) if ip.is_unspecified else bound
        self.url = f"http://{f'[{shown}]' if ip.version == 6 else shown}:{self.port}"


def _listening(found: socket.socket, address: tuple) -> socket.socket:
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the port can be opened again right after a stop
        found.bind(address)
        found.listen()  # listen at once: two sockets can bind the same port until one of them listens
    except OSError:
        found.close()
        raise
    return found


def serve(app: ASGIApp, address: Address) -> None:
    """Run the server until SIGINT or SIGTERM. Requests that it has not yet answered get five more seconds."""
    server = _Server(config(app), address)
    # uvicorn's own handlers come too late for an early signal, and send the signal again after the server ends.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: setattr(server, "should_exit", True))
    server.run([address.socket])


def config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Connection,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, address: Address):
        super().__init__(config)
        self._address = address

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        others = "" if self._address.hosts else "; other machines can use it, too"
        print(f"open {self._address.url}{others} (Ctrl-C stops the server)", flush=True)


class _Connection(H11Protocol):
    """Connection that closes if a client needs over 30 seconds for a request's head, or keeps sending a refused body.

    The application limits the time for the body, and uvicorn limits idle connections.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(_SILENCE, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

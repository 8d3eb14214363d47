"""The application on a port of this machine, until a signal ends it."""

import asyncio
import ipaddress
import signal
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from thaw.errors import UserError

_CONNECTIONS = 256
_SILENCE = 30.0  # seconds


class Address:
    """A port that is listened at from now on; whoever connects waits until `serve` is called.

    `hosts` are the names that it can be asked under; None where other machines reach it, which may know it by any.

    Raises:
        UserError: if it cannot be had.

    """

    def __init__(self, host: str, port: int):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            self.socket = _listening(socket.socket(family, kind, protocol), address)
        except (OSError, UnicodeError) as error:  # the latter for what cannot be a name
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"cannot serve at {host}, port {port}: {reason}.") from error
        bound, self.port = self.socket.getsockname()[:2]
        ip = ipaddress.ip_address(bound)
        self.hosts = {"localhost", "127.0.0.1", "::1", bound, host.lower()} if ip.is_loopback else None
        shown = str(ipaddress.ip_address("::1" if ip.version == 6 else "127.0.0.1")) if ip.is_unspecified else bound
        self.url = f"http://{f'[{shown}]' if ip.version == 6 else shown}:{self.port}"


def _listening(found: socket.socket, address: tuple) -> socket.socket:
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # at once after a server that has ended
        found.bind(address)
        found.listen()  # now: two sockets may be bound to a port of which none listens
    except OSError:
        found.close()
        raise
    return found


def serve(app: ASGIApp, address: Address) -> None:
    """Returns after SIGINT or SIGTERM, when what was under way has been answered, or five seconds later."""
    server = _Server(config(app), address)
    # uvicorn raises what it received again once it has ended; these handlers also count before it looks for signals.
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
    """Says where it is once it answers."""

    def __init__(self, config: uvicorn.Config, address: Address):
        super().__init__(config)
        self._address = address

    async def startup(self, sockets=None) -> None:
        await super().startup(sockets)
        others = "" if self._address.hosts else "; whoever reaches this machine can use it"
        print(f"open {self._address.url}{others} (Ctrl-C ends it)", flush=True)


class _Connection(H11Protocol):
    """Closed when a client takes half a minute for the head of a request, or goes on sending what was refused.

    Within a request that is being answered the application sets the limits; uvicorn has one for idleness alone.
    """

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, error: Exception | None) -> None:
        self._relax()
        super().connection_lost(error)

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._relax()
        elif self._late is None:
            self._late = self.loop.call_later(_SILENCE, self.transport.close)

    def _relax(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

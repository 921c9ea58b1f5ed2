"""uvicorn, with bounds to what clients can take of the supervisor's process, and with an end that they cannot hold up.

File descriptors are shared with the rest of the supervisor, which needs them for workers and for the database. So
clients can take a quarter of them at most.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
from collections.abc import Sequence

import structlog
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from supervisor.http_service.listening import BACKLOG, shown
from supervisor.http_service.requests import Requests

log = structlog.get_logger("supervisor.http")

MOST_CONNECTIONS = 1000
HEAD_S = 10.0
"""How long a client may take to send the head of a request."""
GRACE_S = 2.0
"""How long a request that has a body, such as an upload, may go on when the supervisor ends."""
CUT_S = 2.0
"""How long what has been cut may take to end: it may have to delete what it has stored."""


def most_connections() -> int:
    """Return how many clients may be connected at once."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if limit == resource.RLIM_INFINITY else max(4, min(MOST_CONNECTIONS, limit // 4))


def most_requests() -> int:
    """Return how many requests may be under way; the other connections are for probes, and for saying no."""
    return most_connections() * 3 // 4


class Protocol(H11Protocol):
    """A connection. One whose request does not come is closed, and sooner where another one needs its place."""

    heard_at = 0.0
    _timer: asyncio.TimerHandle | None = None

    @property
    def is_silent(self) -> bool:
        """Whether no request is under way; it may have begun to come."""
        return not self.transport.is_closing() and (self.cycle is None or self.cycle.response_complete)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin. Of many there is always one that is silent, since not all may have requests under way."""
        super().connection_made(transport)
        self.heard_at = self.loop.time()
        if len(self.connections) > most_connections():
            silent = [each for each in self.connections if isinstance(each, Protocol) and each.is_silent]
            min(silent, key=lambda each: each.heard_at).transport.abort()
        self._watch_the_head()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)
        self.heard_at = self.loop.time()
        self._watch_the_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        super().connection_lost(exc)
        self._watch_the_head()

    def _watch_the_head(self) -> None:
        if self.is_silent and self._timer is None:
            self._timer = self.loop.call_later(HEAD_S, self.transport.close)
        elif not self.is_silent and self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Server(uvicorn.Server):
    """Serves the application on sockets until `should_exit`, which any thread may set."""

    def __init__(self, application: FastAPI, *, local: bool) -> None:
        # its words are either ours already, or about what clients do wrong
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        self._requests = Requests(application, most_requests(), local=local)
        super().__init__(
            uvicorn.Config(
                self._requests,
                http=Protocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=int(GRACE_S + CUT_S),
            )
        )

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Begin to answer."""
        addresses = [f"http://{shown(made)}" for made in sockets or ()]
        await super().startup(list(sockets or ()))
        log.info("http.serving", address=addresses[0], also=addresses[1:])

    async def shutdown(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Take nobody in any more; end streams at once, and the rest soon."""
        self._requests.end_streams()
        asyncio.get_running_loop().call_later(GRACE_S, self._requests.end_all)
        await super().shutdown(list(sockets or ()))

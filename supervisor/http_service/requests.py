"""All requests on their way to the application and back: how many there may be, and how they end.

An ASGI application around another. What a client holds open (a stream of events, an upload that does not come on)
must neither fill the process nor hold up its end; so at the end each client is taken for one that has left, which is
something that every route can deal with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog

from supervisor.config.checks import is_loopback
from supervisor.web.problems import RETRY_AFTER_S, problem

log = structlog.get_logger("supervisor.http")

PROBES = ("/health/live", "/health/ready")
SILENT_S = 30.0
"""For so long a client may send nothing of the body that it has announced."""

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Requests:
    """Hands on at most `most` requests at once, besides probes; `local` are those of programs on this machine alone."""

    def __init__(self, application: Application, most: int, *, local: bool) -> None:
        self._application = application
        self._most = most
        self._local = local
        self._under_way: set[_Exchange] = set()
        self._crowded = False

    def end_streams(self) -> None:
        """End what only ever ends with its job."""
        self._cut(streams_only=True)

    def end_all(self) -> None:
        """End what waits for its client; what waits for the database has its answer within seconds."""
        self._cut(streams_only=False)

    def _cut(self, *, streams_only: bool) -> None:
        for exchange in list(self._under_way):
            if exchange.is_read or not streams_only:
                exchange.cut(HTTPStatus.SERVICE_UNAVAILABLE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        exchange = _Exchange(scope, receive, send)
        if scope["path"] not in PROBES:
            if self._local and (foreign := _foreign(scope)):
                await exchange.refuse(HTTPStatus.FORBIDDEN, foreign)
                return
            if self._is_crowded():
                await exchange.refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._most} requests are under way already")
                return
        self._under_way.add(exchange)
        try:
            await exchange.answer(self._application)
        finally:
            self._under_way.discard(exchange)

    def _is_crowded(self) -> bool:
        crowded = len(self._under_way) >= self._most
        if crowded and not self._crowded:
            log.warning("http.crowded", requests=self._most, hint="others are answered with 503")
        # told again only after it has been better
        self._crowded = crowded or (self._crowded and len(self._under_way) > self._most // 2)
        return crowded


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self.is_read = scope["method"] in ("GET", "HEAD")
        self._silent_s = None if self.is_read else SILENT_S
        self._waiting: asyncio.Timeout | None = None
        self._cut: HTTPStatus | None = None
        self._told_gone = False
        """The application has been told that the client is gone, which it is not."""
        self._started = False
        self._finished = False

    def cut(self, status: HTTPStatus) -> None:
        """Have the application believe that the client has left, as soon as it waits for the client."""
        self._cut = status
        if self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(0)

    async def answer(self, application: Application) -> None:
        """Have the application answer, and log what it dies of; an answer that has begun is brought to its end."""
        try:
            await application(self._scope, self.receive, self.send)
        except Exception:
            log.exception("http.failed", method=self._scope["method"], path=self._scope["path"], hint="this is a bug")
        if self._told_gone and not self._started:
            silent = self._cut is HTTPStatus.REQUEST_TIMEOUT
            await self.refuse(
                self._cut or HTTPStatus.SERVICE_UNAVAILABLE,
                "no more of the body has come" if silent else "the supervisor is stopping",
            )
        elif self._told_gone and not self._finished:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem; a body that is still on its way is left to be thrown away.

        To close the connection under it would reset that, and the client might never see the answer.
        """
        later = {"Retry-After": str(RETRY_AFTER_S)} if status is HTTPStatus.SERVICE_UNAVAILABLE else {}
        close = {"Connection": "close"} if status is HTTPStatus.REQUEST_TIMEOUT else {}
        self._started = True
        await problem(status, detail, headers={**later, **close})(self._scope, self._receive, self._send)

    async def receive(self) -> Message:
        """Return the next part of the request, or that the client has left."""
        if self._cut is None:
            try:
                async with asyncio.timeout(self._silent_s) as self._waiting:
                    return await self._receive()
            except TimeoutError:
                self._cut = self._cut or HTTPStatus.REQUEST_TIMEOUT
            finally:
                self._waiting = None
        self._told_gone = True
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Hand on a part of the answer, but for what is meant for nobody."""
        if self._told_gone and not self._started:
            return
        self._started = True
        self._finished = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def _foreign(scope: Scope) -> str:
    """Say why a request may come from a web site that somebody on this machine is looking at; there is no token.

    A site's own name may be made to lead here, and its pages may send forms here.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host, origin = headers.get(b"host", "localhost"), headers.get(b"origin")
    if not is_loopback(host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]):
        return f"this is served to this machine only, and not as {host!r:.100}: set a token"
    if origin not in (None, f"http://{host}"):
        return f"pages of {origin!r:.100} may not ask without a token"
    return ""

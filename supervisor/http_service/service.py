"""The supervisor's part that serves HTTP: a thread with an event loop and a database client of its own.

What clients make it do (a batch of thousands of jobs, a validator of the user's that waits) costs the claim loop its
turns at the interpreter lock, and never more: no lease, no stop order and no heartbeat waits for a request to be done.
More reasons, and figures: docs/decisions/0023-http-has-a-thread-of-its-own.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor.client.async_queue import AsyncQueue
from supervisor.config.settings import Settings
from supervisor.health import Health
from supervisor.registry import Registry
from supervisor.store.connection import lazy_client

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

    from supervisor.http_service.server import Server

CLOSE_TIMEOUT_S = 2.0
DATABASE_CONNECTIONS = 100
"""At most, besides the supervisor's own."""


@dataclass(frozen=True)
class Door:
    """Where HTTP is served, and from which database."""

    sockets: Sequence[socket.socket]
    mongo_uri: str


class HttpService:
    """Runs the thread. `settings` and `health` are those of the moment, and may be asked from any thread."""

    def __init__(
        self, door: Door, settings: Callable[[], Settings], health: Callable[[], Health], registry: Registry
    ) -> None:
        self._door = door
        self._settings = settings
        self._health = health
        self._registry = registry
        self._server: Server | None = None
        self._stopping = False

    async def run(self) -> None:
        """Serve until cancelled; raises what serving has died of."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        threading.Thread(target=self._run, args=(loop, ended), name="supervisor-http", daemon=True).start()
        try:
            await asyncio.shield(ended)
        finally:
            self._stopping = True
            if self._server is not None:
                self._server.should_exit = True
            await asyncio.wait({ended})  # as long as the end of a part may take; nobody waits for the thread then

    def _run(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
        fault: BaseException | None = None
        runner = asyncio.Runner()
        try:
            runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is raised where the part is waited for
            fault = error
        if not asyncio.all_tasks(runner.get_loop()):  # those of the driver may hang while the database is away
            runner.close()
        with contextlib.suppress(RuntimeError):  # the loop is gone: the end took too long to be waited for
            loop.call_soon_threadsafe(_settle, ended, fault)

    async def _serve(self) -> None:
        from supervisor.http_service.application import application  # noqa: PLC0415 - only who serves loads it
        from supervisor.http_service.server import Server  # noqa: PLC0415

        http, client = self._settings().http, lazy_client(self._door.mongo_uri, DATABASE_CONNECTIONS)
        queue = self._queue_of(client)
        self._server = Server(application(http, queue, self._health), local=not http.token.get_secret_value())
        self._server.should_exit = self._stopping
        try:
            await self._server.serve(list(self._door.sockets))
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await client.close()

    def _queue_of(self, client: AsyncMongoClient[dict[str, Any]]) -> Callable[[], AsyncQueue]:
        """Return what gives the queue: one for all requests, and another one after an edit of its limit."""
        queues: dict[int, AsyncQueue] = {}

        def queue() -> AsyncQueue:
            mongo, payload_kb = self._settings().mongo, self._settings().limits.payload_kb
            if payload_kb not in queues:
                queues.clear()
                queues[payload_kb] = AsyncQueue(client, mongo.database, mongo.collection, self._registry, payload_kb)
            return queues[payload_kb]

        return queue


def _settle(ended: asyncio.Future[None], fault: BaseException | None) -> None:
    if ended.done():
        return
    if fault is None:
        ended.set_result(None)
    else:
        ended.set_exception(fault)

"""Knowing when to look: the change stream for speed, a jittered poll for certainty.

A stream misses jobs that fall due by the clock, and falls silent without an error when replication stalls; so it only
wakes, and the poll guarantees.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError

from supervisor.core.job import Status
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.wakeup")

POLL_S = 1.0
_REOPEN_S = 1.0
MAY_BE_WORK: list[dict[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace"]}},
                {"updateDescription.updatedFields.status": Status.PENDING.value},
            ]
        }
    },
    {"$project": {"_id": 1}},
]
"""The change stream's pipeline that lets through what may be a job to claim."""


class Wakeup:
    """An alarm that rings at every change that `changes` lets through, and at least about once in `poll_s` seconds."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        random: Callable[[], float],
        changes: list[dict[str, Any]] = MAY_BE_WORK,
        poll_s: float = POLL_S,
    ) -> None:
        self._collection = database[collection]
        self._changes = changes
        self._poll_s = poll_s
        self._random = random
        self._rung = asyncio.Event()
        self._rings = 0

    def ring(self) -> None:
        """Say that there may be something."""
        self._rings += 1
        self._rung.set()
        self._rung = asyncio.Event()  # who waits has the old one; several may

    def ring_in(self, seconds: float) -> None:
        """Say that there may be something in a while: a retry falls due."""
        if seconds < self._poll_s:  # the poll sees later ones in time
            asyncio.get_running_loop().call_later(seconds + 0.005, self.ring)

    def listen(self) -> int:
        """Return what has rung so far; to be asked before looking."""
        return self._rings

    async def wait(self, heard: int) -> None:
        """Return when there may be something since `listen` said `heard`."""
        if self._rings != heard:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s * (0.5 + self._random())):
                await self._rung.wait()

    async def run(self) -> None:
        """Listen to the change stream until cancelled."""
        while True:
            try:
                await self._follow()
            except PyMongoError as error:
                log.debug("wakeup.stream_ended", reason=first_line(error))
            self.ring()  # what came in between, no stream will tell
            await asyncio.sleep(_REOPEN_S * (0.5 + self._random()))

    async def _follow(self) -> None:
        async with await self._collection.watch(self._changes, max_await_time_ms=2000) as stream:
            while stream.alive:
                if await stream.try_next() is not None:
                    self.ring()

"""Knowing when to look: the change stream for speed, a jittered poll for certainty, seldom while all is quiet.

A stream misses jobs that fall due by the clock, and falls silent without an error when replication stalls; so it only
wakes, and the poll guarantees. After a break it goes on where it was, from the token of what it saw last; a token that
the database no longer knows is given up, and the look at every opening makes up for what no stream tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from bson.raw_bson import RawBSONDocument
from pymongo import timeout
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from supervisor import in_step
from supervisor.codec import RAW
from supervisor.store.candidates import Outlook
from supervisor.store.connection import CALL_TIMEOUT_S
from supervisor.store.fresh import MAY_BE_WORK
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.wakeup")

POLL_S = 1.25
QUIET_S = 3.75
_TURN_S = 2.0
"""Whoever waits turns once in so many seconds at least: that shows that it lives."""
_REOPEN_S = 1.0
_AWAIT_S = 10.0
"""How long the database waits for a change before it answers that there is none; as long as for the driver's monitor.
A connection that breaks without a word is noticed so late, and meanwhile the poll finds what there is.
"""
_ANSWER_S = _AWAIT_S + CALL_TIMEOUT_S
_AT_ONCE = 500
"""Changes in one answer: the loop does nothing else while it goes through them, and a bulk of jobs makes many."""
_LULL_S = 0.01
_STEP_ASIDE_S = 0.001
"""After a lull somebody waits for this job: whoever looks for it goes before the stream's next question."""


@dataclass(frozen=True)
class Pace:
    """How often to poll, in seconds between two polls; in step that is a quarter of a second less, on average."""

    poll_s: float = POLL_S
    quiet_s: float = QUIET_S
    """The same while the change stream is open and the latest look has found nothing that could fall due."""


class Wakeup:
    """An alarm that rings at every change that `changes` lets through, and polls as often as `pace` says."""

    def __init__(
        self,
        database: AsyncDatabase[dict[str, Any]],
        collection: str,
        random: Callable[[], float],
        changes: list[dict[str, Any]] = MAY_BE_WORK,
        pace: Pace = Pace(),
        look: Callable[[], Awaitable[Outlook]] | None = None,
    ) -> None:
        """With `look`, a poll asks that first: whoever waits is told whether a closer look is worth it."""
        self._collection = database[collection]
        self._changes = changes
        self._pace = pace
        self._look = look
        self._listening = False
        self._quiet = False
        self._poll_at = 0.0
        """When the next poll is due, for all who wait; by the loop's clock."""
        self._random = random
        self._rung = asyncio.Event()
        self._rings = 0
        self._told: RawBSONDocument | None = None
        """The document that the latest ring was for, where the stream tells it."""
        self._seen: Any = None
        """The resume token of what the stream has told last."""

    def ring(self, told: RawBSONDocument | None = None) -> None:
        """Say that there may be something."""
        self._rings += 1
        self._told = told
        self._quiet = False
        self._rung.set()
        self._rung = asyncio.Event()  # who waits has the old one; several may

    def ring_in(self, seconds: float) -> None:
        """Say that there may be something in a while: a retry falls due."""
        if seconds < self._pace.poll_s:  # the poll sees later ones in time
            asyncio.get_running_loop().call_later(seconds + 0.005, self.ring)

    def listen(self) -> int:
        """Return what has rung so far; to be asked before looking."""
        return self._rings

    def the_one_since(self, heard: int) -> RawBSONDocument | None:
        """Return the document that it has rung for since `listen` said `heard`, if that was the only time."""
        return self._told if self._rings == heard + 1 else None

    async def wait(self, heard: int) -> bool:
        """Return True when there may be something since `listen` said `heard`, False after a while without."""
        now = asyncio.get_running_loop().time()
        self._set_poll(now)
        if self._rings == heard:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._poll_at, in_step.after(_TURN_S))):
                    await self._rung.wait()
        return self._rings != heard or await self._poll()

    def _set_poll(self, now: float) -> None:
        """Say when to poll, where that is over or may be too late."""
        if self._poll_at <= now or not self._quiet:
            pace_s = self._pace.quiet_s if self._quiet else self._pace.poll_s
            poll_at = in_step.after(pace_s * (0.5 + self._random()))
            self._poll_at = poll_at if self._poll_at <= now else min(self._poll_at, poll_at)

    async def _poll(self) -> bool:
        """Tell whether a closer look is worth it; for all who wait, the first one asks."""
        now = asyncio.get_running_loop().time()
        if self._poll_at > now:
            return False  # not yet, or somebody else has asked, and would have rung
        if self._look is None:
            self._quiet = self._listening
            return True
        self._set_poll(now)
        try:
            outlook = await self._look()
        except PyMongoError:  # whoever looks closer will hear the same, and say so
            outlook = Outlook.DUE
        self._quiet = self._listening and outlook is Outlook.NOTHING
        if outlook is Outlook.DUE:
            self.ring()
        return outlook is Outlook.DUE

    async def run(self) -> None:
        """Listen to the change stream until cancelled."""
        while True:
            try:
                await self._follow()
            except PyMongoError as error:
                log.debug("wakeup.stream_ended", reason=first_line(error), resumes=self._seen is not None)
                if isinstance(error, OperationFailure):  # an answer, perhaps that it knows the token no more
                    self._seen = None
            self._listening = self._quiet = False
            await asyncio.sleep(_REOPEN_S * (0.5 + self._random()))

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        options = {"max_await_time_ms": int(_AWAIT_S * 1000), "batch_size": _AT_ONCE, "start_after": self._seen}
        collection = self._collection.with_options(codec_options=RAW)
        async with await collection.watch(self._changes, **options) as stream:
            self._listening = True
            self.ring()  # what came in between, a new stream does not tell
            while stream.alive:
                asked_at = loop.time()
                with timeout(_ANSWER_S):
                    change = await stream.try_next()
                lull = loop.time() - asked_at > _LULL_S
                if lull or change is None:
                    self._seen = stream.resume_token  # a copy, too dear to be made for each of many
                if change is not None:
                    self.ring(change.get("document"))
                    if lull:
                        await asyncio.sleep(_STEP_ASIDE_S)

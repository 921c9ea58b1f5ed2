"""Doing what the collection `controls` says: pauses, resizes and drains, and answering questions.

A change stream tells when to look and a poll looks in any case. While the database does not answer, what was known
last stays in force; before it has been read once, nothing is claimed and no worker started.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from supervisor.core.breaker import Breaker
from supervisor.core.fleet import Drain, Resize
from supervisor.core.transitions import Transition
from supervisor.draining import Draining
from supervisor.execution import Execution
from supervisor.live import Live
from supervisor.sizing import Sizing
from supervisor.store.controls import BREAKER, EVERY, LOGS, STACK, ControlStore, Pause
from supervisor.store.leases import claim_key
from supervisor.store.patience import first_line
from supervisor.wakeup import Pace, Wakeup

log = structlog.get_logger("supervisor.controls")

PACE = Pace(poll_s=2.25, quiet_s=5.25)
"""Of looks that nothing has asked for; a drain that ends by the clock is noticed as much later."""
FORGET_AFTER_S = 60.0
"""Nobody waits so long for an answer."""
AT_ONCE_BYTES = 256 * 1024
"""Of a job's output, in one answer."""
MOST_STACK = 256 * 1024
"""Characters of a stack in an answer."""
NOT_HERE = {"running": False}
"""The answer about a job that this supervisor does not run, or no longer."""


@dataclass(frozen=True)
class Heeders:
    """Who does what the controls say."""

    sizing: Sizing
    draining: Draining
    on_claimable: Callable[[], None]
    """Called when jobs may be claimed that could not be before."""


class Controls:
    """Owns `live.paused`. `run` is its life; `note` may be called while it runs."""

    def __init__(self, live: Live, store: ControlStore, alarm: Wakeup, heeders: Heeders) -> None:
        self._live = live
        self._store = store
        self._alarm = alarm
        self._heeders = heeders
        self._malformed: Mapping[str, str] = {}
        self._breaker = Breaker()
        self._unwritten: dict[str, Pause] = {}
        """Pauses of our own breaker that the database does not have yet."""
        self._answering: set[Any] = set()
        self._forgotten_at = time.monotonic()
        self._failing = False

    async def run(self) -> None:
        """Look when there is something to see, and every few seconds, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._alarm.run(), name="watch controls")
            while True:
                heard = self._alarm.listen()
                await self._look(group)
                while not await self._alarm.wait(heard):
                    pass

    def soon(self) -> None:
        """Look now."""
        self._alarm.ring()

    def note(self, change: Transition) -> None:
        """Take an attempt that has ended; pause its handler if that was one crash too many."""
        handler = change.job.handler
        if self._live.is_paused(handler):  # what still runs of a paused handler says nothing new
            return
        reason = self._breaker.note(change, self._live.settings.retry.pause_after_crashes)
        if reason is not None:
            pause = Pause(handler, reason, BREAKER)
            log.error("handler.paused", handler=handler, by=pause.by, reason=reason)
            self._unwritten[handler] = pause
            self._live.paused = {**(self._live.paused or {}), handler: pause}
            self._alarm.ring()

    async def _look(self, group: asyncio.TaskGroup) -> None:
        try:
            for pause in list(self._unwritten.values()):
                await self._store.pause(pause)
                del self._unwritten[pause.handler]
            found = await self._store.read()
            self._name_malformed(found.malformed)
            self._heed_drain(found.drain)
            self._apply(found.pauses)
            for question in found.questions:
                self._take(question, group)
            await self._heed_resize(found.resize)
            await self._forget()
        except PyMongoError as error:
            if not self._failing:
                log.warning("database.unavailable", during="reading controls", reason=first_line(error))
            self._failing = True
        else:
            if self._failing:
                log.info("database.back", during="reading controls")
            self._failing = False

    def _name_malformed(self, malformed: Mapping[str, str]) -> None:
        """Say once, of each document that cannot be read, what is wrong with it."""
        for document_id, problem in malformed.items():
            if self._malformed.get(document_id) != problem:
                log.warning("control.malformed", id=document_id, problem=problem)
        self._malformed = malformed

    def _heed_drain(self, drain: Drain | None) -> None:
        was_drained = self._live.drain is not None
        self._heeders.draining.heed(drain)
        if was_drained and drain is None:
            self._heeders.on_claimable()

    async def _heed_resize(self, resize: Resize | None) -> None:
        if self._heeders.sizing.heed(resize) and resize is not None:
            await self._store.overrule(resize)
            log.info("resize.overruled", workers=resize.workers, by=resize.by, host=resize.host)

    def _apply(self, pauses: Mapping[str, Pause]) -> None:
        before, now = self._live.paused, {**self._unwritten, **pauses}
        self._live.paused = now
        for handler in now.keys() - (before or {}).keys():
            log.warning("handler.paused", handler=handler, by=now[handler].by, reason=now[handler].reason)
        resumed = (before or {}).keys() - now.keys()
        for handler in resumed:
            log.info("handler.resumed", handler=handler)
            for each in self._live.handlers if handler == EVERY else [handler]:
                self._breaker.forget(each)
        if resumed or before is None:
            self._heeders.on_claimable()

    async def _forget(self) -> None:
        if time.monotonic() - self._forgotten_at > FORGET_AFTER_S:
            self._forgotten_at = time.monotonic()
            await self._store.forget(FORGET_AFTER_S)

    def _take(self, question: dict[str, Any], group: asyncio.TaskGroup) -> None:
        """Answer a question beside everything else: a stack may take seconds to come."""
        key = repr(question["_id"])
        if key not in self._answering:
            self._answering.add(key)
            group.create_task(self._answer(question, key), name="answer")

    async def _answer(self, question: dict[str, Any], key: str) -> None:
        try:
            await self._store.answer(question["_id"], await self._find_out(question))
        except PyMongoError as error:
            log.debug("question.unanswered", reason=first_line(error))
        finally:
            self._answering.discard(key)

    async def _find_out(self, question: Mapping[str, Any]) -> dict[str, Any]:
        execution = self._running(question)
        if execution is None:
            return NOT_HERE
        match question.get("ask"):
            case str() as ask if ask == STACK:
                stack = await execution.stack()
                # the slot may have gone on to another job meanwhile
                return NOT_HERE if execution.finished else {"running": True, "stack": stack and stack[:MOST_STACK]}
            case str() as ask if ask == LOGS:
                output = execution.output(_offset(question), AT_ONCE_BYTES)
                return NOT_HERE if output is None else {"running": True, "logs": output[0], "next": output[1]}
        return {"running": True, "error": "unknown question"}

    def _running(self, question: Mapping[str, Any]) -> Execution | None:
        """Return the execution of the very claim that is asked about."""
        asked = claim_key(question.get("job_id"), question.get("token") or 0)
        for execution in self._live.executions:
            job = execution.claim.job
            if not execution.finished and claim_key(job.id, job.token) == asked:
                return execution
        return None


def _offset(question: Mapping[str, Any]) -> int:
    """Where in the output to begin; below 0, from its end."""
    offset = question.get("offset")
    return offset if isinstance(offset, int) else 0

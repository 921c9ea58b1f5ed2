"""Spare workers: they stand ready without a slot, and the next slot that needs a worker has one at once.

For models that every worker has to load for itself, and that takes long. A spare runs no job before it has a slot.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from supervisor.core.slots import start_delay
from supervisor.pool.forkserver import ForkServer
from supervisor.pool.process import WorkerStartError
from supervisor.pool.ready_worker import ReadyWorker

log = structlog.get_logger("supervisor.pool.pool")


@dataclass(frozen=True)
class Helpers:
    """What a pool does for its spares."""

    start: Callable[[ReadyWorker], Awaitable[None]]
    """Start one; raises WorkerStartError or OSError."""
    sweep: Callable[[], Awaitable[None]]
    """End what a dead worker has left."""
    may_start: Callable[[], bool]
    """Whether all slots have what they need: they come first."""


class Spares:
    """Owns the spares. `run` is their life; the other methods may be called while it runs."""

    def __init__(self, fork_server: ForkServer, helpers: Helpers) -> None:
        self._fork_server = fork_server
        self._helpers = helpers
        self._wanted = 0
        self._nice = 0
        self._ready: list[ReadyWorker] = []
        self._newborn: ReadyWorker | None = None
        self._changed = asyncio.Event()
        self._numbers = itertools.count(1)
        self._failures = 0

    @property
    def process_ids(self) -> set[int]:
        """The ids of all of them, of one that is being started too."""
        everyone = [*self._ready, *filter(None, [self._newborn])]
        return set[int]().union(*(spare.process_ids for spare in everyone))

    @property
    def pids(self) -> list[int]:
        """Those that stand ready."""
        return [spare.process.pid for spare in self._ready if spare.process.alive]

    def want(self, number: int, nice: int) -> None:
        """Set how many there should be, and their niceness."""
        self._wanted, self._nice = number, nice
        self.look()

    def look(self) -> None:
        """See soon whether one may be started now."""
        self._changed.set()

    def take(self) -> ReadyWorker | None:
        """Hand one over, if there is one; its successor is started when all slots have a worker."""
        spare = next((spare for spare in self._ready if self._is_sound(spare)), None)
        if spare is not None:
            self._ready.remove(spare)
            self._failures = 0
            self.look()
        return spare

    async def run(self) -> None:
        """Keep as many as are wanted, until cancelled; then end all."""
        try:
            while True:
                self._changed.clear()
                await self._end_surplus()
                if len(self._ready) < self._wanted and self._helpers.may_start():
                    await self._add_one()
                else:
                    await self._changed.wait()
        finally:
            await asyncio.gather(*(spare.end() for spare in self._ready))
            self._ready.clear()

    def _is_sound(self, spare: ReadyWorker) -> bool:
        return spare.process.alive and spare.nice == self._nice

    async def _end_surplus(self) -> None:
        sound = [spare for spare in self._ready if self._is_sound(spare)]
        surplus = [spare for spare in self._ready if spare not in sound[: self._wanted]]
        self._ready = sound[: self._wanted]
        for spare in surplus:
            died = not spare.process.alive
            await spare.end()
            if died:
                await self._helpers.sweep()
                await self._back_off(f"it died before a slot took it (pid {spare.process.pid})")

    async def _add_one(self) -> None:
        spare = self._newborn = ReadyWorker(self._fork_server, f"spare-{next(self._numbers)}", self._nice)
        try:
            await self._helpers.start(spare)
        except (WorkerStartError, OSError, RuntimeError) as error:  # no process, thread or descriptor to be had
            await self._back_off(str(error))
        else:
            spare.process.died.add_done_callback(lambda _: self.look())
            self._ready.append(spare)
            log.debug("spare.ready", pid=spare.process.pid)
        finally:
            self._newborn = None

    async def _back_off(self, reason: str) -> None:
        self._failures += 1
        delay = start_delay(self._failures)
        log.warning("spare.failed", failures=self._failures, retry_in_s=delay, reason=reason)
        await asyncio.sleep(delay)

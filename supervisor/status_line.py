"""The line that the service manager shows: `7/8 busy, 132 pending, 2 quarantined`."""

from __future__ import annotations

from pymongo.errors import PyMongoError

from supervisor import in_step
from supervisor.heartbeat import Heartbeat, Phase
from supervisor.live import Live
from supervisor.pool.pool import WorkerPool
from supervisor.service_manager import ServiceManager
from supervisor.store.counts import MOST, CountStore

EVERY_S = 3.0


class StatusLine:
    """Writes the line regularly, for as long as there is somebody to read it."""

    def __init__(
        self, live: Live, pool: WorkerPool, heartbeat: Heartbeat, counts: CountStore, manager: ServiceManager
    ) -> None:
        self._live = live
        self._pool = pool
        self._heartbeat = heartbeat
        self._counts = counts
        self._manager = manager

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._manager.status(await self.text())
            await in_step.sleep(EVERY_S)

    async def text(self) -> str:
        """Return the line as of now."""
        running = [execution.claim.seat.slot for execution in self._live.executions]
        busy, coroutines = len(running), sum(slot < 0 for slot in running)
        if self._heartbeat.phase is Phase.STARTING:
            return "starting workers"
        if self._live.drained:
            return "drained: jobs are claimed again after an undrain"
        if self._heartbeat.phase is Phase.DRAINING or self._live.drain is not None:
            return f"draining, {busy} still busy"
        slots = f"{busy - coroutines}/{self._pool.desired} busy"
        if coroutines:
            slots += f", {coroutines} in the event loop"
        try:
            counts = {"pending": await self._counts.pending(), "quarantined": await self._counts.quarantined()}
        except PyMongoError:
            return f"{slots}, the database does not answer"
        return ", ".join([slots, *(_count(number, what) for what, number in counts.items() if number is not None)])


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number <= MOST else f"more than {MOST} {what}"

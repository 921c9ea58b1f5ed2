"""The heartbeat: what this supervisor is doing, for everybody who looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from supervisor import in_step, machine
from supervisor.coroutines.runner import LoopRunner
from supervisor.limits import NO_CAP, claimed, limits_of
from supervisor.live import Live
from supervisor.pool.pool import WorkerPool
from supervisor.store.patience import first_line
from supervisor.store.presence import PresenceStore

log = structlog.get_logger("supervisor.heartbeat")

EVERY_S = 2.0
MOST_COROUTINES = 100
"""Named in a heartbeat; there may be thousands."""


class Phase(StrEnum):
    """Where the supervisor is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


class Heartbeat:
    """Writes the heartbeat document regularly, and at once when something worth knowing has changed."""

    def __init__(
        self,
        live: Live,
        pool: WorkerPool,
        coroutines: LoopRunner,
        store: PresenceStore,
        identity: dict[str, Any],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.phase = Phase.STARTING
        self._live = live
        self._pool = pool
        self._coroutines = coroutines
        self._store = store
        self._identity = identity
        self._now = now
        self._early = asyncio.Event()

    def soon(self) -> None:
        """Have the next heartbeat written now."""
        self._early.set()

    async def run(self) -> None:
        """Beat until cancelled. A database that does not answer is no reason to stop."""
        while True:
            await self.beat()
            try:
                async with asyncio.timeout_at(in_step.after(EVERY_S)):
                    await self._early.wait()
            except TimeoutError:
                continue
            self._early.clear()

    async def beat(self) -> None:
        """Write one heartbeat."""
        try:
            await self._store.beat(self.report())
        except PyMongoError as error:
            log.debug("heartbeat.failed", reason=first_line(error))
            self._live.outage.failed(error)
        else:
            self._live.outage.answered()

    @property
    def shown_phase(self) -> Phase:
        """A host that is drained drains as soon as it could have begun to work."""
        return Phase.DRAINING if self.phase is Phase.RUNNING and self._live.drain else self.phase

    def report(self) -> dict[str, Any]:
        """Return the heartbeat document without its id and its times."""
        now = self._now()
        slots = [
            {
                "slot": slot.slot,
                "state": slot.state,
                "pid": slot.pid or None,
                "job_id": slot.job and slot.job.job_id,
                "handler": slot.job and slot.job.handler,
                "since": now - timedelta(seconds=slot.since_s),
                "rss_mb": slot.rss_mb,
                "cpu": slot.cpu,
            }
            for slot in self._pool.report()
        ]
        return {
            **self._identity,
            "phase": self.shown_phase.value,
            "drained": self._live.drained,
            "workers": self._pool.desired,
            "workers_from": self._live.workers_from,
            "config": self._live.config,
            "slots": slots,
            "spares": [{"pid": pid, "rss_mb": rss_mb} for pid, rss_mb in self._pool.spares()],
            "coroutines": self._coroutine_jobs(now),
            "handlers": self._handlers(),
            "recent": self._live.recent.report(),
            "totals": self._live.totals.report(),
            "counts": dict(self._live.counts),
            "machine": machine.look_around(),
        }

    def _fleet(self, handler: str) -> dict[str, Any]:
        """Return the limits across machines of a handler that has any."""
        limits = limits_of(self._live.handlers[handler], self._live.settings).fleet
        return {"fleet": asdict(limits)} if limits else {}

    def _coroutine_jobs(self, now: datetime) -> list[dict[str, Any]]:
        """Return the jobs that run in the event loop, the longest running first; how many there are, `handlers` say."""
        return [
            {
                "slot": each.slot,
                "state": each.state,
                "job_id": each.job.job_id,
                "handler": each.job.handler,
                "since": now - timedelta(seconds=each.since_s),
            }
            for each in self._coroutines.report()[:MOST_COROUTINES]
        ]

    def _handlers(self) -> list[dict[str, Any]]:
        """Return what may be claimed here: every registered handler, with its cap (None: none) and what runs of it."""
        settings, running = self._live.settings, self._live.running()
        ours = {spec.name for spec in claimed(self._live.handlers, settings)}
        caps = {spec.name: limits_of(spec, settings).max_running for spec in self._live.handlers.values()}
        return [
            {
                "handler": name,
                "coroutine": self._live.handlers[name].is_coroutine,
                "claimed": name in ours,
                "max_running": None if cap == NO_CAP else cap,
                "running": running[name],
                **self._fleet(name),
            }
            for name, cap in sorted(caps.items())
        ]

"""A drain of this host by a control: nothing is claimed, running jobs get their time, the rest is given back.

The process stays, so that the drain can be ended from where it was begun. The end of the process has its own drain, in
`Engine`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from supervisor.core.fleet import Drain
from supervisor.live import Live
from supervisor.pool.attempt import StopReason

log = structlog.get_logger("supervisor")

STEP_S = 0.25


class Draining:
    """Owns `live.drain` and `live.drained`."""

    def __init__(self, live: Live, on_change: Callable[[], None]) -> None:
        self._live = live
        self._on_change = on_change
        self._ordered = asyncio.Event()
        self._since = 0.0

    def heed(self, drain: Drain | None) -> None:
        """Take the drain that holds on this host; None ends it."""
        if bool(drain) == bool(self._live.drain):
            self._live.drain = drain  # for all instead of for us, perhaps: it goes on
            return
        self._live.drain, self._live.drained = drain, False
        if drain is not None:
            self._since = time.monotonic()
            log.warning("supervisor.drained", by=drain.by, host=drain.host, reason=drain.reason,
                        jobs=len(self._live.executions), drain_s=self._live.settings.shutdown.drain_s)  # fmt: skip
            self._ordered.set()
        else:
            log.info("supervisor.undrained")
            self._ordered.clear()
        self._on_change()

    async def run(self) -> None:
        """Carry out drains until cancelled."""
        while True:
            await self._ordered.wait()
            async with self._live.claiming.none():  # a claim that is under way may still bring jobs
                self._say_drained()
            self._interrupt_overdue()
            await asyncio.sleep(STEP_S)

    def _say_drained(self) -> None:
        if self._live.drain is not None and not self._live.drained:
            self._live.drained = True
            self._on_change()

    def _interrupt_overdue(self) -> None:
        """Again at every step: a job that had not quite begun did not hear it. `drain_s` may be edited meanwhile."""
        overdue = time.monotonic() - self._since >= self._live.settings.shutdown.drain_s
        if self._live.drain is not None and overdue:
            for execution in list(self._live.executions):
                execution.stop(StopReason.DRAIN)

"""The executor of coroutine handlers: places in the supervisor's own event loop.

A place is a negative slot: -1, -2 and so on, the nearest free one to 0. There are as many as are asked for; what limits
the jobs in them is each handler's `max_running`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from supervisor.core.lookahead import Pace, Place
from supervisor.core.outcome import AnyOutcome
from supervisor.coroutines.attempt import CoroutineAttempt, Means
from supervisor.coroutines.hooks import Hooks
from supervisor.pool.attempt import JobListener, StopReason
from supervisor.pool.limits import PoolLimits
from supervisor.registry import HandlerSpec, Setup
from supervisor.store.taking import Seat
from supervisor.worker.wire import Call

log = structlog.get_logger("supervisor.coroutines")

AT_ONCE = 64
"""Jobs that one claim may take: their payloads are read together."""


@dataclass(frozen=True)
class CoroutineReport:
    """What a place is doing; `since_s` is how long its job has run, in seconds."""

    slot: int
    state: str
    job: Call
    since_s: float


class LoopRunner:
    """Owns the places. `run` is its life; the other methods may be called while it runs."""

    def __init__(self, workspace: Path, handlers: Mapping[str, HandlerSpec], setups: Sequence[Setup]) -> None:
        self.limits = PoolLimits()
        self.changed = asyncio.Event()
        self.pace = Pace()  # nothing waits here for a place, so nothing is claimed ahead
        self.ready = asyncio.Event()
        """Set when the setup hooks have run."""
        self.busy = threading.Event()
        """Set while any job runs, for whoever watches from another thread."""
        self.on_slow_step: Callable[[Call, float], None] = lambda _call, _seconds: None
        self._workspace = workspace
        self._handlers = handlers
        self._hooks = Hooks(setups, {spec.module for spec in handlers.values() if spec.is_coroutine})
        self._encoders = ThreadPoolExecutor(2, thread_name_prefix="supervisor-results")
        self._running: dict[int, CoroutineAttempt] = {}

    @staticmethod
    def runs(spec: HandlerSpec) -> bool:
        """Tell whether jobs of this handler run here."""
        return spec.is_coroutine

    def has_free(self) -> bool:
        """Tell whether there is room for a job now; without a coroutine among the handlers there is no job to come."""
        return self.ready.is_set() and any(spec.is_coroutine for spec in self._handlers.values())

    def reserve(self) -> list[Place]:
        """Promise places to the caller, who must `run_job` on some and then `release` all of them."""
        free = (-place for place in itertools.count(1) if -place not in self._running)
        return [Place(slot, os.getpid()) for slot in itertools.islice(free, AT_ONCE)]

    def release(self, place: Place) -> None:
        """Give back a reserved place: nobody else asks for any meanwhile."""

    def run_job(self, seat: Seat, call: Call, listener: JobListener) -> Awaitable[AnyOutcome]:
        """Run a job in a reserved place; what is returned waits for its outcome, and must be awaited."""
        means = Means(self._workspace, self._hooks, self._encoders, self.limits, self.on_slow_step)
        attempt = CoroutineAttempt(call, self._handlers[call.handler], listener, means)
        self._running[seat.slot] = attempt
        self.busy.set()
        return self._finish(seat.slot, attempt)

    async def _finish(self, slot: int, attempt: CoroutineAttempt) -> AnyOutcome:
        try:
            return await attempt.run()
        finally:
            del self._running[slot]
            self.changed.set()
            if not self._running:
                self.busy.clear()

    def stop_job(self, slot: int, listener: JobListener, reason: StopReason) -> None:
        """Order the job in a place that was given with `listener` to stop; another one is none of the caller's."""
        attempt = self._running.get(slot)
        if attempt is not None and attempt.listener is listener:
            attempt.stop(reason)

    async def stack_of(self, slot: int, listener: JobListener) -> str | None:
        """Return the calls that the job in a place is waiting in."""
        attempt = self._running.get(slot)
        return attempt.stack() if attempt is not None and attempt.listener is listener else None

    def output_of(self, slot: int, listener: JobListener, offset: int, limit: int) -> tuple[str, int] | None:
        """Return a part of what the job in a place has logged, and where to go on; None without that job."""
        attempt = self._running.get(slot)
        return attempt.output.part(offset, limit) if attempt is not None and attempt.listener is listener else None

    def running_in(self, task: asyncio.Task[Any] | None) -> Call | None:
        """Return the job that `task` runs, if it is one of ours; may be called from any thread."""
        for attempt in list(self._running.values()):
            if attempt.task is task:
                return attempt.call
        return None

    def report(self) -> list[CoroutineReport]:
        """Return the places that are taken, the longest running job first."""
        now = time.monotonic()
        found = [
            CoroutineReport(slot, attempt.state, attempt.call, now - attempt.started_at)
            for slot, attempt in self._running.items()
        ]
        return sorted(found, key=lambda each: -each.since_s)

    async def run(self) -> None:
        """Run the setup hooks, then be there until cancelled."""
        try:
            for module, trace in (await self._hooks.run_all()).items():
                log.warning("handler.setup_failed", module=module, traceback=trace)
            self.ready.set()
            self.changed.set()
            await asyncio.Event().wait()
        finally:
            self._encoders.shutdown(wait=False, cancel_futures=True)

"""What runs jobs, as the dispatcher and an execution see it: worker processes, or the event loop itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from supervisor.core.lookahead import Pace, Place
from supervisor.core.outcome import AnyOutcome
from supervisor.pool.attempt import JobListener, StopReason
from supervisor.registry import HandlerSpec
from supervisor.store.taking import Seat
from supervisor.worker.wire import Call


class Executor(Protocol):
    """Places for running jobs. `slot` names one for as long as its job runs; no two executors have the same."""

    changed: asyncio.Event
    """Set when a place becomes free; who waits clears it."""
    pace: Pace
    """How long jobs take here, as far as that lets others be claimed before a place is free."""

    def runs(self, spec: HandlerSpec) -> bool:
        """Tell whether jobs of this handler run here."""

    def has_free(self) -> bool:
        """Tell whether there is room for jobs now."""

    def reserve(self) -> list[Place]:
        """Promise places to the caller, who must `run_job` on some and then `release` all of them."""

    def release(self, place: Place) -> None:
        """Give back a reserved place; what it was given stays."""

    def run_job(self, seat: Seat, call: Call, listener: JobListener) -> Awaitable[AnyOutcome]:
        """Run a job on a reserved place; what is returned waits for its outcome, and must be awaited."""

    def stop_job(self, slot: int, listener: JobListener, reason: StopReason) -> None:
        """Order the job on `slot` that was given with `listener` to stop; another one is none of the caller's."""

    async def stack_of(self, slot: int, listener: JobListener) -> str | None:
        """Return where the job that was given with `listener` is in its code; None if there is no answer."""

    def output_of(self, slot: int, listener: JobListener, offset: int, limit: int) -> tuple[str, int] | None:
        """Return a part of what that job has printed, and where to go on; None if it does not run."""

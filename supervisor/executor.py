"""What runs jobs, as the dispatcher and an execution see it: worker processes, or the event loop itself."""

from __future__ import annotations

import asyncio
from typing import Protocol

from supervisor.core.outcome import AnyOutcome
from supervisor.pool.attempt import JobListener, StopReason
from supervisor.registry import HandlerSpec
from supervisor.store.claims import Seat
from supervisor.worker.wire import Call


class Executor(Protocol):
    """Places for running jobs. `slot` names one for as long as its job runs; no two executors have the same."""

    changed: asyncio.Event
    """Set when a place becomes free; who waits clears it."""

    def runs(self, spec: HandlerSpec) -> bool:
        """Tell whether jobs of this handler run here."""

    def has_free(self) -> bool:
        """Tell whether there is room for a job now."""

    def reserve(self) -> list[Seat]:
        """Promise free places to the caller, who must `run_job` on or `release` each."""

    def release(self, seat: Seat) -> None:
        """Give back a reserved place that no job was found for."""

    async def run_job(self, seat: Seat, call: Call, listener: JobListener) -> AnyOutcome:
        """Run a job on a reserved place to its end and return its outcome, never raising one."""

    def stop_job(self, slot: int, listener: JobListener, reason: StopReason) -> None:
        """Order the job on `slot` that was given with `listener` to stop; another one is none of the caller's."""

    async def stack_of(self, slot: int) -> str | None:
        """Return where the job on `slot` is in its code; None if there is no answer."""

    def output_of(self, slot: int, offset: int, limit: int) -> tuple[str, int] | None:
        """Return a part of what the job on `slot` has printed, and where to go on; None without a job."""

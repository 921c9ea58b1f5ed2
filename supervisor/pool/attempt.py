"""One attempt as a slot sees it: what was ordered, what the worker said, and what outcome that makes."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from supervisor.core.lookahead import UNKNOWN, Expected
from supervisor.core.outcome import (
    AnyOutcome,
    Cancelled,
    Crashed,
    ErrorKind,
    Interrupted,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
    Usage,
)
from supervisor.process_tree import TreeUsage
from supervisor.store.taking import Seat
from supervisor.worker.wire import Call, Stopped

RATE_OVER_S = 0.9
"""A shorter time between two looks at a job's CPU time says little: the kernel counts in hundredths of a second."""


class StopReason(StrEnum):
    """Why a running job is being stopped."""

    TIMEOUT = "timeout"
    CANCEL = "cancelled"
    MEMORY = "over its memory limit"
    DRAIN = "draining"
    LEASE_LOST = "lease lost"
    AHEAD = "claimed ahead"
    """It has not begun and might run elsewhere sooner."""


class JobListener(Protocol):
    """Who hears what a worker says while it runs a job, and answers what it asks."""

    def on_progress(self, report: dict[str, Any]) -> None:
        """Take the handler's newest progress."""

    def on_moved(self, seat: Seat) -> None:
        """Take in where it will run instead; it has not begun."""

    def on_log(self, entry: dict[str, Any]) -> None:
        """Take an entry of the handler's `job.log`."""

    async def answer(self, request: dict[str, Any], spool: Path) -> dict[str, Any]:
        """Return the fields of the reply to a worker's request."""


@dataclass
class CpuRate:
    """Per cent of one core, over the last second or so, from looks at the CPU seconds that were used so far."""

    percent: float | None = None
    _mark: tuple[float, float] | None = None

    def see(self, cpu_s: float, now: float) -> None:
        """Take in a look; `now` is in seconds."""
        if self._mark is None:
            self._mark = (now, cpu_s)
        elif now - self._mark[0] >= RATE_OVER_S:
            before, used_s = self._mark
            self.percent = round(100 * max(0.0, cpu_s - used_s) / (now - before), 1)
            self._mark = (now, cpu_s)


@dataclass(eq=False)
class Attempt:
    """The job that the worker runs now, and what has been done to it."""

    call: Call
    listener: JobListener
    expected: Expected = UNKNOWN
    """What jobs of its handler take, as far as is known."""
    given_at: float = 0.0
    """When its place got it, in seconds, as `sent_at` and `begun_at` tell of its worker."""
    number: int = 0
    """Names it among the jobs of its worker."""
    ended: asyncio.Future[AnyOutcome] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    sent_at: float | None = None
    begun_at: float | None = None
    cpu_before_s: float = 0.0
    """What its worker had used before it, in CPU seconds."""
    printed_before: int = 0
    """How many bytes of output there were before it."""
    ordered: StopReason | None = None
    killed: bool = False
    kept: bool = False
    """It has turned slow, and some jobs wait behind it all the same."""
    used: TreeUsage | None = None
    """What its worker and all below it used when it was last looked at; memory: the most that was seen."""
    cpu: CpuRate = field(default_factory=CpuRate)
    over_mb: float = 0.0
    """What it used when it was found to be over its memory limit, shared memory counted in parts."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def begin(self, cpu_before_s: object, printed_before: int) -> None:
        """Note that it begins; what its worker says it had used before may be anything."""
        self.begun_at = time.monotonic()
        self.cpu_before_s = 0.0
        if isinstance(cpu_before_s, float) and math.isfinite(cpu_before_s):
            self.cpu_before_s = cpu_before_s
        self.printed_before = printed_before

    def end(self, outcome: AnyOutcome) -> None:
        """Tell how it ended, if anybody still wants to know."""
        if not self.ended.done():
            self.ended.set_result(outcome)

    def see(self, used: TreeUsage) -> None:
        """Take in a look at its worker."""
        peak_mb = max(used.rss_mb, self.used.rss_mb if self.used else 0.0)
        self.used = TreeUsage(used.cpu_s, peak_mb)
        self.cpu.see(used.cpu_s, time.monotonic())


def reported(attempt: Attempt, said: Returned | Raised | Stopped) -> AnyOutcome:
    """Return the outcome of an attempt whose worker lived to tell it.

    A handler that returns a result in spite of an order to stop has completed. One that raises anything then was
    stopped by the order, not by its own failure.
    """
    usage = _with_peak(attempt, said.usage)
    if isinstance(said, Returned) or attempt.ordered is None:
        if isinstance(said, Stopped):  # it raised one of the stop exceptions by itself
            return Raised(kind=ErrorKind.EXCEPTION, error=said.error, usage=usage)
        return said if usage is said.usage else replace(said, usage=usage)
    match attempt.ordered:
        case StopReason.TIMEOUT:
            return TimedOut(limit_s=attempt.call.timeout_s, killed=False, error=said.error, usage=usage)
        case _:
            return _ordered(attempt, attempt.ordered, usage)


def died(attempt: Attempt, exit_code: int | None, used: TreeUsage | None) -> AnyOutcome:
    """Return the outcome of an attempt whose worker is dead.

    `used` is what the worker had used in all its life, by the kernel's account.
    """
    usage = _usage_of_dead(attempt, used)
    match attempt.ordered:
        case StopReason.TIMEOUT:
            return TimedOut(limit_s=attempt.call.timeout_s, killed=True, usage=usage)
        case StopReason():
            return _ordered(attempt, attempt.ordered, usage)
    name = None if exit_code is None or exit_code >= 0 else _signal_name(-exit_code)
    return Crashed(
        started=attempt.begun_at is not None,
        exit_code=None if name else exit_code,
        signal=name,
        usage=usage,
    )


def interrupted(attempt: Attempt, reason: str) -> Interrupted:
    """Return the outcome of an attempt that something of ours cut short."""
    return Interrupted(reason=reason, usage=_usage_of_dead(attempt, None))


def unbegun(reason: StopReason | str) -> Cancelled | Interrupted:
    """Return the outcome of a job that its worker has not begun and will not begin."""
    return Cancelled() if reason is StopReason.CANCEL else Interrupted(reason=reason, begun=False)


def _ordered(attempt: Attempt, reason: StopReason, usage: Usage) -> AnyOutcome:
    match reason:
        case StopReason.CANCEL:
            return Cancelled(usage=usage)
        case StopReason.MEMORY:
            return OutOfMemory(limit_mb=attempt.call.memory_limit_mb, used_mb=attempt.over_mb, usage=usage)
    return Interrupted(reason=reason, usage=usage)


def _with_peak(attempt: Attempt, usage: Usage) -> Usage:
    """A worker knows its own peak and that of each child, but not what they had all together."""
    if attempt.used is None:
        return usage
    return replace(usage, peak_rss_mb=max(usage.peak_rss_mb or 0.0, attempt.used.rss_mb))


def _usage_of_dead(attempt: Attempt, used: TreeUsage | None) -> Usage:
    run_s = time.monotonic() - (attempt.begun_at or attempt.given_at)
    seen = [each for each in (used, attempt.used) if each is not None]
    if not seen:
        return Usage(run_s)
    cpu_s = max(each.cpu_s for each in seen) - attempt.cpu_before_s
    return Usage(run_s, max(0.0, cpu_s), max(each.rss_mb for each in seen))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"

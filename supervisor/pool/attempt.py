"""One attempt as a slot sees it: what was ordered, what the worker said, and what outcome that makes."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from supervisor.core.outcome import (
    AnyOutcome,
    Cancelled,
    Crashed,
    ErrorKind,
    Interrupted,
    Raised,
    Returned,
    TimedOut,
    Usage,
)
from supervisor.process_tree import TreeUsage
from supervisor.worker.wire import Call, Stopped


class StopReason(StrEnum):
    """Why a running job is being stopped."""

    TIMEOUT = "timeout"
    CANCEL = "cancelled"
    DRAIN = "draining"
    LEASE_LOST = "lease lost"


class JobListener(Protocol):
    """Who hears what a worker says while it runs a job, and answers what it asks."""

    def on_progress(self, report: dict[str, Any]) -> None:
        """Take the handler's newest progress."""

    def on_log(self, entry: dict[str, Any]) -> None:
        """Take an entry of the handler's `job.log`."""

    async def answer(self, request: dict[str, Any], spool: Path) -> dict[str, Any]:
        """Return the fields of the reply to a worker's request."""


@dataclass
class Attempt:
    """The job that the worker runs now, and what has been done to it."""

    call: Call
    listener: JobListener
    submitted_at: float
    begun_at: float | None = None
    ordered: StopReason | None = None
    killed: bool = False
    used: TreeUsage | None = None
    """Measured just before a kill."""
    timers: list[asyncio.TimerHandle] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


def reported(attempt: Attempt, said: Returned | Raised | Stopped) -> AnyOutcome:
    """Return the outcome of an attempt whose worker lived to tell it.

    A handler that returns a result in spite of an order to stop has completed. One that raises anything then was
    stopped by the order, not by its own failure.
    """
    if isinstance(said, Returned) or attempt.ordered is None:
        if isinstance(said, Stopped):  # it raised one of the stop exceptions by itself
            return Raised(kind=ErrorKind.EXCEPTION, error=said.error, usage=said.usage)
        return said
    match attempt.ordered:
        case StopReason.TIMEOUT:
            limit_s = attempt.call.timeout_s
            return TimedOut(limit_s=limit_s, killed=False, error=said.error, usage=said.usage)
        case StopReason.CANCEL:
            return Cancelled(usage=said.usage)
    return Interrupted(reason=attempt.ordered, usage=said.usage)


def died(attempt: Attempt, exit_code: int | None) -> AnyOutcome:
    """Return the outcome of an attempt whose worker is dead."""
    usage = usage_of(attempt)
    match attempt.ordered:
        case StopReason.TIMEOUT:
            return TimedOut(limit_s=attempt.call.timeout_s, killed=True, usage=usage)
        case StopReason.CANCEL:
            return Cancelled(usage=usage)
        case StopReason.DRAIN | StopReason.LEASE_LOST:
            return Interrupted(reason=attempt.ordered, usage=usage)
    name = None if exit_code is None or exit_code >= 0 else _signal_name(-exit_code)
    return Crashed(
        started=attempt.begun_at is not None,
        exit_code=None if name else exit_code,
        signal=name,
        usage=usage,
    )


def usage_of(attempt: Attempt) -> Usage:
    run_s = time.monotonic() - (attempt.begun_at or attempt.submitted_at)
    if attempt.used is None:
        return Usage(run_s)
    return Usage(run_s, attempt.used.cpu_s, attempt.used.rss_mb)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"

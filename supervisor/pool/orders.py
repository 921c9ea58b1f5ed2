"""Orders to stop: how a worker is told, and how it is asked where it is before it is killed."""

from __future__ import annotations

import signal

from supervisor.errors import JobCancelled, JobInterrupted, JobTimeout
from supervisor.pool.attempt import Attempt, StopReason
from supervisor.pool.files import SlotFiles
from supervisor.pool.process import WorkerProcess
from supervisor.worker import forensics
from supervisor.worker import main as child

AT_ONCE = (StopReason.LEASE_LOST, StopReason.MEMORY)
"""Reasons that leave no time to obey."""
DUMP_TIMEOUT_S = 0.25
"""For a worker that is about to be killed to write its stacks."""
_SIGNALS = {stop: number for number, stop in child.STOP_SIGNALS.items()}
_ORDERS = {
    StopReason.TIMEOUT: _SIGNALS[JobTimeout],
    StopReason.CANCEL: _SIGNALS[JobCancelled],
    StopReason.DRAIN: _SIGNALS[JobInterrupted],
    StopReason.LEASE_LOST: signal.SIGKILL,
}


def send(reason: StopReason, attempt: Attempt, worker: WorkerProcess, files: SlotFiles) -> None:
    """Order the worker to stop this job, and no other that it may have begun by then."""
    attempt.ordered = reason
    files.orders.name(attempt.number)
    if reason is StopReason.TIMEOUT:  # where it is now says more than where its tidying up will be
        worker.signal(forensics.END_SIGNAL)
    if reason in _ORDERS:
        worker.signal(_ORDERS[reason])


async def last_words(attempt: Attempt, worker: WorkerProcess, files: SlotFiles) -> None:
    """Before a kill for which that says something: have the worker write its stacks, if it has not yet."""
    if attempt.ordered in (StopReason.TIMEOUT, StopReason.MEMORY) and not files.stacks.size:
        worker.signal(forensics.END_SIGNAL)
        await files.stacks.until_written(DUMP_TIMEOUT_S)

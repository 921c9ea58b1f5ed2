"""The jobs that a worker has been given, in order, and how far it has come with them.

    waiting    not yet sent, or withdrawn again
    sent       with the worker, which takes a ticket before it begins each

Of the sent ones without an outcome at most one has begun: the first, if its ticket is gone. What waits goes out in one
group; while the worker still has calls that were withdrawn nothing does, since with new tickets it would begin those.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from supervisor.pool.attempt import Attempt, JobListener
from supervisor.pool.process import WorkerProcess
from supervisor.worker.wire import encode_call

SAID_TIMEOUT_S = 1.0
"""From the end of a group to what its worker had sent before on the other way."""


@dataclass(frozen=True)
class Notices:
    """Whom a queue tells what it finds out about its worker."""

    on_sent: Callable[[], None]
    """Jobs were sent."""
    on_unsent: Callable[[bytes], None]
    """An outcome came back with its group, since its handler has closed the channel."""
    distrust: Callable[[str], None]
    """The worker did what no worker of ours does, in words."""
    on_no_worker: Callable[[], None]
    """There is a job for it, and it is dead."""


class Others(Protocol):
    """The other slots, as far as they concern what waits in one."""

    @property
    def in_line(self) -> bool:
        """Whether jobs are due that no supervisor has had a place for: nobody is idle for want of those that wait."""

    def take(self, attempts: list[Attempt]) -> list[Attempt]:
        """Take over jobs that will run sooner there; return the rest."""


class JobQueue:
    """The jobs of one worker. Its methods belong to one event loop."""

    def __init__(self, worker: WorkerProcess, notices: Notices) -> None:
        self.closed = False
        """Nothing more is sent."""
        self.held = False
        """Calls that were withdrawn are still with the worker."""
        self._worker = worker
        self._notices = notices
        self._jobs: deque[Attempt] = deque()
        self._sent = 0
        self._groups = 0
        """Groups that the worker has not finished."""
        self._sending_soon = False

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def head(self) -> Attempt | None:
        """The job that runs, or comes next."""
        return self._jobs[0] if self._jobs else None

    @property
    def sent(self) -> int:
        """How many are with the worker."""
        return self._sent

    def behind_s(self) -> float:
        """Return what the jobs behind the first are expected to take, in seconds."""
        return sum(attempt.expected.seconds for attempt in islice(self._jobs, 1, None))

    def of(self, listener: JobListener) -> Attempt | None:
        """Return the job that was given with `listener`."""
        return next((attempt for attempt in self._jobs if attempt.listener is listener), None)

    def add(self, attempt: Attempt) -> None:
        """Take in a job, behind all others; it is sent soon, together with what comes in the same moment."""
        self._jobs.append(attempt)
        self._send_soon()

    def take_first(self) -> Attempt:
        """Take out the first, which has ended."""
        self._sent = max(0, self._sent - 1)
        return self._jobs.popleft()

    def take_waiting(self) -> list[Attempt]:
        """Take out all that wait."""
        waiting = list(islice(self._jobs, self._sent, None))
        for _ in waiting:
            self._jobs.pop()
        return waiting

    def let_go(self, most: int) -> list[Attempt]:
        """Withdraw what the worker has not begun, and take out the last `most` of it."""
        self.hold_back()
        waiting = len(self._jobs) - max(self._sent, 1)
        return [self._jobs.pop() for _ in range(min(most, waiting))][::-1]

    def put_back(self, waiting: list[Attempt]) -> None:
        """Have some of what `take_waiting` has taken out wait again."""
        self._jobs.extend(waiting)
        self._send_soon()

    def take_out(self, attempt: Attempt) -> bool:
        """Take out a job that waits; False if it does not."""
        if attempt not in islice(self._jobs, self._sent, None):
            return False
        self._jobs.remove(attempt)
        return True

    def hold_back(self) -> None:
        """Withdraw what the worker has not begun: it waits again."""
        if withdrawn := self._worker.withdraw():
            self.count_as_waiting(withdrawn)
            self.held = self._groups > 0
            self._send_soon()

    def count_as_waiting(self, count: int) -> None:
        """Have the last `count` of the sent ones wait again; the worker will not begin them."""
        for _ in range(min(count, self._sent)):
            self._sent -= 1
            self._jobs[self._sent].sent_at = None

    def _send_soon(self) -> None:
        if not self._sending_soon:
            self._sending_soon = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        self._sending_soon = False
        waiting = list(islice(self._jobs, self._sent, None))
        dead = not self._worker.alive
        if not waiting or (self.held and not dead):  # a dead worker will not finish its groups
            return
        if self.closed or dead:
            self._notices.on_no_worker()
            return
        now = time.monotonic()
        for attempt in waiting:
            attempt.sent_at = now
        self._sent = len(self._jobs)
        self._groups += 1
        group = self._worker.submit([encode_call(attempt.call, attempt.number) for attempt in waiting])
        group.add_done_callback(self._on_group_done)
        self._notices.on_sent()

    def _on_group_done(self, group: asyncio.Future[bytes]) -> None:
        self._groups -= 1
        if not self._worker.alive or group.cancelled():
            return  # its death tells
        if group.exception() is None and (unsent := group.result()):  # an error is its death too, seen a little sooner
            self._notices.on_unsent(unsent)
        if not self._groups:
            self.held = False
            if self._sent:  # an outcome is on the way
                asyncio.get_running_loop().call_later(SAID_TIMEOUT_S, self._distrust_if_silent, self._jobs[0])
            self._send_soon()

    def _distrust_if_silent(self, attempt: Attempt) -> None:
        if self.head is attempt and self._sent:
            self._notices.distrust("a group of jobs ended without a word about one of them")

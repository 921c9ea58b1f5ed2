"""A look at a running job's memory and CPU every now and then, its subprocesses included.

With a memory limit the look is frequent, so that a job that takes 100 MB/s is stopped well within half a second.
Without one it serves the record of a worker that dies: what it used, nobody can ask it any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from supervisor import in_step, process_tree
from supervisor.process_tree import TreeUsage

FIRST_S = 0.1
WITH_LIMIT_S = 0.1
LONGEST_S = 1.0


class Sampler:
    """Watches a worker's jobs, from `start` to `stop`; `on_over` is called with the megabytes once the limit of the
    running one, which `limit_mb` tells, is crossed.
    """

    def __init__(
        self, limit_mb: Callable[[], int], on_seen: Callable[[TreeUsage], None], on_over: Callable[[float], None]
    ) -> None:
        self._pid = 0
        self._limit_mb = limit_mb
        self._on_seen = on_seen
        self._on_over = on_over
        self._delay_s = FIRST_S
        self._timer: asyncio.TimerHandle | None = None

    def start(self, pid: int) -> None:
        """Look for the first time in a moment; most short jobs are over by then."""
        self.stop()
        self._pid, self._delay_s = pid, FIRST_S
        self._go_on()

    def _go_on(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(in_step.after(self._delay_s), self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Look once, and arrange for the next time."""
        seen = process_tree.measure(self._pid)
        if seen is None:
            return
        self._on_seen(seen)
        limit_mb = self._limit_mb()
        if limit_mb and seen.rss_mb > limit_mb and self._is_over(limit_mb):
            return
        self._delay_s = WITH_LIMIT_S if limit_mb else min(LONGEST_S, self._delay_s * 2)
        self._go_on()

    def _is_over(self, limit_mb: int) -> bool:
        """Count shared memory in parts before anybody is killed: what the fork server loaded belongs to all workers."""
        used_mb = process_tree.proportional_mb(self._pid)
        if used_mb is None or used_mb <= limit_mb:
            return False
        self._on_over(used_mb)
        return True

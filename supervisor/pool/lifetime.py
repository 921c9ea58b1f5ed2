"""When a worker has served long enough: after so many jobs, or when it has gathered too much.

Both with jitter, so that workers that were started together are not replaced together. Every worker is forked from
the clean fork server, so a new one has nothing of what the old one had gathered.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from supervisor.process_tree import Footprint

UNLIMITED = 2**31
SETTLED_AFTER_JOBS = 10
"""Until then a worker may load what its handlers need; what it gathers later is growth."""
LOOK_EVERY_JOBS, STEADY_S = 5, 0.1
"""Where the last look has found nothing more than the one before, so many seconds must have gone by, too: a look costs
as much as a very short job.
"""
STEADY_MB = 1.0
"""What a worker may have more than at the last look and still be steady."""
MOST_DESCRIPTORS, MOST_THREADS = 200, 50
"""Growth of open descriptors and threads that is no cache any more."""


class Lifetime:
    """The life of one worker. `jitter` is a factor around 1; a limit of 0 never ends it."""

    def __init__(self, max_jobs: int, max_growth_mb: int, jitter: float) -> None:
        self._jitter = jitter
        self._most_jobs = 0
        self._most_mb = 0.0
        self.limit(max_jobs, max_growth_mb)
        self._settled: Footprint | None = None
        self._last: Footprint | None = None
        self._steady = False
        self._looked_after, self._looked_at = 0, -math.inf
        """After how many jobs it was looked at last, and when."""
        self.outgrown: str | None = None
        """What it has gathered too much of, in words."""

    def limit(self, max_jobs: int, max_growth_mb: int) -> None:
        """Set other limits, for a worker that has begun to serve, too."""
        self._most_jobs = max(1, round(max_jobs * self._jitter)) if max_jobs else 0
        self._most_mb = max_growth_mb * self._jitter

    def look(self, jobs_done: int, at_s: float, footprint: Callable[[], Footprint | None]) -> None:
        """Look at the worker after its job number `jobs_done`, at the time `at_s`, now and then; many may end between
        two looks.
        """
        if jobs_done < max(SETTLED_AFTER_JOBS, self._looked_after + LOOK_EVERY_JOBS):
            return
        if self._steady and at_s < self._looked_at + STEADY_S:
            return
        self._looked_after, self._looked_at = jobs_done, at_s
        now = footprint()
        if now is not None:
            self._steady = self._last is not None and not _grows(self._last, now)
            self._settled, self._last = self._settled or now, now
            self.outgrown = self._excess(now, self._settled)

    def is_over(self, jobs_done: int) -> bool:
        """Tell whether a fresh worker should take over."""
        return self.outgrown is not None or 0 < self._most_jobs <= jobs_done

    def jobs_left(self, jobs_done: int) -> int:
        """Return how many more jobs the worker may run."""
        return max(0, self._most_jobs - jobs_done) if self._most_jobs else UNLIMITED

    def _excess(self, now: Footprint, settled: Footprint) -> str | None:
        if 0 < self._most_mb < (more := now.rss_mb - settled.rss_mb):
            return f"its memory has grown by {more:.0f} MB (pool.max_growth_mb)"
        if (more := now.descriptors - settled.descriptors) > MOST_DESCRIPTORS:
            return f"its jobs have left {more} files open"
        if (more := now.threads - settled.threads) > MOST_THREADS:
            return f"its jobs have left {more} threads running"
        return None


def _grows(before: Footprint, now: Footprint) -> bool:
    more = now.descriptors > before.descriptors or now.threads > before.threads
    return more or now.rss_mb > before.rss_mb + STEADY_MB

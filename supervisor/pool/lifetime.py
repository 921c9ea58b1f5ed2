"""When a worker has served long enough: after so many jobs, or when its memory has grown by so much.

Both with jitter, so that workers that were started together are not replaced together. Every worker is forked from
the clean fork server, so a new one has nothing of what the old one had gathered.
"""

from __future__ import annotations

from collections.abc import Callable

SETTLED_AFTER_JOBS = 10
"""Until then a worker may load what its handlers need; what it gathers later is growth."""
LOOK_EVERY_JOBS = 5


class Lifetime:
    """The life of one worker. `jitter` is a factor around 1; a limit of 0 never ends it."""

    def __init__(self, max_jobs: int, max_growth_mb: int, jitter: float) -> None:
        self._jobs_at_most = max(1, round(max_jobs * jitter)) if max_jobs else 0
        self._growth_at_most_mb = max_growth_mb * jitter
        self._settled_mb: float | None = None
        self.grown_mb = 0.0
        """Megabytes that it has gathered since it had settled."""

    def look(self, jobs_done: int, rss_mb: Callable[[], float | None]) -> None:
        """Look at the worker after its job number `jobs_done`, now and then."""
        if jobs_done < SETTLED_AFTER_JOBS or jobs_done % LOOK_EVERY_JOBS:
            return
        now_mb = rss_mb()
        if now_mb is None:
            return
        if self._settled_mb is None:
            self._settled_mb = now_mb
        self.grown_mb = now_mb - self._settled_mb

    @property
    def has_grown(self) -> bool:
        """Whether it has grown too much."""
        return 0 < self._growth_at_most_mb < self.grown_mb

    def is_over(self, jobs_done: int) -> bool:
        """Tell whether a fresh worker should take over."""
        return self.has_grown or 0 < self._jobs_at_most <= jobs_done

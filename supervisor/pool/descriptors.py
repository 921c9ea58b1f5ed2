"""File descriptors: a pool that would grow beyond them stays smaller, and says so.

A supervisor without any left loses more than the next worker: a connection to the database that cannot be opened makes
the driver close the others too, and slots that try again take what became free.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Sequence
from pathlib import Path

import structlog

log = structlog.get_logger("supervisor.pool.pool")

PER_WORKER = 15
"""The pipes of its executor, its channel, its tickets, its pidfd and its files."""
KEPT = 24
"""For connections to the database, files on their way, looks into /proc, and two workers that are being started."""
AGAIN_S = 5.0
"""How long until the pool looks again whether it may grow."""


class Descriptors:
    """Tells how many slots there may be."""

    def __init__(self) -> None:
        self._refused = 0

    async def until_worth_a_look(self, resized: asyncio.Event) -> None:
        """Wait for `resized`, and while the pool is smaller than it should be, no longer than a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S if self._refused else None):
                await resized.wait()
        resized.clear()

    @property
    def has_room(self) -> bool:
        """Whether there is room for a worker more than there should be slots."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return limit == resource.RLIM_INFINITY or limit - in_use() - KEPT >= PER_WORKER

    def allow(self, wanted: int, slots: Sequence[bool]) -> int:
        """Return how many of `wanted` slots there may be; of each that is there, `slots` says if it has its worker.

        Never fewer than there are, and one in any case: if that fails to start, it says why.
        """
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            return wanted
        most = max(1, len(slots), sum(slots) + max(0, limit - in_use() - KEPT) // PER_WORKER)
        if wanted > most and wanted != self._refused:
            log.error("pool.descriptors_short", wanted=wanted, slots=most, limit=limit,
                      hint="raise the limit of open files: ulimit -n, LimitNOFILE= in a unit")  # fmt: skip
        self._refused = wanted if wanted > most else 0
        return min(wanted, most)


def in_use() -> int:
    """Return how many descriptors this process has open."""
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:  # not even one is left to look with
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

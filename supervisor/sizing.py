"""How many workers are wanted here, and who said so last: the configuration, a resize of the fleet's, or a signal.

A word is spoken when the file's `pool.workers` is edited, when a resize is written, when a TTIN or TTOU arrives; the
last one holds. A signal is forgotten with the next word of the others. An edit that overrules a resize is written down
beside it (`Controls` does), so that it holds after a restart and on this host's other supervisors too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from supervisor.config.cores import usable_cores
from supervisor.core.fleet import AUTO, CONFIG, Resize
from supervisor.live import Live
from supervisor.pool.pool import WorkerPool

log = structlog.get_logger("supervisor")


class Sizing:
    """Owns the wanted size of the pool and `live.workers_from`; wants nothing before the controls have been read."""

    def __init__(self, live: Live, pool: WorkerPool, on_change: Callable[[], None]) -> None:
        self.known = asyncio.Event()
        """Set when the controls have been read once: a host that is resized starts with that size."""
        self._live = live
        self._pool = pool
        self._on_change = on_change
        self._configured: int | str = AUTO
        self._configured_from = "default"
        self._resize: Resize | None = None
        self._overruled = False
        """The file has spoken after `_resize`."""
        self._signalled: int | None = None

    def configure(self, workers: int | str, origin: str, *, edited: bool = False) -> None:
        """Take `pool.workers` from where it comes from; `edited` tells that it was changed just now."""
        self._configured, self._configured_from = workers, origin
        if edited:
            self._signalled = None
            # before the controls are known there may be one; `heed` will see
            self._overruled = _is_word(self._resize) or not self.known.is_set()
        self._settle()

    def heed(self, resize: Resize | None) -> bool:
        """Take the resize that holds on this host; tell whether the file has spoken since, which is to be noted."""
        if not self.known.is_set():
            self._overruled = self._overruled and _is_word(resize)
        elif resize != self._resize:
            if not (self._overruled and resize and resize.by == CONFIG):  # else it is the note of our own edit
                self._signalled = None
            self._overruled = False
        self._resize = resize
        self.known.set()
        self._settle()
        return self._overruled

    def step(self, by: int) -> None:
        """Want so many more, or fewer, until somebody else speaks."""
        self._signalled = max(0, self._wanted()[0] + by)
        self._settle()

    def _wanted(self) -> tuple[int, str]:
        """Return the number of workers and where it comes from."""
        if self._signalled is not None:
            return self._signalled, "signal"
        if self._resize is not None and self._resize.workers is not None and not self._overruled:
            return _number(self._resize.workers), "control"
        return _number(self._configured), self._configured_from

    def _settle(self) -> None:
        if not self.known.is_set():
            return
        workers, source = self._wanted()
        if (workers, source) == (self._pool.desired, self._live.workers_from):
            return  # the controls are read every few seconds, and mostly say what they said before
        if workers != self._pool.desired:
            log.info("pool.resized", old=self._pool.desired, new=workers, workers_from=source)
        self._live.workers_from = source
        self._pool.resize(workers)
        self._on_change()


def _is_word(resize: Resize | None) -> bool:
    return resize is not None and resize.workers is not None


def _number(workers: int | str) -> int:
    return usable_cores() if isinstance(workers, str) else workers

"""Which cores a worker runs on: one of its slot's own, where workers are bound to cores (`pool.pin`), or any.

A slot's core depends on its number and on the cores that we may use, and on nothing else: slots that come and go
leave the others where they are.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from pathlib import Path

import structlog

log = structlog.get_logger("supervisor.pool.pool")


def cores_of(slot: int, usable: AbstractSet[int], *, pinned: bool) -> set[int]:
    """Return the cores that the worker of `slot` may run on."""
    return {sorted(usable)[slot % len(usable)]} if pinned else set(usable)


class Placement:
    """Binds workers to cores, and sets them free again when that is no longer wanted."""

    def __init__(self) -> None:
        self._pinned = False
        self._touched = False
        """Nobody's cores are changed before `pool.pin` is set: a handler may choose its own."""

    def pin(self, *, wanted: bool) -> bool:
        """Take `pool.pin`; return whether the workers that run are to be placed anew."""
        changed, self._pinned = wanted != self._pinned, wanted
        self._touched = self._touched or wanted
        return changed

    def place(self, slot: int, pid: int) -> None:
        """Have the worker of `slot`, with all its threads, run where it should; what it starts later inherits that."""
        if not self._touched or not pid:
            return
        cores = cores_of(slot, os.sched_getaffinity(0), pinned=self._pinned)
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)
        except (FileNotFoundError, ProcessLookupError):
            return  # it has ended
        except OSError as error:
            log.warning("worker.not_pinned", slot=slot, pid=pid, cores=sorted(cores), reason=str(error))

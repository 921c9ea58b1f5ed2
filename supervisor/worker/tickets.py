"""Tickets: a worker takes one before it begins a job, and what it has not taken yet can be withdrawn.

A counter in the kernel that both sides take from: no job is begun and withdrawn, whatever happens at the same moment.
"""

from __future__ import annotations

import os
from multiprocessing import reduction
from typing import Any


class Tickets:
    """The counter. Picklable for a process that is being started, which then holds a descriptor of its own."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Raises OSError where no descriptor is left."""
        flags = os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC
        self._descriptor = os.eventfd(0, flags) if descriptor is None else descriptor

    def issue(self, count: int) -> None:
        """Add `count` tickets."""
        if count:
            os.eventfd_write(self._descriptor, count)

    def take(self) -> bool:
        """Take one; False if there is none. Raises OSError if the counter was closed."""
        try:
            os.eventfd_read(self._descriptor)
        except BlockingIOError:
            return False
        return True

    def withdraw(self) -> int:
        """Take all that are left; return how many there were."""
        count = 0
        while self.take():
            count += 1
        return count

    def close(self) -> None:
        """Give up this side's descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_duplicate, (reduction.DupFd(self._descriptor),)


def _from_duplicate(duplicate: Any) -> Tickets:
    return Tickets(duplicate.detach())

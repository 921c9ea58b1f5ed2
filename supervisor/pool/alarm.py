"""A timer for something whose time changes often, mostly to a later one."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

SHORTEST_WAIT_S = 0.005


class Alarm:
    """Calls `on_due` once the time is there that `due_at` tells, in seconds of the monotonic clock.

    A timer that was set for an earlier time looks again when it comes: a later time costs nothing.
    """

    def __init__(self, due_at: Callable[[], float], on_due: Callable[[], None]) -> None:
        self._due_at = due_at
        self._on_due = on_due
        self._timer: asyncio.TimerHandle | None = None
        self._set_for = math.inf

    def set(self) -> None:
        """Take note of another time."""
        due_at = self._due_at()
        if self._timer is not None and self._set_for > due_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due_at < math.inf:
            delay_s = max(SHORTEST_WAIT_S, due_at - time.monotonic())
            self._timer, self._set_for = asyncio.get_running_loop().call_later(delay_s, self._look), due_at

    def _look(self) -> None:
        self._timer = None
        if self._due_at() <= time.monotonic():
            self._on_due()
        self.set()

"""The claim loop's own progress: beaten by the loop on every turn, told on to whoever has to know that it is alive.

There is no timer beside the loop that could go on while it hangs. Its waits are bounded: for a free slot, for work and
for each call to the database some seconds at most, and a claim, which takes several calls, beats at every answer. So a
slow database does not stop the pulse, and a loop that waits for ever does.
"""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_S = 1.0
STALLED_S = 30.0
"""Without a beat for so long, the loop hangs. The longest wait between two beats is for one answer of the database."""


class Pulse:
    """Tells `listeners` of a beat, once in `EVERY_S` seconds at most: the loop may turn hundreds of times a second."""

    def __init__(self, *listeners: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        self._listeners = listeners
        self._now = now
        self._told_at = -EVERY_S

    def beat(self) -> None:
        """Say that the claim loop has got on."""
        now = self._now()
        if now - self._told_at >= EVERY_S:
            self._told_at = now
            for listener in self._listeners:
                listener()

"""The last minutes: how attempts ended, how long their jobs had waited and how long they ran, by handler.

Kept in buckets of ten seconds, so that a window of a minute neither jumps nor grows with the number of attempts.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.transitions import Transition

BUCKET_S = 10.0
WINDOWS_MIN = (1, 5)


@dataclass
class _Spread:
    """Values of which mean and maximum are asked."""

    total: float = 0.0
    highest: float = 0.0

    def add(self, other: _Spread) -> None:
        self.total += other.total
        self.highest = max(self.highest, other.highest)

    def told(self, count: int) -> dict[str, float]:
        return {"mean": round(self.total / count, 3), "max": round(self.highest, 3)}


@dataclass
class _Figures:
    """Of one handler in one bucket, or in all buckets of a window."""

    ended: Counter[str] = field(default_factory=Counter)
    wait_s: _Spread = field(default_factory=_Spread)
    run_s: _Spread = field(default_factory=_Spread)

    def add(self, other: _Figures) -> None:
        self.ended.update(other.ended)
        self.wait_s.add(other.wait_s)
        self.run_s.add(other.run_s)


class Recent:
    """Takes recorded attempts, and tells of them by handler for each of WINDOWS_MIN; `now` is in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._buckets: deque[tuple[float, dict[str, _Figures]]] = deque()
        """From the oldest on: when the bucket began, and its figures by handler."""

    def note(self, change: Transition) -> None:
        """Take in a recorded attempt."""
        now = self._now()
        if not self._buckets or now - self._buckets[-1][0] >= BUCKET_S:
            self._buckets.append((now, {}))
            self._forget(now)
        wait_s, run_s = change.job.wait_s, change.ended.usage.run_s
        one = _Figures(Counter([str(change.outcome)]), _Spread(wait_s, wait_s), _Spread(run_s, run_s))
        self._buckets[-1][1].setdefault(change.job.handler, _Figures()).add(one)

    def report(self) -> list[dict[str, Any]]:
        """Return `{handler, minutes, ended, wait_s, run_s}` for each handler and window in which attempts ended."""
        now = self._now()
        self._forget(now)
        return [
            {
                "handler": handler,
                "minutes": minutes,
                "ended": dict(figures.ended),
                "wait_s": figures.wait_s.told(figures.ended.total()),
                "run_s": figures.run_s.told(figures.ended.total()),
            }
            for minutes in WINDOWS_MIN
            for handler, figures in sorted(self._since(now - minutes * 60).items())
        ]

    def _since(self, start: float) -> dict[str, _Figures]:
        """Add up the buckets that began at `start` or later."""
        found: dict[str, _Figures] = {}
        for _, figures in (bucket for bucket in self._buckets if bucket[0] >= start):
            for handler, each in figures.items():
                found.setdefault(handler, _Figures()).add(each)
        return found

    def _forget(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] < now - max(WINDOWS_MIN) * 60:
            self._buckets.popleft()

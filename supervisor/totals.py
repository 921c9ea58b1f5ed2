"""What has ended since the start, by handler: for counters, which only ever grow while a supervisor lives."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from supervisor.core.job import ENDED
from supervisor.core.transitions import Transition

BOUNDS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper bounds of the buckets of run times, in seconds; what ran longer counts in none of them."""


@dataclass
class _Total:
    jobs: Counter[str] = field(default_factory=Counter)
    """Jobs that have ended, by status."""
    attempts: int = 0
    run_s: float = 0.0
    within: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))


class Totals:
    """Takes recorded attempts, and tells of all of them."""

    def __init__(self) -> None:
        self._by_handler: dict[str, _Total] = {}

    def note(self, change: Transition) -> None:
        """Take in a recorded attempt."""
        total = self._by_handler.setdefault(change.job.handler, _Total())
        if change.status in ENDED:
            total.jobs[change.status.value] += 1
        run_s = change.ended.usage.run_s
        total.attempts += 1
        total.run_s += run_s
        total.within[bisect_left(BOUNDS_S, run_s)] += 1

    def report(self) -> list[dict[str, Any]]:
        """Return `{handler, jobs, attempts, run_s, within}`; `within` counts the attempts up to each of BOUNDS_S."""
        return [
            {
                "handler": handler,
                "jobs": dict(total.jobs),
                "attempts": total.attempts,
                "run_s": round(total.run_s, 6),
                "within": [
                    {"s": bound, "attempts": sum(total.within[: place + 1])} for place, bound in enumerate(BOUNDS_S)
                ],
            }
            for handler, total in sorted(self._by_handler.items())
        ]

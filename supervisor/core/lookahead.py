"""Which jobs are claimed before a slot is free for them, and how many. Pure.

A slot that runs short jobs would stand still for a claim's round trips after each; so jobs of a handler that measures
short are claimed ahead, as many as fill a moment. A job that measures long, or of which nothing is known yet, is never
claimed before a slot is free: it might run elsewhere meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SHORT_S = 0.05
"""A handler whose jobs run longer than this measures long: some claims' round trips."""
AHEAD_S = 0.1
"""How much work may wait in a slot, by what its jobs are expected to take."""
MOST_AHEAD = 128
"""Jobs that may wait in a slot, however short they are."""
SAMPLES, ENOUGH = 32, 8
"""The newest run times that are remembered of a handler, and how many it takes to know it."""


class Pace:
    """How long jobs take, by handler, from those that have ended."""

    def __init__(self) -> None:
        self._newest: dict[str, deque[float]] = {}
        self._expected: dict[str, float] = {}

    def note(self, handler: str, run_s: float) -> None:
        """Take in a run time in seconds."""
        self._newest.setdefault(handler, deque(maxlen=SAMPLES)).append(run_s)
        self._expected.pop(handler, None)

    def expected_s(self, handler: str) -> float:
        """Return what a job of `handler` takes: three of four were no longer. Infinity where too few are known."""
        if handler not in self._expected:
            newest = sorted(self._newest.get(handler, ()))
            known = len(newest) >= ENOUGH
            self._expected[handler] = newest[(3 * len(newest)) // 4] if known else math.inf
        return self._expected[handler]

    def shortest_s(self) -> float:
        """Return what jobs of the quickest handler take; infinity where none is known."""
        return min(map(self.expected_s, self._newest), default=math.inf)


@dataclass(frozen=True)
class Place:
    """A slot that may be given jobs: one of any kind if it is free, and short ones that fill `ahead_s` seconds.

    `most` is how many it may be given at all. `pid` is the process that will run them.
    """

    slot: int
    pid: int
    free: bool = True
    most: int = 1
    ahead_s: float = 0.0


def most_ahead(shortest_s: float) -> int:
    """Return how many jobs may wait in a slot where the quickest handler's take `shortest_s` seconds."""
    return max(1, min(MOST_AHEAD, int(AHEAD_S / max(shortest_s, 1e-6)))) if shortest_s <= SHORT_S else 0


def deal(takes_s: Sequence[float], places: Sequence[Place]) -> list[Place]:
    """Return the places of the first jobs of a queue, of which each is expected to take so many seconds.

    A free place takes one job of any kind; then come short ones, each where the least work waits. The first job that
    finds no place ends it, and all behind it wait too: else short ones could keep every slot busy, and it out.
    """
    free = deque(place for place in places if place.free)
    left = {place.slot: place.most for place in places}
    ahead_s = {place.slot: place.ahead_s for place in places}
    by_slot = {place.slot: place for place in places}
    dealt: list[Place] = []
    for seconds in takes_s:
        if free:
            place = free.popleft()
        else:
            open_slots = [slot for slot in left if left[slot] > 0 and ahead_s[slot] > 0]
            if seconds > SHORT_S or not open_slots:
                break
            place = by_slot[max(open_slots, key=ahead_s.__getitem__)]
        left[place.slot] -= 1
        ahead_s[place.slot] -= seconds
        dealt.append(place)
    return dealt

"""Which jobs are claimed before a slot is free for them, and how many. Pure.

A slot that runs short jobs would stand still for a claim's round trips after each; so jobs of a handler that measures
short are claimed ahead, as many as fill a moment. A job that measures long, or of which nothing is known yet, is never
claimed before a slot is free: it might run elsewhere meanwhile.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

SHORT_S = 0.05
"""A handler whose jobs run no longer measures short."""
CLAIMS, LONGEST_S = 4, 0.2
"""Where a claim takes long, as on a busy machine, jobs of so many claims' length are short too, within a bound."""
AHEAD_S, IN_LINE_S = 0.2, 0.5
"""How much work may wait in a slot, by what its jobs are expected to take. It is more while others are in line that no
supervisor has had a place for: nobody is idle for want of those that wait here.
"""
DRY = 0.25
"""How much of that is left when others are claimed: not each by itself."""
SLOW_S = 0.1
"""A job that has run for so long, or as long as two short ones, was not short after all: what waits behind it is given
back.
"""
MOST_AHEAD = 128
"""Jobs that may wait in a slot, however short they are."""
SAMPLES, ENOUGH = 32, 8
"""The newest run times that are remembered of a handler, and how many it takes to know it."""
_FADES = 0.8
"""What the claims before count for beside the newest one."""


@dataclass(frozen=True)
class Expected:
    """For how long a job keeps others waiting, in seconds, and after how many it is one that turned slow.

    Infinity stands for a job that is not known to be short.
    """

    seconds: float = math.inf
    slow_s: float = SLOW_S

    @property
    def is_short(self) -> bool:
        """Whether others may be claimed while it still runs."""
        return math.isfinite(self.seconds)


UNKNOWN = Expected()


@dataclass(frozen=True)
class Ahead:
    """What may wait in a slot: so many jobs, and as much work as takes so many seconds."""

    most: int
    seconds: float

    @classmethod
    def of(cls, shortest_s: float, *, in_line: bool, times: int = 1) -> Ahead:
        """Return what may wait where the quickest handler's jobs take `shortest_s` seconds; or `times` as much."""
        seconds = times * (IN_LINE_S if in_line else AHEAD_S)
        most = max(1, min(MOST_AHEAD, int(seconds / max(shortest_s, 1e-6)))) if math.isfinite(shortest_s) else 0
        return cls(most, seconds)


class Pace:
    """How long jobs take, by handler, from those that have ended; and how long claims take."""

    def __init__(self) -> None:
        self._newest: dict[str, deque[float]] = {}
        self._expected: dict[str, Expected] = {}
        self._claim_s = 0.0
        self.in_line = False
        """Jobs are due that there was no place for, as far as the latest claim could see."""

    def note(self, handler: str, run_s: float) -> None:
        """Take in a run time in seconds."""
        self._newest.setdefault(handler, deque(maxlen=SAMPLES)).append(run_s)
        self._expected.pop(handler, None)

    def note_claim(self, seconds: float) -> None:
        """Take in how long a claim took that found jobs."""
        seconds = min(seconds, LONGEST_S)  # the database may have been away
        self._claim_s = _FADES * self._claim_s + (1 - _FADES) * seconds if self._claim_s else seconds
        self._expected.clear()

    @property
    def short_s(self) -> float:
        """How long a short job takes at most."""
        return max(SHORT_S, min(LONGEST_S, CLAIMS * self._claim_s))

    @property
    def slow_s(self) -> float:
        """After how long a job has turned slow."""
        return max(SLOW_S, 2 * self.short_s)

    def expected(self, handler: str) -> Expected:
        """Return what is known of a job of `handler`.

        It is short if three of four were. Then it is the mean that counts, of which one that turns slow is but a part:
        what waits behind it is given back.
        """
        if (known := self._expected.get(handler)) is None:
            known = self._expected[handler] = self._measured(self._newest.get(handler, ()))
        return known

    def _measured(self, newest: Collection[float]) -> Expected:
        slow_s = self.slow_s
        if len(newest) < ENOUGH or sorted(newest)[(3 * len(newest)) // 4] > self.short_s:
            return Expected(slow_s=slow_s)
        return Expected(sum(min(run_s, slow_s) for run_s in newest) / len(newest), slow_s)

    def ahead(self, times: int = 1) -> Ahead:
        """Return what may wait in a slot, or `times` as much."""
        return Ahead.of(self._shortest_s(), in_line=self.in_line, times=times)

    def _shortest_s(self) -> float:
        """Return what jobs of the quickest handler take; infinity where none is known to be short."""
        return min((self.expected(handler).seconds for handler in self._newest), default=math.inf)


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


def deal(takes_s: Sequence[float], places: Sequence[Place]) -> list[Place]:
    """Return the places of the first jobs of a queue, of which each is expected to take so many seconds, or for ever.

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
            if seconds == math.inf or not open_slots:
                break
            place = by_slot[max(open_slots, key=ahead_s.__getitem__)]
        left[place.slot] -= 1
        ahead_s[place.slot] -= seconds
        dealt.append(place)
    return dealt

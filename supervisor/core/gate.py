"""Limits across machines: how many more jobs of a handler may start now, given what runs and what has been started.

The limits are those of the supervisor that claims. What they are held against is the same for all: the jobs that are
`processing`, those that somebody is just claiming, and the latest starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

UNLIMITED = 2**31
_PIECES = 60
"""A period is remembered in this many pieces: what was started in a piece is forgotten when all of it is old."""


@dataclass(frozen=True)
class FleetLimits:
    """What `max_running_total`, `max_running_per_group` and `rate` of one handler say; 0 = no cap.

    At most `starts` jobs are started in any `per_s` seconds.
    """

    total: int = 0
    per_group: int = 0
    starts: int = 0
    per_s: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.total or self.per_group or self.starts)


@dataclass(frozen=True)
class Started:
    """How many jobs were started from `at` on, for one piece of the period."""

    at: datetime
    count: int
    turn: int | None = None
    """Set while they are just being started, by whoever had this turn at the gate: until `at` at the latest."""


@dataclass(frozen=True)
class Opening:
    """How many jobs of a handler may start now: in all, and of one group."""

    room: int = UNLIMITED
    per_group: int = 0
    in_group: Mapping[str, int] = field(default_factory=dict)
    """How many jobs of each group run already."""
    opens_in_s: float | None = None
    """When the rate is spent: seconds until it allows the next start."""

    def room_in(self, group: str | None) -> int:
        """Return how many more of `group` may start; jobs without a group are in none."""
        if group is None or not self.per_group:
            return UNLIMITED
        return self.per_group - self.in_group.get(group, 0)

    def admits(self, group: str | None) -> bool:
        """Tell whether one more of `group` may start."""
        return self.room > 0 and self.room_in(group) > 0

    @property
    def full_groups(self) -> list[str]:
        """The groups of which no more may start."""
        return [group for group in self.in_group if self.room_in(group) <= 0]

    def taking(self, group: str | None) -> Opening:
        """Return what is left when one more of `group` starts."""
        in_group = self.in_group if group is None else {**self.in_group, group: self.in_group.get(group, 0) + 1}
        return replace(self, room=self.room - 1, in_group=in_group)


def opening(
    limits: FleetLimits, running: Mapping[str | None, int], started: Sequence[Started], now: datetime
) -> Opening:
    """Return how many more may start, with `running` jobs by group (None: of no group) and the latest starts."""
    room, opens_in_s = UNLIMITED, None
    if limits.total:
        room = max(0, limits.total - sum(running.values()))
    if limits.starts:
        recent = still_counting(started, limits, now)
        left = limits.starts - sum(each.count for each in recent)
        if left <= 0:
            opens_in_s = max(0.0, limits.per_s + _piece_s(limits) - (now - recent[0].at).total_seconds())
        room = min(room, max(0, left))
    in_group = {group: count for group, count in running.items() if group is not None} if limits.per_group else {}
    return Opening(room, limits.per_group, in_group, opens_in_s)


def still_counting(started: Sequence[Started], limits: FleetLimits, now: datetime) -> list[Started]:
    """Return those starts of which any may lie within the last `per_s` seconds, oldest first.

    One of the future counts from now on: it is just being made, or was dated by another primary's clock.
    """
    if not limits.starts:
        return []
    oldest = now - timedelta(seconds=limits.per_s + _piece_s(limits))
    known = (replace(each, at=min(each.at, now)) for each in started)
    return sorted((each for each in known if each.at > oldest), key=lambda each: each.at)


def to_remember(started: Sequence[Started], limits: FleetLimits, now: datetime) -> list[Started]:
    """Return the starts that still count, in as few entries as the pieces of the period; those under way stay apart."""
    under_way = [each for each in started if each.turn is not None and each.at > now]
    done = [replace(each, turn=None) for each in started if each not in under_way]
    kept: list[Started] = []
    for each in still_counting(done, limits, now):
        if kept and (each.at - kept[-1].at).total_seconds() < _piece_s(limits):
            kept[-1] = replace(kept[-1], count=kept[-1].count + each.count)
        else:
            kept.append(each)
    return [*kept, *under_way]


def _piece_s(limits: FleetLimits) -> float:
    return limits.per_s / _PIECES

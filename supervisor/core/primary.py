"""Whether the database's clock may be believed when it says that a lease is over.

Leases end by the clock of the primary. A new primary has another one, and if that is ahead, all leases of the fleet end
in the moment of its election while their owners live. So after an election, or a jump of the clock, no lease is taken
for expired until its owner has had the time of one lease to renew it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sighting:
    """What the primary said of itself, and when: at some time between `asked_s` and `heard_s` of our own clock."""

    election: Any
    """The id of the election that made it the primary; None where a mongos stands before it."""
    clock_s: float
    asked_s: float
    heard_s: float

    def jump_s(self, before: Sighting) -> float:
        """Return by how many seconds its clock has moved against ours since `before`; 0 if it need not have moved."""
        least = (self.clock_s - self.heard_s) - (before.clock_s - before.asked_s)
        most = (self.clock_s - self.asked_s) - (before.clock_s - before.heard_s)
        return max(0.0, least) + min(0.0, most)


@dataclass(frozen=True)
class Change:
    """What is different since the last look: another primary, or a clock that has jumped by so many seconds."""

    new_primary: bool
    jump_s: float


class PrimaryWatch:
    """Compares each sighting with the one before. The first is believed: a dead supervisor's jobs should not wait."""

    def __init__(self) -> None:
        self._last: Sighting | None = None
        self._doubted_until = 0.0

    def see(self, sighting: Sighting, lease_s: float) -> Change | None:
        """Take note of a sighting; returns what is new about it that makes the clock doubtful."""
        last, self._last = self._last, sighting
        if last is None:
            return None
        jump_s = sighting.jump_s(last)
        change = Change(sighting.election != last.election, jump_s if abs(jump_s) > lease_s / 4 else 0.0)
        if not change.new_primary and not change.jump_s:
            return None
        self._doubted_until = sighting.heard_s + lease_s
        return change

    def believes(self, sighting: Sighting) -> bool:
        """Tell whether leases that have ended by the clock of `sighting` have really ended."""
        return sighting.heard_s >= self._doubted_until

"""How far a claim spreads over the head of the queue while other supervisors take jobs from it too.

Whoever claims alone takes the jobs at the head in strict order. Of many who do that at the same time, all but one come
too late for each job. So a supervisor that loses jobs to others leaves out some of those that are equal in priority, at
random: on average all but one in `width`. It doubles that while it goes on losing, and halves it again once it has lost
none for a while, or where so many jobs are not there.
"""

from __future__ import annotations

from dataclasses import dataclass

WIDEST = 64
BEARABLE = 0.3
"""Lost to others, as a share of the jobs tried lately; less than that costs less than a wider look."""
LATELY = 2
"""Claims over which that share is taken, about."""
CALM = 10
"""Claims in a row without a loss before the look gets narrower."""


@dataclass
class Spread:
    """The width of one supervisor's claims; 1 is strict order."""

    width: int = 1
    priority: float = 0
    """Whose jobs are left out: the lowest that was tried last. Of a higher one none is."""
    _lost: float = 0.0
    _calm: int = 0

    @property
    def share(self) -> float:
        """The share of the jobs of `priority` that a claim looks at."""
        return 1 / self.width

    def note(self, priorities: list[float], lost: int) -> None:
        """Take the priorities of the jobs that a claim tried to take, and how many of those others had taken before.

        Not of claims that found no more jobs than that: a wider look would have found none either.
        """
        self.priority = min(priorities)
        self._lost += (lost / len(priorities) - self._lost) / LATELY
        self._calm = 0 if lost else self._calm + 1
        if self._lost > BEARABLE:
            self._set(min(WIDEST, 2 * self.width))
        elif self._calm >= CALM:
            self.narrow()

    def narrow(self) -> None:
        """Look at twice the share: too few jobs were found, or nobody else seems to take any."""
        self._set(max(1, self.width // 2))

    def _set(self, width: int) -> None:
        self.width, self._lost, self._calm = width, 0.0, 0

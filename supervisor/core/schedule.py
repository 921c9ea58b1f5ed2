"""Whether a schedule makes a job now, given the ticks that have come since the last one that made one.

A tick is a whole minute, as it is for cron: a supervisor that is there at any time in it makes its job. One that was
there and waited for the database meanwhile makes it as soon as it can, within ten minutes. Any other tick whose minute
is over has been missed, and is made up only if it is the latest and the schedule wants that.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

TICK = timedelta(minutes=1)
HELD_UP = timedelta(minutes=10)
"""So late a tick is still made by who was there and was held up; a nightly job is none for the morning."""


@dataclass(frozen=True)
class Due:
    """Ticks that have come and made no job: the latest of them, and how many there are."""

    latest: datetime
    count: int


@dataclass(frozen=True)
class Turn:
    """What to do: make the job of `tick` (None: of none), and how many ticks get no job any more."""

    tick: datetime | None
    missed: int


def decide(due: Due, now: datetime, *, make_up: bool, held_up: bool = False) -> Turn:
    """Return what `due` ticks lead to at `now`; `make_up` is `catch_up = "latest"`.

    `held_up` says that whoever asks was there when they came, and that the database did not answer then.
    """
    if make_up or now < due.latest + (HELD_UP if held_up else TICK):
        return Turn(due.latest, due.count - 1)
    return Turn(None, due.count)

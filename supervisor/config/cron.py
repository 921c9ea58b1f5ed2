"""Cron lines: what is wrong with one, and when it comes due.

cronsim reads them as Debian's cron does, also where clocks are put forward or back: a line with a fixed hour and minute
that falls into a gap comes due at the end of the gap, and one that a clock shows twice comes due the first time only. A
line whose hour or minute begins with `*` goes by what the clock shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from supervisor.core.schedule import Due

MOST_COUNTED = 2000
"""Ticks that are counted at most: a minute's schedule has as many in a day and a half."""
_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12, names"),
    ("day of week", "0-7, names"),
)
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def check_cron(line: str) -> str:
    """Return the line; raises ValueError with what it must be, in words that follow "must be"."""
    fields = line.split()
    if len(fields) != len(_FIELDS):
        raise ValueError("five fields: minute, hour, day of month, month, day of week")
    for position, (name, values) in enumerate(_FIELDS):
        alone = ["*"] * len(_FIELDS)
        alone[position] = fields[position]
        if not _comes_due(alone):
            shown = f'a cron line, and its {name} is "{fields[position][:40]}"'
            raise ValueError(f"{shown}: allowed are {values}, *, lists, ranges and steps")
    if not _comes_due(fields):
        raise ValueError("a cron line that comes due some day, and this one never does")
    return line


def _comes_due(fields: list[str]) -> bool:
    try:
        return next(CronSim(" ".join(fields), _ANY_TIME), None) is not None
    except (CronSimError, ValueError):  # ValueError: a number of thousands of digits
        return False


def ticks(line: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Return when the line comes due after `after`, in UTC and in order, without end or for the next 50 years."""
    latest = after
    for local in CronSim(line, after.astimezone(ZoneInfo(timezone))):
        tick = local.astimezone(UTC)
        if tick > latest:  # a start within a repeated hour is taken for the first of the two
            latest = tick
            yield tick


def due(line: str, timezone: str, after: datetime, until: datetime) -> Due | None:
    """Return the ticks after `after` that have come at `until`, counted up to MOST_COUNTED; None if there are none."""
    come = takewhile(lambda tick: tick <= until, ticks(line, timezone, after))
    found = list(islice(come, MOST_COUNTED))
    if not found:
        return None
    return Due(_latest(line, timezone, found[-1], until), len(found))


def _latest(line: str, timezone: str, known: datetime, until: datetime) -> datetime:
    """Return the last tick until `until`, with one that is known: by halving, since there may be very many."""
    low, high = known, until
    while _has_come(_first(line, timezone, low), until):
        middle = low + (high - low) / 2
        tick = _first(line, timezone, middle)
        if tick is not None and _has_come(tick, until):
            low = tick
        else:
            high = middle
    return low


def _first(line: str, timezone: str, after: datetime) -> datetime | None:
    return next(ticks(line, timezone, after), None)


def _has_come(tick: datetime | None, until: datetime) -> bool:
    return tick is not None and tick <= until

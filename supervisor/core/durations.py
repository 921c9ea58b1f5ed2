"""Durations: between two times, and as people read them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

_UNITS = (("s", 1, 100), ("m", 60, 6000), ("h", 3600, 172_800), ("d", 86_400, math.inf))
"""Of a duration from 10 s: the unit, its seconds, and the number of seconds below which it is used."""


def seconds_between(start: Any, end: Any) -> float | None:
    """Return the seconds from `start` to `end`, None where one of them is no time."""
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return None
    return max(0.0, (end - start).total_seconds())


def duration(seconds: Any) -> str:
    """Return seconds in the one unit that tells most, such as 9ms, 3.6s, 45s, 12m, 5h or 8d; empty for None."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not math.isfinite(seconds):
        return ""
    if seconds < 10:
        return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"
    unit, size = next((unit, size) for unit, size, limit in _UNITS if seconds < limit)
    return f"{seconds / size:.0f}{unit}"

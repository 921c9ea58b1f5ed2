"""Whether a limit across machines keeps a job waiting: the part of `why` that gates and running jobs answer. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supervisor.core.durations import duration
from supervisor.core.gate import FleetLimits, Started, opening
from supervisor.core.pieces import part


@dataclass(frozen=True)
class Usage:
    """What is held against the limits of a handler: jobs that run, in all and of one group, and the latest starts."""

    running: int = 0
    group: str | None = None
    in_group: int = 0
    started: Sequence[Started] = ()


def limit_reached(entry: Mapping[str, Any], usage: Usage, now: datetime) -> str | None:
    """Say which limit of a heartbeat's entry about the handler lets no more start; None for none of them."""
    limits = limits_in(entry)
    running: dict[str | None, int] = {None: usage.running - usage.in_group}
    if usage.group is not None:
        running[usage.group] = usage.in_group
    seen = opening(limits, running, usage.started, now)
    if limits.total and usage.running >= limits.total:
        return f"max_running_total = {limits.total} is reached: {usage.running} are running across the fleet"
    if seen.room_in(usage.group) <= 0:
        running_there = f"{usage.in_group} of group {usage.group} are running"
        return f"max_running_per_group = {limits.per_group} is reached: {running_there}"
    if seen.opens_in_s is not None:
        allowed = f"rate = {limits.starts} in {duration(limits.per_s)}"
        return f"{allowed} is spent; the next start is possible in {duration(seen.opens_in_s)}"
    return None


def limits_in(entry: Mapping[str, Any]) -> FleetLimits:
    """Read the limits across machines from a heartbeat, which anybody may have written."""
    found = part(entry, "fleet")
    total, per_group, starts = (_number(found.get(name)) for name in ("total", "per_group", "starts"))
    return FleetLimits(int(total), int(per_group), int(starts), _number(found.get("per_s")) or 1.0)


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else 0

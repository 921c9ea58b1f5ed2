"""What people decide for one host or the whole fleet: how many workers, and whether anything is claimed there. Pure.

Of several words about the size of a host, the last one holds, whether it was spoken for that host or for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

EVERYWHERE = "*"
"""Stands for all hosts."""
AUTO = "auto"
OPERATOR, CONFIG = "operator", "config"
MOST_WORKERS = 1024
ALLOWED_WORKERS = f'an integer from 0 to {MOST_WORKERS}, "{AUTO}" or null'
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Resize:
    """`host` is to have `workers`: a number, "auto" for its usable cores, None for what is configured there.

    `at` is in the database's time.
    """

    host: str
    workers: int | str | None
    by: str = OPERATOR
    at: datetime | None = None


@dataclass(frozen=True)
class Drain:
    """Nothing is claimed on `host`, and what runs there is to end.

    It ends by itself at `until`, if that is given: of a host that never comes back nothing is left.
    """

    host: str
    reason: str = ""
    by: str = OPERATOR
    at: datetime | None = None
    until: datetime | None = None


def resize_of(host: str, resizes: Iterable[Resize]) -> Resize | None:
    """Return the resize that holds on `host`: the newest of its own and those for all; None without any."""
    about = [each for each in resizes if each.host in (host, EVERYWHERE)]
    return max(about, key=lambda each: (each.at or _LONG_AGO, each.host == host), default=None)


def drain_of(host: str, drains: Iterable[Drain]) -> Drain | None:
    """Return the drain that holds on `host`, its own before one for all; None without any."""
    about = [each for each in drains if each.host in (host, EVERYWHERE)]
    return max(about, key=lambda each: each.host == host, default=None)


def to_resize(document: Mapping[str, Any]) -> Resize:
    """Read a resize; raises ValueError naming the field at fault."""
    if "workers" not in document:
        raise ValueError(f"workers: missing, must be {ALLOWED_WORKERS}")
    return Resize(_host(document), _workers(document["workers"]), _by(document), _date(document, "at"))


def to_drain(document: Mapping[str, Any]) -> Drain:
    """Read a drain; raises ValueError naming the field at fault."""
    reason, at, until = str(document.get("reason") or ""), _date(document, "at"), _date(document, "until")
    return Drain(_host(document), reason, _by(document), at, until)


def _workers(value: Any) -> int | str | None:
    match value:
        case None:
            return None
        case str() if value == AUTO:
            return AUTO
        case int() | float() if not isinstance(value, bool) and 0 <= value <= MOST_WORKERS and value == int(value):
            return int(value)  # some shells write every number as a double
    raise ValueError(f"workers: is {str(value)[:80]!r}, must be {ALLOWED_WORKERS}")


def _host(document: Mapping[str, Any]) -> str:
    host = document.get("host")
    if not isinstance(host, str) or not host:
        raise ValueError(f'host: is {str(host)[:80]!r}, must be the name of a host or "{EVERYWHERE}"')
    return host


def _by(document: Mapping[str, Any]) -> str:
    return str(document.get("by") or OPERATOR)


def _date(document: Mapping[str, Any], field: str) -> datetime | None:
    date = document.get(field)
    if date is not None and not isinstance(date, datetime):
        raise ValueError(f"{field}: is {str(date)[:80]!r}, must be a date")
    return date

"""What a configured value must look like beyond its type: rates, cron lines, time zones, addresses.

Each check takes the value and returns it, or raises ValueError with the reason in words that follow "must be".
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|min|hour)")
_PERIOD_S = {"s": 1.0, "min": 60.0, "hour": 3600.0}
_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6} | {
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_NO_NAMES: dict[str, int] = {}
_CRON_FIELDS = (
    ("minute", 0, 59, _NO_NAMES),
    ("hour", 0, 23, _NO_NAMES),
    ("day of month", 1, 31, _NO_NAMES),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_CRON_PART = re.compile(r"(\*|(?P<low>\w+)(-(?P<high>\w+))?)(/(?P<step>[0-9]{1,4}))?")
_PASSWORD = re.compile(r"^([a-z0-9+.-]+://)([^:@/?]*):(.*)@", re.IGNORECASE | re.DOTALL)
_SECRET_OPTION = re.compile(r"([?&](?:tlsCertificateKeyFilePassword|authMechanismProperties)=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True)
class Rate:
    """At most `count` starts in any `per_s` seconds."""

    count: int
    per_s: float


def parse_rate(text: str) -> Rate | None:
    """Read "100/min" (or /s, /hour); "" is no cap, None. Raises ValueError for anything else."""
    if not text:
        return None
    found = _RATE.fullmatch(text)
    if not found:
        raise ValueError('"N/s", "N/min" or "N/hour" with N from 1, or "" for no cap')
    return Rate(int(found[1]), _PERIOD_S[found[2]])


def check_rate(text: str) -> str:
    parse_rate(text)
    return text


def check_timezone(name: str) -> str:
    """Accept a name of the time zone database, such as "Europe/Berlin"."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: "Europe" is a directory of the database
        raise ValueError('a time zone such as "UTC" or "Europe/Berlin"') from None
    return name


def check_cron(line: str) -> str:
    """Accept five fields of `*`, numbers, names, ranges, lists and steps; Sunday is 0 or 7."""
    fields = line.split()
    if len(fields) != len(_CRON_FIELDS):
        raise ValueError("five fields: minute, hour, day of month, month, day of week")
    for text, (label, low, high, names) in zip(fields, _CRON_FIELDS, strict=True):
        if not all(_is_cron_part(part.lower(), low, high, names) for part in text.split(",")):
            raise ValueError(f'a cron line, and its {label} is "{text}": allowed are {low}-{high}, *, ranges and steps')
    return line


def _is_cron_part(part: str, low: int, high: int, names: dict[str, int]) -> bool:
    found = _CRON_PART.fullmatch(part)
    if not found:
        return False
    ends = [_cron_number(end, names) for end in (found["low"], found["high"]) if end is not None]
    numbers = [end for end in ends if end is not None and low <= end <= high]
    step = found["step"]
    return len(numbers) == len(ends) and numbers == sorted(numbers) and (step is None or int(step) > 0)


def _cron_number(text: str, names: dict[str, int]) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else names.get(text)


def check_mongo_uri(uri: str) -> str:
    """Accept "embedded" or a connection string; whether a server answers is not asked here."""
    if uri != "embedded" and not re.match(r"mongodb(\+srv)?://[^/?]", uri):
        raise ValueError('"embedded", or a connection string that begins with mongodb:// or mongodb+srv://')
    return uri


def redact_uri(uri: str) -> str:
    """Return `uri` without its password and without the options that carry secrets."""
    return _SECRET_OPTION.sub(r"\1***", _PASSWORD.sub(r"\1\2:***@", uri))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def check_plain(table: dict[str, Any]) -> dict[str, Any]:
    """Refuse what TOML or JSON can say and a document cannot hold: NaN, dates without a time, huge integers, NUL."""
    _check_part(table, "")
    return table


def _check_part(value: Any, at: str) -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            if "\0" in key:
                raise ValueError(f"a table, and the key {key!r} in it has a NUL character")
            _check_part(part, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check_part(part, f"{at}[{number}]")
    elif fault := _scalar_fault(value):
        raise ValueError(f"a table of plain values, and {at} {fault}")


def _scalar_fault(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is no number"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "does not fit into 64 bits"
    if isinstance(value, date | time) and not isinstance(value, datetime):
        return f"is a {type(value).__name__}: write a date with a time, or a string"
    return ""

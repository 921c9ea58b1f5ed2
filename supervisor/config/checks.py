"""What a configured value must look like beyond its type: rates, time zones, addresses, plain tables.

Each check takes the value and returns it, or raises ValueError with the reason in words that follow "must be".
"""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import SecretStr

_RATE = re.compile(r"([1-9][0-9]{0,8})/(s|min|hour)")
_PERIOD_S = {"s": 1.0, "min": 60.0, "hour": 3600.0}
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


def check_token(token: SecretStr) -> SecretStr:
    """Refuse what does not arrive as it was written: a header takes other letters apart, and spaces end the token."""
    if not re.fullmatch(r"[!-~]*", token.get_secret_value()):
        raise ValueError("a string of ASCII characters without spaces")
    return token


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
    if isinstance(value, datetime) and not _is_a_time_in_utc(value):
        return f"is {value}, which lies outside the years 1 to 9999 in UTC"
    return ""


def _is_a_time_in_utc(value: datetime) -> bool:
    try:
        value.astimezone(UTC)
    except OverflowError:
        return False
    return True

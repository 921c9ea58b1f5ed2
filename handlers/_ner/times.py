"""TIME: times of day, with their zone when one is given. "(CT)" belongs to the time, "on Monday" does not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from handlers._ner.spans import BLANK, DASH, DIGITS, Options, Span

_ZONE = (
    rf"(?:{BLANK}?\(?(?P<zone>UTC|GMT|CET|CEST|MEZ|MESZ|BST|IST|JST|[ECMP][SD]?T)(?!\w)\)?|(?P<utc>Z)(?!\w)"
    rf"|(?<=:\d\d:\d\d){BLANK}?(?P<offset>[+\u2212-]\d\d:?\d\d)(?!\d))?"
)
_HALF = r"(?P<half>[aApP])(?:\.[mM]\.|\.?[mM](?!\w))"
_START = r"(?<![\w.,:/$\u20ac\u00a3#])"
_AFTER_ISO_DATE = r"(?<=\d\d-\d\dT)"
_HOUR = r"(?P<hour>[01]?\d|2[0-4])"
_SECONDS = r"(?::(?P<second>[0-5]\d)(?:[.,]\d{1,6})?)?"

_CLOCK = re.compile(
    rf"(?:{_START}(?:(?<!\d{DASH})|(?<=:\d\d{DASH}))|{_AFTER_ISO_DATE})"
    rf"{_HOUR}:(?P<minute>[0-5]\d){_SECONDS}(?:{BLANK}?{_HALF})?{_ZONE}(?![\w:]|[.,]\d)"
)
_HALF_DAY = re.compile(rf"{_START}(?P<hour>1[0-2]|0?[1-9])(?:[.](?P<minute>[0-5]\d))?(?P<blank>{BLANK}?){_HALF}{_ZONE}")
_IN_WORDS = re.compile(
    rf"{_START}{_HOUR}(?:[.:](?P<minute>[0-5]\d))?{BLANK}?(?:Uhr|o['\u2019]clock|heures|horas)(?!\w)"
    rf"|{_START}(?P<h>[01]?\d|2[0-4]){BLANK}?[hH]{BLANK}?(?P<min>[0-5]\d)(?!\w)",
)
_CUE = re.compile(
    rf"(?<!\w)(?:at|by|from|between|until|till|before|after|zwischen|entre|um|ab|bis|von|vor|\u00e0|a las|alle|om|as"
    rf"|time|uhrzeit|mon|tue|wed|thu|fri|sat|sun|\w{{3,6}}day|(?:19|20)\d\d,?)[:\s]{{1,2}}$|[\w.]{BLANK}?{DASH}{BLANK}?$",
    re.IGNORECASE,
)
_GERMAN_AM = re.compile(rf"{BLANK}(?:[A-Z\u00c4\u00d6\u00dc]|\d)")


def find_times(text: str, _options: Options) -> Iterator[Span]:
    """Yield times; `norm` is {"time": "15:11" or "15:11:30"} and, as written, {"zone"} if there is one."""
    for digits in DIGITS.finditer(text):
        if digits.end() - digits.start() > 2:
            continue
        for pattern in (_CLOCK, _HALF_DAY, _IN_WORDS):
            match = pattern.match(text, digits.start())
            span = _span(match) if match and not _is_something_else(match) else None
            if span:
                yield span


def _is_something_else(match: re.Match[str]) -> bool:
    return (match.re is _CLOCK and _is_ratio(match)) or (match.re is _HALF_DAY and _is_german_am(match))


def _is_ratio(match: re.Match[str]) -> bool:
    """3:16 may be a verse and 1:25 a scale: one digit before the colon needs am, pm or a word such as "at"."""
    if len(match["hour"]) > 1 or match["half"] or match["second"] or match["zone"]:
        return False
    return not _cued(match)


def _is_german_am(match: re.Match[str]) -> bool:
    """ "Seite 5 am Ende": a spaced "am" before a capital is German unless an English word leads up to it."""
    spaced_am = match["blank"] and match["half"] == "a" and "." not in match.group()
    return bool(spaced_am and _GERMAN_AM.match(match.string, match.end()) and not _cued(match))


def _cued(match: re.Match[str]) -> bool:
    return _CUE.search(match.string, max(0, match.start() - 12), match.start()) is not None


def _span(match: re.Match[str]) -> Span | None:
    found = match.groupdict()
    hour = int(found["hour"] if found["hour"] is not None else found["h"])
    minute = found["minute"] or found.get("min") or "00"
    if half := found.get("half"):
        if not 1 <= hour <= 12 and not (hour > 12 and half in "pP"):
            return None
        hour = hour % 12 + (12 if half in "pP" else 0) if hour <= 12 else hour
    if hour == 24 and minute != "00":
        return None
    time = f"{hour:02}:{minute}" + (f":{found['second']}" if found.get("second") else "")
    norm = {"time": time}
    if zone := found.get("zone") or found.get("utc") or found.get("offset"):
        norm["zone"] = zone
    return Span("TIME", match.start(), match.end(), "rule:time", norm, validated=True)

"""DATE: days and months with a year, days of a month, numeric dates.

The patterns are generic ("14 <word> 2024") and the word is looked up: one pattern for each shape instead of one for
each language. Words around a date ("late", a weekday) do not belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from handlers._ner.months import ENGLISH, is_plain_word, month_in_other_language, month_number
from handlers._ner.spans import BLANK, DASH, DIGITS, GAP, WIDE_GAP, DateOrder, Options, Span
from handlers._ner.validate import is_calendar_date

_WORD = r"(?P<month>[^\W\d_]{3,12})"
_ORDINAL = rf"(?:{BLANK}?(?:st|nd|rd|th|er|\u00e8re|[\u00ba\u00aa]))?"
_FROM = rf"(?:(?P<first>\d{{1,2}})(?:{_ORDINAL}|\.){BLANK}?{DASH}{BLANK}?)?"
_DAY = rf"{_FROM}(?P<day>\d{{1,2}}){_ORDINAL}"
_DAY_GAP = rf"(?P<gap>\.?{WIDE_GAP}|\.)"
_OF = rf"(?:(?:of|de|del|day{BLANK}of){GAP})?"
_YEAR = r"(?P<year>(?:1[5-9]|20|21)\d\d)(?!\w|[.,/:-]\d)"
_START = rf"(?<![\w./#$\u20ac\u00a3])(?<!\d,)(?<!\w{DASH})"
_END = rf"(?!\w|[./]\d|{DASH}\w)"

_DAY_MONTH_YEAR = re.compile(rf"{_START}{_DAY}{_DAY_GAP}{_OF}{_WORD}\.?,?{WIDE_GAP}{_OF}{_YEAR}", re.IGNORECASE)
_MONTH_DAY_YEAR = re.compile(
    rf"(?<!\w){_WORD}(?:\.{BLANK}{{0,3}}|{GAP}|){_DAY}(?:{BLANK}?,{WIDE_GAP}?|{BLANK}{{1,3}}){_YEAR}", re.IGNORECASE
)
_MONTH_YEAR = re.compile(rf"(?<!\w){_WORD}\.?,?{GAP}{_OF}{_YEAR}", re.IGNORECASE)
_DAY_MONTH = re.compile(rf"{_START}{_DAY}{_DAY_GAP}{_OF}{_WORD}(?!\w|-\d)", re.IGNORECASE)
_MONTH_DAY = re.compile(
    rf"(?<!\w){_WORD}\.?(?P<gap>{GAP}){_DAY}(?!\w|[.,:/]\d|{DASH}\w|{BLANK}?[%$\u20ac\u00a3])", re.IGNORECASE
)
_ABBREVIATED = re.compile(
    rf"{_START}(?P<day>\d{{1,2}})(?P<sep>{DASH}|[/. ]){_WORD}\.?"
    rf"(?:(?P=sep)(?P<year>\d{{4}}|\d\d)|{BLANK}?['\u2019](?P<short>\d\d)){_END}"
)
_NUMERIC = re.compile(
    rf"{_START}(?P<a>\d{{1,4}})(?P<sep>[./]|{DASH}|\.{BLANK})(?P<b>\d{{1,2}})(?P=sep)(?P<c>\d{{4}}|\d{{1,2}})(?:(?=T\d)|{_END})"
)
_MONTH_SLASH_YEAR = re.compile(rf"{_START}(?P<month>0[1-9]|1[0-2])/{_YEAR}")
_EAST_ASIAN = re.compile(r"(?<!\d)(?P<year>\d{4})\u5e74(?P<month>\d{1,2})\u6708(?P<day>\d{1,2})\u65e5")
_NUMBER_CUE = re.compile(
    r"(?:(?<!\w)(?:no|nr|nos|number|nummer|num\u00e9ro|n[\u00b0\u00ba]|id|ref|reference|az|aktenzeichen)|[#\u2116])"
    r"[.:\s]{0,4}$",
    re.IGNORECASE,
)
_WORD_BEFORE = re.compile(rf"(?<!\w){_WORD}[.,]{{0,2}}\s{{0,6}}(?:(?:of|de|del)\s{{1,6}})?$", re.IGNORECASE)
_WORD_BEFORE_CHARS = 32
_MAX_LOOKUPS = 64  # of 3 ms each
_CAPITAL_AHEAD = re.compile(rf"{BLANK}[A-Z\u00c4\u00d6\u00dc]")


def find_dates(text: str, options: Options) -> Iterator[Span]:
    """Yield dates; `norm` is {"date"} in ISO 8601 (2024-03-14, 2024-03, --03-14) or, of a range, {"from", "to"}.

    A numeric date that can be read in two ways has `norm` None unless `options.date_order` says which. A day that
    does not exist (31 February) keeps `norm` None when it is written with a month's name, and is no date otherwise.
    Two-digit years are those from 1969 to 2068, as in POSIX.
    """
    reader = _Reader(options.date_order)
    for digits in DIGITS.finditer(text):
        yield from _read_at(text, digits.start(), _DIGITS_FIRST, reader)
        if (word := _month_before(text, digits.start())) is not None:
            yield from _read_at(text, word, _MONTH_FIRST, reader)


@dataclass(frozen=True)
class _Reader:
    """What the reading of a text needs to know: how numeric dates go, and which unknown words were looked up."""

    order: DateOrder | None
    asked: set[str] = field(default_factory=set)

    def month(self, word: str) -> int | None:
        """The number of a month in any language; at most _MAX_LOOKUPS words of a text go to dateparser."""
        known = month_number(word)
        if known is None and (word in self.asked or len(self.asked) < _MAX_LOOKUPS):
            self.asked.add(word)
            return month_in_other_language(word)
        return known


_Readings = tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _Reader], Span | None]], ...]


def _read_at(text: str, position: int, readings: _Readings, reader: _Reader) -> Iterator[Span]:
    for pattern, read in readings:
        match = pattern.match(text, position)
        span = read(match, reader) if match else None
        if span:
            yield span


def _month_before(text: str, position: int) -> int | None:
    """Where the month begins that stands right before `position`, if one does."""
    if not position or not (text[position - 1].isspace() or text[position - 1].isalpha() or text[position - 1] == "."):
        return None
    word = _WORD_BEFORE.search(text, max(0, position - _WORD_BEFORE_CHARS), position)
    return word.start() if word and month_number(word["month"]) else None


def _full(match: re.Match[str], reader: _Reader) -> Span | None:
    if "gap" in match.re.groupindex and _lone_day(match):
        return None
    month = reader.month(match["month"]) if match.re is _DAY_MONTH_YEAR else month_number(match["month"])
    if match.re is _MONTH_DAY_YEAR and match["month"].lower() not in ENGLISH:
        return None
    return _named(match, int(match["year"]), month)


def _abbreviated(match: re.Match[str], _reader: _Reader) -> Span | None:
    if match["sep"] == " " and not match["short"]:
        return None
    return _named(match, _year(match["year"] or match["short"]), month_number(match["month"]))


def _named(match: re.Match[str], year: int, month: int | None) -> Span | None:
    """A date whose month is in words: certain enough to be reported even if the day was misread."""
    days = [int(match[name]) for name in ("first", "day") if match.groupdict().get(name)]
    if month is None or not all(1 <= day <= 31 for day in days):
        return None
    if not all(is_calendar_date(year, month, day) for day in days):
        return Span("DATE", match.start(), match.end(), "rule:date")
    return _span(match, [f"{year:04}-{month:02}-{day:02}" for day in days])


def _month_year(match: re.Match[str], _reader: _Reader) -> Span | None:
    month = month_number(match["month"])
    if month is None or is_plain_word(match["month"]):
        return None
    return _span(match, [f"{match['year']}-{month:02}"])


def _day_and_month(match: re.Match[str], _reader: _Reader) -> Span | None:
    word = match["month"]
    month = month_number(word)
    if month is None or is_plain_word(word) or _lone_day(match):
        return None
    if match.re is _MONTH_DAY and (word.lower() not in ENGLISH or _new_line_of_its_own(match)):
        return None
    days = [int(match[name]) for name in ("first", "day") if match[name]]
    if not all(is_calendar_date(2024, month, day) for day in days):  # a leap year: 29 February may be meant
        return None
    return _span(match, [f"--{month:02}-{day:02}" for day in days])


def _numeric(match: re.Match[str], reader: _Reader) -> Span | None:
    if _NUMBER_CUE.search(match.string, max(0, match.start() - 16), match.start()) or not _date_shaped(match):
        return None
    a, b, c = match["a"], match["b"], match["c"]
    if len(a) == 4:
        readings = {"YMD": (int(a), int(b), int(c))}
    else:
        readings = {"DMY": (_year(c), int(b), int(a)), "MDY": (_year(c), int(a), int(b))}
    readings = {name: reading for name, reading in readings.items() if is_calendar_date(*reading)}
    if not readings:
        return None
    if reader.order in readings:
        readings = {reader.order: readings[reader.order]}
    if len(set(readings.values())) > 1:
        return Span("DATE", match.start(), match.end(), "rule:date")
    year, month, day = next(iter(readings.values()))
    return _span(match, [f"{year:04}-{month:02}-{day:02}"])


def _date_shaped(match: re.Match[str]) -> bool:
    """Tell 14.03.24 from the version 1.2.10, and leave out years that no document is of."""
    a, b, c, sep = match["a"], match["b"], match["c"], match["sep"]
    year = a if len(a) == 4 else c
    if len(year) == 4 and not 1500 <= int(year) <= 2199:
        return False
    if len(a) == 4:
        return len(c) <= 2 and len(sep) == 1
    if len(c) == 4:
        return len(a) <= 2
    return len(c) == 2 and len(a) <= 2 and (sep == "/" or (len(sep) == 1 and len(a) == len(b) == 2))


def _month_slash_year(match: re.Match[str], _reader: _Reader) -> Span | None:
    if _NUMBER_CUE.search(match.string, max(0, match.start() - 16), match.start()):
        return None
    return _span(match, [f"{match['year']}-{match['month']}"])


def _east_asian(match: re.Match[str], _reader: _Reader) -> Span | None:
    year, month, day = (int(match[name]) for name in ("year", "month", "day"))
    if not is_calendar_date(year, month, day):
        return None
    return _span(match, [f"{year:04}-{month:02}-{day:02}"])


def _lone_day(match: re.Match[str]) -> bool:
    """Whether the "day" is the only thing on its line: a page number above "March 2024"."""
    if "gap" not in match.re.groupindex or "\n" not in match["gap"] or match.re is _MONTH_DAY:
        return False
    return match.string[max(0, match.start() - 4) : match.start()].rstrip(" \t")[-1:] in ("", "\n", "\f")


def _new_line_of_its_own(match: re.Match[str]) -> bool:
    """Whether the "day" begins an address on the line after a month: "January" above "14 Harbour Street"."""
    return "\n" in match["gap"] and _CAPITAL_AHEAD.match(match.string, match.end()) is not None


def _year(digits: str) -> int:
    year = int(digits)
    return year if len(digits) == 4 else year + (1900 if year >= 69 else 2000)


def _span(match: re.Match[str], dates: list[str]) -> Span:
    norm = {"date": dates[0]} if len(dates) == 1 else {"from": dates[0], "to": dates[-1]}
    return Span("DATE", match.start(), match.end(), "rule:date", norm, validated=True)


_DIGITS_FIRST: _Readings = (
    (_DAY_MONTH_YEAR, _full),
    (_ABBREVIATED, _abbreviated),
    (_DAY_MONTH, _day_and_month),
    (_NUMERIC, _numeric),
    (_MONTH_SLASH_YEAR, _month_slash_year),
    (_EAST_ASIAN, _east_asian),
)
_MONTH_FIRST: _Readings = (
    (_MONTH_DAY_YEAR, _full),
    (_MONTH_YEAR, _month_year),
    (_MONTH_DAY, _day_and_month),
)

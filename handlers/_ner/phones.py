"""PHONE: only what announces itself by "+", by an area code in parentheses or by a word such as "Tel.".

Docket numbers look like phone numbers ("2017-03-1235"); without one of the three there is no telling them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from handlers._ner.spans import BLANK, Options, Span
from handlers._ner.validate import PhoneCheck, check_phone

_DIGITS_RUN = r"(?:[ \u00a0\u2007\u2009\u202f.\-\u2010-\u2013\u2212/()]{0,3}\d){5,18}"
_CANDIDATE = re.compile(
    rf"(?<![\w+$\u20ac\u00a3#,.])(?<!\w[-\u2010-\u2013\u2212/])(?:\+{BLANK}?\(?\d|\(\+?\d{{1,5}}\)|\d){_DIGITS_RUN}"
)
_EXTENSION = re.compile(rf"{BLANK}?,?{BLANK}?(?i:ext\.?|extension|x|durchwahl|dw){BLANK}?\d{{1,5}}(?!\w)")
_GROUP_END = re.compile(r"\d(?!\d)")
_CUE = re.compile(
    r"(?<![^\W_])(?:tele(?:ph|f)one?s?|t\u00e9l\u00e9phone|tel\u00e9fono|phones?|t[e\u00e9]l|t\u00e9l\u00e9copie|fono|ph"
    r"|fax|facsimile|tele(?:f)?ax|mobile?|mobil|m\u00f3vil|cell|cellulare|portable|handy|hotline|call(?:ing)?|dial|ring|whatsapp|sms"
    r"|rufnummer|telefonnummer|[tfm](?=:))"
    r"(?:[\s:.()\u2013\-#/]{1,3}(?:no|nr|number|nummer|us|me|him|her|them|at|on|is|under|unter|office|direct|line|mobile"
    r"|fax|main|toll|free|work|home|day|the|or|and|n[\u00b0\u00ba]|au|al|il)(?![^\W_])){0,4}[\s:.()\u2013\-#]{0,4}$",
    re.IGNORECASE,
)
_BETWEEN_CUE_AND_NUMBER = " \t\r\n.:()\u2013-#\u00b0\u00ba\u00a0\u202f"
_AFTER_PHONE = re.compile(r"(?:\s?[,;/|]\s?|\s(?:or|and|oder|und|ou|et)\s|\s{1,3})$")
_NORTH_AMERICAN = re.compile(r"\(?[2-9]\d\d\)?[ .\-\u2010-\u2013\u00a0/]{0,2}[2-9]\d\d[ .\-\u2010-\u2013\u00a0]?\d{4}")
_NATIONAL = re.compile(r"\(0\d{1,4}\)[ \d\-/]{5,14}")
_MAX_DIGITS = 15  # ITU-T E.164
_MAX_READINGS = 6  # each costs tens of microseconds, and a page of "(1)(1)(1)" has many runs


def find_phones(text: str, options: Options) -> Iterator[Span]:
    """Yield phone and fax numbers; `norm` is {"e164", "region"} or None where the country is unknown.

    Numbers without a country code are looked up in `options.regions`; those in North American shape also in "US"
    (country code 1 either way).
    """
    position, last_end = 0, -1
    while match := _CANDIDATE.search(text, position):
        start = match.start()
        cued = _is_cued(text, start) or (
            0 <= last_end <= start and start - last_end <= 6 and bool(_AFTER_PHONE.fullmatch(text, last_end, start))
        )
        span = _phone(text, match, cued, options.regions) if cued or match.group()[0] in "+(" else None
        if span:
            yield span
            position = last_end = span.end
        else:
            position = _next_start(match)


def _is_cued(text: str, start: int) -> bool:
    before = text[max(0, start - 48) : start]
    # Most numbers follow no word at all; asking that first keeps tables of figures cheap.
    return before.rstrip(_BETWEEN_CUE_AND_NUMBER)[-1:].isalpha() and _CUE.search(before) is not None


def _phone(text: str, match: re.Match[str], cued: bool, regions: tuple[str, ...]) -> Span | None:
    """The longest reading of the run that is a number of some plan; else of a shape that only phones have."""
    readings = _readings(match.group())
    for number in readings:
        check = _check(number, regions)
        if check.valid:
            return _span(text, match.start(), number, check)
    for number in readings:
        if _plausible(number, cued, regions):
            return _span(text, match.start(), number, None)
    return None


def _readings(run: str) -> list[str]:
    """The run cut after each group of digits, longest first: the next column may have been taken for a part."""
    ends = [found.end() for found in _GROUP_END.finditer(run)]
    cuts = [run[:end] for end in reversed(ends)]
    digits = {cut: sum(map(str.isdigit, cut)) for cut in cuts}
    balanced = [cut for cut in cuts if 6 <= digits[cut] <= _MAX_DIGITS and cut.count("(") == cut.count(")") <= 2]
    return balanced[:_MAX_READINGS]


def _check(number: str, regions: tuple[str, ...]) -> PhoneCheck:
    if not number.startswith(("+", "(+")) and _NORTH_AMERICAN.fullmatch(number):
        regions = (*regions, "US")
    return check_phone(number.replace("(0)", " ") if number.startswith("+") else number, regions)


def _plausible(number: str, cued: bool, regions: tuple[str, ...]) -> bool:
    digits = sum(map(str.isdigit, number))
    if number.startswith("+"):
        return digits >= 10 and _check(number, regions).possible
    if _NORTH_AMERICAN.fullmatch(number) or (_NATIONAL.fullmatch(number) and digits >= 7):
        return cued or number.startswith("(")
    return cued and digits >= 7


def _next_start(match: re.Match[str]) -> int:
    """Where to look on after a run that is no phone: behind its first group of digits."""
    first = _GROUP_END.search(match.string, match.start(), match.end())
    return first.end() if first else match.end()


def _span(text: str, start: int, number: str, check: PhoneCheck | None) -> Span:
    end = start + len(number)
    norm: dict[str, Any] | None = None
    extension = _EXTENSION.match(text, end)
    if check:
        norm = {"e164": check.e164, "region": check.region}
        if extension:
            norm["extension"] = re.sub(r"\D", "", extension.group())
    return Span("PHONE", start, extension.end() if extension else end, "rule:phone", norm, validated=check is not None)

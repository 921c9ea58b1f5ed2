"""Numbers as people write them: 1,234.56  1.234,56  1 234,56  3'949.75  1,23,456.00  50,-

Read by our own rules: price-parser, the obvious library, reads "CHF 3`949.75" as 3.
"""

from __future__ import annotations

import re
from decimal import Decimal

_APOSTROPHES = "'\u2019\u2018`\u00b4"
_SPACES = " \u00a0\u2007\u2009\u202f"
_ROUND_SUM = "[.,](?:--|[-\u2013\u2014])"  # "50,-" is 50 with no cents

NUMBER = (
    r"(?:"
    rf"\d{{1,3}}(?:[.,{_APOSTROPHES}{_SPACES}]\d{{3}}){{1,5}}(?!\d)(?:[.,]\d{{1,2}}(?!\d)|{_ROUND_SUM})?"
    r"|\d{1,3}, \d{3}\.\d\d(?!\d)"  # OCR puts a space after the comma: "4, 150.00"
    r"|\d{1,2}(?:,\d\d){1,4},\d{3}(?!\d)(?:\.\d{1,2})?(?!\d)"  # lakh and crore
    rf"|\d{{1,15}}(?:{_ROUND_SUM}|[.,]\d{{1,4}})?(?!\d)"
    r")(?![.,]\d)"
)
"""A number without its sign, as a regular expression. What precedes it is for the caller to check."""

_CENTS = re.compile(r"[.,]\d\d$")
_GROUPS_OF_THREE = re.compile(r"\d{1,3}(?:(?P<sep>[.,'])\d{3})(?:(?P=sep)\d{3})*")
_INDIAN = re.compile(r"\d{1,2}(?:,\d\d)*,\d{3}")
_OCR_POINT = re.compile(r"^(\d{1,3}(?:,\d{3})+),(\d\d)$")  # "9,037,90": the point was read as a comma
_PLAIN = re.compile(r"\d+")


def parse_number(written: str) -> Decimal | None:
    """Return the value of `written` (digits, separators, no sign), or None if its separators contradict each other.

    A single separator before exactly three digits groups thousands ("1.234" is 1234), unless a zero stands before it.
    """
    text = re.sub(f"[{_APOSTROPHES}{_SPACES}]", "'", written.strip()).replace(",'", ",")
    text = _OCR_POINT.sub(r"\1.\2", re.sub(rf"{_ROUND_SUM}$", "", text))
    whole, fraction = _split_fraction(text)
    if not (_PLAIN.fullmatch(whole) or _GROUPS_OF_THREE.fullmatch(whole) or _INDIAN.fullmatch(whole)):
        return None
    return Decimal(re.sub(r"\D", "", whole) + ("." + fraction if fraction else ""))


def has_cents(written: str) -> bool:
    """Whether `written` ends in two decimals, as prices do and quantities seldom."""
    return _CENTS.search(written) is not None


def as_text(value: Decimal) -> str:
    """Write `value` without exponent, keeping the decimals that were given (10755.10, 1500000)."""
    return format(value, "f")


def _split_fraction(text: str) -> tuple[str, str]:
    """Return (whole part with its separators, decimals)."""
    last = max(text.rfind("."), text.rfind(","))
    if last < 0:
        return text, ""
    whole, mark, digits = text[:last], text[last], text[last + 1 :]
    repeated = mark in whole
    other = any(sep in whole for sep in ".,'" if sep != mark)
    if repeated or (len(digits) == 3 and not other and whole.lstrip("0")):
        return text, ""
    return whole, digits

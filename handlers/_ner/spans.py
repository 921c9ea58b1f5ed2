"""The shape that all steps exchange, and the white space that may occur inside an entity."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

RULE_LABELS = ("EMAIL", "URL", "IBAN", "MONEY", "DATE", "TIME", "PERCENT", "PHONE", "ID")
"""The labels that rules find, in the order in which they win a disputed character."""

NAME_LABELS = ("PERSON", "ORG", "GPE")
"""The labels that only a statistical model can find reliably."""

BLANK = "[ \t\u00a0\u2007\u2009\u202f]"
"""White space within a line, as a regular expression; a form feed (a new page) is in no entity."""

GAP = rf"(?:{BLANK}{{1,3}}|{BLANK}{{0,2}}\r?\n{BLANK}{{0,4}})"
"""The space between two words of one entity: some blanks, or one line break."""

WIDE_GAP = rf"(?:{BLANK}{{1,3}}|{BLANK}{{0,2}}\r?\n(?:{BLANK}{{0,4}}\r?\n)?{BLANK}{{0,4}})"
"""A gap, or an empty line too: tesseract reads double-spaced typing so. Only inside what cannot be two things."""

DASH = "[-\u2010\u2011\u2012\u2013\u2212]"
"""What typesetting and OCR make of a hyphen or a minus sign."""

DIGITS = re.compile(r"\d+")
"""Where anything made of digits begins. Looking there first is several times faster than a pattern tried everywhere."""

DateOrder = Literal["DMY", "MDY"]


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate: `text[start:end]` (code points) is a `label`, because `source` says so.

    `norm` is the machine-readable value, None where the text leaves it open. `validated` says that a check beyond the
    pattern was passed: a checksum, a numbering plan, the calendar.
    """

    label: str
    start: int
    end: int
    source: str
    norm: dict[str, Any] | None = None
    validated: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller knows about the text: regions for national phone numbers, and the order of numeric dates."""

    regions: tuple[str, ...] = field(default=())
    date_order: DateOrder | None = None

"""Month names: tables for the languages met most, dateparser for the rest.

dateparser knows 200 languages but takes milliseconds for each date and calls ordinary words dates, so it is only asked
whether one unknown word between a day and a year is a month, and each word only once.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

_NAMES = {
    "en": (
        "january jan,february feb,march mar,april apr,may,june jun,july jul,august aug,september sept sep,october oct"
        ",november nov,december dec"
    ),
    "de": (
        "januar j\u00e4nner,februar,m\u00e4rz maerz mrz,april,mai,juni,juli,august,september,oktober okt,november"
        ",dezember dez"
    ),
    "fr": (
        "janvier janv,f\u00e9vrier fevrier f\u00e9vr,mars,avril avr,mai,juin,juillet juil,ao\u00fbt aout,septembre"
        ",octobre,novembre,d\u00e9cembre decembre d\u00e9c"
    ),
    "es": (
        "enero ene,febrero,marzo,abril abr,mayo,junio,julio,agosto,septiembre setiembre,octubre,noviembre,diciembre dic"
    ),
    "it": "gennaio,febbraio,marzo,aprile,maggio,giugno,luglio,agosto,settembre,ottobre ott,novembre,dicembre",
    "pt": ("janeiro,fevereiro fev,mar\u00e7o,abril,maio,junho,julho,agosto,setembro,outubro,novembro,dezembro"),
    "nl": "januari,februari,maart mrt,april,mei,juni,juli,augustus,september,oktober,november,december",
    "pl": (
        "stycznia,lutego,marca,kwietnia,maja,czerwca,lipca,sierpnia,wrze\u015bnia,pa\u017adziernika,listopada,grudnia"
    ),
    "sv": "januari,februari,mars,april,maj,juni,juli,augusti,september,oktober,november,december",
}
MONTHS = {
    name: number
    for table in _NAMES.values()
    for number, names in enumerate(table.split(","), 1)
    for name in names.split()
}
ENGLISH = frozenset(_NAMES["en"].replace(",", " ").split())
"""The names that may stand before the day ("March 14"); other languages put the day first."""

_ALSO_WORDS = frozenset({"may", "march", "mar"})
_OTHER_LANGUAGES = [
    "cs",
    "sk",
    "da",
    "nb",
    "fi",
    "hu",
    "ro",
    "ru",
    "uk",
    "bg",
    "el",
    "tr",
    "hr",
    "sl",
    "lt",
    "lv",
    "et",
    "ca",
]


def month_number(word: str) -> int | None:
    """Return 1..12 if `word` is a month in the tables, by its whole name or a usual abbreviation."""
    return MONTHS.get(word.lower())


def is_plain_word(word: str) -> bool:
    """Whether `word` could be an ordinary word: "may" in lower case is a verb unless a day and a year surround it."""
    return word.islower() and word in _ALSO_WORDS


@functools.lru_cache(maxsize=4096)
def month_in_other_language(word: str) -> int | None:
    """Return 1..12 if dateparser reads `word` as the month in "12 <word> 2024", else None. Milliseconds when new.

    Words under four letters are refused: dateparser takes Swedish "år" (year) for a Turkish December.
    """
    if len(word) < 4 or word.isupper():
        return None
    found = _date_parser().get_date_data(f"12 {word} 2024").date_obj
    return int(found.month) if found and (found.year, found.day) == (2024, 12) else None


@functools.lru_cache(maxsize=1)
def _date_parser() -> Any:
    parser = importlib.import_module("dateparser.date").DateDataParser  # no stubs, heavy, and part of an extra
    settings = {"REQUIRE_PARTS": ["day", "month", "year"], "STRICT_PARSING": True}
    return parser(languages=_OTHER_LANGUAGES, settings=settings)

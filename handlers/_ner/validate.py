"""Checks that tell a real IBAN, phone number or date from a look-alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE BI",
        18: "DK FO FI GL NL SD FK",
        19: "MK SI",
        20: "AT BA EE KZ LT LU XK MN",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE IL IQ TL OM SO",
        24: "AD CZ ES MD PK RO SA SE SK TN VG DJ LY",
        25: "PT ST",
        26: "IS TR",
        27: "FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "LC MT SC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""Characters of an IBAN by its country, from the SWIFT registry."""


def iban_checksum_ok(iban: str) -> bool:
    """Whether `iban` (no spaces, capitals) has its country's length and passes ISO 13616's mod-97 check."""
    if IBAN_LENGTHS.get(iban[:2]) != len(iban) or not (iban.isascii() and iban.isalnum()):
        return False
    rearranged = iban[4:] + iban[:4]
    return int("".join(str(int(char, 36)) for char in rearranged)) % 97 == 1


def is_calendar_date(year: int, month: int, day: int) -> bool:
    """Whether that day exists; 31 February does not."""
    try:
        dt.date(year, month, day)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class PhoneCheck:
    """What the numbering plans say: `valid` is assigned, `possible` only has a length that occurs."""

    possible: bool
    valid: bool
    e164: str | None = None
    region: str | None = None
    extension: str | None = None


def check_phone(number: str, regions: Sequence[str]) -> PhoneCheck:
    """Check `number` against the plan of its country code, or of each of `regions` (ISO 3166) when it has none.

    The first region in which it is valid counts; without one the answer carries no E.164 form.
    """
    import phonenumbers  # noqa: PLC0415 - heavy, and part of an extra

    possible = False
    for region in [None] if number.lstrip(" (").startswith("+") else regions:
        try:
            parsed = phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            continue
        possible = possible or phonenumbers.is_possible_number(parsed)
        if phonenumbers.is_valid_number(parsed):
            e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
            return PhoneCheck(True, True, e164, phonenumbers.region_code_for_number(parsed), parsed.extension)
    return PhoneCheck(possible=possible, valid=False)

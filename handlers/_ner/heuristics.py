"""Guesses of PERSON, ORG and GPE without a model, for those who ask for them.

Titles, legal forms and a list of places find some names and miss most. So they are off by default, carry no score, and
lose to everything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from handlers._ner.spans import BLANK, Span

LABELS = ("PERSON", "ORG", "GPE")

_NAME = r"[A-Z\u00c0-\u00d6\u00d8-\u00de][\w'\u2019-]{1,24}"
_INITIAL = r"[A-Z]\."
_PARTICLE = r"(?:van|von|de|der|den|di|da|la|le|del|bin|al)"
_TITLE = r"(?:Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Hon|Judge|Justice|Herrn?|Frau|M|Mme|Mlle|Sra?|Sig|Dott|Rev)\.?"
_PERSON = re.compile(
    rf"(?<!\w)(?:{_TITLE}{BLANK}){{1,2}}(?P<name>(?:(?:{_NAME}|{_INITIAL}|{_PARTICLE}){BLANK}){{0,4}}{_NAME})"
)
_LEGAL_FORM = (
    r"(?:Ltd|Limited|Inc|LLC|LLP|L\.L\.C|Corp|Corporation|Company|Co|plc|PLC|GmbH|AG|KG|OHG|SE|S\.A|SA|SARL|S\.r\.l|S\.p\.A"
    r"|B\.V|BV|N\.V|AB|Oy|ApS|Bank|University|Hospital|Court|Institute|Foundation|Association)"
)
_ORG = re.compile(rf"(?<!\w)(?:(?:{_NAME}|&|and),?{BLANK}){{1,5}}{_LEGAL_FORM}(?!\w)\.?")
_PLACES = (
    "Argentina|Australia|Austria|Belgium|Brazil|Bulgaria|Canada|Chile|China|Colombia|Croatia|Cyprus"
    "|Czech Republic|Denmark|Egypt|Estonia|Finland|France|Germany|Greece|Hungary|Iceland|India|Indonesia|Ireland"
    "|Israel|Italy|Japan|Kenya|Latvia|Lithuania|Luxembourg|Malaysia|Malta|Mexico|Netherlands|New Zealand|Nigeria"
    "|Norway|Pakistan|Peru|Philippines|Poland|Portugal|Romania|Russia|Saudi Arabia|Serbia|Singapore|Slovakia"
    "|Slovenia|South Africa|South Korea|Spain|Sweden|Switzerland|Thailand|Turkey|Ukraine|United Arab Emirates"
    "|United Kingdom|United States|Vietnam|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut"
    "|Florida|Georgia|Hawaii|Idaho|Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts"
    "|Michigan|Minnesota|Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico"
    "|New York|North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Tennessee|Texas|Utah|Vermont"
    "|Virginia|Wisconsin|Wyoming|Amsterdam|Athens|Barcelona|Berlin|Boston|Brussels|Chicago|Copenhagen|Dublin"
    "|Frankfurt|Geneva|Hamburg|Helsinki|Lisbon|London|Los Angeles|Madrid|Milan|Munich|Oslo|Paris|Prague|Rome"
    "|Rotterdam|San Francisco|Seattle|Stockholm|Tokyo|Toronto|Vienna|Warsaw|Zurich"
)
_GPE = re.compile(rf"(?<!\w)(?:{_PLACES})(?!\w)")


def find_names(text: str) -> Iterator[Span]:
    """Yield guesses; never with a `norm`, never `validated`. A title is no part of the name."""
    for match in _PERSON.finditer(text):
        yield Span("PERSON", *match.span("name"), "heuristic:title")
    for match in _ORG.finditer(text):
        yield Span("ORG", *match.span(), "heuristic:legal_form")
    for match in _GPE.finditer(text):
        yield Span("GPE", *match.span(), "heuristic:place_list")

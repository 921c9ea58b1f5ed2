"""ID: the numbers by which offices and firms know a case, an invoice, an order, a person.

Three ways to be one: behind a word that announces it ("Docket No. 2017-03-1235"), behind a word that may announce it
if the value looks the part ("invoice INV-88213"), or by a shape that nothing else has ("NW-2024-00317").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from handlers._ner.spans import BLANK, Options, Span

_NOUNS = (
    # courts and offices
    r"bar|docket|case|cause|file|claim|matter|record|registration|permit|licen[cs]e|passport|report|application|patent"
    r"|certificate|complaint|appeal|incident|document|doc|company|vat|tax|social security|reference|ref"
    # trade
    r"|invoice|order|p\.?o|account|acct|customer|client|policy|serial|ticket|tracking|contract|quote|quotation|booking"
    r"|confirmation|reservation|receipt|transaction|payment|batch|delivery|delivery note|credit note|shipment|project"
    # people and medicine
    r"|insurance|member|membership|subscriber|employee|patient|nhs|hospital|accession|specimen|sample|study"
    # German, French, Spanish, Italian, Dutch
    r"|rechnungs?|kunden|auftrags?|bestell|vertrags?|vorgangs?|liefer(?:schein)?|versicherungs?|patienten|steuer|beleg"
    r"|facture|commande|dossier|contrat|factura|pedido|expediente|fattura|ordine|pratica|factuur|klant"
)
_MARK = (
    r"(?:(?:nos?|nrs?|num(?:ber)?s?|id)\b\.?|(?:nummer|num[\u00e9\u00c9]ro|n[\u00fa\u00da]mero|numero|code)\b"
    r"|n\.?[\u00b0\u00ba]\.?|n\.|#|\u2116)"
)
_OWN_NAMES = (
    r"aktenzeichen|gesch[\u00e4\u00c4]ftszeichen|az\.|ust-?id(?:-?nr\.?)?|vat reg\.?|mrn|sbn|ssn|isbn|doi|siret|siren"
    r"|account(?=:)|r[\u00e9\u00c9]f\.?|(?:reference|ref|zeichen|referenz)\b\.?(?=[\s:])"
)
_COURT_VALUES = (
    r"\d:\d\d-(?:cv|cr|mc|mj|bk|ap)-\d{3,6}(?:-[A-Z]{2,4}){0,3}"  # 3:08-cv-02214-SBA
    rf"|(?:C|CV|CR|CIV){BLANK}\d\d-\d{{3,6}}(?:{BLANK}[A-Z]{{2,4}}(?![\w.]))?"  # C 08-02214 SBA
)
_VALUE = (
    rf"(?P<value>{_COURT_VALUES}"
    rf"|(?:[IVX]{{1,5}}|\d{{1,3}}){BLANK}[A-Z][A-Za-z]{{0,3}}{BLANK}\d{{1,5}}/\d\d(?!\d)"  # German courts: 3 C 123/24
    r"|\d{1,3}(?:,\d{3}){2,4}(?![\d,])"  # patents: 7,654,321
    r"|[A-Za-z0-9]{1,24}(?:[-\u2010\u2011\u2013/._][A-Za-z0-9]{1,24}){0,6})"
)
_VALUES = re.compile(_VALUE)
_COLON = rf"(?:{BLANK}{{0,2}}[:.]){{0,2}}(?:{BLANK}{{0,2}}\r?\n)?{BLANK}{{0,3}}#?"
_CUE = re.compile(rf"(?<![^\W\d_])(?:{_NOUNS}|{_OWN_NAMES}|{_MARK}|rechnung|bestellung)")
_ANNOUNCEMENT = re.compile(
    rf"(?:(?:{_NOUNS})(?:{BLANK}|-)?{_MARK}(?:{BLANK}(?:is|ist|lautet))?|{_OWN_NAMES}"
    rf"|{_MARK}{BLANK}(?:de|di|del){BLANK}(?:{_NOUNS}))(?![^\W\d_]){_COLON}"
)
_NUMBER_SIGN = re.compile(rf"(?:(?:nos?|nr)\.{BLANK}{{0,2}}|#|\u2116{BLANK}?|n[\u00b0\u00ba]\.?{BLANK}?)(?=[^\W_])")
_NOUN = re.compile(rf"(?:{_NOUNS}|rechnung|bestellung|auftrag)s?(?:{BLANK}?:)?(?:{BLANK}|\r?\n)#?(?=[^\W_])")
_PREFIXES = (
    "INV|PO|SO|RE|RG|CN|DN|ORD|ORDER|REF|TKT|CASE|CUST|KD|ACC|QU|QUO|RMA|SN|REQ|WO|JOB|CLM|POL|MRN|BK|TXN|PAT|CVE"
)
_SHAPE = re.compile(
    rf"(?<![\w./@-])(?P<value>{_COURT_VALUES}"
    r"|[A-Z]{1,6}[-/](?:19|20)\d\d[-/]\d{2,8}(?:[-/][A-Z0-9]{1,6})?"  # NW-2024-00317
    rf"|(?:{_PREFIXES})-?\d{{3,12}}(?:-\d{{1,8}})?"
    r"|[A-Z]{2,6}-\d{5,12}"
    r"|(?:19|20)\d\d-\d{2,3}-\d{4,6}"  # 2017-03-1235
    r")(?![\w@]|[-/]\w)"
)
_AND_ANOTHER = re.compile(rf"(?:,|;|{BLANK}?&|{BLANK}(?:and|und|et|y|or))(?:,?{BLANK}(?:and|und))?{BLANK}{_VALUE}")
_AFTER = re.compile(r"[\w@%\u20ac$]|[-/]\w|\.\d")
_UNIT_AFTER = re.compile(
    rf"{BLANK}?(?:EUR|USD|GBP|CHF|%|\u20ac|days?|years?|pages?|tage|jahre|January|February|March|April|May|June)(?!\w)"
)
_NO_IDENTIFIERS = re.compile(r"(?:ISO|IEC|DIN|EN|RFC|IEEE|UTF|SHA|COVID|SARS|MPEG|ASTM)[-/ ]?\d", re.IGNORECASE)
_DATE_LIKE = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)")


# Cues are sought in lower case: sre skips a branch by its first letter only when it need not fold case itself.
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def find_ids(text: str, _options: Options) -> Iterator[Span]:
    """Yield identifiers; `norm` is {"id"}, as written. There is no checking them."""
    lower = text.translate(_LOWER)
    for cue in _CUE.finditer(lower):
        yield from _behind_cue(text, lower, cue.start())
    for shape in _SHAPE.finditer(text):
        if not _NO_IDENTIFIERS.match(shape["value"]):
            yield Span("ID", shape.start(), shape.end(), "rule:id_shape", {"id": shape["value"]})


def _behind_cue(text: str, lower: str, position: int) -> Iterator[Span]:
    """Every reading of the cue at `position`; the longest value wins in the end."""
    if announced := _ANNOUNCEMENT.match(lower, position):
        yield from _values_behind(text, announced.end(), "rule:id_cue", 2)
    if sign := _NUMBER_SIGN.match(lower, position):
        yield from _values_behind(text, sign.end(), "rule:id_number", 4)
    if noun := _NOUN.match(lower, position):
        value = _VALUES.match(text, noun.end())
        if value and _looks_assigned(value["value"], hashed=text[noun.end() - 1] == "#"):
            yield from _values_behind(text, noun.end(), "rule:id_noun", 3)


def _values_behind(text: str, position: int, source: str, least_digits: int) -> Iterator[Span]:
    value = _VALUES.match(text, position)
    if value and _acceptable(text, value["value"], value.end(), least_digits):
        yield Span("ID", value.start(), value.end(), source, {"id": value["value"]})
        yield from _list_of(text, value["value"], value.end(), source)


def _list_of(text: str, value: str, end: int, source: str) -> Iterator[Span]:
    """ "Nos. 22-1234, 22-1235 and 22-1301": the others are identifiers as well if they are built alike."""
    while match := _AND_ANOTHER.match(text, end):
        other, (start, end) = match["value"], match.span("value")
        if _build(other) != _build(value) or not _acceptable(text, other, end, 4):
            return
        yield Span("ID", start, end, source, {"id": other})


def _acceptable(text: str, value: str, end: int, least_digits: int) -> bool:
    digits = sum(map(str.isdigit, value))
    return (
        digits >= least_digits
        and not _AFTER.match(text, end)
        and not _UNIT_AFTER.match(text, end)
        and not _NO_IDENTIFIERS.match(value)
        and len(value) <= 64
    )


def _looks_assigned(value: str, *, hashed: bool) -> bool:
    """Behind a bare noun: capitals and digits, or a long number; "order 12 chairs" and "claims 2019" are neither."""
    if "," in value or _DATE_LIKE.fullmatch(value) or any(char.islower() for char in value):
        return False
    digits = sum(map(str.isdigit, value))
    return hashed or digits >= 5 or (digits >= 3 and any(char.isupper() for char in value))


def _build(value: str) -> str:
    return re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "9", value))

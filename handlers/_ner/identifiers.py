"""ID: the numbers by which offices and firms know a case, an invoice, an order, a person.

Three ways to be one: behind a word that announces it ("Docket No. 2017-03-1235"), behind a word that may announce it
if the value looks the part ("invoice INV-88213"), or by a shape that nothing else has ("NW-2024-00317").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from handlers._ner.spans import BLANK, Options, Span

_NOUNS = (
    "bar|state bar|docket|case|cause|file|state file|invoice|order|account|acct|customer|client|policy|claim|matter|patient|record"
    "|medical record|registration|company|vat|tax|permit|licen[cs]e|serial|ticket|tracking|contract|purchase order|p\\.?o|quote"
    "|quotation|booking|confirmation|member|membership|employee|passport|report|application|patent|certificate|receipt"
    "|transaction|batch|delivery note|delivery|shipment|project|document|doc|complaint|appeal|incident|reservation|payment"
    "|reference|ref|our ref|your ref|nhs|hospital|accession|specimen|sample|study|insurance|social security|subscriber|credit note"
    "|rechnungs?|kunden|auftrags?|bestell|vertrags?|vorgangs?|liefer(?:schein)?|versicherungs?|patienten|steuer|beleg"
    "|facture|commande|client|dossier|contrat|factura|pedido|expediente|fattura|ordine|pratica|factuur|klant"
)
_VALUE = (
    r"(?P<value>"
    r"\d:\d\d-(?:cv|cr|mc|mj|bk|ap)-\d{3,6}(?:-[A-Z]{2,4}){0,3}"  # federal courts: 3:08-cv-02214-SBA
    rf"|(?:C|CV|CR|CIV|M){BLANK}\d\d-\d{{3,6}}(?:{BLANK}[A-Z]{{2,4}}(?![\w.]))?"  # and with blanks: C 08-02214 SBA
    rf"|(?:[IVX]{{1,5}}|\d{{1,3}}){BLANK}[A-Z][A-Za-z]{{0,3}}{BLANK}\d{{1,5}}/\d\d(?!\d)"  # German courts: 3 C 123/24
    r"|[A-Za-z0-9]{1,24}(?:[-\u2010\u2011\u2013/._][A-Za-z0-9]{1,24}){0,6}"
    r")"
)
_MARK = (
    r"(?:nos?\b\.?|nrs?\b\.?|num(?:ber)?s?\b\.?|nummer\b|num\u00e9ro\b|n\.?[\u00b0\u00ba]\.?|#|\u2116|id\b\.?|code\b)"
)
_STRONG = re.compile(
    rf"(?<![^\W\d_])(?:(?:{_NOUNS})(?:{BLANK}|-)?{_MARK}(?:{BLANK}?(?:is|ist|lautet))?|(?:n[\u00b0\u00ba]|num\u00e9ro|n\u00famero|numero)"
    rf"{BLANK}(?:de|di|del){BLANK}(?:{_NOUNS})|(?:our|your|my|unsere?|ihre?)?{BLANK}?(?:reference|ref|zeichen|referenz)\b\.?(?=[\s:])"
    rf"|aktenzeichen|gesch\u00e4ftszeichen|az\.|(?:ust|ust-)-?id(?:-?nr\.?)?|vat{BLANK}reg\.?|mrn|sbn|ssn|isbn|doi|siret|siren|case|r\u00e9f\.?|account(?=:))"
    rf"(?:{BLANK}{{0,2}}[:.]){{0,2}}(?:{BLANK}{{0,2}}\r?\n)?{BLANK}{{0,3}}#?{_VALUE}",
    re.IGNORECASE,
)
_WEAK = re.compile(
    rf"(?<![^\W\d_])(?i:{_NOUNS}|rechnung|bestellung|auftrag)s?(?:{BLANK}|{BLANK}?:{BLANK}?|{BLANK}?\r?\n){{1}}(?P<hash>#)?{_VALUE}"
)
_NUMBERED = re.compile(rf"(?<![^\W\d_])(?:N[or]s?\.{BLANK}{{0,2}}|#|\u2116{BLANK}?|N[\u00b0\u00ba]\.?{BLANK}?){_VALUE}")
_SHAPE = re.compile(
    rf"(?<![\w./@-])(?P<value>"
    r"[A-Z]{1,6}[-/](?:19|20)\d\d[-/]\d{2,8}(?:[-/][A-Z0-9]{1,6})?"
    r"|(?:INV|PO|SO|RE|RG|CN|DN|ORD|ORDER|REF|TKT|CASE|CUST|KD|ACC|QU|QUO|RMA|SN|REQ|WO|JOB|CLM|POL|MRN|BK|TXN|PAT)-?\d{3,12}(?:-\d{1,8})?"
    r"|[A-Z]{2,6}-\d{5,12}|(?:19|20)\d\d-\d{2,3}-\d{4,6}"
    r"|\d:\d\d-(?:cv|cr|mc|mj|bk|ap)-\d{3,6}(?:-[A-Z]{2,4}){0,3}"
    rf"|(?:C|CV|CR|CIV){BLANK}\d\d-\d{{4,6}}(?:{BLANK}[A-Z]{{2,4}}(?![\w.]))?"
    rf"|CVE-\d{{4}}-\d{{4,7}}"
    r")(?![\w@]|[-/]\w)"
)
_AND_ANOTHER = re.compile(rf"(?:,|;|{BLANK}?&|{BLANK}(?:and|und|et|y|or))(?:,?{BLANK}(?:and|und))?{BLANK}{_VALUE}")
_AFTER = re.compile(r"[\w@%\u20ac$]|[-/]\w|\.\d")
_UNIT_AFTER = re.compile(
    rf"{BLANK}?(?:EUR|USD|GBP|CHF|%|\u20ac|days?|years?|pages?|tage|jahre|January|February|March|April|May|June)(?!\w)"
)
_NO_IDENTIFIERS = re.compile(r"(?:ISO|IEC|DIN|EN|RFC|IEEE|UTF|SHA|COVID|SARS|MPEG|ASTM)[-/ ]?\d", re.IGNORECASE)
_DATE_LIKE = re.compile(r"\d{1,2}([./-])\d{1,2}\1(?:\d{4}|\d\d)")


def find_ids(text: str, _options: Options) -> Iterator[Span]:
    """Yield identifiers; `norm` is {"id"} without blanks around separators. There is no checking them."""
    for pattern, source, least_digits in (
        (_STRONG, "rule:id_cue", 2),
        (_NUMBERED, "rule:id_number", 4),
        (_WEAK, "rule:id_noun", 3),
        (_SHAPE, "rule:id_shape", 3),
    ):
        for match in pattern.finditer(text):
            start, end = match.span("value")
            value = match["value"]
            if not _acceptable(text, value, end, least_digits) or (pattern is _WEAK and not _looks_assigned(match)):
                continue
            yield Span("ID", start, end, source, {"id": value})
            if pattern is not _SHAPE:
                yield from _list_of(text, value, end, source)


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


def _looks_assigned(match: re.Match[str]) -> bool:
    """Behind a bare noun: capitals and digits, or a long number; "order 12 chairs" and "claims 2019" are neither."""
    value = match["value"]
    if _DATE_LIKE.fullmatch(value) or any(char.islower() for char in value):
        return False
    digits = sum(map(str.isdigit, value))
    return bool(match["hash"]) or digits >= 5 or (digits >= 3 and any(char.isupper() for char in value))


def _build(value: str) -> str:
    return re.sub(r"[A-Z]+", "A", re.sub(r"\d+", "9", value))

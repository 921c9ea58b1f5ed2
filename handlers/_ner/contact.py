"""EMAIL, URL and IBAN: what has a grammar or a checksum of its own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from handlers._ner.spans import BLANK, Options, Span
from handlers._ner.validate import IBAN_LENGTHS, iban_checksum_ok

_LABEL = r"[^\W_](?:[\w-]{0,61}[^\W_])?"
_HOST = rf"(?:{_LABEL}\.){{1,8}}[^\W\d_]{{2,24}}(?![\w-]|@)"
_EMAIL = re.compile(
    rf"(?<![\w.%+/@-])(?P<local>\w(?:[\w.%+'-]{{0,62}}[\w+-])?)(?P<before>{BLANK}{{0,2}})@(?P<after>\r?\n)?(?P<host>{_HOST})"
)
_NOT_A_MAILBOX = frozenset(
    "a am and as at bei by die for from in is me meet of on or see the to um und via we with you zu".split()  # noqa: SIM905 - a list of words reads as one
)

_URL = re.compile(
    rf"(?<![\w@.-])(?:https?|ftp):{BLANK}?//{BLANK}?[^\s<>\"\u201c\u201d\u201e\u00ab\u00bb|\\^`{{}}]{{3,1000}}"
    rf"|(?<![\w@./-])www\.{_HOST}(?::\d{{2,5}})?(?:[/?#][^\s<>\"\u201c\u201d\u201e\u00ab\u00bb|\\^`{{}}]{{0,1000}})?",
    re.IGNORECASE,
)
# A bare host counts only under an ending that is no word of its own, else "end.in" at a lost space is an address.
_BARE_URL = re.compile(
    rf"(?<![\w@./-])(?:{_LABEL}\.){{1,6}}(?:com|org|net|edu|gov|mil|info|biz|eu|de|fr|es|nl|uk|us|ca|ch|pl|se|dk|cz|jp|cn"
    r"|ru|br|au|nz|io|dev|app|ai|cloud|online|example)"
    r"(?![\w@-]|\.\w)(?:[/?#][^\s<>\"\u201c\u201d\u201e\u00ab\u00bb|\\^`{}]{0,1000})?"
)
_WORDLIKE_ENDING = re.compile(r"[^/?#]*\.(?:de|es|us|se|ca|ai|app|online|cloud|info|example)", re.IGNORECASE)
_SENTENCE_END = ".,;:!?'\u2019\u2018*_"
_CLOSING = {")": "(", "]": "[", "}": "{"}

_IBAN_START = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?=[A-Z0-9 \u00a0\u202f.\-\n])")
_IBAN_SEPARATORS = " \u00a0\u202f.-\n"
_IBAN_CUE = re.compile(r"IBAN[\w\s.:()#-]{0,12}$", re.IGNORECASE)


def find_emails(text: str, _options: Options) -> Iterator[Span]:
    """Yield addresses; `norm` is {"email"}. Tesseract's space before the @ is taken in, and left out of `norm`."""
    for match in _EMAIL.finditer(text):
        local, host = match["local"], match["host"]
        if ".." in local or (match["before"] and local.lower() in _NOT_A_MAILBOX):
            continue
        yield Span("EMAIL", match.start(), match.end(), "rule:email", {"email": f"{local}@{host.lower()}"})


def find_urls(text: str, _options: Options) -> Iterator[Span]:
    """Yield web addresses; `norm` is {"url", "host"}. Punctuation of the sentence around is left out."""
    for match in _URL.finditer(text):
        yield from _url(match.start(), _trimmed(match.group()))
    for match in _BARE_URL.finditer(text):
        if not _WORDLIKE_ENDING.fullmatch(match.group()):
            yield from _url(match.start(), _trimmed(match.group()))


def find_ibans(text: str, _options: Options) -> Iterator[Span]:
    """Yield account numbers; `norm` is {"iban", "country"}.

    A wrong checksum makes it no IBAN, unless the word IBAN stands before it: then it is one that was misread, and
    is reported with `norm` None.
    """
    for match in _IBAN_START.finditer(text):
        compact, end = _take(text, match.start(), IBAN_LENGTHS.get(match.group()[:2], 0))
        if end and iban_checksum_ok(compact):
            norm = {"iban": compact, "country": compact[:2]}
            yield Span("IBAN", match.start(), end, "rule:iban", norm, validated=True)
        elif end and _IBAN_CUE.search(text, max(0, match.start() - 20), match.start()):
            yield Span("IBAN", match.start(), end, "rule:iban")


def _url(start: int, address: str) -> Iterator[Span]:
    compact = re.sub(r"\s", "", address)
    try:
        host = urlsplit(compact if "://" in compact else "//" + compact).hostname
    except ValueError:  # "http://[" is no address
        return
    if host and ("." in host or host == "localhost"):
        yield Span("URL", start, start + len(address), "rule:url", {"url": compact, "host": host})


def _trimmed(address: str) -> str:
    """Take off what belongs to the sentence: closing punctuation, and all from a bracket on that was opened outside."""
    opened: Counter[str] = Counter()
    end = len(address)
    for position, char in enumerate(address):
        opened[char] += char in "([{"
        if opener := _CLOSING.get(char):
            opened[opener] -= 1
            if opened[opener] < 0:
                end = position
                break
    return address[:end].rstrip(_SENTENCE_END)


def _take(text: str, start: int, length: int) -> tuple[str, int]:
    """Collect `length` letters and digits from `start` over single separators; return them and their end, or 0."""
    compact, position = "", start
    while len(compact) < length and position < len(text):
        char = text[position]
        if char in _IBAN_SEPARATORS:
            if text[position - 1] in _IBAN_SEPARATORS:
                return compact, 0
        elif char.isascii() and (char.isdigit() or char.isupper()):
            compact += char
        else:
            return compact, 0
        position += 1
    complete = length > 0 and len(compact) == length and not text[position : position + 1].isalnum()
    return compact, position if complete else 0

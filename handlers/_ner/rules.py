"""The rules of all labels, as one list."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from handlers._ner.amounts import find_money, find_percentages
from handlers._ner.contact import find_emails, find_ibans, find_urls
from handlers._ner.dates import find_dates
from handlers._ner.identifiers import find_ids
from handlers._ner.phones import find_phones
from handlers._ner.spans import Options, Span
from handlers._ner.times import find_times

VERSION = "1"
"""Raised whenever the same text may give other entities."""

FINDERS: dict[str, Callable[[str, Options], Iterator[Span]]] = {
    "EMAIL": find_emails,
    "URL": find_urls,
    "IBAN": find_ibans,
    "MONEY": find_money,
    "DATE": find_dates,
    "TIME": find_times,
    "PERCENT": find_percentages,
    "PHONE": find_phones,
    "ID": find_ids,
}
"""What finds the candidates of each label, in the order of spans.RULE_LABELS."""


def find_all(text: str, options: Options) -> Iterator[Span]:
    """Yield the candidates of every label; they may overlap."""
    for finder in FINDERS.values():
        yield from finder(text, options)

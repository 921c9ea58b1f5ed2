"""MONEY and PERCENT.

Money is a number beside a currency, and a row of a table may read "12 EUR 38.50 EUR 462.00" or "38,50 EUR 462,00 EUR":
which number belongs to which currency is only clear from the whole row. So the text is cut into numbers and
currencies, neighbours form chains, and each chain is read in the way that fits it better as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from handlers._ner.currencies import CODES, NEED_PRICE_FORM, SCALES, SYMBOLS, WORDS
from handlers._ner.numbers import NUMBER, as_text, has_cents, parse_number
from handlers._ner.spans import BLANK, DASH, GAP, Options, Span


def _any_of(words: list[str]) -> str:
    return "|".join(re.escape(word).replace(r"\ ", GAP) for word in sorted(words, key=len, reverse=True))


_LONG_SCALES = _any_of([word for word in SCALES if len(word) > 1])
_SCALE = rf"(?:(?:{BLANK}?(?:(?i:{_LONG_SCALES})))|[kKmMbB])(?!\w)"
_NUMBER = re.compile(rf"(?P<number>{NUMBER})(?P<scale>{_SCALE})?")
# Each branch begins with a plain letter, none with a lookbehind or a folded case: so sre skips to candidates.
_CURRENCY = re.compile(
    rf"(?:{_any_of([*SYMBOLS, *CODES, *(form for word in WORDS for form in (word, word.title(), word.upper()))])})"
    r"(?![^\W\d_])"
)
_ABBREVIATIONS = ("kr", "Rs", "Fr", "SFr")
_POINT_AND_AMOUNT = re.compile(rf"\.{BLANK}?\d")  # "kr. 500": the point is not the end of a sentence
_BETWEEN = re.compile(rf"(?:{BLANK}{{0,2}}(?:(?<!\w){DASH})?|(?P<line>{GAP}))")
_SIGN = re.compile(rf"(?:^|[\s(])({DASH}|\+)$")

_PERCENT_NUMBER = r"\d{1,9}(?:[.,]\d{1,6})?(?![.,]?\d)"
_PERCENT = re.compile(
    rf"(?<![\w.,/])(?P<sign>{DASH}|\+)?(?P<low>{_PERCENT_NUMBER})(?:{BLANK}?{DASH}{BLANK}?(?P<high>{_PERCENT_NUMBER}))?"
    rf"(?:{BLANK}{{0,2}}(?:%|\uff05)|{GAP}(?i:per{BLANK}?cent|prozent|pour{BLANK}cent|por{BLANK}ciento|por{BLANK}cento"
    rf"|per{BLANK}cento|procent)(?!\w))"
)


@dataclass(frozen=True, slots=True)
class _Token:
    """A number (`amount`, a power of ten in `scale`) or a currency (`currency`, in words or not)."""

    start: int
    end: int
    written: str
    currency: str | None = None
    in_words: bool = False
    scale: int = 0


@dataclass(frozen=True, slots=True)
class _Pair:
    number: _Token
    currency: _Token
    fit: int


def find_money(text: str, _options: Options) -> Iterator[Span]:
    """Yield amounts; `norm` is {"amount": decimal as a string, "currency"}.

    `currency` is an ISO 4217 code, or the sign as written where several countries use it ($, kr).
    """
    for chain in _chains(text):
        for pair in _read(chain):
            yield _money(text, pair)


def find_percentages(text: str, _options: Options) -> Iterator[Span]:
    """Yield percentages; `norm` is {"percent"} or, of a range, {"from", "to"}, each a decimal as a string."""
    for match in _PERCENT.finditer(text):
        sign = "-" if match["sign"] and match["sign"] != "+" else ""
        low, high = (
            as_text(Decimal(number.replace(",", "."))) if number else "" for number in match.group("low", "high")
        )
        norm = {"from": sign + low, "to": high} if high else {"percent": sign + low}
        yield Span("PERCENT", match.start(), match.end(), "rule:percent", norm)


def _chains(text: str) -> Iterator[list[_Token]]:
    """Yield runs of tokens in which numbers and currencies take turns with nothing but space between."""
    chain: list[_Token] = []
    for token in _tokens(text):
        if chain and not _continues(text, chain[-1], token):
            if len(chain) > 1:
                yield chain
            chain = []
        chain.append(token)
    if len(chain) > 1:
        yield chain


def _tokens(text: str) -> list[_Token]:
    currencies = list(_currencies(text))
    if not currencies:
        return []
    ends = {currency.end for currency in currencies}
    return sorted([*currencies, *_numbers(text, ends)], key=lambda token: token.start)


def _currencies(text: str) -> Iterator[_Token]:
    for match in _CURRENCY.finditer(text):
        start, end = match.span()
        if start and text[start - 1].isalpha():
            continue
        written = match.group()
        if written in _ABBREVIATIONS and _POINT_AND_AMOUNT.match(text, end):
            written, end = written + ".", end + 1
        word = " ".join(written.lower().split())
        currency = SYMBOLS.get(written.rstrip(".")) or WORDS.get(word, written)
        yield _Token(start, end, written, currency, in_words=word in WORDS)


def _numbers(text: str, currency_ends: set[int]) -> Iterator[_Token]:
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        before = text[start - 1 : start]
        if before.isdigit() or before in (".", ",", "/", "_"):  # the rest of something longer
            continue
        if before.isalpha() and start not in currency_ends:  # "BS1" holds no number
            continue
        scale = (match["scale"] or "").strip().lower()
        yield _Token(start, end, match["number"], scale=SCALES.get(scale, 0))


def _continues(text: str, last: _Token, token: _Token) -> bool:
    return (last.currency is None) != (token.currency is None) and bool(_BETWEEN.fullmatch(text, last.end, token.start))


def _read(chain: list[_Token]) -> list[_Pair]:
    """Pair the tokens from the first or from the second on, whichever fits better; currency first on a draw."""
    neighbours = [_pair(first, second) for first, second in pairwise(chain)]
    readings = [[pair for pair in neighbours[offset::2] if pair] for offset in (0, 1)]
    if chain[0].currency is None:
        readings.reverse()
    return max(readings, key=lambda pairs: sum(pair.fit for pair in pairs))


def _pair(first: _Token, second: _Token) -> _Pair | None:
    currency, number = (first, second) if first.currency else (second, first)
    before = currency is first
    gap = second.start - first.end
    if (before and currency.in_words and currency.currency != "EUR") or parse_number(number.written) is None:
        return None
    if currency.written in NEED_PRICE_FORM and not re.search(r"\d[.,']\d", number.written):
        return None
    suits = before or not currency.written.endswith(("$", "\u00a3"))
    return _Pair(number, currency, 2 + 2 * (gap == 0) + 4 * has_cents(number.written) + suits)


def _money(text: str, pair: _Pair) -> Span:
    start = min(pair.number.start, pair.currency.start)
    end = max(pair.number.end, pair.currency.end)
    sign = _SIGN.search(text, max(0, start - 2), start)
    inner = text[min(pair.number.end, pair.currency.end) : max(pair.number.start, pair.currency.start)]
    negative = bool((sign and sign[1] != "+") or inner.strip())  # "-5.00 EUR" or "EUR -5.00"
    value = parse_number(pair.number.written) or Decimal(0)
    amount = ("-" if negative else "") + as_text(value.scaleb(pair.number.scale) if pair.number.scale else value)
    norm: dict[str, Any] = {"amount": amount, "currency": pair.currency.currency}
    known = pair.currency.currency in CODES
    return Span("MONEY", start - 1 if sign else start, end, "rule:money", norm, validated=known)

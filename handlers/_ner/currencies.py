"""The currencies that `amounts` knows, by every way of writing them."""

from __future__ import annotations

CODES = (
    *("EUR", "USD", "GBP", "CHF", "JPY", "CNY", "RMB", "CAD", "AUD", "NZD", "SEK", "NOK", "DKK", "ISK", "PLN", "CZK"),
    *("HUF", "RON", "BGN", "HRK", "RSD", "RUB", "UAH", "TRY", "INR", "PKR", "BDT", "LKR", "SGD", "HKD", "TWD", "KRW"),
    *("THB", "MYR", "IDR", "PHP", "VND", "ZAR", "NGN", "KES", "GHS", "EGP", "ILS", "AED", "SAR", "QAR", "KWD", "MAD"),
    *("BRL", "MXN", "ARS", "CLP", "COP", "PEN", "DEM", "FRF", "ITL", "ATS", "ESP"),
)
"""ISO 4217, and the predecessors of the euro that old documents are full of."""

# Several countries use these; the norm keeps them as written rather than guess.
_SHARED_SYMBOLS = ("$", "\u00a5", "kr", "Rs", "Fr")

SYMBOLS = {
    "\u20ac": "EUR",
    "\u00a3": "GBP",
    "\u20b9": "INR",
    "\u20bd": "RUB",
    "\u20a9": "KRW",
    "\u20ba": "TRY",
    "\u20aa": "ILS",
    "\u20ab": "VND",
    "\u20b4": "UAH",
    "US$": "USD",
    "US-$": "USD",
    "C$": "CAD",
    "CA$": "CAD",
    "A$": "AUD",
    "AU$": "AUD",
    "NZ$": "NZD",
    "HK$": "HKD",
    "S$": "SGD",
    "R$": "BRL",
    "z\u0142": "PLN",
    "K\u010d": "CZK",
    "Ft": "HUF",
    "SFr": "CHF",
    "DM": "DEM",
    **{symbol: symbol for symbol in _SHARED_SYMBOLS},
}

WORDS = {
    "euro": "EUR",
    "euros": "EUR",
    "us dollars": "USD",
    "u.s. dollars": "USD",
    "dollar": "$",
    "dollars": "$",
    "d\u00f3lares": "$",
    "pounds sterling": "GBP",
    "pound sterling": "GBP",
    "swiss francs": "CHF",
    "schweizer franken": "CHF",
    "franken": "CHF",
    "yen": "JPY",
    "kronor": "SEK",
}
"""Written after the number, and possibly on the next line; lower case here, any case in a text."""

NEED_PRICE_FORM = frozenset({"TRY", "PHP", "MAD", "PEN", "COP", "ESP", "ATS", "SAR", "Ft", "Fr", "Rs", "DM"})
"""Also words, feet or versions ("PHP 8"): money only beside an amount with cents or grouped thousands."""

SCALES = {
    **dict.fromkeys(("k", "thousand", "tausend", "tsd", "tsd."), 3),
    **dict.fromkeys(("m", "mn", "mio", "mio.", "million", "millions", "millionen", "millones", "milioni"), 6),
    **dict.fromkeys(("b", "bn", "mrd", "mrd.", "billion", "billions", "milliards", "milliarden", "miliardi"), 9),
    **dict.fromkeys(("trillion", "trillions"), 12),
    "lakh": 5,
    "crore": 7,
}
"""The power of ten of a word after the number; the single letters only directly after it."""

"""Numbers as people write them: 1,234.56  1.234,56  1 234,56  3'949.75  1,23,456.00  50,-

Read by our own rules: price-parser, the obvious library, reads "CHF 3`949.75" as 3.
"""

from __future__ import annotations

import re
from decimal import Decimal

_THOUSANDS = "[.,'\u2019\u2018`\u00b4 \u00a0\u2007\u2009\u202f]"
_FRACTION = r"(?:[.,]\d{1,4}(?![\d.,]?\d))"
_ROUND_SUM = "[.,](?:--|[-\u2013\u2014])(?!\\d)"  # "50,-"

NUMBER = (
    r"(?:"
    rf"\d{{1,3}}(?P<{{name}}_sep>{_THOUSANDS})\d{{{{3}}}}(?:(?P={{name}}_sep)\d{{{{3}}}}){{{{0,5}}}}(?!\d)"
    rf"(?:{_ROUND_SUM}|[.,]\d{{1,2}}(?!\d))?"
)

"""How well a page was read: the error over its lines, whatever order they came in and whatever stands between."""

import re
import unicodedata

import numpy as np

_SAME = {
    ord(char): plain
    for plain, chars in {"'": "\u2018\u2019`\u00b4", '"': "\u201c\u201d\u201e", "-": "\u2013\u2014\u2212\u2010"}.items()
    for char in chars
}


def line_error(expected: str, read: str) -> float:
    """Return the part of `expected`'s characters read wrongly, 0 to 1.

    Each expected line counts with its distance to the nearest piece of `read`, at most its own length. Kinds of
    quotes and dashes and amounts of white space do not count; case and accents do.
    """
    haystack = _codes(_plain(read))
    lines = [line for line in map(_plain, expected.splitlines()) if line]
    wrong = sum(min(len(line), _distance_to_nearest(_codes(line), haystack)) for line in lines)
    return wrong / max(1, sum(map(len, lines)))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).translate(_SAME)).strip()


def _codes(text: str) -> np.ndarray:
    return np.array([ord(char) for char in text], dtype=np.int64)


def _distance_to_nearest(needle: np.ndarray, haystack: np.ndarray) -> int:
    """Return the least edit distance between `needle` and any substring of `haystack` (Sellers 1980).

    A row holds the distance of the needle's first characters to the best substring that ends at each place; it
    starts as zeros because the substring may start anywhere. Insertions run along the row: a running minimum.
    """
    places = np.arange(haystack.size + 1)
    row = np.zeros(haystack.size + 1, dtype=np.int64)
    for char in needle:
        down = row + 1
        across = row[:-1] + (haystack != char)
        down[1:] = np.minimum(down[1:], across)
        row = np.minimum.accumulate(down - places) + places
    return int(row.min())

"""What every OCR engine offers, and which one reads a job's pages.

`auto` takes the first that is there: tesserocr with language data, the tesseract program with language data,
rapidocr. The result names the engine that read.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from PIL import Image

from handlers._ocr.install import no_engine
from handlers._ocr.pdf import clean
from supervisor import PermanentError


@dataclass(frozen=True)
class Word:
    """A word (of rapidocr: a line) with its box in pixels of the picture read and its confidence, 0 to 1.

    `line` says where it stands: words that share it share a text line, and the parts before its last, a paragraph.
    """

    text: str
    box: tuple[int, int, int, int]
    confidence: float
    line: tuple[int, ...]


@dataclass(frozen=True)
class Reading:
    """What an engine read on one picture.

    `skew` is how many degrees the picture has to turn counter-clockwise for its lines to be level, `timed_out` says
    that only a part was read.
    """

    words: list[Word] = field(default_factory=list, repr=False)
    skew: float = 0.0
    timed_out: bool = False

    @property
    def confidence(self) -> float:
        """The mean over the words, weighted by their length, 0 to 1; 0 if nothing was read."""
        chars = self.chars
        return sum(word.confidence * len(word.text) for word in self.words) / chars if chars else 0.0

    @property
    def chars(self) -> int:
        """Characters read, without the spaces between words."""
        return sum(len(word.text) for word in self.words)

    @property
    def sideways(self) -> bool:
        """Whether most words stand on end: tesseract reads such a page, but its boxes and its order are not sure."""
        long = [word.box for word in self.words if len(word.text) >= 4]
        on_end = sum(bottom - top > right - left for left, top, right, bottom in long)
        return on_end > len(long) / 2


class Engine(Protocol):
    """One way of reading; `describe` is the `engine` part of the result."""

    name: str

    def describe(self) -> dict[str, Any]:
        """Return `{name, version, library, languages, settings, preloaded}`."""

    def read(self, image: Image.Image, dpi: int | None, timeout_s: float) -> Reading:
        """Read an 8-bit grey picture within `timeout_s` seconds; what was read by then counts."""

    def quarter_turns(self, image: Image.Image, timeout_s: float) -> int | None:
        """Return how many quarters clockwise the picture is turned; None if that cannot be told."""


def choose(name: str, languages: list[str]) -> Engine:
    """Return the engine called `name`, or for `auto` the first that is installed, ready for `languages`.

    Raises PermanentError `no_ocr_engine` if it is not installed, `language_missing` if it lacks a language.
    """
    candidates = _openers() if name == "auto" else {name: _openers()[name]}
    absent = {}
    for candidate, open_engine in candidates.items():
        try:
            return open_engine(languages)
        except PermanentError as error:
            if error.code != "no_ocr_engine":
                raise
            absent[candidate] = str(error)
    raise no_engine("; ".join(f"{candidate}: {reason}" for candidate, reason in absent.items()))


def _openers() -> Mapping[str, Callable[[list[str]], Engine]]:
    from handlers._ocr import rapid, tesseract_library, tesseract_program  # noqa: PLC0415 - they import this module

    return {
        "tesserocr": tesseract_library.open_engine,
        "tesseract": tesseract_program.open_engine,
        "rapidocr": rapid.open_engine,
    }


def lay_out(words: list[Word]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a page and each word's (start, end) in it, in Unicode code points.

    Words are parted by a space, lines by a line end, paragraphs by an empty line.
    """
    text, spans, before = "", [], None
    for word in words:
        text += _gap(before, word.line)
        cleaned = clean(word.text)
        spans.append((len(text), len(text) + len(cleaned)))
        text, before = text + cleaned, word.line
    return text, spans


def _gap(before: tuple[int, ...] | None, line: tuple[int, ...]) -> str:
    if before is None:
        return ""
    if before == line:
        return " "
    return "\n" if before[:-1] == line[:-1] else "\n\n"


def skew_of(words: list[Word]) -> float:
    """Estimate the skew from the boxes, in degrees: the median over the lines of their words' slope.

    For engines that do not say it themselves; about 0.2 degrees near on a page of text.
    """
    slopes = sorted(_slopes(words))
    return statistics.median(slopes) if len(slopes) >= 3 else 0.0


def _slopes(words: list[Word]) -> Iterator[float]:
    lines: dict[tuple[int, ...], list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    for line in lines.values():
        middles = [((word.box[0] + word.box[2]) / 2, (word.box[1] + word.box[3]) / 2) for word in line]
        if len({x for x, _ in middles}) >= 4:  # words above each other, as of a sideways page, have no slope
            slope, _ = statistics.linear_regression(*zip(*middles, strict=True))
            yield math.degrees(math.atan(slope))

"""The result document of an `ocr` job: schema `ocr/1`, plain values that BSON takes."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from handlers._ocr.engines import lay_out
from handlers._ocr.pages import PageText

PAGE_BREAK = "\f\n"
_Value = TypeVar("_Value")


@dataclass
class Stopwatch:
    """Seconds spent in each step of a job; one writer, the handler's recipe."""

    seconds: dict[str, float] = field(default_factory=lambda: {"fetch": 0.0, "raster": 0.0, "ocr": 0.0})

    def time(self, step: str, work: Callable[[], _Value]) -> _Value:
        """Do `work` and add its time to `step`."""
        started = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[step] += time.monotonic() - started

    def rounded(self) -> dict[str, float]:
        """The seconds of each step, to the millisecond."""
        return {step: round(seconds, 3) for step, seconds in self.seconds.items()}


@dataclass
class Report:
    """Collects the pages of one document as they are read, in order.

    `offset` and `length` of a page count Unicode code points into `text`; `PAGE_BREAK` stands between pages. Word
    rows are `WORD_COLUMNS`: start and end in `text`, the box in pixels of the page as read, the confidence 0 to 1.
    """

    WORD_COLUMNS: ClassVar = ["start", "end", "left", "top", "right", "bottom", "confidence"]

    texts: list[str] = field(default_factory=list)
    pages: list[dict[str, Any]] = field(default_factory=list)
    words: list[dict[str, Any]] = field(default_factory=list)
    _length: int = 0

    def add(self, number: int, page: PageText, seconds: float) -> None:
        """Append page `number`, which took `seconds`."""
        text, spans = (page.text, []) if page.source == "text_layer" else lay_out(page.words)
        offset = self._length + (len(PAGE_BREAK) if self.texts else 0)
        self.texts.append(text)
        self._length = offset + len(text)
        self.pages.append(_page(number, page, offset, len(text), seconds))
        rows = [
            [offset + start, offset + end, *word.box, round(word.confidence, 3)]
            for word, (start, end) in zip(page.words, spans, strict=False)
        ]
        self.words.append({"number": number, "width": page.width, "height": page.height, "words": rows})

    def words_json(self) -> bytes:
        """The word boxes of all pages as a file of JSON, schema `ocr-words/1`."""
        document = {"schema": "ocr-words/1", "columns": self.WORD_COLUMNS, "pages": self.words}
        return json.dumps(document, separators=(",", ":")).encode()

    def text_fields(self) -> dict[str, Any]:
        """The parts `text`, `chars`, `mean_confidence`, `pages` and `warnings` of the result."""
        text = PAGE_BREAK.join(self.texts)
        return {
            "text": text,
            "chars": len(text),
            "mean_confidence": self._mean_confidence(),
            "pages": self.pages,
            "warnings": [f"page {page['number']}: {warning}" for page in self.pages for warning in page["warnings"]],
        }

    def _mean_confidence(self) -> float | None:
        """Over the pages that were read as pictures, weighted by their length; None if there are none."""
        read = [(page["confidence"], page["length"]) for page in self.pages if page["confidence"] is not None]
        total = sum(length for _, length in read)
        return round(sum(confidence * length for confidence, length in read) / total, 4) if total else None


def _page(number: int, page: PageText, offset: int, length: int, seconds: float) -> dict[str, Any]:
    return {
        "number": number,
        "source": page.source,
        "offset": offset,
        "length": length,
        "width": page.width,
        "height": page.height,
        "dpi": page.dpi,
        "rotation": page.rotation,
        "deskew": page.deskew,
        "confidence": page.confidence,
        "seconds": round(seconds, 3),
        "warnings": list(page.warnings),
    }

"""From a payload to a result: the steps of an `ocr` job, each of which can be run alone.

Everything that can refuse a job cheaply comes before what costs: settings, source, type, page count, engine.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import pypdfium2

from handlers._ocr.engines import Engine, choose
from handlers._ocr.images import ImagePages
from handlers._ocr.pages import Pages, PageText, from_text_layer, read_picture
from handlers._ocr.payload import OcrPayload
from handlers._ocr.pdf import PdfPages
from handlers._ocr.report import Report, Stopwatch
from handlers._ocr.settings import OcrSettings, read_settings
from handlers._ocr.sources import Document, fetch
from supervisor import JobContext, PermanentError


def recognise(payload: OcrPayload, job: JobContext) -> dict[str, Any]:
    """Read the document and return the result, schema `ocr/1`; raises PermanentError as `handlers.ocr.ocr` says."""
    settings, watch = read_settings(job.settings), Stopwatch()
    document = watch.time("fetch", lambda: fetch(payload.source, job, settings))
    pages = open_pages(document, payload, settings)
    try:
        reader = _Reader(payload, job, settings, pages, watch)
        report = reader.read_all(select_pages(payload, pages.pages_total, settings))
    finally:
        pages.close()
    return {
        "schema": "ocr/1",
        "document": _describe(document, pages),
        "engine": reader.describe_engine(),
        **report.text_fields(),
        "words_file": job.save_file(f"ocr-words-{job.id}.json", report.words_json()) if payload.words else None,
        "seconds": watch.rounded(),
    }


def open_pages(document: Document, payload: OcrPayload, settings: OcrSettings) -> Pages:
    """Open the document with the reader for its type; raises PermanentError if it cannot be read."""
    if document.mime == "application/pdf":
        return PdfPages(document.data, payload.password, settings)
    return ImagePages(document.data, settings)


def select_pages(payload: OcrPayload, pages_total: int, settings: OcrSettings) -> list[int]:
    """Return the numbers of the pages to read; raises PermanentError `too_many_pages`, or `not_found` for none."""
    selected = payload.select(pages_total)
    if not selected:
        raise PermanentError(f"pages: none of {payload.pages!r} in a document of {pages_total}", code="not_found")
    if len(selected) > settings.max_pages:
        raise PermanentError(
            f"{len(selected)} pages are to be read, at most {settings.max_pages} in one job: name fewer with `pages` "
            "([handlers.ocr.settings] max_pages)",
            code="too_many_pages",
        )
    return selected


class _Reader:
    """Reads the pages of one opened document; the engine is opened for the first page that needs it."""

    def __init__(
        self, payload: OcrPayload, job: JobContext, settings: OcrSettings, pages: Pages, watch: Stopwatch
    ) -> None:
        self._payload, self._job, self._settings, self._pages, self._watch = payload, job, settings, pages, watch
        self._chosen: Engine | None = None

    def read_all(self, numbers: list[int]) -> Report:
        """Read the pages in order, reporting progress after each."""
        report, total = Report(), len(numbers)
        self._job.progress(0, total, f"{total} pages to read")
        for done, number in enumerate(numbers, start=1):
            started = time.monotonic()
            page = self._read(number)
            report.add(number, page, time.monotonic() - started)
            self._job.progress(done, total, f"page {number}: {page.source}")
        return report

    def describe_engine(self) -> dict[str, Any]:
        """The `engine` part of the result: what read the pictures, or that every page's own text was taken."""
        return _text_layer_engine() if self._chosen is None else self._chosen.describe()

    def _read(self, number: int) -> PageText:
        layer = None if self._payload.mode == "force" else self._timed("raster", self._pages.text_layer, number)
        if self._payload.mode == "text_layer_only" and layer is None:
            return PageText("empty", warnings=("no_text_layer: pictures hold no text of their own",))
        if layer is not None and (self._payload.mode == "text_layer_only" or not layer.needs_ocr):
            return from_text_layer(layer)
        engine = self._engine()
        picture = self._timed("raster", self._pages.render, number, self._payload.dpi)
        limit_s = min(self._settings.page_timeout_s, max(self._job.deadline, 0.001))
        read = self._timed("ocr", read_picture, picture, engine, limit_s)
        return from_text_layer(layer) if layer is not None and layer.text and not read.words else read

    def _engine(self) -> Engine:
        if self._chosen is None:
            self._chosen = choose(self._payload.engine, self._payload.languages)
        return self._chosen

    def _timed(self, step: str, work: Callable[..., Any], *arguments: Any) -> Any:
        return self._watch.time(step, functools.partial(work, *arguments))


def _describe(document: Document, pages: Pages) -> dict[str, Any]:
    return {
        "sha256": document.sha256,
        "mime": document.mime,
        "bytes": len(document.data),
        "pages_total": pages.pages_total,
    }


def _text_layer_engine() -> dict[str, Any]:
    return {
        "name": "text_layer",
        "version": str(pypdfium2.PDFIUM_INFO),
        "library": f"pypdfium2 {pypdfium2.PYPDFIUM_INFO}",
        "languages": [],
        "settings": {},
        "preloaded": False,
    }

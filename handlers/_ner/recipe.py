"""One `ner` job, step by step."""

from __future__ import annotations

import importlib
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from handlers._ner import heuristics, models, rules
from handlers._ner.merge import merge
from handlers._ner.payload import NerPayload, NerSettings
from handlers._ner.spans import NAME_LABELS, RULE_LABELS, Options, Span
from supervisor import JobContext, PermanentError, describe_validation_error

EXTRA_MODULES = ("phonenumbers", "dateparser")


@dataclass(frozen=True)
class Document:
    """A text and its pages, as (offset, length, number) in order of the offset; no pages when it has none."""

    text: str
    pages: Sequence[tuple[int, int, int]] = ()

    def page_of(self, position: int) -> int | None:
        """The number of the page on which the code point `position` stands."""
        index = bisect_right(self.pages, position, key=lambda page: page[0]) - 1
        if index < 0:
            return None
        offset, length, number = self.pages[index]
        return number if position < offset + length else None


def recognise(payload: NerPayload, job: JobContext) -> dict[str, Any]:
    """Run the job and return its result (schema `ner/1`); see `handlers.ner.ner` for what it raises."""
    started = time.monotonic()
    require_extra()
    settings = read_settings(job.settings)
    options = _options(payload, settings)
    document = _document(payload, job)
    if len(document.text) > settings.max_chars:
        message = f"the text has {len(document.text):,} characters; max_chars allows {settings.max_chars:,}"
        raise PermanentError(message, code="text_too_long")
    model = models.choose(payload.model, settings.model, settings.model_roots)
    found = merge(_candidates(document.text, options, model, payload, job), len(document.text))
    wanted = [span for span in found if payload.labels is None or span.label in payload.labels]
    return {
        "schema": "ner/1",
        "models": _described(model, payload),
        "entities": [_entity(span, document) for span in wanted],
        "counts": dict(Counter(span.label for span in wanted)),
        "warnings": _warnings(document, model, payload),
        "seconds": round(time.monotonic() - started, 4),
    }


def preload() -> None:
    """Load what every job needs, and the default pipeline if it is installed.

    Raises PermanentError `missing_extra` or `model_missing`; a job that meets the same will say so itself.
    """
    require_extra()
    importlib.import_module("phonenumbers").PhoneMetadata.load_all()
    warm_up = "Tel. +44 20 7946 0958, 12 marca 2024, EUR 4.150,00"  # "marca" makes dateparser load its languages
    list(rules.find_all(warm_up, Options()))
    if models.default_is_installed():
        models.load(models.DEFAULT)


def require_extra() -> None:
    """Raise PermanentError `missing_extra` unless the libraries of the extra `ner` can be imported."""
    for module in EXTRA_MODULES:
        try:
            importlib.import_module(module)
        except ImportError as error:
            message = f"the ner handler needs {module} ({error}): pip install 'mongo-job-supervisor[ner]'"
            raise PermanentError(message, code="missing_extra") from None


def read_settings(settings: Any) -> NerSettings:
    """Validate `[handlers.ner.settings]`; raises PermanentError `settings` naming the key."""
    try:
        return NerSettings.model_validate(dict(settings))
    except ValidationError as error:
        message = f"[handlers.ner.settings]: {describe_validation_error(error)}"
        raise PermanentError(message, code="settings") from None


def _options(payload: NerPayload, settings: NerSettings) -> Options:
    regions = tuple(settings.regions if payload.regions is None else payload.regions)
    known = importlib.import_module("phonenumbers").SUPPORTED_REGIONS
    if unknown := [region for region in regions if region not in known]:
        message = f"regions: {', '.join(unknown)} is no ISO 3166 code with a numbering plan (the United Kingdom is GB)"
        raise PermanentError(message, code="unknown_region")
    return Options(regions, payload.date_order)


def _document(payload: NerPayload, job: JobContext) -> Document:
    if payload.text is not None:
        return Document(payload.text)
    parent = job.parent_result()
    text = parent.get("text")
    if not isinstance(text, str):
        message = f"the result of job {payload.parent_job_id!r} holds no text (schema {parent.get('schema')!r})"
        raise PermanentError(message, code="parent_without_text")
    pages = sorted(
        (int(page["offset"]), int(page["length"]), int(page["number"])) for page in parent.get("pages") or []
    )
    return Document(text, pages)


def _candidates(
    text: str, options: Options, model: models.Model | None, payload: NerPayload, job: JobContext
) -> Iterator[Span]:
    """Every candidate, reporting progress in steps: one for each label, the heuristics and the model."""
    total = len(rules.FINDERS) + payload.heuristics + (model is not None)
    for done, (label, finder) in enumerate(rules.FINDERS.items()):
        job.progress(done, total, f"looking for {label}")
        yield from finder(text, options)
    if payload.heuristics:
        job.progress(len(rules.FINDERS), total, "guessing names")
        yield from heuristics.find_names(text)
    if model:
        job.progress(total - 1, total, f"running {model.name}")
        yield from models.find_entities(
            model, text, lambda chars: job.progress(total - 1 + chars / len(text), total, f"running {model.name}")
        )
    job.progress(total, total, "done")


def _described(model: models.Model | None, payload: NerPayload) -> list[dict[str, Any]]:
    used: list[tuple[str, str, str, Sequence[str]]] = [("rules", "handlers.ner", rules.VERSION, RULE_LABELS)]
    if payload.heuristics:
        used.append(("heuristics", "handlers.ner", rules.VERSION, heuristics.LABELS))
    if model:
        used.append(("spacy", model.name, model.version, model.labels))
    return [
        {"kind": kind, "name": name, "version": version, "labels_supported": list(labels)}
        for kind, name, version, labels in used
    ]


def _entity(span: Span, document: Document) -> dict[str, Any]:
    return {
        "label": span.label,
        "start": span.start,
        "end": span.end,
        "text": document.text[span.start : span.end],
        "norm": span.norm,
        "score": 1.0 if span.validated else None,
        "validated": span.validated,
        "source": span.source,
        "page": document.page_of(span.start),
    }


def _warnings(document: Document, model: models.Model | None, payload: NerPayload) -> list[str]:
    """What the reader of the result must know, each as "code: explanation"."""
    warnings = []
    if not document.text.strip():
        warnings.append("empty_text: there was nothing to read")
    wanted = set(payload.labels or NAME_LABELS)
    if model is None and not payload.heuristics and wanted - set(RULE_LABELS):
        warnings.append(
            f"no_statistical_model: names ({', '.join(NAME_LABELS)}) were not looked for; {models.INSTALL}"
            " finds them, or name your own pipeline in `model`; `heuristics`: true guesses a few"
        )
    if payload.heuristics:
        warnings.append("heuristic_names: names with a source heuristic:… are guesses, and most names are missed")
    supported = {label for used in _described(model, payload) for label in used["labels_supported"]}
    if unsupported := sorted(set(payload.labels or ()) - supported - set(NAME_LABELS)):
        warnings.append(f"unsupported_label: nothing here finds {', '.join(unsupported)}")
    return warnings

"""spaCy pipelines: which one a job gets, loading each once per process, and naming it as it names itself.

spaCy is optional and brings no pipeline. A payload comes from whoever can write to the database, so it may choose among
the pipelines that were installed as such (the entry points `spacy_models`) or that lie under a configured root; it can
make a worker import or read nothing else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from handlers._ner.spans import Span
from supervisor import PermanentError

DEFAULT = "en_core_web_sm"
INSTALL = "pip install spacy==3.8.18 && python -m spacy download en_core_web_sm"
"""What to tell people without a pipeline."""

PIECE_CHARS = 50_000
"""spaCy refuses texts over a million characters and needs about 1 GB for each 100,000 tokens at once."""

_UNUSED = ["tagger", "parser", "senter", "lemmatizer", "attribute_ruler", "morphologizer", "textcat"]
_SAME_LABEL = {"PER": "PERSON"}  # pipelines trained on CoNLL or WikiNER say PER


@dataclass(frozen=True)
class Model:
    """A loaded pipeline; `name`, `version` and `labels` are what its own metadata says."""

    name: str
    version: str
    labels: tuple[str, ...]
    pipeline: Any


def choose(requested: str, configured: str | None, roots: Sequence[str]) -> Model | None:
    """Return the pipeline for a payload's `model`, or None for rules alone.

    `configured` and `roots` are the operator's `model` and `model_roots`. Raises PermanentError `model_missing` if a
    pipeline was named, by either, and cannot be loaded.
    """
    name = (configured or "auto") if requested == "auto" else requested
    if name == "rules":
        return None
    if name == "auto":
        return load(DEFAULT) if default_is_installed() else None
    if name == configured or name in installed():
        return load(name)
    return load(str(_allowed_path(name, roots)))


def default_is_installed() -> bool:
    """Whether spaCy and the pipeline that "auto" looks for can be imported; imports neither."""
    return all(importlib.util.find_spec(name) is not None for name in ("spacy", DEFAULT))


def installed() -> set[str]:
    """The names under which packages have registered spaCy pipelines."""
    return {point.name for point in entry_points(group="spacy_models")}


@functools.lru_cache(maxsize=4)
def load(name: str) -> Model:
    """Load the pipeline of that name or path once per process; raises PermanentError `model_missing`."""
    try:
        pipeline = importlib.import_module("spacy").load(name, exclude=_UNUSED)
    except (ImportError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # a damaged one raises any
        raise _missing(name, f"{type(error).__name__}: {error}".splitlines()[0]) from None
    labels = {label for part in ("ner", "entity_ruler") for label in pipeline.pipe_labels.get(part, [])}
    if not labels:
        raise _missing(name, "it has no component that finds entities (ner or entity_ruler)")
    full_name = f"{pipeline.meta['lang']}_{pipeline.meta['name']}"
    own_labels = tuple(sorted({_SAME_LABEL.get(label, label) for label in labels}))
    return Model(full_name, pipeline.meta["version"], own_labels, pipeline)


def find_entities(model: Model, text: str, progress: Callable[[int], None] = lambda _chars: None) -> Iterator[Span]:
    """Yield what `model` finds, trimmed of white space; PER is called PERSON. spaCy gives entities no score.

    `progress` is told the number of characters read, after each piece.
    """
    pieces = ((text[start:end], start) for start, end in split(text, PIECE_CHARS))
    for document, offset in model.pipeline.pipe(pieces, as_tuples=True, batch_size=4):
        for entity in document.ents:
            found = entity.text
            start = offset + entity.start_char + len(found) - len(found.lstrip())
            if stripped := found.strip():
                label = _SAME_LABEL.get(entity.label_, entity.label_)
                yield Span(label, start, start + len(stripped), f"model:{model.name}")
        progress(offset + len(document.text))


def split(text: str, size: int) -> Iterator[tuple[int, int]]:
    """Cut `text` into pieces of at most `size` characters, at the end of a line or else a word where there is one."""
    start = 0
    while start < len(text):
        end = min(len(text), start + size)
        if end < len(text):
            end = max(text.rfind("\n", start, end), text.rfind("\f", start, end), -1) + 1 or end
        if end < len(text) and text[end - 1] not in "\n\f":
            end = text.rfind(" ", start, end) + 1 or end
        yield start, end
        start = end


def _allowed_path(name: str, roots: Sequence[str]) -> Path:
    path = Path(name).resolve()
    if any(path.is_relative_to(Path(root).resolve()) for root in roots) and path.is_dir():
        return path
    raise _missing(name, "no pipeline of that name is installed, and no directory under `model_roots` is called so")


def _missing(name: str, reason: str) -> PermanentError:
    return PermanentError(
        f"spaCy pipeline {name!r} cannot be loaded: {reason}; to get one: {INSTALL}", code="model_missing"
    )

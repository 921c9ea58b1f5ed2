"""Pieces of documents that anybody may have written: what is not of the expected form is passed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]


def part(document: Document, name: str) -> Document:
    """Return the document in the field `name`; an empty one where there is none."""
    value = document.get(name)
    return value if isinstance(value, Mapping) else {}


def parts(document: Document, name: str) -> list[Document]:
    """Return the documents in the array `name`."""
    value = document.get(name)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []

"""From what a handler returned to what the database can store, in the worker.

A result is a document. What BSON cannot hold is found here, where the object still is, and named by its place; only
half a surrogate pair, which OCR and broken decoders produce, is replaced instead of refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import bson
from bson import json_util
from pydantic import BaseModel

from supervisor.codec import storable

MAX_DEPTH = 100
"""Levels of nesting; the database's own limit is 180 with the job around it."""
SPOOLED_RESULT = "result.json"


class NotStorableError(Exception):
    """The handler's return value cannot be stored; the message names the place and the type."""


def encode_result(
    value: Any, inline_bytes: int, spool: Path, name: str = SPOOLED_RESULT
) -> tuple[bytes | None, str | None]:
    """Return (BSON bytes, None), or (None, `name` of a file in `spool`) for a result above `inline_bytes`.

    The file holds UTF-8 Extended JSON. (None, None) stands for no result. Raises NotStorableError.
    """
    if value is None:
        return None, None
    document = as_document(value)
    _refuse_too_deep(document)
    data = _to_bson(document)
    if len(data) <= inline_bytes:
        return data, None
    # from the encoded form, so that a file holds just what the document would have held
    (spool / name).write_text(json_util.dumps(bson.decode(data)), encoding="utf-8")
    return None, name


def as_document(value: Any) -> Mapping[str, Any]:
    """Return a pydantic model or a mapping as a mapping. Raises NotStorableError for anything else."""
    if isinstance(value, BaseModel):
        value = storable(value)
    if isinstance(value, Mapping):
        return value
    raise NotStorableError(f"the handler returned {_article(value)}; a dict, a pydantic model or None is allowed")


def _refuse_too_deep(document: Mapping[str, Any]) -> None:
    """Look level by level, which costs little and cannot exhaust the stack; only then find the place."""
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH + 1):
        level = [item for container in level for item in _items(container) if isinstance(item, (Mapping, list, tuple))]
        if not level:
            return
    _clean(document, "result", 0)


def _items(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, Mapping) else container


def _to_bson(document: Mapping[str, Any]) -> bytes:
    try:
        return bytes(bson.encode(document, check_keys=False))
    except (bson.errors.BSONError, OverflowError, UnicodeError, RecursionError, TypeError, ValueError):
        return _to_bson_with_care(document)


def _to_bson_with_care(document: Mapping[str, Any]) -> bytes:
    """Encode again, replacing lone surrogates, and name the place of what still cannot be stored."""
    try:
        return bytes(bson.encode(_clean(document, "result", 0)))
    except (bson.errors.BSONError, OverflowError, UnicodeError, RecursionError, TypeError, ValueError) as error:
        raise NotStorableError(f"the result cannot be stored: {error}") from None


def _clean(value: Any, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotStorableError(f"{place[:200]}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, BaseModel):
        return _clean(storable(value), place, depth)
    if isinstance(value, Mapping):
        return {_key(key, place): _clean(item, f"{place}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    try:
        bson.encode({"": value})
    except Exception as error:  # noqa: BLE001 - whatever the encoder says, it is this value it says it of
        raise NotStorableError(f"{place}: {_article(value)} cannot be stored: {error}") from None
    return value


def _key(key: Any, place: str) -> str:
    if not isinstance(key, str):
        raise NotStorableError(f"{place}: the key {key!r} is {_article(key)}, must be a string")
    if "\0" in key:
        raise NotStorableError(f"{place}: the key {key!r} contains a NUL character")
    return key.encode("utf-8", "replace").decode("utf-8")


def _article(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"

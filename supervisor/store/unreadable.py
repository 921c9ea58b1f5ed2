"""Documents whose `_id` is text that is not UTF-8: reading replaces it, and what was read finds nothing any more.

They are addressed by the bytes of their `_id` as they were stored.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

from supervisor.codec import RAW

_REPLACEMENT = "�"
_FIRST = b"_id\0"
_STRING, _DOCUMENT, _ARRAY = 0x02, 0x03, 0x04
_OVERHEAD = {_STRING: 4, _DOCUMENT: 0, _ARRAY: 0}
"""Bytes of the length itself, where it does not count itself."""


def is_suspicious(job_id: Any) -> bool:
    """Tell whether reading may have replaced a part of `job_id`."""
    return isinstance(job_id, (str, Mapping)) and _REPLACEMENT in repr(job_id)


def stored_id(raw: bytes) -> bytes | None:
    """Return the element `_id` of a raw document as stored, if that is not what reading it gives; else None."""
    kind = raw[4]
    if not raw[5:].startswith(_FIRST) or kind not in _OVERHEAD:
        return None
    start = 5 + len(_FIRST)
    (length,) = struct.unpack_from("<i", raw, start)
    element = raw[4 : start + length + _OVERHEAD[kind]]
    readable = bson.encode({"_id": RawBSONDocument(raw, RAW)["_id"]})[4:-1]
    return None if element == readable else element


def match(element: bytes, more: Mapping[str, Any]) -> RawBSONDocument:
    """Return the filter for the document whose `_id` is stored as `element`, and that matches `more` besides."""
    body = element + bson.encode(more)[4:-1]
    return RawBSONDocument(struct.pack("<i", len(body) + 5) + body + b"\0", RAW)

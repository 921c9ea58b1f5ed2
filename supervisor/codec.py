"""How documents are read: tolerantly. And how models become documents. Free of pymongo's client, which workers must not
load.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from types import NoneType
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

TOLERANT: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""A string that is not UTF-8 or a date of the year 275760 must not stop whoever reads it."""


class _Raw(RawBSONDocument):
    """One that the driver can write to: it adds the labels of an error in a reply to that error, with `update`."""

    def update(self, more: Mapping[str, Any]) -> None:
        super().__init__(bson.encode({**self, **more}), RAW)


RAW: CodecOptions[RawBSONDocument] = CodecOptions(
    document_class=_Raw,
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
"""The same for documents whose parts are handed on as the bytes they were stored as."""


_AS_THEY_ARE = (str, int, float, bool, NoneType, datetime, bytes, ObjectId)
_SECRETS = (SecretStr, SecretBytes)
"""In their JSON form they would be stored as asterisks; the database refuses them by name instead."""
_MOST_LEVELS = 100


def storable(model: BaseModel) -> Any:
    """Return the values of a model as BSON has them: those that it lacks (dates, enums, UUIDs, …) in their JSON form.

    What has no such form stays what it is, for who stores it to refuse.
    """
    return _storable(model.model_dump(), 0)


def _storable(value: Any, level: int) -> Any:
    if type(value) in _AS_THEY_ARE or level > _MOST_LEVELS:
        return value
    if isinstance(value, Mapping):
        return {_key(key): _storable(item, level + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_storable(item, level + 1) for item in value]
    if isinstance(value, Enum):
        return _storable(value.value, level + 1)
    return value if _is_bson(value) else _as_json(value)


def _key(key: Any) -> Any:
    return key if isinstance(key, str) else str(_as_json(key.value if isinstance(key, Enum) else key))


def _is_bson(value: Any) -> bool:
    try:
        bson.encode({"": value})
    except (bson.errors.BSONError, ValueError, OverflowError):  # ValueError: a UUID, of which BSON has several forms
        return False
    return True


def _as_json(value: Any) -> Any:
    if isinstance(value, _SECRETS):
        return value
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        return value

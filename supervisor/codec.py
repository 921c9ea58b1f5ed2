"""How documents are read: tolerantly. Free of pymongo's client, which workers must not load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

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

"""Reading a multipart form piece by piece: text fields are gathered, a file is handed on as it comes.

FastAPI's own form parsing writes the whole file to a temporary one first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import Message
from http import HTTPStatus

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from supervisor.errors import UsageError
from supervisor.web.problems import too_large

MOST_NAME_CHARS = 200
UNNAMED = "upload"
_OCTETS = "application/octet-stream"


@dataclass(frozen=True)
class File:
    """A file that is about to come: what the client calls it, and its media type, which nobody has checked."""

    name: str
    media_type: str


def last_part(name: str) -> str:
    """Return what is behind the last slash of a client's file name, without control characters."""
    last = name.replace("\\", "/").rpartition("/")[2]
    printable = "".join(char for char in last if char.isprintable()).strip()
    return printable[:MOST_NAME_CHARS] if printable not in ("", ".", "..") else UNNAMED


@dataclass
class _Part:
    headers: dict[str, bytes] = field(default_factory=dict)
    header: bytes = b""
    value: bytes = b""
    name: str = ""
    file: File | None = None
    text: bytearray = field(default_factory=bytearray)


class Form:
    """The form of a request. Its text fields together may have `most_text_bytes`."""

    def __init__(self, request: Request, most_text_bytes: int) -> None:
        self.fields: dict[str, str] = {}
        self._left, self._most = most_text_bytes, most_text_bytes
        self._stream = request.stream()
        self._events: deque[File | bytes | None] = deque()
        """What has come: a file begins, a piece of it, it ends (None)."""
        self._part = _Part()
        self._parser = MultipartParser(
            _boundary(request),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
            },
        )

    async def next_file(self) -> File | None:
        """Read on until a file begins and return it; None at the end of the form. Raises UsageError, 413."""
        while True:
            while self._events:
                if isinstance(event := self._events.popleft(), File):
                    return event
            if not await self._read():
                return None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the file that has begun."""
        while True:
            while self._events:
                event = self._events.popleft()
                if event is None:
                    return
                if isinstance(event, bytes):
                    yield event
            if not await self._read():
                raise UsageError("form: ends in the middle of a file")

    async def _read(self) -> bool:
        """Take in the next piece of the body; False at its end."""
        piece = await anext(self._stream, b"")
        try:
            if piece:
                self._parser.write(piece)
            else:
                self._parser.finalize()
        except FormParserError as error:
            raise UsageError(f"form: is no multipart form: {error}") from None
        return bool(piece)

    # what the parser calls

    def _begin(self) -> None:
        self._part = _Part()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._part.header.decode("latin-1").lower()] = self._part.value
        self._part.header = self._part.value = b""

    def _headers_finished(self) -> None:
        part = self._part
        _, options = parse_options_header(part.headers.get("content-disposition"))
        part.name = options.get(b"name", b"").decode("utf-8", errors="replace")
        if b"filename" not in options:
            return
        if part.name != "file":
            raise UsageError(f"{part.name or 'form'}: a file may only be in the field `file`")
        media_type, _ = parse_options_header(part.headers.get("content-type"))
        part.file = File(
            last_part(options[b"filename"].decode("utf-8", errors="replace")),
            media_type.decode("latin-1").lower() or _OCTETS,
        )
        self._events.append(part.file)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.file is not None:
            self._events.append(data[start:end])
            return
        self._left -= end - start
        if self._left < 0:
            raise too_large(self._most, "the text of the form")
        self._part.text += data[start:end]

    def _end(self) -> None:
        part = self._part
        if part.file is not None:
            self._events.append(None)
            return
        if part.name in self.fields:
            raise UsageError(f"{part.name}: is given twice")
        try:
            self.fields[part.name] = part.text.decode("utf-8")
        except UnicodeDecodeError:
            raise UsageError(f"{part.name}: is not UTF-8") from None


def _boundary(request: Request) -> str:
    header = Message()
    header["content-type"] = request.headers.get("content-type", "")
    boundary = header.get_param("boundary")
    if header.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body must be multipart/form-data with a boundary")
    return boundary

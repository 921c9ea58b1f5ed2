"""Get a document's bytes, and nothing that the job has no right to.

A path is opened by walking from a configured root one component at a time without following links: between the
check and the open nobody can swap a directory for a link to elsewhere. What is opened is looked at before it is
read: a FIFO would block the worker, and a device has no end.
"""

import hashlib
import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from handlers._ocr.payload import Source
from handlers._ocr.settings import OcrSettings
from supervisor import JobContext, PermanentError

_CHUNK = 1 << 20
_PDF_HEADER_WITHIN = 1024  # readers accept a PDF whose header comes after some junk, within this many bytes
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
)


@dataclass(frozen=True)
class Document:
    """A fetched document: its bytes, what they are by their first bytes, and their SHA-256 in hexadecimal."""

    data: bytes = field(repr=False)
    mime: str
    sha256: str


def fetch(source: Source, job: JobContext, settings: OcrSettings) -> Document:
    """Read the document that `source` names.

    Raises PermanentError `path_not_allowed`, `not_found`, `file_too_large`, `corrupt_file` (empty) or
    `unsupported_type`.
    """
    if source.path is None:
        with job.open_file(source.file_id) as file:
            data, digest = _read(file, settings)
    else:
        with open_under_roots(source.path, settings.roots) as file:
            if os.fstat(file.fileno()).st_size > settings.max_bytes:
                raise _too_large(settings)
            data, digest = _read(file, settings)
    return Document(data, sniff(data), digest)


def sniff(data: bytes) -> str:
    """Return the media type of `data` by its first bytes; names and extensions are claims, not evidence.

    Raises PermanentError `corrupt_file` if there are none, `unsupported_type` if no reader here is for them.
    """
    if not data:
        raise PermanentError("the file is empty", code="corrupt_file")
    for signature, mime in _SIGNATURES:
        if data.startswith(signature):
            return mime
    if b"%PDF-" in data[:_PDF_HEADER_WITHIN]:
        return "application/pdf"
    raise PermanentError("the file is not a PDF, PNG, JPEG or TIFF by its first bytes", code="unsupported_type")


def open_under_roots(path: str, roots: Sequence[Path]) -> BinaryIO:
    """Open a regular file under one of `roots`; a relative `path` is looked for in each root in turn.

    Raises PermanentError `path_not_allowed` for anything outside, whether it exists or not, and for what is not a
    regular file; `not_found` for a missing file inside.
    """
    located = _locate(path, roots)
    if located is None:
        allowed = "no directory is configured" if not roots else "it is not under a configured directory"
        raise PermanentError(
            f"source.path may not point there: {allowed} ([handlers.ocr.settings] roots)", code="path_not_allowed"
        )
    root, inside = located
    try:
        return _open_regular(root, inside)
    except FileNotFoundError:
        raise PermanentError("source.path: there is no such file", code="not_found") from None
    except OSError as error:
        raise PermanentError(
            f"source.path may not be read: {os.strerror(error.errno or 0)}", code="path_not_allowed"
        ) from None


def _locate(path: str, roots: Sequence[Path]) -> tuple[Path, Path] | None:
    """Return (root, path inside it), both free of links and `..`; an existing file wins over an earlier root."""
    if "\x00" in path or "://" in path:
        return None
    found = None
    for root in roots:
        try:
            real_root, real = root.resolve(), (root / path).resolve()
        except (OSError, RuntimeError):  # a loop of links, or a name longer than the system takes
            continue
        if real != real_root and real.is_relative_to(real_root):
            found = found or (real_root, real.relative_to(real_root))
            if real.exists():
                return real_root, real.relative_to(real_root)
    return found


def _open_regular(root: Path, inside: Path) -> BinaryIO:
    """Walk from `root` to the file without following links; raises OSError, also for what is not a regular file."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in inside.parts[:-1]:
            deeper = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            os.close(directory)
            directory = deeper
        return _open_last(inside.name, directory)
    finally:
        os.close(directory)


def _open_last(name: str, directory: int) -> BinaryIO:
    _require_regular(os.stat(name, dir_fd=directory, follow_symlinks=False))  # opening a device may already act
    # O_NONBLOCK: should a FIFO have taken the file's place meanwhile, open() must not wait for a writer.
    handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        _require_regular(os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PermanentError("source.path is not a regular file", code="path_not_allowed")


def _read(file: BinaryIO, settings: OcrSettings) -> tuple[bytes, str]:
    """Return (bytes, SHA-256), having read at most one chunk more than the limit."""
    digest, data = hashlib.sha256(), io.BytesIO()
    while chunk := file.read(_CHUNK):
        data.write(chunk)
        digest.update(chunk)
        if data.tell() > settings.max_bytes:
            raise _too_large(settings)
    return data.getvalue(), digest.hexdigest()


def _too_large(settings: OcrSettings) -> PermanentError:
    return PermanentError(
        f"the file is larger than {settings.max_file_mb:g} MB ([handlers.ocr.settings] max_file_mb)",
        code="file_too_large",
    )

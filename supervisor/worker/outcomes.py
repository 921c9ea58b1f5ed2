"""From what was raised while a job ran to what that makes of the attempt; in a worker, and for a coroutine."""

from __future__ import annotations

import traceback
from typing import Any

import bson

from supervisor.codec import TOLERANT
from supervisor.core.outcome import ErrorInfo, ErrorKind, Raised, Usage
from supervisor.errors import JobStopped, PayloadError, PermanentError, Retry
from supervisor.worker.link import storable
from supervisor.worker.results import NotStorableError
from supervisor.worker.wire import Stopped

TRACEBACK_BYTES = 8 * 1024


def decode_payload(data: bytes) -> dict[str, Any]:
    """Read a payload as it was stored. Raises PayloadError."""
    try:
        return bson.decode(data, TOLERANT)
    except (bson.errors.BSONError, ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"cannot be decoded: {error}") from None


def outcome_of(error: BaseException) -> Raised | Stopped:
    """Return what an attempt came to that ended with `error`, whether the handler raised it or we did."""
    match error:
        case JobStopped():
            return Stopped(explain(error), Usage())
        case PayloadError():
            return Raised(kind=ErrorKind.INVALID, error=ErrorInfo(f"payload: {error}", "ValidationError"))
        case NotStorableError():
            return Raised(kind=ErrorKind.RESULT, error=ErrorInfo(str(error), "NotStorableError"))
        case PermanentError():
            return Raised(kind=ErrorKind.PERMANENT, error=explain(error, error.code))
        case Retry():
            return Raised(kind=ErrorKind.EXCEPTION, error=explain(error), retry_in_s=error.in_s)
    return Raised(kind=ErrorKind.EXCEPTION, error=explain(error))


def explain(error: BaseException, code: str | None = None) -> ErrorInfo:
    """Return an exception as strings that the database can store."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - a handler's exception may have any __str__
        message = f"(its message cannot be shown: {broken!r})"
    if isinstance(error, SystemExit):
        message = f"the handler called sys.exit({'' if error.code is None else error.code!r})"
    text = "".join(traceback.format_exception(error))
    message = storable(message)[:TRACEBACK_BYTES]
    return ErrorInfo(message, type(error).__qualname__, _shorten(text), code and storable(code)[:200])


def _shorten(text: str) -> str:
    """Keep the head and the tail of a long traceback: where it began and what it came to."""
    text = storable(text)
    half = TRACEBACK_BYTES // 2
    return text if len(text) <= TRACEBACK_BYTES else f"{text[:half]}\n  […]\n{text[-half:]}"

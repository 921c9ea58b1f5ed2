"""What crosses the line between the supervisor and a worker: bytes in BSON, never pickles of anybody's objects.

    call      supervisor → worker, through the executor     which handler, the job's facts, the payload as it was
                                                            stored; short jobs travel several at a time
    message   both ways, through the control channel        4 bytes of length, then one BSON document
    order     supervisor → worker, a signal and a file      to stop a job, which the file names by its number

Messages from a worker: {started: number, cpu_s} of a group's first job, {progress}, {log}, {worn}, {broken}, requests
{request: id, call, …} that the supervisor answers with {reply: id, …}, and as the last of each job {ended: number,
outcome, printed, cpu_s}: the group's next job begins. An outcome has at most 16 KiB; more goes to a spool file. All of
it is in order, and what was sent before a death arrives.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, BinaryIO

import bson

from supervisor.codec import TOLERANT
from supervisor.core.outcome import ErrorInfo, ErrorKind, Raised, Returned, Usage

INLINE_BYTES = 16 * 1024
"""The largest outcome sent as a message."""
MAX_OUTCOME_BYTES = 64 << 20
MAX_MESSAGE_BYTES = 1 << 20
_LENGTH = struct.Struct("<I")
_NUMBER = struct.Struct("<Q")
_SAID_BY_WORKERS = {ErrorKind.EXCEPTION, ErrorKind.PERMANENT, ErrorKind.INVALID, ErrorKind.RESULT}
LENGTH_BYTES = _LENGTH.size


@dataclass(frozen=True)
class Call:
    """One job, as a worker is told of it. `payload` is BSON bytes as they were stored; only the worker decodes them."""

    handler: str
    job_id: Any
    attempt: int
    token: int
    timeout_s: float
    settings: dict[str, Any]
    payload: bytes
    result_inline_bytes: int
    memory_limit_mb: int = 0
    """Of the worker with its subprocesses; 0 = none."""
    trace: str | None = None


_CALL_FIELDS = [field.name for field in fields_of(Call)]


@dataclass(frozen=True)
class Stopped:
    """The worker obeyed an order to stop; which order it was, the supervisor knows."""

    error: ErrorInfo
    usage: Usage


def encode_call(call: Call, number: int) -> bytes:
    """Return `call` as bytes; `number` names it among the jobs of its worker."""
    fields = {name: getattr(call, name) for name in _CALL_FIELDS}
    return _NUMBER.pack(number) + bson.encode(fields)


def split_group(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers and the calls of a group, which is just one encoded call behind the other."""
    place = 0
    while place < len(data):
        (number,) = _NUMBER.unpack_from(data, place)
        begin = place + _NUMBER.size
        place = begin + _LENGTH.unpack_from(data, begin)[0]
        yield number, data[begin:place]


def decode_call(data: bytes) -> Call:
    """Read a call back, in the worker."""
    return Call(**bson.decode(data, TOLERANT))


def write_order(descriptor: int, number: int) -> None:
    """Say which job the next signal is for. Raises OSError."""
    os.pwrite(descriptor, _NUMBER.pack(number), 0)


def read_order(path: str) -> int | None:
    """Return the number of the job that a signal is for, in the worker; None where that cannot be read."""
    try:
        return int(_NUMBER.unpack(Path(path).read_bytes())[0])
    except (OSError, struct.error):
        return None


def encode_outcome(outcome: Returned | Raised | Stopped, spool: Path, number: int) -> bytes:
    """Return `outcome` as at most INLINE_BYTES bytes; a larger one is written to a file in `spool` and named."""
    data = bson.encode({"outcome": type(outcome).__name__, **_fields(outcome)})
    if len(data) <= INLINE_BYTES:
        return data
    target = spool / f"outcome-{number}.bson"
    target.write_bytes(data)
    return bson.encode({"outcome": "Spooled", "file": target.name})


def decode_outcome(data: bytes, spool: Path) -> Returned | Raised | Stopped:
    """Read an outcome back, in the supervisor. Raises ValueError for bytes that are none."""
    try:
        fields = bson.decode(data, TOLERANT)
        if fields["outcome"] == "Spooled":
            path = spool_file(spool, fields["file"])
            with open_regular(path) as file:
                fields = bson.decode(file.read(MAX_OUTCOME_BYTES), TOLERANT)
            path.unlink()
        return _build(fields, spool)
    except (bson.errors.BSONError, KeyError, TypeError, OSError, OverflowError) as error:
        raise ValueError(f"a worker sent an outcome that cannot be read: {error}") from error


def spool_file(spool: Path, name: object) -> Path:
    """Return the path of the regular file `name` in `spool`. Raises ValueError for any other thing a worker names."""
    path = spool / str(name)
    if path.parent != spool or path.is_symlink() or not path.is_file():
        raise ValueError(f"a worker named {name!r}, which is no file in its spool folder")
    return path


def open_regular(path: Path) -> BinaryIO:
    """Open a file in a folder that a worker can write to. Raises OSError for what is no regular file.

    Never blocks, as a pipe put in its place would, and never follows a link.
    """
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path.name} is no regular file")
    return file


def frame(message: dict[str, Any]) -> bytes:
    """Return `message` as it goes over the control channel. Raises ValueError above MAX_MESSAGE_BYTES."""
    data = bson.encode(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes is too large for the control channel")
    return _LENGTH.pack(len(data)) + data


def frame_length(header: bytes) -> int:
    """Return the length in bytes that a header announces. Raises ValueError above MAX_MESSAGE_BYTES."""
    (length,) = _LENGTH.unpack(header)
    if length > MAX_MESSAGE_BYTES:
        raise ValueError(f"a worker announced a message of {length} bytes")
    return int(length)


def _fields(outcome: Returned | Raised | Stopped) -> dict[str, Any]:
    """Return what is told of an outcome; by hand, since it is told of every job, and `asdict` copies deeply."""
    usage = vars(outcome.usage)
    match outcome:
        case Returned():
            return {"usage": usage, "result": outcome.result, "spool_file": outcome.spool_file}
        case Raised():
            error, kind = vars(outcome.error), outcome.kind.value
            return {"usage": usage, "kind": kind, "error": error, "retry_in_s": outcome.retry_in_s}
        case Stopped():
            return {"usage": usage, "error": vars(outcome.error)}


def _build(fields: dict[str, Any], spool: Path) -> Returned | Raised | Stopped:
    """Build an outcome from what a worker says, which may be anything: each field is checked."""
    usage = _usage(fields["usage"])
    match fields["outcome"]:
        case "Returned":
            return _returned(fields, usage, spool)
        case "Raised":
            kind = ErrorKind(fields["kind"])
            if kind not in _SAID_BY_WORKERS:
                raise ValueError(f"a worker sent the error kind {kind.value!r}, which is not for it to say")
            retry_in_s = _typed(fields, "retry_in_s", float)
            return Raised(kind=kind, error=_error(fields["error"]), retry_in_s=retry_in_s, usage=usage)
        case "Stopped":
            return Stopped(_error(fields["error"]), usage)
        case other:
            raise ValueError(f"a worker sent an outcome of the unknown kind {other!r}")


def _returned(fields: dict[str, Any], usage: Usage, spool: Path) -> Returned:
    result, spooled = _typed(fields, "result", bytes), _typed(fields, "spool_file", str)
    if result is not None and not bson.is_valid(result):
        raise ValueError("a worker sent a result that is no document")
    return Returned(result=result, spool_file=spooled and str(spool_file(spool, spooled)), usage=usage)


def _usage(fields: dict[str, Any]) -> Usage:
    numbers = {name: _typed(fields, name, float) for name in ("run_s", "cpu_s", "peak_rss_mb")}
    return Usage(numbers["run_s"] or 0.0, numbers["cpu_s"], numbers["peak_rss_mb"])


def _error(fields: dict[str, Any]) -> ErrorInfo:
    texts = {name: _typed(fields, name, str) for name in ("type", "traceback", "code")}
    return ErrorInfo(_typed(fields, "message", str) or "", **texts)


def _typed(fields: dict[str, Any], name: str, wanted: type[Any]) -> Any:
    value = fields[name]
    if value is None or type(value) is wanted:
        return value
    raise ValueError(f"a worker sent {name} of type {type(value).__name__}, not {wanted.__name__}")

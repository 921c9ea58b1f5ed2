"""The worker's end of its control channel: reports and requests to the supervisor.

A stop order is an exception raised by a signal, at any point of the handler's code. Raised in the middle of a message
it would leave half a message on the channel, so it is held back until the message is complete.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import bson
import structlog
from bson import json_util

from supervisor import errors
from supervisor.errors import JobStopped, PermanentError, SupervisorError
from supervisor.worker.wire import LENGTH_BYTES, frame, frame_length

PROGRESS_EVERY_S = 0.1
"""Reports that come faster are dropped, but never the last one."""


class StopSwitch:
    """Whether a stop order may be raised right now, and the order that waits until it may."""

    def __init__(self) -> None:
        self._armed = False
        self._held = 0
        self._waiting: type[JobStopped] | None = None

    def reset(self) -> None:
        """Forget an order that came for an earlier job."""
        self._waiting = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Let orders through: the handler is running. Raises one that came while it was being prepared."""
        self._armed = True
        try:
            self._raise_waiting()
            yield
        finally:
            self._armed = False

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold orders back, and raise one that came meanwhile at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield  # orders are raised in the main thread only
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._armed and not self._held:
            self._raise_waiting()

    def order(self, stop: type[JobStopped]) -> None:
        """Raise `stop` in the handler, now or as soon as possible; called from a signal handler."""
        self._waiting = stop
        if self._armed and not self._held:
            self._raise_waiting()

    def _raise_waiting(self) -> None:
        if self._waiting is not None:
            stop, self._waiting = self._waiting, None
            raise stop


class ChildLink:
    """Implements `supervisor.context.SupervisorLink` over a socket; usable from any thread of the handler."""

    def __init__(self, channel: socket.socket, spool: Path, switch: StopSwitch) -> None:
        self._channel = channel
        self._spool = spool
        self._switch = switch
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._unsent: dict[str, Any] | None = None
        self._next_report_at = 0.0
        self.parent_job_id: Any = None

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        data = frame(message)
        with self._switch.held_back(), self._lock:
            self._channel.sendall(data)

    def report_progress(self, done: float, total: float | None, message: str | None) -> None:
        """Keep the newest report, and send it unless one went out a moment ago."""
        self._unsent = {
            "done": number(done),
            "total": number(total),
            "message": message and storable(str(message))[:500],
        }
        now = time.monotonic()
        if now >= self._next_report_at:
            self._next_report_at = now + PROGRESS_EVERY_S
            self.flush_progress()

    def flush_progress(self) -> None:
        """Send the last report if it was held back."""
        if self._unsent is not None:
            report, self._unsent = self._unsent, None
            self.send({"progress": report})

    def forget_progress(self) -> None:
        """Start a new job with no report."""
        self._unsent, self._next_report_at = None, 0.0

    def open_file(self, file_id: Any) -> BinaryIO:
        """Have the supervisor copy the stored file to the spool folder, and open it there."""
        reply = self._request("open_file", file_id=file_id)
        return self._open(reply, f"no stored file has the id {file_id!r}")

    def save_file(self, name: str, data: bytes) -> Any:
        """Put `data` in the spool folder and have the supervisor store it; returns the file's id."""
        local = self._spool / f"save-{next(self._numbers)}"
        local.write_bytes(data)
        try:
            return self._request("save_file", name=str(name), file=local.name)["file_id"]
        finally:
            local.unlink(missing_ok=True)

    def parent_result(self) -> dict[str, Any]:
        """Have the supervisor fetch the result of the job that `payload.parent_job_id` names."""
        if self.parent_job_id is None:
            raise PermanentError("the payload names no parent_job_id", code="not_found")
        reply = self._request("parent_result", job_id=self.parent_job_id)
        with self._open(reply, f"no completed job has the id {self.parent_job_id!r}") as file:
            return dict(json_util.loads(file.read().decode("utf-8")) or {})

    def begin_once(self, key: str) -> str:
        """Have the supervisor begin a marker; return how it stands."""
        return str(self._request("begin_once", key=key)["standing"])

    def end_once(self, key: str, *, happened: bool) -> None:
        """Have the supervisor end it."""
        self._request("end_once", key=key, happened=happened)

    def enqueue(self, fields: dict[str, Any], key: str | None) -> Any:
        """Have the supervisor insert a job; return its id."""
        return self._request("enqueue", fields=fields, key=key)["job_id"]

    def apply_retention(self) -> dict[str, int]:
        """Have the supervisor delete what is past its retention now; returns counts."""
        return dict(self._request("apply_retention")["deleted"])

    def _open(self, reply: dict[str, Any], missing: str) -> BinaryIO:
        if not reply.get("file"):
            raise PermanentError(missing, code="not_found")
        path = self._spool / reply["file"]
        opened: BinaryIO = path.open("rb")
        path.unlink()  # the open file lives on; nothing to clean up later
        return opened

    def _request(self, call: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        data = frame({"request": number, "call": call, **arguments})
        with self._switch.held_back(), self._lock:
            self._channel.sendall(data)
            reply = self._receive()
        if reply.get("error"):
            raise OSError(f"{call}: {reply['error']}")
        if refused := reply.get("refused"):
            raise error_of_ours(refused)
        return reply

    def _receive(self) -> dict[str, Any]:
        length = frame_length(self._read(LENGTH_BYTES))
        return bson.decode(self._read(length))

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = self._channel.recv(count - len(data))
            if not piece:
                raise OSError("the supervisor has closed the control channel")
            data += piece
        return data


def error_of_ours(refused: dict[str, Any]) -> SupervisorError:
    """Return the error by its name, if it is one of ours."""
    kind = getattr(errors, str(refused.get("type")), None)
    known = kind if isinstance(kind, type) and issubclass(kind, SupervisorError) else SupervisorError
    return known(str(refused.get("message")))


def job_log(
    keep: Callable[[str], None], send: Callable[[dict[str, Any]], None], wrapper_class: type[Any] | None = None
) -> Any:
    """Return the logger that a handler has as `job.log`.

    Every entry goes to the captured output of the attempt, as a line of JSON, and to the supervisor's log.
    """
    processors: list[Any] = [structlog.processors.add_log_level, structlog.processors.format_exc_info]
    processors.append(structlog.processors.JSONRenderer(default=repr))
    return structlog.wrap_logger(LinkLogger(keep, send), processors=processors, wrapper_class=wrapper_class)


class LinkLogger:
    """The end of `job.log`."""

    def __init__(self, keep: Callable[[str], None], send: Callable[[dict[str, Any]], None]) -> None:
        self._keep = keep
        self._send = send

    def msg(self, entry: str) -> None:
        """Take one entry, a JSON object that structlog has rendered."""
        self._keep(entry)
        try:
            self._send({"log": json.loads(storable(entry))})
        except (ValueError, OverflowError, bson.errors.BSONError) as error:
            self._send({"log": {"level": "warning", "event": f"a log entry could not be sent: {error}"[:500]}})

    debug = info = warning = warn = error = critical = exception = log = fatal = failure = msg


def print_line(line: str) -> None:
    """Put a line into the captured output; this is what survives a crash."""
    with contextlib.suppress(OSError, ValueError):  # the handler may have closed it
        print(line, flush=True)  # noqa: T201 - stdout is captured


def storable(text: str) -> str:
    """Return `text` with lone surrogates replaced, which broken decoders produce and UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode()


def number(value: Any) -> float | int | None:
    """Return what a handler gives as a figure of its progress as a number that BSON holds."""
    return value if value is None or isinstance(value, (int, float)) else float(value)

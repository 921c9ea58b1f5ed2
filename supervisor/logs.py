"""Logging: structlog, for people on a terminal and for machines otherwise.

In JSON form there is exactly one object per line, whatever a job or a file name holds.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, Literal, TextIO, cast

import structlog

Format = Literal["auto", "console", "json"]
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, format_: Format, stream: TextIO | None = None, *, libraries_as_text: bool = False) -> None:
    """Send all logs to `stream` (stderr); may be called again when the configuration changes.

    What is logged by the standard module becomes entries of ours; with `libraries_as_text` it stays text, with its
    tracebacks: a handler's words, which are kept as its job's output.
    """
    stream = sys.stderr if stream is None else stream
    console = format_ == "console" or (format_ == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
            *_renderer(stream, console=console),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _Unbreakable(stream))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream) if libraries_as_text else _Forward()
    handler.setFormatter(logging.Formatter(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


@contextlib.contextmanager
def adopted() -> Iterator[None]:
    """Leave logging to the application around us: to its structlog, or else to the logger `supervisor` of `logging`."""
    if structlog.is_configured():
        yield
        return
    ours: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.processors.format_exc_info,
        _as_line,
    ]
    structlog.configure(
        processors=ours,
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        if structlog.get_config()["processors"] is ours:  # else the application has spoken meanwhile
            structlog.reset_defaults()


def _as_line(_logger: Any, _method: str, entry: structlog.typing.EventDict) -> str:
    event, exception = entry.pop("event"), entry.pop("exception", "")
    line = " ".join([str(event), *(f"{key}={value!r}" for key, value in entry.items())])
    return f"{line}\n{exception}" if exception else line


class _Forward(logging.Handler):
    """Makes an entry of each record, without its traceback: libraries too have one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, with the error that it is about."""
        error = record.exc_info[1] if record.exc_info else None
        write = structlog.get_logger().warning
        write("library.message", library=record.name, message=record.getMessage(),
              **({} if error is None else {"error": f"{type(error).__name__}: {error}"[:300]}))  # fmt: skip


class _Unbreakable:
    """A log stream that nobody reads any more, or a full disk, is no reason to stop running jobs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text` if it can be written."""
        with contextlib.suppress(OSError, ValueError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        """Flush if it can be flushed."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def _renderer(stream: TextIO, *, console: bool) -> list[Any]:
    if console:
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty())]
    return [structlog.processors.format_exc_info, _essentials_first, structlog.processors.JSONRenderer(default=str)]


def _essentials_first(_logger: Any, _method: str, entry: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Begin every line with when, how grave and what, so that a person can read it too."""
    first = {key: entry.pop(key) for key in ("timestamp", "level", "event") if key in entry}
    return {**first, **entry}

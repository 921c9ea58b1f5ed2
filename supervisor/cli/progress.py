"""Progress of jobs, live from their documents: bars on a terminal, or a line for every step that a job reports."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from supervisor.cli.printing import clean
from supervisor.core.job import ENDED, Status

Document = Mapping[str, Any]


class Bars:
    """A bar per handler; each `show` moves the one of its job."""

    def __init__(self, console: Console, *, lines: Callable[[str], None] | None = None) -> None:
        self._lines = lines
        self._progress = Progress(
            TextColumn("{task.description:<6}"),
            BarColumn(),
            TextColumn("{task.fields[done]:<8}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}", markup=False),
            console=console,
            disable=lines is not None,
        )
        self._bars: dict[str, TaskID] = {}
        self._said: dict[str, str] = {}

    @classmethod
    def on_stderr(cls) -> Self:
        """Return bars on stderr if that is a terminal, and else nothing: a log needs no progress."""
        return cls(Console(stderr=True), lines=None if sys.stderr.isatty() else lambda _line: None)

    @classmethod
    def for_a_show(cls) -> Self:
        """Return bars on stdout if that is a terminal, and else lines."""
        return cls(Console(), lines=None if sys.stdout.isatty() else click.echo)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def expect(self, handler: str, message: str) -> None:
        """Show a bar for a job that does not exist yet."""
        self._bar(handler, message)

    def show(self, job: Document) -> None:
        """Show what the job's document says now."""
        handler, message = clean(job.get("handler")), _message(job)
        bar = self._bar(handler, message)
        done, total = _steps(job)
        if job.get("status") != Status.PENDING:
            self._progress.start_task(bar)
        if job.get("status") == Status.COMPLETED:
            done, total = (total or 1.0), (total or 1.0)
        self._progress.update(bar, completed=done, total=total, message=message, done=_fraction(done, total))
        if job.get("status") in ENDED:
            self._progress.stop_task(bar)
        self._say(handler, f"{handler}: {message}")

    def _bar(self, handler: str, message: str) -> TaskID:
        if handler not in self._bars:
            self._bars[handler] = self._progress.add_task(handler, start=False, total=None, message=message, done="")
        return self._bars[handler]

    def _say(self, handler: str, line: str) -> None:
        if self._lines is not None and self._said.get(handler) != line:
            self._said[handler] = line
            self._lines(line)


def _message(job: Document) -> str:
    status, reported = job.get("status"), job.get("progress")
    if status == Status.PROCESSING and isinstance(reported, Mapping) and reported.get("message"):
        return clean(reported["message"])
    return "waiting" if status == Status.PENDING else clean(status)


def _steps(job: Document) -> tuple[float, float | None]:
    """Return done and total, as far as the handler has reported numbers."""
    reported = job.get("progress")
    if not isinstance(reported, Mapping):
        return 0.0, None
    done, total = (reported.get(name) for name in ("done", "total"))
    return _number(done) or 0.0, _number(total) or None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _fraction(done: float, total: float | None) -> str:
    return f"{done:g}/{total:g}" if total else ""

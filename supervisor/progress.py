"""Writing what a running job reports of its progress: soon, seldom, and not beside its end.

A first report waits a moment, since the record of a job that ends takes the last one along: a short job, and the last
report of most others, cost no write of their own. A write that is under way is never cut short: the driver would have
to close its connection, and to open another is dearer than many writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

SOON_S = 0.1
"""How long a first report waits."""
EVERY_S = 0.5
"""Between two writes, at least."""


class ProgressWriter:
    """Has the newest report written, until closed. Its methods belong to one event loop."""

    def __init__(self, write: Callable[[dict[str, Any]], Coroutine[Any, Any, None]]) -> None:
        """`write` deals with its errors itself."""
        self._write = write
        self._latest: dict[str, Any] | None = None
        self._written: dict[str, Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def take(self, report: dict[str, Any]) -> None:
        """Keep the newest report, of which a worker may have made anything, and have it written."""
        self._latest = {
            "done": _number(report.get("done")),
            "total": _number(report.get("total")),
            "message": str(report["message"])[:500] if report.get("message") is not None else None,
        }
        if self._timer is None and self._writing is None:
            self._look_in(SOON_S)

    async def close(self) -> dict[str, Any] | None:
        """Write no more, and return the newest report, `{done, total, message}`, once a write under way has ended."""
        if self._writing is not None:
            await asyncio.wait({self._writing})  # it sets the timer again
        if self._timer is not None:
            self._timer.cancel()
        return self._latest

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._latest is not None and self._latest is not self._written:
            self._written = self._latest
            self._writing = asyncio.create_task(self._write(self._written), name="progress")
            self._writing.add_done_callback(self._pause)

    def _pause(self, _written: asyncio.Task[None]) -> None:
        self._writing = None
        self._look_in(EVERY_S)


def _number(value: Any) -> float | int | None:
    return value if isinstance(value, (int, float)) else None

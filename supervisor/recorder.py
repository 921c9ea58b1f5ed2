"""Recording outcomes: everything that is ready goes out together.

While one write is under way the next outcomes gather, and where many end, for a moment after it: a write costs some
milliseconds of CPU, however few it records. A lone outcome is written at once, and so are the last ones: nothing runs
any more that could join them. The moment is longer while jobs are in line for a place: whoever waits for one of them
waits for that, and what a write costs makes them all wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

from supervisor.store.patience import until_answered
from supervisor.store.records import Ended
from supervisor.store.results import ResultRefusedError, ResultStore

PACE_S = 0.04
BACKLOG_PACE_S = 0.3
"""From the beginning of a write to that of the next, in seconds, without and with jobs in line."""

Answer = bool | ResultRefusedError


class Recorder:
    """The one writer of transitions; executions hand them over and wait for the answer."""

    def __init__(self, store: ResultStore, under_way: Callable[[], int]) -> None:
        """`under_way` tells how many jobs have been started and not yet been recorded."""
        self._store = store
        self._under_way = under_way
        self._waiting: list[tuple[Ended, asyncio.Future[Answer]]] = []
        self._something = asyncio.Event()
        self._written_at = -math.inf
        self._backlogs: set[object] = set()
        self._sooner = asyncio.Event()
        """Set when there may be less to wait for."""

    async def record(self, ended: Ended) -> Answer:
        """Write one transition; returns as `ResultStore.apply` does for it. Waits as long as the database does not
        answer.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ended, answer))
        self._something.set()
        if not self._more_may_come():
            self._sooner.set()
        return await answer

    def note_backlog(self, whose: object, waits: bool) -> None:
        """Take in whether jobs are in line that one of those who claim has no place for."""
        (self._backlogs.add if waits else self._backlogs.discard)(whose)
        self._sooner.set()

    async def run(self) -> None:
        """Write what is handed over, until cancelled."""
        while True:
            await self._something.wait()
            await self._gather()
            self._written_at = time.monotonic()
            self._something.clear()
            group, self._waiting = self._waiting, []
            if group:
                await self._write(group)

    async def _gather(self) -> None:
        """Wait for others that may end within the moment."""
        while self._more_may_come():
            pace_s = BACKLOG_PACE_S if self._backlogs else PACE_S
            if (left_s := self._written_at + pace_s - time.monotonic()) <= 0:
                return
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._sooner.wait()

    def _more_may_come(self) -> bool:
        return self._under_way() > len(self._waiting)

    async def _write(self, group: list[tuple[Ended, asyncio.Future[Answer]]]) -> None:
        answers = await until_answered(lambda: self._store.apply([ended for ended, _ in group]), "recording results")
        for (_, waiter), answer in zip(group, answers, strict=True):
            if not waiter.done():  # its execution may have been cancelled
                waiter.set_result(answer)

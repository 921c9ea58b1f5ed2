"""Recording outcomes: everything that is ready goes out together.

While one write is under way the next outcomes gather, and where many end, for a moment after it: a write costs some
milliseconds of CPU, however few it records. A lone outcome is written at once.
"""

from __future__ import annotations

import asyncio
import time

from supervisor.store.patience import until_answered
from supervisor.store.records import Ended
from supervisor.store.results import ResultRefusedError, ResultStore

PACE_S = 0.04
"""From the beginning of a write to that of the next, in seconds. A lone outcome waits for nothing."""

Answer = bool | ResultRefusedError


class Recorder:
    """The one writer of transitions; executions hand them over and wait for the answer."""

    def __init__(self, store: ResultStore) -> None:
        self._store = store
        self._waiting: list[tuple[Ended, asyncio.Future[Answer]]] = []
        self._something = asyncio.Event()
        self._next_at = 0.0

    async def record(self, ended: Ended) -> Answer:
        """Write one transition; returns as `ResultStore.apply` does for it. Waits as long as the database does not
        answer.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ended, answer))
        self._something.set()
        return await answer

    async def run(self) -> None:
        """Write what is handed over, until cancelled."""
        while True:
            await self._something.wait()
            await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
            self._next_at = time.monotonic() + PACE_S
            self._something.clear()
            group, self._waiting = self._waiting, []
            if group:
                await self._write(group)

    async def _write(self, group: list[tuple[Ended, asyncio.Future[Answer]]]) -> None:
        answers = await until_answered(lambda: self._store.apply([ended for ended, _ in group]), "recording results")
        for (_, waiter), answer in zip(group, answers, strict=True):
            if not waiter.done():  # its execution may have been cancelled
                waiter.set_result(answer)

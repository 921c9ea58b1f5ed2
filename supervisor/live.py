"""What is running now, and under which settings: the state that the supervisor's parts share."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from typing import Any

from supervisor.config.settings import Settings
from supervisor.core.fleet import Drain
from supervisor.core.transitions import Transition
from supervisor.execution import Execution
from supervisor.limits import claimed
from supervisor.outage import Outage
from supervisor.recent import Recent
from supervisor.registry import HandlerSpec
from supervisor.store.controls import EVERY, Pause
from supervisor.totals import Totals


class Executions(set[Execution]):
    """The executions under way, and an event for who has nothing to do while there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.some = asyncio.Event()
        """Set while there is any."""

    def add(self, execution: Execution, /) -> None:
        """Take in one that begins."""
        super().add(execution)
        self.some.set()

    def discard(self, execution: object, /) -> None:
        """Let go of one that has ended."""
        super().discard(execution)
        if not self:
            self.some.clear()


class Claiming:
    """The claims under way: several at a time, and none while somebody has to know of every claimed job.

    As a context manager it is held from the start of a claim until its jobs stand in `Live.executions`.
    """

    def __init__(self) -> None:
        self._under_way = 0
        self._over = asyncio.Event()
        self._over.set()
        self._entrance = asyncio.Lock()

    async def __aenter__(self) -> None:
        async with self._entrance:
            self._under_way += 1
            self._over.clear()

    async def __aexit__(self, *_: object) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._over.set()

    @contextlib.asynccontextmanager
    async def none(self) -> AsyncIterator[None]:
        """Wait for the end of those under way, and let none begin during the block."""
        async with self._entrance:
            await self._over.wait()
            yield


class Live:
    """The settings in force, the handlers, and the executions under way.

    One writer for each: the supervisor replaces `settings` and `config`, the controls replace `paused`, `Draining` the
    drain and `Sizing` where the number of workers comes from; the dispatcher adds executions, each leaves by itself.
    """

    def __init__(self, settings: Settings, handlers: Mapping[str, HandlerSpec]) -> None:
        self.settings = settings
        self.handlers = handlers
        self.executions = Executions()
        self.paused: Mapping[str, Pause] | None = None
        """The pauses in force by handler; None until they have been read once."""
        self.drain: Drain | None = None
        """The drain of this host that is in force."""
        self.drained = False
        """A drain is in force, and no claim from before it is under way any more."""
        self.config: list[dict[str, Any]] = []
        """The keys that are not at their default, as others are shown them."""
        self.workers_from = "default"
        """Where the wanted number of workers comes from."""
        self.outage = Outage(settings.mongo)
        """Told by whoever asks the database often; knows when to give up."""
        self.claiming = Claiming()
        self.counts: Counter[str] = Counter()
        """Recorded attempts by outcome, since the start."""
        self.recent = Recent()
        """The same of the last minutes, by handler."""
        self.totals = Totals()
        """The same since the start, by handler."""

    def count(self, change: Transition) -> None:
        """Count a recorded attempt."""
        self.counts[str(change.outcome)] += 1
        self.recent.note(change)
        self.totals.note(change)

    def may_claim(self, handler: str) -> bool:
        """Tell whether jobs of `handler` may be claimed, as far as the controls go."""
        return self.drain is None and self.paused is not None and not self.is_paused(handler)

    def claimable(self) -> list[str]:
        """Return the handlers whose jobs may be claimed here, as far as configuration and controls go."""
        return [spec.name for spec in claimed(self.handlers, self.settings) if self.may_claim(spec.name)]

    def is_paused(self, handler: str) -> bool:
        """Tell whether `handler` is paused, by itself or with all others."""
        return bool(self.paused and {handler, EVERY} & self.paused.keys())

    def running(self) -> Counter[str]:
        """Return how many jobs of each handler run here."""
        return Counter(execution.claim.job.handler for execution in self.executions)

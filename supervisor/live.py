"""What is running now, and under which settings: the state that the supervisor's parts share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from supervisor.config.settings import Settings
from supervisor.core.fleet import Drain
from supervisor.core.transitions import Transition
from supervisor.execution import Execution
from supervisor.outage import Outage
from supervisor.recent import Recent
from supervisor.registry import HandlerSpec
from supervisor.store.controls import EVERY, Pause
from supervisor.totals import Totals


class Live:
    """The settings in force, the handlers, and the executions under way.

    One writer for each: the supervisor replaces `settings` and `config`, the controls replace `paused`, `Draining` the
    drain and `Sizing` where the number of workers comes from; the dispatcher adds executions, each leaves by itself.
    """

    def __init__(self, settings: Settings, handlers: Mapping[str, HandlerSpec]) -> None:
        self.settings = settings
        self.handlers = handlers
        self.executions: set[Execution] = set()
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
        self.claiming = asyncio.Lock()
        """Held from the start of a claim until its jobs stand in `executions`."""
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

    def is_paused(self, handler: str) -> bool:
        """Tell whether `handler` is paused, by itself or with all others."""
        return bool(self.paused and {handler, EVERY} & self.paused.keys())

    def running(self) -> Counter[str]:
        """Return how many jobs of each handler run here."""
        return Counter(execution.claim.job.handler for execution in self.executions)
